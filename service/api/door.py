"""How many clients may wait for an answer that takes a while: the rest are turned away before anything is done."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager

from service.features.errors import PlanningBusy
from service.features.events import PlanningAdmitted
from service.features.ports import Observer

RETRY_SECONDS = (2.0, 8.0)
"""Those who are turned away together are told to come back apart."""
TICK_SECONDS = 0.02
LAG_SECONDS = 0.005
"""An event loop that wakes up later than this has more to do than it can: even a health check waits so long in it."""
WORST_SECONDS = 5 * LAG_SECONDS
"""No single lag counts for more: a pause, such as a garbage collection, is not overload."""
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
        self._errands: Counter[Hashable] = Counter()
        self._places = float(most)
        self._lag = 0.0
        self._ticking: asyncio.TimerHandle | None = None

    @property
    def places(self) -> int:
        """How many may be inside now."""
        return int(self._places)

    @contextmanager
    def inside(self, errand: Hashable = None) -> Generator[None]:
        """Be let in for the block.

        Requests on the same `errand`, if they name one, take one place together: they wait for the same thing. Raises
        PlanningBusy.
        """
        if errand is not None and self._errands[errand]:
            with self._on(errand):
                yield
            return
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
            with self._on(errand):
                yield
        finally:
            self._inside -= 1

    @contextmanager
    def _on(self, errand: Hashable) -> Generator[None]:
        if errand is None:
            yield
            return
        self._errands[errand] += 1
        try:
            yield
        finally:
            self._errands[errand] -= 1
            if not self._errands[errand]:
                del self._errands[errand]

    def note_lag(self, seconds: float) -> None:
        """The loop woke up so much later than asked."""
        self._lag += WEIGHT * (min(seconds, WORST_SECONDS) - self._lag)
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
