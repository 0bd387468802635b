"""Apply the rate limit of each principal, shown in the header fields of draft-ietf-httpapi-ratelimit-headers-06."""

from __future__ import annotations

from litestar.types import Scope

from service.features.errors import RateLimited
from service.features.events import RateLimitDecided
from service.features.identity import Principal
from service.features.ports import Observer
from service.security.limits import RateLimitDecision, RateLimiter

RATE_LIMIT_DECISION = "rate_limit_decision"
"""Key in the ASGI scope's state, where `headers.finish` finds the decision."""


class RateLimit:
    """Count each authenticated request; comes after the authentication."""

    def __init__(self, limiter: RateLimiter, observer: Observer) -> None:
        self._limiter = limiter
        self._observer = observer

    async def count(self, scope: Scope) -> None:
        """Count the request. Raises RateLimited when the principal has none left."""
        principal: Principal = scope["user"]
        decision = await self._limiter.hit(principal.id)
        scope["state"][RATE_LIMIT_DECISION] = decision
        self._apply(decision)

    def _apply(self, decision: RateLimitDecision) -> None:
        if not decision.allowed:
            self._observer.record(RateLimitDecided("limited"))
            raise RateLimited(
                f"You may send {decision.limit} requests a minute.", retry_after=max(1, decision.reset_seconds)
            )
        self._observer.record(RateLimitDecided("degraded" if decision.degraded else "allowed"))
