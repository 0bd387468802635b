from __future__ import annotations

import asyncio
import math

import pytest

from service.concurrency.deadline import deadline, is_over, remaining, seconds_left
from service.features.errors import DeadlineExceeded


def test_without_a_deadline() -> None:
    """Where nobody set a deadline, each wait has its own limit and nothing is over."""
    assert seconds_left(7) == 7
    assert remaining() == math.inf
    assert not is_over()


def test_lesser_of_deadline_and_limit() -> None:
    """A wait takes what is left, and never more than its own limit."""
    with deadline(60):
        assert seconds_left(7) == 7
        assert 0 < seconds_left(120) <= 60
    assert seconds_left(120) == 120


def test_nothing_extends_a_deadline() -> None:
    """A later deadline inside an earlier one changes nothing; an earlier one ends with its block."""
    with deadline(60):
        with deadline(3600):
            assert remaining() <= 60
        with deadline(5):
            assert remaining() <= 5
        assert remaining() > 5


@pytest.mark.parametrize("seconds", [0, -1])
def test_over(seconds: float) -> None:
    """When the time is up, waits raise, and what is cut off is known to be so for that reason."""
    with deadline(seconds):
        assert remaining() <= 0
        assert is_over()
        with pytest.raises(DeadlineExceeded):
            seconds_left(7)
    assert not is_over()


def test_restored_after_an_error() -> None:
    """A deadline ends with its block, however the block ends."""
    with pytest.raises(RuntimeError), deadline(5):
        raise RuntimeError
    assert remaining() == math.inf


async def test_inherited_by_tasks() -> None:
    """A task obeys the deadline that it was started under, another request's task does not."""

    async def left() -> float:
        return remaining()

    with deadline(5):
        inside = asyncio.create_task(left())
    outside = asyncio.create_task(left())
    assert await inside <= 5
    assert await outside == math.inf
