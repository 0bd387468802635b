"""How far a computation tells that it has come."""

from __future__ import annotations

import pytest

from service.engines.duckdb.progress import Progress


def test_steps_are_filled_by_what_the_engine_says_of_their_statements() -> None:
    """A step's own percentage counts for its share of the work, and what is no percentage counts for nothing."""
    told: list[float] = []
    progress = Progress(told.append)
    progress.begin(0.6)
    for percent in (-1.0, 0.0, 50.0, 100.0):
        progress.within(percent)
    progress.begin(1.0)
    progress.within(25.0)
    progress.end()
    assert told == pytest.approx([0.3, 0.6, 0.7, 1.0])


def test_it_never_goes_back() -> None:
    """A later statement of the same step begins at nothing again, and late words of an earlier one change nothing."""
    told: list[float] = []
    progress = Progress(told.append)
    progress.begin(0.5)
    progress.within(80.0)
    progress.within(10.0)
    progress.within(1000.0)
    progress.end()
    progress.within(10.0)
    assert told == pytest.approx([0.4, 0.5, 1.0])
