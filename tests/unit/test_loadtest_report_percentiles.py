"""Percentiles of a run's durations, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from loadtest.errors import BadInput
from loadtest.report.percentiles import count, longest, merge, percentile, within

FOUR = {"30": 1, "10": 2, "20": 1}
"""10, 10, 20, 30."""


@pytest.mark.parametrize(("percent", "expected"), [(1, 10), (50, 10), (50.1, 20), (75, 20), (75.1, 30), (100, 30)])
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    """Of 10, 10, 20, 30 the second is the median, the third p75, and all above is the fourth."""
    assert percentile(FOUR, percent) == expected


def test_percentile_is_exact() -> None:
    """Of 1 to 100 the percentile is the number itself; of 1 to 1500 p2.2 is 33, which binary fractions would miss."""
    hundred = {str(value): 1 for value in range(1, 101)}
    assert [percentile(hundred, percent) for percent in (7, 29, 55, 57, 99)] == [7, 29, 55, 57, 99]
    assert percentile(hundred, 99.1) == 100
    assert percentile({str(value): 1 for value in range(1, 1501)}, 2.2) == 33


def test_percentile_counts_requests_not_durations() -> None:
    """One slow request of 1,000 is beyond p99.9 and the longest."""
    durations = {"5": 999, "8000": 1}
    assert (percentile(durations, 99.9), percentile(durations, 99.91), longest(durations)) == (5, 8000, 8000)


def test_durations_are_ordered_as_numbers() -> None:
    """1000 ms is longer than 9.5 ms, which text would order the other way."""
    assert percentile({"1000": 1, "9.5": 1}, 50) == 9.5


def test_nothing_measured_has_no_percentile() -> None:
    """Without requests there is no number, also when a duration is listed with none."""
    assert [percentile(empty, 50) for empty in ({}, {"5": 0})] == [None, None]
    assert (longest({"5": 0}), within({}, 10), count({})) == (None, None, 0)


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_percent_out_of_range(percent: float) -> None:
    """A percentile below the first or above the last request does not exist."""
    with pytest.raises(ValueError, match="not above 0 and at most 100"):
        percentile(FOUR, percent)


@pytest.mark.parametrize(("bound", "share"), [(9.9, 0), (10, 0.5), (19.9, 0.5), (20, 0.75), (30, 1), (1e9, 1)])
def test_share_within_a_bound(bound: float, share: float) -> None:
    """A request that took exactly the bound is within it."""
    assert within(FOUR, bound) == share


def test_merged_histograms_hold_all_requests() -> None:
    """The same duration in both is added, however it is written, and the result is ordered by duration."""
    merged = merge([FOUR, {"10.0": 3, "5": 1}, {"1.2e+06": 1}])
    assert list(merged.items()) == [("5", 1), ("10", 5), ("20", 1), ("30", 1), ("1.2e+06", 1)]
    assert count(merged) == 9


@pytest.mark.parametrize("bad", [{"soon": 1}, {"nan": 1}, {"inf": 1}, {"-1": 1}, {"5": -2}])
def test_damaged_durations_are_named(bad: dict[str, int]) -> None:
    """A duration or a count that cannot be one is bad input, said with the entry on one line."""
    with pytest.raises(BadInput, match=r"^durations: .* is not milliseconds and a number of requests$") as raised:
        percentile(bad, 50)
    assert repr(next(iter(bad))) in str(raised.value)
