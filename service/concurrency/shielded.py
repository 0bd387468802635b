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
    await wait_until_done(running)
    if not running.cancelled():
        running.exception()  # retrieved, so that the loop does not report what somebody else has


async def run_shielded(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine to its end, ignoring cancellation of the caller; return its value or raise its exception."""
    task = asyncio.create_task(work)
    await wait_until_done(task)
    return task.result()


async def wait_until_done(task: asyncio.Future[Any]) -> None:
    """Wait until the task has ended, ignoring cancellation of the caller."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
