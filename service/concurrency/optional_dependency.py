"""Call a server that the service can do without: a short timeout, and a pause between attempts while it is unreachable.

Redis is one: rate limits, circuit breakers and the plan cache are shared through it while it answers, and kept by each
process for itself while it does not.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CALL_TIMEOUT_SECONDS = 0.5
"""A call waits no longer than this."""
PAUSE_SECONDS = 1.0
"""While the server is unreachable, one call in this time tries it again; the others fail at once."""
WARNING_SECONDS = 60.0
"""Between two warnings that it is unreachable."""


class Unavailable(Exception):
    """Raised when the server did not answer, or is not tried just now; go on without it."""


class OptionalDependency:
    """Call one server for one purpose.

    When a call fails with one of `faults` or does not end within its timeout, it raises Unavailable; from then on so do
    all calls but one a second, which tries the server again, until one succeeds. `without` is logged: what happens
    until then ("each process counts requests by itself").
    """

    def __init__(
        self,
        name: str,
        *,
        faults: tuple[type[Exception], ...],
        without: str,
        logger: logging.Logger,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._faults = (*faults, OSError)
        self._without = without
        self._log = logger
        self._timeout_seconds = timeout_seconds
        self._timer = timer
        self._unreachable = False
        self._retry_at = -math.inf
        self._warn_at = -math.inf
        self._asking: set[asyncio.Task[Any]] = set()

    async def call(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the call returns. Raises Unavailable, and whatever else the call raises."""
        now = self._timer()
        if now < self._retry_at:
            raise Unavailable(self._name)
        if self._unreachable:
            self._retry_at = now + PAUSE_SECONDS
        try:
            answer = await self._within_timeout(call())
        except self._faults as fault:
            self._note_unreachable(fault)
            raise Unavailable(self._name) from fault
        self._note_reachable()
        return answer

    async def _within_timeout(self, call: Coroutine[Any, Any, T]) -> T:
        # A task of its own, because a plain timeout can be overstayed: before Python 3.12 `asyncio.wait_for`, which
        # redis-py sends through, loses a cancellation that arrives as the sending ends, and then waits for the socket.
        asking = asyncio.create_task(call)
        self._asking.add(asking)
        asking.add_done_callback(self._discard)
        try:
            await asyncio.wait({asking}, timeout=self._timeout_seconds)
        finally:
            asking.cancel()
        if not asking.done():
            raise TimeoutError
        return asking.result()

    def _discard(self, asking: asyncio.Task[Any]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # retrieved, so that the loop does not report what was raised after we had left

    def _note_unreachable(self, fault: Exception) -> None:
        now = self._timer()
        self._unreachable = True
        self._retry_at = now + PAUSE_SECONDS
        if now >= self._warn_at:
            self._warn_at = now + WARNING_SECONDS
            self._log.warning(
                "%s is unreachable (%s): %s until it answers", self._name, type(fault).__name__, self._without
            )

    def _note_reachable(self) -> None:
        if self._unreachable:
            self._unreachable = False
            self._retry_at = -math.inf
            self._log.info("%s answers again", self._name)
