"""An event loop with virtual time: it passes when every task waits for a timer, and then at once.

While a task waits for a socket or a thread, the loop really waits for it and no virtual time passes, so a test can use
a real database.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
IO_TIMEOUT_SECONDS = 60.0
"""Real seconds after which a socket or thread that does not answer fails the test."""


class HeldSelector(selectors.SelectSelector):
    """A selector that moves the virtual time instead of sleeping."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0
        """Calls that run in threads."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; wait for sockets and threads first, for timers after."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.threads or len(self.get_map()) > 1:  # one is the loop's own, by which threads wake it
            ready = super().select(IO_TIMEOUT_SECONDS)
            assert ready, "a socket or a thread does not answer"
            return ready
        assert timeout is not None, "every task waits for something that never comes"
        self.now += max(timeout, 0.0)
        return ready


class HeldLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self._held = HeldSelector()
        super().__init__(self._held)
        self.cleanup = AsyncExitStack()
        """Closed when the test has ended."""

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return self._held.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Run the function in a thread; no virtual time passes meanwhile."""
        self._held.threads += 1
        running = super().run_in_executor(executor, func, *args)
        running.add_done_callback(self._has_run)
        return running

    def _has_run(self, _: asyncio.Future[Any]) -> None:
        self._held.threads -= 1


class HeldClock:
    """A clock that says noon when the loop is created, and goes with its virtual time."""

    def now(self) -> datetime:
        """Return the present virtual instant."""
        return NOON + timedelta(seconds=asyncio.get_running_loop().time())


def run_held(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=HeldLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, HeldLoop)
        try:
            return runner.run(main)
        finally:
            runner.run(loop.cleanup.aclose())


def in_held_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in virtual time."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_held(test(*arguments, **named))

    return run


def at_end(callback: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Await the callback when the test has ended."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, HeldLoop)
    loop.cleanup.push_async_callback(callback)
