"""Hold the correlation ids of the current request or job, for everything that runs on its behalf.

The outermost layer sets `CURRENT` to a fresh context; inner layers add what they know (the principal, the extraction).
The object is mutable on purpose: tasks started inside share it, so the outer layer sees the additions.
"""

from __future__ import annotations

from contextvars import ContextVar

from msgspec import Struct


class RequestContext(Struct):
    """Ids for logs, traces, problem documents and answers."""

    request_id: str
    trace_id: str = ""
    """32 hexadecimal characters; empty when tracing is off."""
    user_id: str = ""
    extraction_id: str = ""
    enqueued: bool = False
    """Whether a job was enqueued on its behalf."""
    started: float = 0.0
    """`time.perf_counter()` at the request's start, in seconds."""


CURRENT: ContextVar[RequestContext | None] = ContextVar("feature_agent_request", default=None)
