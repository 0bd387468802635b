"""Limit how many requests a principal may make in a minute.

The algorithm is a sliding-window counter: the requests of the current minute, plus those of the previous one weighted
by how much of it lies within the last 60 seconds. It needs two counters for each principal however high the limit. A
fixed window would allow twice the limit around the turn of a minute; a log of request times would grow with the limit.
With Redis the decision is one Lua script, so the limit is exact over all processes; requests that arrive together are
decided by one call of it, in the order in which they arrived.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from limits.aio.storage import MemoryStorage
from msgspec import Struct
from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import NoScriptError, RedisError

from service.concurrency.batcher import Batcher
from service.concurrency.optional_dependency import CALL_TIMEOUT_SECONDS, OptionalDependency, Unavailable
from service.security.redis_connection import DedicatedRedisConnection

WINDOW_SECONDS = 60
KEY_PREFIX = "feature-agent:rate-limit"

_SCRIPT = """
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local answer = {}
for i = 1, #KEYS, 2 do
  local before, now, asked = KEYS[i], KEYS[i + 1], tonumber(ARGV[2 + (i + 1) / 2])
  local left = redis.call('pttl', now)
  if left > 0 and left < window then
    redis.call('rename', now, before)
    left = left + window
    redis.call('set', now, 0, 'PX', left)
  end
  local previous, fading = tonumber(redis.call('get', before)) or 0, math.max(redis.call('pttl', before), 0)
  local current = tonumber(redis.call('get', now)) or 0
  local free = limit - math.floor(previous * fading / window) - current
  local granted = math.max(0, math.min(asked, free))
  if granted > 0 then
    if left > 0 then
      redis.call('incrby', now, granted)
    else
      left = window * 2
      redis.call('set', now, granted, 'PX', left)
    end
  end
  table.insert(answer, {granted, previous, fading, current, math.max(left, 0)})
end
return answer
"""
"""KEYS are each principal's counters of the previous and the current minute; ARGV: limit, window, requests of each.

A counter expires after two minutes: one as the current, one as the previous minute. Its time to live therefore says
which minute it counts, by Redis' own clock. Returns how many requests pass, and the counters as they were before.
"""

_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""The script's name in Redis."""

_ATTRIBUTES = {"db.system.name": "redis", "db.operation.name": "EVALSHA"}

_LOG = logging.getLogger(__name__)


class RateLimitDecision(Struct, frozen=True):
    """Say whether a request may pass, and what the principal has left."""

    allowed: bool
    limit: int
    """Requests a minute; 0 when there is no limit, and then the other numbers mean nothing."""
    remaining: int
    reset_seconds: int
    """Seconds, rounded up, until one more request is free; at least 1 when this one was refused."""
    degraded: bool = False
    """Whether this process counted alone because Redis is unavailable: others may have let as many pass."""


class RateLimiter(Protocol):
    """Count requests and decide which are too many."""

    async def hit(self, principal_id: str) -> RateLimitDecision:
        """Count one request of the principal. A refused request does not count."""
        ...


class SharedWindow(Protocol):
    """Count requests for all processes."""

    async def hits(self, principal_ids: Sequence[str]) -> Sequence[RateLimitDecision]:
        """Count one request for each, in order; a principal may occur several times."""
        ...


def open_limiter(
    per_minute: int,
    pool: BlockingConnectionPool | None,
    *,
    timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    timer: Callable[[], float] = time.monotonic,
    tracer: Tracer | None = None,
) -> RateLimiter:
    """Open a limiter for `per_minute` requests (0: no limit), which counts in Redis with a pool, else in the process.

    The caller closes the pool. Raises ValueError for a negative limit.
    """
    if per_minute < 0:
        raise ValueError("A rate limit cannot be negative.")
    if per_minute == 0:
        return Unlimited()
    local = SlidingWindow(per_minute)
    if pool is None:
        return local
    redis = redis_for_limits(timeout_seconds=timeout_seconds, timer=timer)
    return FallbackRateLimiter(RedisWindow(per_minute, pool), local, redis, tracer)


class Unlimited:
    """Let every request pass."""

    async def hit(self, principal_id: str) -> RateLimitDecision:  # noqa: ARG002 - the protocol's signature
        """Allow the request."""
        return RateLimitDecision(allowed=True, limit=0, remaining=0, reset_seconds=0)


class SlidingWindow:
    """Count in this process."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._storage = MemoryStorage()

    async def hit(self, principal_id: str) -> RateLimitDecision:
        """Count one request of the principal."""
        allowed = await self._storage.acquire_sliding_window_entry(principal_id, self._limit, WINDOW_SECONDS)
        window = await self._storage.get_sliding_window(principal_id, WINDOW_SECONDS)
        return _decision(self._limit, *window, allowed=allowed)


class RedisWindow:
    """Count in Redis, any number of requests in one round trip."""

    def __init__(self, per_minute: int, pool: BlockingConnectionPool) -> None:
        self._limit = per_minute
        self._connection = DedicatedRedisConnection(pool)

    async def hits(self, principal_ids: Sequence[str]) -> Sequence[RateLimitDecision]:
        """Count one request for each, in order. Raises what redis-py raises."""
        requests = Counter(principal_ids)
        keys = [key for principal in requests for key in _counter_keys(principal)]
        found = await self._run(len(keys), *keys, self._limit, WINDOW_SECONDS * 1000, *requests.values())
        counters = dict(zip(requests, found, strict=True))
        return [self._next(counters[principal]) for principal in principal_ids]

    async def _run(self, *arguments: str | int) -> list[list[int]]:
        try:
            return await self._connection.execute("EVALSHA", _SHA, *arguments)
        except NoScriptError:  # Redis has been restarted since it last loaded the script
            await self._connection.execute("SCRIPT", "LOAD", _SCRIPT)
            return await self._connection.execute("EVALSHA", _SHA, *arguments)

    def _next(self, counters: list[int]) -> RateLimitDecision:
        """Decide on the next request of a principal, and update its counters."""
        granted, previous, fading, current, left = counters
        if granted > 0:
            counters[0], counters[3] = granted - 1, current + 1
        return _decision(self._limit, previous, fading / 1000, counters[3], left / 1000, allowed=granted > 0)


def _counter_keys(principal_id: str) -> tuple[str, str]:
    """Name the counters of the previous and the current minute; the braces keep them on one node of a cluster."""
    current = f"{KEY_PREFIX}:{{{principal_id}}}"
    return f"{current}/-1", current


def _decision(
    limit: int, previous: int, previous_left: float, current: int, current_left: float, *, allowed: bool
) -> RateLimitDecision:
    used, frees_in = _usage(previous, previous_left, current, current_left)
    reset = max(0 if allowed else 1, math.ceil(frees_in))
    return RateLimitDecision(allowed, limit, max(0, limit - used) if allowed else 0, reset)


def _usage(previous: int, previous_left: float, current: int, current_left: float) -> tuple[int, float]:
    """Return the requests in use, and the seconds until one of them is free again.

    `previous_left` is how many seconds of the previous minute still count; `current_left` is the time until the current
    minute no longer counts, which is 60 seconds after it ends. The previous minute frees one request each time its
    weight falls by one; when there was none, the first is free as soon as the current minute begins to lose weight.
    """
    used = math.floor(previous * previous_left / WINDOW_SECONDS) + current
    if previous:
        return used, previous_left % (WINDOW_SECONDS / previous)
    return used, max(0.0, current_left - WINDOW_SECONDS)


class FallbackRateLimiter:
    """Count in Redis, and in the process while Redis is unavailable: a rate limit must not take the service down."""

    def __init__(
        self, shared: SharedWindow, local: RateLimiter, redis: OptionalDependency, tracer: Tracer | None = None
    ) -> None:
        self._shared = shared
        self._local = local
        self._redis = redis
        self._tracer = tracer
        self._batcher = Batcher(self._hits)

    async def hit(self, principal_id: str) -> RateLimitDecision:
        """Count one request of the principal; raises nothing when Redis is unavailable."""
        if self._tracer is None or not trace.get_current_span().is_recording():
            decision = await self._batcher.submit(principal_id)
        else:  # a span for each caller; one call serves many
            with self._tracer.start_span("EVALSHA", kind=SpanKind.CLIENT, attributes=_ATTRIBUTES):
                decision = await self._batcher.submit(principal_id)
        return replace(await self._local.hit(principal_id), degraded=True) if decision is None else decision

    async def _hits(self, principal_ids: Sequence[str]) -> Sequence[RateLimitDecision | None]:
        """Return the decisions; None for each when Redis is unavailable."""
        try:
            return await self._redis.call(lambda: self._count(principal_ids))
        except Unavailable:
            return [None] * len(principal_ids)

    async def _count(self, principal_ids: Sequence[str]) -> Sequence[RateLimitDecision | None]:
        return await self._shared.hits(principal_ids)


def redis_for_limits(
    *, timeout_seconds: float = CALL_TIMEOUT_SECONDS, timer: Callable[[], float] = time.monotonic
) -> OptionalDependency:
    """Describe Redis to the rate limiter: its errors, its timeout, and what happens without it."""
    return OptionalDependency(
        "Redis",
        faults=(RedisError,),
        without="each process counts requests by itself",
        logger=_LOG,
        timeout_seconds=timeout_seconds,
        timer=timer,
    )
