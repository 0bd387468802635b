"""Set the header fields that every answer carries, in one place just before it is sent."""

from __future__ import annotations

from collections.abc import Iterable

from litestar.types import BeforeMessageSendHookHandler, Message, Scope

from service.api.limits import RATE_LIMIT_DECISION
from service.api.quota_headers import QUOTA_FIELDS
from service.api.services import Lifecycle
from service.security.limits import RateLimitDecision

READ = (
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    "X-Request-ID",
)
"""Header fields that pages of an allowed origin may send, besides the API key's own."""

EXPOSED = (
    "Content-Disposition",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    *QUOTA_FIELDS,
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
    "X-Process-Time",
    "X-Request-ID",
    "X-Trace-ID",
)
"""Header fields that pages of an allowed origin may read, besides those that are always readable."""


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header field of that name, in lower case; None without one.

    The framework's mapping of all fields is rebuilt by each layer that uses it.
    """
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


_CLOSE = (b"connection", b"close")
NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")


def finishing(lifecycle: Lifecycle) -> BeforeMessageSendHookHandler:
    """Return Litestar's `before_send` hook.

    When the process is stopping, each answer closes its connection, so that the client opens the next one to another
    process instead of finding this one closed just after sending a request.
    """

    async def finish(message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            headers = _finished(message.get("headers", ()), scope)
            message["headers"] = [*headers, _CLOSE] if lifecycle.draining else headers

    return finish


def _finished(given: Iterable[tuple[bytes, bytes]], scope: Scope) -> list[tuple[bytes, bytes]]:
    """Add security fields, `no-store` unless the route sets its own, and the rate limit."""
    headers = [*given, NOSNIFF]
    if not any([name == b"cache-control" for name, _ in headers]):  # noqa: C419 -- a list is faster than a generator here
        headers.append(NO_STORE)
    decision: RateLimitDecision | None = scope["state"].get(RATE_LIMIT_DECISION)
    if decision is not None and decision.limit > 0:
        headers += (
            (b"ratelimit-limit", b"%d" % decision.limit),
            (b"ratelimit-remaining", b"%d" % max(0, decision.remaining)),
            (b"ratelimit-reset", b"%d" % max(0, decision.reset_seconds)),
        )
    return headers
