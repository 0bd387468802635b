"""What was made lately and may be wanted again: bounded in number and in time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """At most `entries` values, each for its time; the one that was used longest ago makes room."""

    def __init__(self, entries: int, timer: Callable[[], float]) -> None:
        """`timer` gives monotonic seconds. Raises ValueError for no entry at all."""
        if entries < 1:
            raise ValueError("A cache needs at least one entry.")
        self._entries = entries
        self._timer = timer
        self._values: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """The value under the key, if its time is not over."""
        found = self._values.get(key)
        if found is None:
            return None
        expires, value = found
        if self._timer() >= expires:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: Hashable, value: V, seconds: float) -> None:
        """Keep the value for so long, in place of an earlier one; not at all for no time."""
        self._values.pop(key, None)
        if seconds <= 0 or math.isnan(seconds):
            return
        self._values[key] = (self._timer() + seconds, value)
        if len(self._values) > self._entries:
            self._values.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        """Keep it no longer."""
        self._values.pop(key, None)
