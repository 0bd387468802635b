"""Tasks that must come to their end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def stop(running: asyncio.Task[Any]) -> None:
    """Cancel the task, and wait until it has let go of everything."""
    running.cancel()
    await _done(running)
    if not running.cancelled():
        running.exception()  # retrieved, so that the loop does not report what somebody else has


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do the work all the way, and give or raise what it comes to; a cancellation meanwhile is not heeded."""
    task = asyncio.create_task(work)
    await _done(task)
    return task.result()


async def _done(task: asyncio.Task[Any]) -> None:
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
