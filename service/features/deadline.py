"""The one deadline of a request or job: set where it enters, obeyed by everything that runs on its behalf.

It is held in a context variable, so tasks inherit it. Every inner wait asks `seconds_left` and takes the lesser of
that and its own limit; nothing extends a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from service.features.errors import DeadlineExceeded

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
    set_for = _DEADLINE.get()
    if set_for is None:
        return at_most
    left = set_for - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("The work did not end within the time that it may take.")
    return min(left, at_most)
