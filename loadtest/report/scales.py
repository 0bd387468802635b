"""Axes of a chart: where a value is drawn, and which values have a mark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadtest.report.document import Point

NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
CLOCK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
DECADE = 10.0
MAX_DECADES_WITH_FIVES = 2
MAX_DECADES = 9
"""A line at 0.000001 would leave the others no room."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear or logarithmic axis from `start` to `end` on the page."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Find where a value is drawn; one outside of the axis is drawn at its end."""
        held = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(held / self.low) / math.log(self.high / self.low)
        else:
            part = (held - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def linear_ticks(high: float, wanted: int = 4, *, whole: bool = False) -> list[float]:
    """Choose round values from 0 to the first at or above `high`; of things that are counted, whole numbers."""
    if high <= 0 or not math.isfinite(high):
        return [0.0, 1.0]
    rough = high / wanted
    size = DECADE ** math.floor(math.log10(rough))
    steps = [size * nice for nice in NICE if size * nice >= rough * (1 - 1e-9)]
    step = max(1.0, next(step for step in steps if step == int(step) or size < 1)) if whole else steps[0]
    return [step * index for index in range(math.ceil(high / step - 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Choose powers of ten around the values, or 1, 2 and 5 of each when there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    first = max(first, last - MAX_DECADES)
    if last - first > MAX_DECADES_WITH_FIVES:
        return [DECADE**power for power in range(first, last + 1)]
    fives = [factor * DECADE**power for power in range(first, last) for factor in (1.0, 2.0, 5.0)] + [DECADE**last]
    below = max((tick for tick in fives if tick <= low), default=fives[0])
    above = min((tick for tick in fives if tick >= high), default=fives[-1])
    kept = [tick for tick in fives if below <= tick <= above]
    return kept if len(kept) > 1 else fives


def clock_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Choose round times between two moments."""
    length = high - low
    step = next((step for step in CLOCK_STEPS if length / step <= wanted), max(CLOCK_STEPS[-1], length / wanted))
    first = math.ceil(low / step)
    return [step * index for index in range(first, math.floor(high / step) + 1)]


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """Keep the lowest and the highest of each stretch, so that fewer points show the same peaks and gaps."""
    if len(points) <= limit:
        return list(points)
    size = math.ceil(len(points) * 2 / limit)
    kept: list[Point] = []
    for begin in range(0, len(points), size):
        kept += _extremes(points[begin : begin + size])
    return kept


def finite(values: Iterable[float | None]) -> list[float]:
    """Drop what cannot be drawn."""
    return [value for value in values if value is not None and math.isfinite(value)]


def _extremes(points: Sequence[Point]) -> list[Point]:
    """Choose a stretch's lowest and highest point in their order; a stretch without a value stays a gap."""
    values = [(index, y) for index, (_, y) in enumerate(points) if y is not None]
    if not values:
        return [points[0]]
    lowest = min(values, key=lambda pair: pair[1])[0]
    highest = max(values, key=lambda pair: pair[1])[0]
    return [points[index] for index in sorted({lowest, highest})]
