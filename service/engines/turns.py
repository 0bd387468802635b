"""Share the engine's places fairly: by principal, and between small and large work.

Start-time fair queueing: each request gets a start tag, the virtual time at which its principal's requests so far
would have been served, and free places go to the lowest tags. A principal with many requests waits for its own; the
first request of any other starts after at most one of each.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.concurrency.deadline import seconds_left
from service.features.errors import DeadlineExceeded, DependencyUnavailable, RateLimited
from service.features.events import EngineTurnTaken
from service.features.model import Lane
from service.features.ports import Observer

COSTS: dict[Lane, float] = {"small": 1.0, "large": 8.0}
"""Virtual time of a request: large work takes some seconds, small work less than one."""
MAX_WAITING = 64
"""Requests of one principal that may wait."""
RETRY_SECONDS = 5.0


@dataclass(order=True, slots=True)
class _Waiter:
    start: float
    """Virtual time."""
    number: int
    owner: str = field(compare=False)
    lane: Lane = field(compare=False)
    started: asyncio.Future[None] = field(compare=False)


class Turns:
    """Let some requests work at once, so that their memory and threads are bounded; for one event loop.

    With several places, one is kept free of large work, and one principal has at most all but one; its large work has
    one fewer, so that its own small work need not wait for it.
    """

    def __init__(self, places: int, seconds: float, observer: Observer, *, max_waiting: int = MAX_WAITING) -> None:
        """Give `places`; a request waits at most `seconds`, or until its deadline."""
        self._places = places
        self._lost = 0
        self._seconds = seconds
        self._observer = observer
        self._max_waiting = max_waiting
        self._waiting: list[_Waiter] = []
        self._running: Counter[tuple[str, Lane]] = Counter()
        self._now = 0.0
        self._next: dict[str, float] = {}
        """Start tag of each principal's next request, where it is later than now."""
        self._numbers = 0

    @asynccontextmanager
    async def taken(self, owner: str, lane: Lane) -> AsyncGenerator[None]:
        """Wait for a place and hold it during the block.

        Raises DeadlineExceeded when none was free in time, RateLimited when too many requests of the owner wait, and
        DependencyUnavailable when every place is lost.
        """
        asked = time.monotonic()
        await self._start(owner, lane)
        self._observer.record(EngineTurnTaken(lane, time.monotonic() - asked))
        try:
            yield
        finally:
            self._leave(owner, lane)

    def set_lost(self, lost: int) -> None:
        """Say how many places cannot be used now, because their processes do not end."""
        self._lost = lost
        self._admit()

    @property
    def all_lost(self) -> bool:
        """Whether no place is left."""
        return self._lost >= self._places

    async def _start(self, owner: str, lane: Lane) -> None:
        seconds = seconds_left(self._seconds)
        waiter = self._enqueue(owner, lane)
        self._admit()
        try:
            async with asyncio.timeout(seconds):
                await waiter.started
        except BaseException as error:
            self._give_up(waiter)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("Too much is being computed: there was no turn in time.") from None
            raise

    def _enqueue(self, owner: str, lane: Lane) -> _Waiter:
        if self.all_lost:
            raise DependencyUnavailable("The engine's processes do not end.", retry_after=RETRY_SECONDS)
        if sum(waiter.owner == owner for waiter in self._waiting) >= self._max_waiting:
            raise RateLimited(
                f"{self._max_waiting} of your requests already wait for the engine. Send this one when they are done.",
                retry_after=RETRY_SECONDS,
            )
        start = max(self._now, self._next.get(owner, 0.0))
        self._next[owner] = start + COSTS[lane]
        self._numbers += 1
        started = asyncio.get_running_loop().create_future()
        waiter = _Waiter(start, self._numbers, owner, lane, started)
        insort(self._waiting, waiter)
        return waiter

    def _admit(self) -> None:
        """Give the free places to the lowest start tags that may have one."""
        for waiter in list(self._waiting):
            if self._running.total() >= self._places - self._lost:
                break
            if not waiter.started.done() and self._may_start(waiter.owner, waiter.lane):
                self._waiting.remove(waiter)
                self._running[waiter.owner, waiter.lane] += 1
                self._advance(waiter)
                waiter.started.set_result(None)

    def _may_start(self, owner: str, lane: Lane) -> bool:
        places = self._places - self._lost
        if places == 1:
            return True
        large = self._running[owner, "large"]
        if large + self._running[owner, "small"] >= places - 1:
            return False
        if lane == "small":
            return True
        all_large = sum(count for (_, running), count in self._running.items() if running == "large")
        return all_large < places - 1 and large < max(1, places - 2)

    def _advance(self, started: _Waiter) -> None:
        """Move virtual time to the lowest tag that waits, or to the last that started."""
        self._now = max(self._now, self._waiting[0].start if self._waiting else started.start)
        self._next = {owner: tag for owner, tag in self._next.items() if tag > self._now}

    def _give_up(self, waiter: _Waiter) -> None:
        if waiter.started.done() and not waiter.started.cancelled():
            self._leave(waiter.owner, waiter.lane)
            return
        self._waiting.remove(waiter)
        if not self._waiting:
            self._next.clear()

    def _leave(self, owner: str, lane: Lane) -> None:
        self._running[owner, lane] -= 1
        if not self._running[owner, lane]:
            del self._running[owner, lane]
        self._admit()
