"""Limit the requests that wait for an extraction in an API process; refuse the rest before any work is done."""

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
"""Retry-After is drawn from this range, so that requests refused together do not come back together."""
TICK_SECONDS = 0.02
"""Between two measurements of the event loop's lag."""
LAG_SECONDS = 0.005
"""An event loop that wakes up later than this is overloaded: even a health check waits so long in it."""
MAX_LAG_SECONDS = 5 * LAG_SECONDS
"""No single lag counts for more: a pause, such as a garbage collection, is not overload."""
WEIGHT = 0.2
"""Of the latest lag in the exponentially weighted mean, which thus follows a change within some ten ticks."""
DECREASE = 0.9
"""The limit is multiplied by it at each tick while the loop lags."""
INCREASE = 0.05
"""Added to the limit at each tick while it does not."""
MIN_LIMIT = 2
"""Whatever the lag, so that work goes on."""


class LoadShedder:
    """Admit requests up to a limit that shrinks while the event loop lags; for one event loop.

    A request costs transactions and computing before it is known whether it can be served. In a burst all would wait
    for each other, those too that are refused in the end, and health checks with them. So at most `max_requests` are
    inside, and fewer while the loop lags: additive increase, multiplicative decrease, as TCP finds its window.
    """

    def __init__(self, max_requests: int, observer: Observer) -> None:
        self._max_requests = max_requests
        self._observer = observer
        self._inside = 0
        self._keys: Counter[Hashable] = Counter()
        self._limit = float(max_requests)
        self._lag = 0.0
        self._ticking: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """How many requests may be inside now."""
        return int(self._limit)

    @contextmanager
    def admit(self, key: Hashable = None) -> Generator[None]:
        """Admit a request for the block. Raises PlanningBusy.

        Requests with an equal `key`, if they have one, count as one: they wait for the same extraction.
        """
        if key is not None and self._keys[key]:
            with self._holding(key):
                yield
            return
        if self._inside >= self.limit:
            self._observer.record(PlanningAdmitted("refused"))
            raise PlanningBusy(
                "Too many requests are being planned; try again later.",
                retry_after=random.uniform(*RETRY_SECONDS),  # noqa: S311 -- spreads callers out, hides nothing
            )
        self._inside += 1
        if self._ticking is None:
            self._tick(asyncio.get_running_loop().time)
        try:
            with self._holding(key):
                yield
        finally:
            self._inside -= 1

    @contextmanager
    def _holding(self, key: Hashable) -> Generator[None]:
        if key is None:
            yield
            return
        self._keys[key] += 1
        try:
            yield
        finally:
            self._keys[key] -= 1
            if not self._keys[key]:
                del self._keys[key]

    def note_lag(self, seconds: float) -> None:
        """Adapt the limit to a loop that woke up so much later than it was due."""
        self._lag += WEIGHT * (min(seconds, MAX_LAG_SECONDS) - self._lag)
        if self._lag > LAG_SECONDS:
            self._limit = max(float(min(MIN_LIMIT, self._max_requests)), self._limit * DECREASE)
        else:
            self._limit = min(float(self._max_requests), self._limit + INCREASE)

    def _tick(self, clock: Callable[[], float], due: float | None = None) -> None:
        """Measure the lag while a request is inside, and until the limit is the whole one again."""
        now = clock()
        if due is not None:
            self.note_lag(max(0.0, now - due))
        if self._inside == 0 and self.limit == self._max_requests:
            self._ticking = None
            return
        due = now + TICK_SECONDS
        self._ticking = asyncio.get_running_loop().call_at(due, self._tick, clock, due)
