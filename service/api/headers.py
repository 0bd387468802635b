"""Header fields that every answer carries, set in one place just before it is sent."""

from __future__ import annotations

from collections.abc import Iterable

from litestar.types import BeforeMessageSendHookHandler, Message, Scope

from service.api.limits import RATE_LIMIT_DECISION
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


_CLOSE = (b"connection", b"close")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")


def finishing(lifecycle: Lifecycle) -> BeforeMessageSendHookHandler:
    """Litestar's `before_send` for a process in that stage of its life.

    Once it is to stop, each answer is the last on its connection: the client opens the next one to another process,
    instead of finding this one closed under a request that it has just sent.
    """

    async def finish(message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            headers = _finished(message.get("headers", ()), scope)
            message["headers"] = [*headers, _CLOSE] if lifecycle.draining else headers

    return finish


def _finished(given: Iterable[tuple[bytes, bytes]], scope: Scope) -> list[tuple[bytes, bytes]]:
    """With security fields, `no-store` unless the route says otherwise, and the rate limit."""
    headers = [*given, _NOSNIFF]
    if not any([name == b"cache-control" for name, _ in headers]):  # noqa: C419 -- a list is faster than a generator here
        headers.append(_NO_STORE)
    decision: RateLimitDecision | None = scope["state"].get(RATE_LIMIT_DECISION)
    if decision is not None and decision.limit > 0:
        headers += (
            (b"ratelimit-limit", b"%d" % decision.limit),
            (b"ratelimit-remaining", b"%d" % max(0, decision.remaining)),
            (b"ratelimit-reset", b"%d" % max(0, decision.reset_seconds)),
        )
    return headers
