"""An event loop whose time passes only when everybody waits for it, and then at once."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class HeldSelector(selectors.SelectSelector):
    """Instead of sleeping, it moves the time on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that never comes"
            self.now += max(timeout, 0.0)
        return ready


class HeldLoop(asyncio.SelectorEventLoop):
    """A loop on held time."""

    def __init__(self) -> None:
        self._held = HeldSelector()
        super().__init__(self._held)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._held.now


class HeldClock:
    """Noon when the loop was made; goes with it."""

    def now(self) -> datetime:
        """The present instant."""
        return NOON + timedelta(seconds=asyncio.get_running_loop().time())


def run_held(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end in held time."""
    with asyncio.Runner(loop_factory=HeldLoop) as runner:
        return runner.run(main)


def in_held_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that runs in held time."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_held(test(*arguments, **named))

    return run
