"""Follow extractions for all event streams of the process together, so that any number costs one query at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import Context

from service.concurrency.signals import wait_and_clear
from service.features.errors import DependencyUnavailable
from service.features.model import ExtractionState
from service.features.stores import Notices, Store

POLL_SECONDS = 1.0
"""Seconds after which the end of the process, or of an outage of the database, is seen."""
MAX_STALENESS_SECONDS = 5.0
"""Seconds after which a change without a notice is seen: all that is followed is read again, in one query."""

_LOG = logging.getLogger(__name__)


class Follower:
    """Hold what one event stream has yet to see of an extraction."""

    def __init__(self) -> None:
        self.state: ExtractionState | None = None
        """The newest that was offered."""
        self.closed = False
        """Whether nothing more will come: the extraction is deleted, or the process is stopping."""
        self._changed = asyncio.Event()

    def offer(self, state: ExtractionState) -> None:
        """Take the state, unless it is no newer than the present one."""
        if self.state is None or state.version > self.state.version:
            self.state = state
            self._changed.set()

    def close(self) -> None:
        """Say that nothing more will come."""
        self.closed = True
        self._changed.set()

    async def changed(self, seconds: float) -> bool:
        """Wait at most `seconds` for a newer state or the close since the last call; False when none came."""
        return await wait_and_clear(self._changed, seconds)


class StateFeed:
    """Read the states of followed extractions after notices, and all of them now and then; for one event loop.

    One task reads, as long as anything is followed. An unreachable database is waited for.
    """

    def __init__(self, store: Store, notices: Notices, stopping: Callable[[], bool]) -> None:
        self._store = store
        self._notices = notices
        self._stopping = stopping
        self._followers: dict[str, set[Follower]] = {}
        self._noticed: set[str] = set()
        """Extractions to read, since they have changed or may have."""
        self._wanted = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, extraction_id: str) -> Generator[Follower]:
        """Follow an extraction while the block runs; no change is missed that is made after its start.

        Whether it may be read is the caller's to check.
        """
        follower = Follower()
        self._followers.setdefault(extraction_id, set()).add(follower)
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._run(), name="state feed", context=Context())
        try:
            with self._notices.subscribe(extraction_id, lambda: self._notice(extraction_id)):
                yield follower
        finally:
            self._unfollow(extraction_id, follower)

    def _unfollow(self, extraction_id: str, follower: Follower) -> None:
        followers = self._followers[extraction_id]
        followers.discard(follower)
        if not followers:
            del self._followers[extraction_id]
        if not self._followers and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _notice(self, extraction_id: str) -> None:
        self._noticed.add(extraction_id)
        self._wanted.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        all_read_at = loop.time()
        while True:
            await wait_and_clear(self._wanted, POLL_SECONDS)
            if self._stopping():
                self._close(self._followers)
            if loop.time() - all_read_at >= MAX_STALENESS_SECONDS:
                self._noticed.update(self._followers)
                all_read_at = loop.time()
            if self._noticed:
                await self._read()

    async def _read(self) -> None:
        ids, self._noticed = self._noticed & self._followers.keys(), set()
        try:
            states = await self._store.states([*ids])
        except DependencyUnavailable:
            self._noticed |= ids
            return
        except Exception:  # noqa: BLE001 -- whatever it is, the streams go on, and the next look may succeed
            _LOG.exception("states of followed extractions not read")
            return
        for state in states.values():
            for follower in self._followers.get(state.id, ()):
                follower.offer(state)
        self._close(ids - states.keys())

    def _close(self, ids: Iterable[str]) -> None:
        for extraction_id in ids:
            for follower in self._followers.get(extraction_id, ()):
                follower.close()
