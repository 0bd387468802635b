"""Header fields that every answer carries, set in one place just before it is sent."""

from __future__ import annotations

from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

from service.api.limits import STANDING
from service.api.services import Standing

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


async def finish(message: Message, scope: Scope) -> None:
    """Litestar's `before_send`: security fields, `no-store` unless the route says otherwise, the rate limit."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders.from_message(message)
    headers["X-Content-Type-Options"] = "nosniff"
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-store"
    standing: Standing | None = scope["state"].get(STANDING)
    if standing is not None and standing.limit > 0:
        headers["RateLimit-Limit"] = str(standing.limit)
        headers["RateLimit-Remaining"] = str(max(0, standing.remaining))
        headers["RateLimit-Reset"] = str(max(0, standing.reset_seconds))
