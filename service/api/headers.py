"""Header fields that every answer carries, set in one place just before it is sent."""

from __future__ import annotations

from litestar.datastructures import MutableScopeHeaders
from litestar.types import BeforeMessageSendHookHandler, Message, Scope

from service.api.limits import STANDING
from service.api.services import Lifecycle, Standing

READ = (
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    "X-Request-ID",
)
"""What a page of an allowed origin may send, beside the API key's own field."""

EXPOSED = (
    "Content-Disposition",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
    "X-Process-Time",
    "X-Request-ID",
    "X-Trace-ID",
)
"""What a page of an allowed origin may read, beside the few fields that it always may."""


def finishing(lifecycle: Lifecycle) -> BeforeMessageSendHookHandler:
    """Litestar's `before_send` for a process in that stage of its life.

    Once it is to stop, each answer is the last on its connection: the client opens the next one to another process,
    instead of finding this one closed under a request that it has just sent.
    """

    async def finish(message: Message, scope: Scope) -> None:
        if message["type"] != "http.response.start":
            return
        headers = MutableScopeHeaders.from_message(message)
        if lifecycle.draining:
            headers["Connection"] = "close"
        _finish(headers, scope)

    return finish


def _finish(headers: MutableScopeHeaders, scope: Scope) -> None:
    """Security fields, `no-store` unless the route says otherwise, the rate limit."""
    headers["X-Content-Type-Options"] = "nosniff"
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-store"
    standing: Standing | None = scope["state"].get(STANDING)
    if standing is not None and standing.limit > 0:
        headers["RateLimit-Limit"] = str(standing.limit)
        headers["RateLimit-Remaining"] = str(max(0, standing.remaining))
        headers["RateLimit-Reset"] = str(max(0, standing.reset_seconds))
