"""The shapes of dates, and the cheap test that every date passes."""

from __future__ import annotations

import pytest

from service.engines.duckdb.ingest_dates import LONGEST_DATE, PARTS, TIMES_OF_DAY, shapes

SIGNS = {"Y": "2024", "9": "31", "#": "20240131", "F": ".123", "D": "29.02.24"}


@pytest.mark.parametrize("shape", [*shapes(), *TIMES_OF_DAY])
def test_the_cheap_test_lets_every_shape_pass(shape: str) -> None:
    """A text of each shape has the parts of a date, and is no longer than dates are."""
    letters = "T" if shape.startswith("#") else "Sep"
    text = "".join(SIGNS.get(sign, letters if sign == "a" else sign) for sign in shape)
    assert PARTS.search(text)
    assert len(text) <= LONGEST_DATE


@pytest.mark.parametrize("text", ["Town 12", "A12345", "12 Main Street", "12345", "x", "3rd of 4"])
def test_names_with_numbers_are_told_from_dates(text: str) -> None:
    """They are text without a closer look, unless two numbers stand in them."""
    assert bool(PARTS.search(text)) is (text == "3rd of 4")
