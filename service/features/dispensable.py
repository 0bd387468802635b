"""A server that makes the service better but must not be what takes it down: asked with patience, left alone when away.

Redis is one: rate limits, breakers and the plan cache are shared through it while it answers, and kept by each process
alone while it does not.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 0.5
"""A call waits no longer than this."""
PAUSE_SECONDS = 1.0
"""Once the server is away, one call in this time tries it again; the others do not wait for it."""
WARNING_SECONDS = 60.0
"""Between two warnings that it is away."""


class Away(Exception):
    """The server did not answer, or is being left alone; do without it."""


class Dispensable:
    """Calls to one server on behalf of one purpose.

    When a call fails with one of `faults` or does not end within the patience, it raises Away, and so do all others but
    one a second, which tries the server again. The first that succeeds ends it. `without` says in the log what happens
    meanwhile ("each process counts requests by itself").
    """

    def __init__(
        self,
        name: str,
        *,
        faults: tuple[type[Exception], ...],
        without: str,
        logger: logging.Logger,
        patience_seconds: float = PATIENCE_SECONDS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._faults = (*faults, OSError)
        self._without = without
        self._log = logger
        self._patience = patience_seconds
        self._timer = timer
        self._away = False
        self._retry_at = -math.inf
        self._warn_at = -math.inf
        self._asking: set[asyncio.Task[Any]] = set()

    async def ask(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the call returns. Raises Away for want of the server, and whatever else the call raises."""
        now = self._timer()
        if now < self._retry_at:
            raise Away(self._name)
        if self._away:
            self._retry_at = now + PAUSE_SECONDS
        try:
            answer = await self._within_patience(call())
        except self._faults as fault:
            self._note_away(fault)
            raise Away(self._name) from fault
        self._note_back()
        return answer

    async def _within_patience(self, call: Coroutine[Any, Any, T]) -> T:
        # A task of its own, because a plain timeout can be overstayed: before Python 3.12 `asyncio.wait_for`, which
        # redis-py sends through, loses a cancellation that arrives as the sending ends, and then waits for the socket.
        asking = asyncio.create_task(call)
        self._asking.add(asking)
        asking.add_done_callback(self._forget)
        try:
            await asyncio.wait({asking}, timeout=self._patience)
        finally:
            asking.cancel()
        if not asking.done():
            raise TimeoutError
        return asking.result()

    def _forget(self, asking: asyncio.Task[Any]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # retrieved, so that the loop does not report what was raised after we had left

    def _note_away(self, fault: Exception) -> None:
        now = self._timer()
        self._away = True
        self._retry_at = now + PAUSE_SECONDS
        if now >= self._warn_at:
            self._warn_at = now + WARNING_SECONDS
            self._log.warning("%s is away (%s): %s until it is back", self._name, type(fault).__name__, self._without)

    def _note_back(self) -> None:
        if self._away:
            self._away = False
            self._retry_at = -math.inf
            self._log.info("%s is back", self._name)
