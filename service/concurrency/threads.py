"""Run work in a thread that ends with its deadline or its caller, and whose end is always waited for.

A thread cannot be stopped from outside, so long work calls `checkpoint` often. Whoever waits for it, and what that one
holds (a place, an attempt), is free only when the thread has ended, so that no abandoned work runs beside its retry.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from service.concurrency.deadline import seconds_left
from service.concurrency.shielded import wait_until_done

P = ParamSpec("P")
T = TypeVar("T")

_ABANDONED: ContextVar[threading.Event | None] = ContextVar("feature_agent_abandoned", default=None)


class WorkAbandoned(Exception):
    """Raised by `checkpoint` in a thread whose caller was cancelled; no code handles it."""


async def run_in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run the function in a thread, within the caller's context.

    Raises what it raises, DeadlineExceeded among it. When the caller is cancelled, the work ends at its next
    `checkpoint`, and the cancellation goes on when it has ended.
    """
    abandoned = threading.Event()

    def run() -> T:
        _ABANDONED.set(abandoned)  # in the thread's own copy of the context
        checkpoint()
        return work(*args, **kwargs)

    running = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        abandoned.set()
        await wait_until_done(running)
        if not running.cancelled():
            running.exception()  # retrieved, so that asyncio does not report it
        raise


def checkpoint() -> None:
    """Raises DeadlineExceeded when the time is up, WorkAbandoned when the caller of `run_in_thread` was cancelled."""
    abandoned = _ABANDONED.get()
    if abandoned is not None and abandoned.is_set():
        raise WorkAbandoned
    seconds_left(math.inf)


def checked(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, with a `checkpoint` before each."""
    for item in items:
        checkpoint()
        yield item
