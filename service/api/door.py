"""How many clients may wait for an answer that takes a while: the rest are turned away before anything is done."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager

from service.features.errors import PlanningBusy
from service.features.events import PlanningAdmitted
from service.features.ports import Observer

RETRY_SECONDS = (2.0, 8.0)
"""Those who are turned away together are told to come back apart."""
TICK_SECONDS = 0.02
LAG_SECONDS = 0.01
"""An event loop that wakes up later than this has more to do than it can: even a health check waits so long in it."""
WEIGHT = 0.2
"""Of the latest lag in its mean, which thus follows a change within some ten ticks."""
FEWER = 0.9
MORE = 0.05
LEAST = 2
"""Places that are left whatever the lag, so that work goes on."""


class Door:
    """Lets requests in while there is a place and the event loop keeps up; for one event loop.

    What is let in costs transactions and thought before it is known whether it can be served. A burst would make all
    wait for each other, those too that are to be refused, and health checks with them. So at most `most` are inside,
    and while the loop lags, fewer: the places shrink by a tenth each tick and grow back slowly (additive increase,
    multiplicative decrease, as TCP finds its window).
    """

    def __init__(self, most: int, observer: Observer) -> None:
        self._most = most
        self._observer = observer
        self._inside = 0
        self._places = float(most)
        self._lag = 0.0
        self._ticking: asyncio.TimerHandle | None = None

    @property
    def places(self) -> int:
        """How many may be inside now."""
        return int(self._places)

    @contextmanager
    def inside(self) -> Generator[None]:
        """Be let in for the block. Raises PlanningBusy."""
        if self._inside >= self.places:
            self._observer.record(PlanningAdmitted("refused"))
            raise PlanningBusy(
                "Too many requests are being planned; try again later.",
                retry_after=random.uniform(*RETRY_SECONDS),  # noqa: S311 -- spreads callers out, hides nothing
            )
        self._inside += 1
        if self._ticking is None:
            self._tick(asyncio.get_running_loop().time)
        try:
            yield
        finally:
            self._inside -= 1

    def note_lag(self, seconds: float) -> None:
        """The loop woke up so much later than asked."""
        self._lag += WEIGHT * (seconds - self._lag)
        if self._lag > LAG_SECONDS:
            self._places = max(float(min(LEAST, self._most)), self._places * FEWER)
        else:
            self._places = min(float(self._most), self._places + MORE)

    def _tick(self, clock: Callable[[], float], due: float | None = None) -> None:
        """Measure the lag while anybody is inside, and until the places are all back."""
        now = clock()
        if due is not None:
            self.note_lag(max(0.0, now - due))
        if self._inside == 0 and self.places == self._most:
            self._ticking = None
            return
        due = now + TICK_SECONDS
        self._ticking = asyncio.get_running_loop().call_at(due, self._tick, clock, due)
