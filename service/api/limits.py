"""The rate limit of each principal, told in the header fields of draft-ietf-httpapi-ratelimit-headers-06."""

from __future__ import annotations

from litestar.types import Scope

from service.api.services import RateLimiter, Standing
from service.features.errors import RateLimited
from service.features.events import RateLimitDecided
from service.features.identity import Principal
from service.features.ports import Observer

STANDING = "rate_limit_standing"
"""Key in the ASGI scope's state, where `headers.finish` finds the principal's standing."""


class RateLimit:
    """Counts each authenticated request; belongs behind the authentication."""

    def __init__(self, limiter: RateLimiter, observer: Observer) -> None:
        self._limiter = limiter
        self._observer = observer

    async def count(self, scope: Scope) -> None:
        """Count the request. Raises RateLimited when the principal has none left."""
        principal: Principal = scope["user"]
        standing = await self._limiter.hit(principal.id)
        scope["state"][STANDING] = standing
        self._decide(standing)

    def _decide(self, standing: Standing) -> None:
        if not standing.allowed:
            self._observer.record(RateLimitDecided("limited"))
            raise RateLimited(
                f"You may send {standing.limit} requests a minute.", retry_after=max(1, standing.reset_seconds)
            )
        self._observer.record(RateLimitDecided("degraded" if standing.degraded else "allowed"))
