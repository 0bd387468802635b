"""How many requests a principal may make in a minute.

A sliding-window counter: the requests of the present minute, plus those of the one before weighted by how much of it
is still within the last 60 seconds. It needs two counters a principal however high the limit, lets nobody spend two
minutes' requests around the turn of a minute as a fixed window does, and costs no list of times as a moving window
does. With Redis the decision is one Lua script, so the limit is exact over all processes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
from limits.aio.storage import MemoryStorage, RedisStorage
from msgspec import Struct
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

WINDOW_SECONDS = 60
KEY_PREFIX = "feature-agent:rate-limit"
PATIENCE_SECONDS = 0.5
"""A request waits no longer than this for Redis."""
PAUSE_SECONDS = 1.0
"""Once Redis is away, one request in this time tries it again; the others do not wait for it."""
WARNING_SECONDS = 60.0
"""Between two warnings that Redis is away."""

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
) -> RateLimiter:
    """The limiter for `per_minute` requests (0: no limit), counted in Redis when there is a pool, else in the process.

    The pool stays the caller's to close. Raises ValueError for a negative limit.
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
    return Fallback(SlidingWindow(per_minute, storage), own, patience_seconds=patience_seconds, timer=timer)


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

    Rate limits protect the service; they must not be what takes it down. When Redis fails or does not answer within
    the patience, the request is counted by the process alone, and so are all others but one a second, which tries
    Redis again. The first that succeeds ends it.
    """

    def __init__(
        self, shared: RateLimiter, own: RateLimiter, *, patience_seconds: float, timer: Callable[[], float]
    ) -> None:
        self._shared = shared
        self._own = own
        self._patience = patience_seconds
        self._timer = timer
        self._away = False
        self._retry_at = -math.inf
        self._warn_at = -math.inf
        self._asking: set[asyncio.Task[Standing]] = set()

    async def hit(self, principal_id: str) -> Standing:
        """Count one request of the principal; raises nothing for want of Redis."""
        now = self._timer()
        if now >= self._retry_at:
            if self._away:
                self._retry_at = now + PAUSE_SECONDS
            try:
                standing = await self._ask(principal_id)
            except (RedisError, OSError) as fault:
                self._note_away(fault)
            else:
                self._note_back()
                return standing
        return msgspec.structs.replace(await self._own.hit(principal_id), degraded=True)

    async def _ask(self, principal_id: str) -> Standing:
        # A task of its own, because a plain timeout can be overstayed: before Python 3.12 `asyncio.wait_for`, which
        # redis-py sends through, loses a cancellation that arrives as the sending ends, and then waits for the socket.
        asking = asyncio.create_task(self._shared.hit(principal_id))
        self._asking.add(asking)
        asking.add_done_callback(self._forget)
        try:
            await asyncio.wait({asking}, timeout=self._patience)
        finally:
            asking.cancel()
        if not asking.done():
            raise TimeoutError
        return asking.result()

    def _forget(self, asking: asyncio.Task[Standing]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # retrieved, so that the loop does not report what was raised after we had left

    def _note_away(self, fault: Exception) -> None:
        now = self._timer()
        self._away = True
        self._retry_at = now + PAUSE_SECONDS
        if now >= self._warn_at:
            self._warn_at = now + WARNING_SECONDS
            _LOG.warning(
                "Redis is away (%s): each process counts requests by itself until it is back", type(fault).__name__
            )

    def _note_back(self) -> None:
        if self._away:
            self._away = False
            self._retry_at = -math.inf
            _LOG.info("Redis is back: requests are counted over all processes again")
