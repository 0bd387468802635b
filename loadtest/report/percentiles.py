"""Percentiles of the `durations` of a run: milliseconds as text -> number of requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from loadtest.errors import BadInput

Durations = Mapping[str, int]


def merge(parts: Iterable[Durations]) -> dict[str, int]:
    """Sum histograms, ordered by duration. Raises BadInput for a key or a count that cannot be one."""
    total: Counter[float] = Counter()
    for part in parts:
        for duration, count in _items(part):
            total[duration] += count
    return {f"{duration:g}": total[duration] for duration in sorted(total)}


def count(durations: Durations) -> int:
    """Count the requests of a histogram."""
    return sum(number for _, number in _items(durations))


def percentile(durations: Durations, percent: float) -> float | None:
    """Find the shortest duration within which that percent of the requests ended (nearest rank); None without requests.

    Raises ValueError when percent is not above 0 and at most 100.
    """
    if not 0 < percent <= 100:  # noqa: PLR2004 - of a hundred
        raise ValueError(f"percent is {percent}, not above 0 and at most 100")
    ordered = sorted(_items(durations))
    # As a fraction of the written decimal: the float 2.2 x 1500 / 100 is above 33, which would be the 34th request.
    rank = math.ceil(Fraction(str(percent)) * sum(number for _, number in ordered) / 100)
    seen = 0
    for duration, number in ordered:
        seen += number
        if number and seen >= rank:
            return duration
    return None


def longest(durations: Durations) -> float | None:
    """Find the longest duration; None without requests."""
    return max((duration for duration, number in _items(durations) if number), default=None)


def within(durations: Durations, bound_ms: float) -> float | None:
    """Compute the share, 0 to 1, of requests that took no longer than the bound; None without requests.

    Durations have three significant digits, so a request that took 250.4 ms counts as within 250 ms.
    """
    total = count(durations)
    good = sum(number for duration, number in _items(durations) if duration <= bound_ms)
    return good / total if total else None


def _items(durations: Durations) -> Iterator[tuple[float, int]]:
    """Yield (milliseconds, requests). Raises BadInput, naming the entry."""
    for text, number in durations.items():
        try:
            duration = float(text)
        except ValueError:
            duration = math.nan
        if not math.isfinite(duration) or duration < 0 or number < 0:
            raise BadInput(f"durations: {text!r}: {number} is not milliseconds and a number of requests")
        yield duration, number
