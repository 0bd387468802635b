"""A circuit breaker for each model: a model that fails is left alone for a while, then tried with a single call.

With Redis all processes share a model's circuit (`shared_breaker.py`); without, each keeps its own
(`breaker_local.py`). Both follow the state machine of `breaker_machine.py`. The libraries that were tried let every
waiting call through as soon as the time is over, just when a recovering provider bears it least.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from redis.asyncio import BlockingConnectionPool, Redis

from service.agents.breaker_local import Breaker, CircuitOpen, LocalBreaker, Permit, Timer
from service.agents.breaker_machine import BreakerPolicy, BreakerState
from service.agents.shared_breaker import SharedBreaker
from service.concurrency.optional_dependency import CALL_TIMEOUT_SECONDS
from service.features.ports import Observer

__all__ = ["Breaker", "BreakerPolicy", "BreakerState", "CircuitOpen", "Permit", "open_breaker"]

DEFAULT_POLICY = BreakerPolicy()


def open_breaker(
    model: str,
    *,
    observer: Observer,
    pool: BlockingConnectionPool | None,
    policy: BreakerPolicy = DEFAULT_POLICY,
    timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    timer: Timer = time.monotonic,
    watch: Callable[[Redis], object] = lambda _: None,
) -> Breaker:
    """The breaker of that model, shared through Redis when there is a pool, which stays the caller's to close.

    `watch` is handed the client that it makes.
    """
    if pool is None:
        return LocalBreaker(model, observer=observer, policy=policy, timer=timer)
    return SharedBreaker(
        model, pool, observer=observer, policy=policy, timeout_seconds=timeout_seconds, timer=timer, watch=watch
    )
