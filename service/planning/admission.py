"""Limit the requests that a process plans at once: so many plan, so many more wait their turn, the rest are refused.

Without it a burst would send every request to the provider at once, be rate limited, and time out together.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from service.concurrency.deadline import seconds_left
from service.features.errors import DeadlineExceeded, PlanningBusy
from service.features.events import PlanningAdmitted, PlanningLoad
from service.features.ports import Observer, Planner, PlanRequest, Proposal

WEIGHT = 0.2
"""Of the latest planning in the mean duration (an exponentially weighted moving average): it is about that of the last
nine, 2/0.2 - 1, so that it follows a slower model within seconds and one odd run hardly moves it."""
MIN_RETRY_SECONDS = 1.0
"""A refused client that came back sooner would be part of a storm."""
MAX_RETRY_SECONDS = 60.0
"""What is later cannot be foreseen."""
EARLY_SECONDS = 0.05
"""A waiter gives up so long before its deadline, to say why before the request as a whole is cut off."""


class Admission:
    """At most `concurrency` inside at once and at most `queue` waiting, first come first served; for one event loop.

    A place that is given up goes straight to the request that waits longest and is never free in between, so a newcomer
    cannot take it: `asyncio.Semaphore` before Python 3.12 lets newcomers overtake, and can lose a place to a waiter
    that is cancelled as it is woken.
    """

    def __init__(
        self, *, concurrency: int, queue: int, observer: Observer, timer: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ValueError for no place at all or a negative queue."""
        if concurrency < 1 or queue < 0:
            raise ValueError("Admission needs at least one place, and a queue that is not negative.")
        self._concurrency = concurrency
        self._queue = queue
        self._observer = observer
        self._timer = timer
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_seconds: float | None = None

    def require_place(self) -> None:
        """Raises PlanningBusy while `place` would, at once, for a full queue."""
        if self._running >= self._concurrency and len(self._waiting) >= self._queue:
            self._record("refused")
            raise self._busy()

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """Hold a place for the block.

        Raises PlanningBusy: at once when the queue is full or would take longer than the time left, or when the time
        is over while waiting.
        """
        await self._enter()
        entered = self._timer()
        try:
            yield
        finally:
            self._note_duration(self._timer() - entered)
            self._pass_on()

    async def _enter(self) -> None:
        if self._running < self._concurrency:  # then nobody waits, as each place that is left is passed on
            self._running += 1
            self._record_load()
        else:
            await self._wait(self._time_to_wait())
        self._record("admitted")

    def _time_to_wait(self) -> float:
        """Return the seconds that there are for waiting; inf without a deadline. Raises PlanningBusy."""
        left = _time_left()
        if len(self._waiting) >= self._queue or left <= 0 or self._estimated_wait() > left:
            self._record("refused")
            raise self._busy()
        return left

    async def _wait(self, seconds: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._record("queued")
        self._record_load()
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await turn
        except TimeoutError:
            self._step_out(turn)
            self._record("expired")
            raise self._busy() from None
        except BaseException:
            self._step_out(turn)
            raise

    def _step_out(self, turn: asyncio.Future[None]) -> None:
        """Leave the queue; a place that was handed over at this very moment goes to the next."""
        if turn in self._waiting:
            self._waiting.remove(turn)
            self._record_load()
        elif not turn.cancelled():
            self._pass_on()

    def _pass_on(self) -> None:
        """Hand a place to the request that waits longest, or have one fewer taken."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its task was cancelled, and has not yet run to step out
                turn.set_result(None)
                break
        else:
            self._running -= 1
        self._record_load()

    def _note_duration(self, seconds: float) -> None:
        mean = seconds if self._mean_seconds is None else self._mean_seconds
        self._mean_seconds = mean + WEIGHT * (seconds - mean)

    def _estimated_wait(self) -> float:
        """Estimate a newcomer's wait: with n before it, n + 1 must leave, `concurrency` of them per mean duration."""
        return (len(self._waiting) + 1) * (self._mean_seconds or 0.0) / self._concurrency

    def _busy(self) -> PlanningBusy:
        return PlanningBusy(
            "Too many requests are being planned; try again later.",
            retry_after=min(max(self._estimated_wait(), MIN_RETRY_SECONDS), MAX_RETRY_SECONDS),
        )

    def _record(self, decision: Literal["admitted", "queued", "refused", "expired"]) -> None:
        self._observer.record(PlanningAdmitted(decision))

    def _record_load(self) -> None:
        self._observer.record(PlanningLoad(self._running, len(self._waiting)))


def _time_left() -> float:
    try:
        return seconds_left(math.inf) - EARLY_SECONDS
    except DeadlineExceeded:
        return 0.0


class AdmittedPlanner:
    """A planner that plans when there is a place."""

    def __init__(self, planner: Planner, admission: Admission) -> None:
        self._planner = planner
        self._admission = admission

    async def propose(self, request: PlanRequest) -> Proposal:
        """Wait for a place and plan. Raises PlanningBusy, and what the planner raises."""
        async with self._admission.place():
            return await self._planner.propose(request)
