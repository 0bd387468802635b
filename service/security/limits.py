"""How many requests a principal may make in a minute.

A sliding-window counter: the requests of the present minute, plus those of the one before weighted by how much of it
is still within the last 60 seconds. It needs two counters a principal however high the limit, lets nobody spend two
minutes' requests around the turn of a minute as a fixed window does, and costs no list of times as a moving window
does. With Redis the decision is one Lua script, so the limit is exact over all processes; requests that arrive together
are decided by one call of it, in the order in which they came.
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
from service.security.redis_wire import RedisWire

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
"""For each principal the key of the minute before and of the present one, and how many requests it has sent.

A counter lives for two minutes: one as the present, one as the minute before. So what is left of its life tells which
minute it is, and Redis' own clock decides. Answers how many requests pass, and the counters as they were before.
"""

_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""By which Redis knows the script."""

_ATTRIBUTES = {"db.system.name": "redis", "db.operation.name": "EVALSHA"}

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


class SharedWindow(Protocol):
    """Counts for all processes."""

    async def hits(self, principal_ids: Sequence[str]) -> Sequence[Standing]:
        """Count one request for each, in order; a principal may be there several times."""
        ...


def open_limiter(
    per_minute: int,
    pool: BlockingConnectionPool | None,
    *,
    timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    timer: Callable[[], float] = time.monotonic,
    tracer: Tracer | None = None,
) -> RateLimiter:
    """The limiter for `per_minute` requests (0: no limit), counted in Redis when there is a pool, else in the process.

    The pool stays the caller's to close. Raises ValueError for a negative limit.
    """
    if per_minute < 0:
        raise ValueError("A rate limit cannot be negative.")
    if per_minute == 0:
        return Unlimited()
    own = SlidingWindow(per_minute)
    if pool is None:
        return own
    redis = redis_for_limits(timeout_seconds=timeout_seconds, timer=timer)
    return Fallback(RedisWindow(per_minute, pool), own, redis, tracer)


class Unlimited:
    """Lets everything pass."""

    async def hit(self, principal_id: str) -> Standing:  # noqa: ARG002 - the protocol's signature
        """Allow the request."""
        return Standing(allowed=True, limit=0, remaining=0, reset_seconds=0)


class SlidingWindow:
    """Counts in this process."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._storage = MemoryStorage()

    async def hit(self, principal_id: str) -> Standing:
        """Count one request of the principal."""
        allowed = await self._storage.acquire_sliding_window_entry(principal_id, self._limit, WINDOW_SECONDS)
        window = await self._storage.get_sliding_window(principal_id, WINDOW_SECONDS)
        return _standing(self._limit, *window, allowed=allowed)


class RedisWindow:
    """Counts in Redis, any number of requests in one round trip."""

    def __init__(self, per_minute: int, pool: BlockingConnectionPool) -> None:
        self._limit = per_minute
        self._wire = RedisWire(pool)

    async def hits(self, principal_ids: Sequence[str]) -> Sequence[Standing]:
        """Count one request for each, in order. Raises what redis-py raises."""
        asked = Counter(principal_ids)
        keys = [key for principal in asked for key in _keys(principal)]
        found = await self._run(len(keys), *keys, self._limit, WINDOW_SECONDS * 1000, *asked.values())
        counters = dict(zip(asked, found, strict=True))
        return [self._next(counters[principal]) for principal in principal_ids]

    async def _run(self, *arguments: str | int) -> list[list[int]]:
        try:
            return await self._wire.ask("EVALSHA", _SHA, *arguments)
        except NoScriptError:  # it has not seen the script since it was started
            await self._wire.ask("SCRIPT", "LOAD", _SCRIPT)
            return await self._wire.ask("EVALSHA", _SHA, *arguments)

    def _next(self, counters: list[int]) -> Standing:
        """The decision on the next request of a principal, and the counters as it leaves them."""
        granted, previous, fading, current, left = counters
        if granted > 0:
            counters[0], counters[3] = granted - 1, current + 1
        return _standing(self._limit, previous, fading / 1000, counters[3], left / 1000, allowed=granted > 0)


def _keys(principal_id: str) -> tuple[str, str]:
    """Of the minute before and of the present one; the braces keep them together in a cluster."""
    present = f"{KEY_PREFIX}:{{{principal_id}}}"
    return f"{present}/-1", present


def _standing(
    limit: int, previous: int, previous_left: float, current: int, current_left: float, *, allowed: bool
) -> Standing:
    used, frees_in = _reading(previous, previous_left, current, current_left)
    reset = max(0 if allowed else 1, math.ceil(frees_in))
    return Standing(allowed, limit, max(0, limit - used) if allowed else 0, reset)


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

    def __init__(
        self, shared: SharedWindow, own: RateLimiter, redis: OptionalDependency, tracer: Tracer | None = None
    ) -> None:
        self._shared = shared
        self._own = own
        self._redis = redis
        self._tracer = tracer
        self._batcher = Batcher(self._hits)

    async def hit(self, principal_id: str) -> Standing:
        """Count one request of the principal; raises nothing for want of Redis."""
        if self._tracer is None or not trace.get_current_span().is_recording():
            standing = await self._batcher.submit(principal_id)
        else:  # a span for each caller: the call itself is made for many at once
            with self._tracer.start_span("EVALSHA", kind=SpanKind.CLIENT, attributes=_ATTRIBUTES):
                standing = await self._batcher.submit(principal_id)
        return replace(await self._own.hit(principal_id), degraded=True) if standing is None else standing

    async def _hits(self, principal_ids: Sequence[str]) -> Sequence[Standing | None]:
        """The decisions, or None for each when Redis is away."""
        try:
            return await self._redis.call(lambda: self._ask(principal_ids))
        except Unavailable:
            return [None] * len(principal_ids)

    async def _ask(self, principal_ids: Sequence[str]) -> Sequence[Standing | None]:
        return await self._shared.hits(principal_ids)


def redis_for_limits(
    *, timeout_seconds: float = CALL_TIMEOUT_SECONDS, timer: Callable[[], float] = time.monotonic
) -> OptionalDependency:
    """Redis as the rate limiter asks it."""
    return OptionalDependency(
        "Redis",
        faults=(RedisError,),
        without="each process counts requests by itself",
        logger=_LOG,
        timeout_seconds=timeout_seconds,
        timer=timer,
    )
