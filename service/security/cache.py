"""A bounded cache whose entries all live equally long, for answers that are dear to get and soon stale."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """At most `capacity` entries, each forgotten `seconds` after it was put.

    As all live equally long, insertion order is the order of expiry, so the entry that makes room is always the one
    that would expire first. `timer` gives monotonic seconds: a step of the wall clock must not keep an entry alive.
    For use from one event loop.
    """

    def __init__(self, capacity: int, seconds: float, timer: Callable[[], float]) -> None:
        self._capacity = capacity
        self._seconds = seconds
        self._timer = timer
        self._entries: dict[K, tuple[float, V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value put under the key, or None when there is none that is fresh."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, value = entry
        if self._timer() >= expires:
            del self._entries[key]
            return None
        return value

    def put(self, key: K, value: V) -> None:
        """Remember the value from now on, in place of an earlier one."""
        self._entries.pop(key, None)
        if len(self._entries) >= self._capacity:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._timer() + self._seconds, value)
