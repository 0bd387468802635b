"""How many requests a principal may make in a minute.

A sliding-window counter: the requests of the present minute, plus those of the one before weighted by how much of it
is still within the last 60 seconds. It needs two counters a principal however high the limit, lets nobody spend two
minutes' requests around the turn of a minute as a fixed window does, and costs no list of times as a moving window
does. With Redis the decision is one Lua script, so the limit is exact over all processes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec
from limits.aio.storage import MemoryStorage, RedisStorage
from msgspec import Struct
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from service.features.dispensable import PATIENCE_SECONDS, Away, Dispensable

WINDOW_SECONDS = 60
KEY_PREFIX = "feature-agent:rate-limit"

_LOG = logging.getLogger(__name__)


class Standing(Struct, frozen=True):
    """A decision, and what the principal has left."""

    allowed: bool
    limit: int
    """Requests a minute; 0 when there is no limit, and then the other numbers say nothing."""
    remaining: int
    reset_seconds: int
    """Seconds, rounded up, until one more request is free; at least 1 when this one was refused."""
    degraded: bool = False
    """Whether this process counted alone, for want of Redis: other processes may have let as many pass."""


class RateLimiter(Protocol):
    """Counts requests and says which are too many."""

    async def hit(self, principal_id: str) -> Standing:
        """Count one request of the principal. A refused request does not count."""
        ...


def open_limiter(
    per_minute: int,
    pool: BlockingConnectionPool | None,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
    timer: Callable[[], float] = time.monotonic,
    watch: Callable[[Any], object] = lambda _: None,
) -> RateLimiter:
    """The limiter for `per_minute` requests (0: no limit), counted in Redis when there is a pool, else in the process.

    The pool stays the caller's to close; `watch` is handed the client on it. Raises ValueError for a negative limit.
    """
    if per_minute < 0:
        raise ValueError("A rate limit cannot be negative.")
    if per_minute == 0:
        return Unlimited()
    own = SlidingWindow(per_minute, MemoryStorage())
    if pool is None:
        return own
    # The pool carries the address; the scheme alone chooses the client library.
    storage = RedisStorage(
        "async+redis://",
        implementation="redispy",
        key_prefix=KEY_PREFIX,
        connection_pool=pool,  # pyright: ignore[reportArgumentType] - documented option, missing from the annotation
    )
    watch(cast("Any", storage.bridge).get_connection())
    redis = redis_for_limits(patience_seconds=patience_seconds, timer=timer)
    return Fallback(SlidingWindow(per_minute, storage), own, redis)


class Unlimited:
    """Lets everything pass."""

    async def hit(self, principal_id: str) -> Standing:  # noqa: ARG002 - the protocol's signature
        """Allow the request."""
        return Standing(allowed=True, limit=0, remaining=0, reset_seconds=0)


class SlidingWindow:
    """Counts in one storage."""

    def __init__(self, per_minute: int, storage: MemoryStorage | RedisStorage) -> None:
        self._limit = per_minute
        self._storage = storage

    async def hit(self, principal_id: str) -> Standing:
        """Count one request of the principal. Raises what the storage raises."""
        allowed = await self._storage.acquire_sliding_window_entry(principal_id, self._limit, WINDOW_SECONDS)
        window = await self._storage.get_sliding_window(principal_id, WINDOW_SECONDS)
        used, frees_in = _reading(*window)
        reset = max(0 if allowed else 1, math.ceil(frees_in))
        return Standing(allowed, self._limit, max(0, self._limit - used) if allowed else 0, reset)


def _reading(previous: int, previous_left: float, current: int, current_left: float) -> tuple[int, float]:
    """Requests in use, and the seconds until one of them is free again.

    `previous_left` is how much of the previous minute still weighs; `current_left` is the time until the present
    minute no longer weighs, which is 60 seconds after it ends. The previous minute frees one request each time its
    weight falls by one; when there was none, the first is free as soon as the present minute begins to lose weight.
    """
    used = math.floor(previous * previous_left / WINDOW_SECONDS) + current
    if previous:
        return used, previous_left % (WINDOW_SECONDS / previous)
    return used, max(0.0, current_left - WINDOW_SECONDS)


class Fallback:
    """Counts in Redis, and in the process while Redis is away.

    Rate limits protect the service; they must not be what takes it down.
    """

    def __init__(self, shared: RateLimiter, own: RateLimiter, redis: Dispensable) -> None:
        self._shared = shared
        self._own = own
        self._redis = redis

    async def hit(self, principal_id: str) -> Standing:
        """Count one request of the principal; raises nothing for want of Redis."""
        try:
            return await self._redis.ask(lambda: self._hit(principal_id))
        except Away:
            return msgspec.structs.replace(await self._own.hit(principal_id), degraded=True)

    async def _hit(self, principal_id: str) -> Standing:
        return await self._shared.hit(principal_id)


def redis_for_limits(
    *, patience_seconds: float = PATIENCE_SECONDS, timer: Callable[[], float] = time.monotonic
) -> Dispensable:
    """Redis as the rate limiter asks it."""
    return Dispensable(
        "Redis",
        faults=(RedisError,),
        without="each process counts requests by itself",
        logger=_LOG,
        patience_seconds=patience_seconds,
        timer=timer,
    )
