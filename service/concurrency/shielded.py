"""Run a coroutine to its end even when its caller is cancelled, and stop a task completely."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def stop(running: asyncio.Task[Any]) -> None:
    """Cancel the task and wait until it has ended."""
    running.cancel()
    await _done(running)
    if not running.cancelled():
        running.exception()  # retrieved, so that the loop does not report what somebody else has


async def run_shielded(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine to its end, ignoring cancellation of the caller; return its value or raise its exception."""
    task = asyncio.create_task(work)
    await _done(task)
    return task.result()


async def _done(task: asyncio.Task[Any]) -> None:
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
