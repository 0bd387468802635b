"""Header fields that every answer carries, set in one place just before it is sent."""

from __future__ import annotations

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


def header(scope: Scope, name: bytes) -> str | None:
    """The first header field of that name, which is in lower case; None without one.

    The framework's mapping of all fields is made anew by each layer that asks for one.
    """
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")


async def finish(message: Message, scope: Scope) -> None:
    """Litestar's `before_send`: security fields, `no-store` unless the route says otherwise, the rate limit."""
    if message["type"] != "http.response.start":
        return
    headers = [*message.get("headers", ()), _NOSNIFF]
    if not any([name == b"cache-control" for name, _ in headers]):  # noqa: C419 -- a list is faster than a generator here
        headers.append(_NO_STORE)
    standing: Standing | None = scope["state"].get(STANDING)
    if standing is not None and standing.limit > 0:
        headers += (
            (b"ratelimit-limit", b"%d" % standing.limit),
            (b"ratelimit-remaining", b"%d" % max(0, standing.remaining)),
            (b"ratelimit-reset", b"%d" % max(0, standing.reset_seconds)),
        )
    message["headers"] = headers
