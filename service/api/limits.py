"""The rate limit of each principal, told in the header fields of draft-ietf-httpapi-ratelimit-headers-06."""

from __future__ import annotations

from litestar.enums import HttpMethod, ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.services import RateLimiter, Standing
from service.features.errors import RateLimited
from service.features.events import RateLimitDecided
from service.features.identity import Principal
from service.features.ports import Observer

STANDING = "rate_limit_standing"
"""Key in the ASGI scope's state, where `headers.finish` finds the principal's standing."""


class RateLimit(ASGIMiddleware):
    """Counts each authenticated request; belongs behind the authentication."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, limiter: RateLimiter, observer: Observer) -> None:
        self._limiter = limiter
        self._observer = observer

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass the request on. Raises RateLimited when the principal has none left."""
        if scope["type"] == ScopeType.HTTP and scope["method"] != HttpMethod.OPTIONS:
            principal: Principal = scope["user"]
            standing = await self._limiter.hit(principal.id)
            scope["state"][STANDING] = standing
            self._decide(standing)
        await next_app(scope, receive, send)

    def _decide(self, standing: Standing) -> None:
        if not standing.allowed:
            self._observer.record(RateLimitDecided("limited"))
            raise RateLimited(
                f"You may send {standing.limit} requests a minute.", retry_after=max(1, standing.reset_seconds)
            )
        self._observer.record(RateLimitDecided("degraded" if standing.degraded else "allowed"))
