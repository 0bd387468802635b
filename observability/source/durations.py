"""Durations as Prometheus writes them, and the scale that makes a month of rules fit into minutes."""

from __future__ import annotations

import re

from msgspec import Struct

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_RANGE = re.compile(r"\[(\d+(?:ms|s|m|h|d|w))(?::(\d+(?:ms|s|m|h|d|w)))?\]")
_OFFSET = re.compile(r"\boffset (\d+(?:ms|s|m|h|d|w))")
_SECONDS = re.compile(r"<(\d+(?:ms|s|m|h|d|w))>")


def seconds_of(duration: str) -> float:
    """`90s` or `5m` in seconds. Raises ValueError for anything but one number with one unit."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d|w)", duration)
    if found is None:
        raise ValueError(f"{duration!r} is no duration")
    return int(found[1]) * _UNITS[found[2]]


def written(seconds: float) -> str:
    """Seconds as a duration that Prometheus reads, in the largest unit that divides them."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        size = round(_UNITS[unit] * 1000)
        if milliseconds >= size and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


class Scale(Struct, frozen=True):
    """Divides durations; a range stays long enough for its samples. As it is written: rules as production has them."""

    divisor: float = 1.0
    shortest_range: float = 0.0
    """Seconds; a rate needs a few scrapes."""
    shortest_pending: float = 0.0
    """Seconds that a condition must hold at least, where it must hold at all."""
    shortest_interval: float = 0.0
    """Seconds between two evaluations at least."""
    least_threshold: float = 0.0
    """Seconds that a query compares with at least: what the service itself takes is not scaled."""

    def range(self, duration: str) -> str:
        """A window to look back on."""
        return written(max(seconds_of(duration) / self.divisor, self.shortest_range))

    def pending(self, duration: str) -> str:
        """How long a condition has to hold."""
        return written(max(seconds_of(duration) / self.divisor, self.shortest_pending))

    def outlasting(self, duration: str) -> str:
        """How long a condition that follows from another one has to hold: longer than the shortest range looks back."""
        return written(max(seconds_of(duration) / self.divisor, 2 * self.shortest_range))

    def interval(self, duration: str) -> str:
        """How often a group of rules is evaluated."""
        return written(max(seconds_of(duration) / self.divisor, self.shortest_interval))

    def seconds(self, duration: str) -> str:
        """A duration that a query compares with, in seconds."""
        return f"{max(seconds_of(duration) / self.divisor, self.least_threshold):.6g}"

    def query(self, query: str) -> str:
        """PromQL whose ranges, offsets and `<5m>` (a number of seconds) are scaled."""
        query = _RANGE.sub(self._ranged, query)
        query = _OFFSET.sub(lambda found: f"offset {self.range(found[1])}", query)
        return _SECONDS.sub(lambda found: self.seconds(found[1]), query)

    def _ranged(self, found: re.Match[str]) -> str:
        step = f":{self.range(found[2])}" if found[2] else ""
        return f"[{self.range(found[1])}{step}]"
