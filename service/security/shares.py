"""Bound how many requests of a kind a principal may have open in this process at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from service.features.errors import TooManyAtOnce
from service.features.identity import ShareKind

RETRY_SECONDS = 2
"""When a place may be free again is not known: what holds it may end at any time."""

_NAMES: dict[ShareKind, str] = {
    "upload": "uploads",
    "download": "downloads",
    "stream": "event streams",
    "wait": "waiting requests",
}


class Shares:
    """Count what each principal has open, by kind; for one event loop.

    A place is held by a block and given back when it ends, however it ends: with an answer, an exception, or the
    cancellation of its task.
    """

    def __init__(self, limits: Mapping[ShareKind, int]) -> None:
        """`limits` are for each principal; a kind without one, or with 0, is not bounded."""
        self._limits = limits
        self._open: Counter[tuple[str, ShareKind]] = Counter()

    def is_full(self, principal_id: str, kind: ShareKind) -> bool:
        """Check whether the principal has as many open as it may."""
        return 0 < self._limits.get(kind, 0) <= self._open[principal_id, kind]

    def use(self, principal_id: str, kind: ShareKind) -> tuple[int, int]:
        """Return how many the principal has open, and how many it may; 0 is no limit."""
        return self._open[principal_id, kind], self._limits.get(kind, 0)

    @contextmanager
    def hold(self, principal_id: str, kind: ShareKind) -> Generator[None]:
        """Hold a place for the block. Raises TooManyAtOnce."""
        if self.is_full(principal_id, kind):
            raise TooManyAtOnce(
                f"You may have {self._limits[kind]} {_NAMES[kind]} open at once; wait for one to end.",
                kind=kind,
                retry_after=RETRY_SECONDS,
            )
        self._open[principal_id, kind] += 1
        try:
            yield
        finally:
            self._open[principal_id, kind] -= 1
            if not self._open[principal_id, kind]:
                del self._open[principal_id, kind]
