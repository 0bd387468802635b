"""The one deadline of a request or job: set where it enters, obeyed by everything that runs on its behalf.

It is held in a context variable, so tasks inherit it. Every inner wait asks `seconds_left` and takes the lesser of
that and its own limit; nothing extends a deadline.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from service.features.errors import DeadlineExceeded

TIMER_SECONDS = 0.01
"""How much early a timer may fire: event loops count in milliseconds."""

_DEADLINE: ContextVar[float | None] = ContextVar("feature_agent_deadline", default=None)
"""On the monotonic clock, in seconds."""


@contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Bound what runs in the block to `seconds` from now, or to the deadline around it if that is earlier."""
    around = _DEADLINE.get()
    own = time.monotonic() + seconds
    token = _DEADLINE.set(own if around is None else min(own, around))
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def seconds_left(at_most: float) -> float:
    """Seconds until the deadline, never more than `at_most`. Raises DeadlineExceeded when there are none."""
    left = remaining()
    if left <= 0:
        raise DeadlineExceeded("The work did not end within the time that it may take.")
    return min(left, at_most)


def remaining() -> float:
    """Seconds until the deadline: infinite when there is none, zero or less when it is over."""
    set_for = _DEADLINE.get()
    return math.inf if set_for is None else set_for - time.monotonic()


def is_over() -> bool:
    """Whether what is being cut off just now is cut off because its time is up, not because nobody waits for it."""
    return remaining() <= TIMER_SECONDS
