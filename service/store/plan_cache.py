"""Cache plans in Redis for all processes. What is read there is untrusted: bounded, typed, and possibly garbage."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from service.concurrency.optional_dependency import (
    CALL_TIMEOUT_SECONDS,
    WARNING_SECONDS,
    OptionalDependency,
    Unavailable,
)
from service.features.ports import KeptPlan, Proposal

KEY_PREFIX = "feature-agent:plan:1:"
"""The number is the version of the encoding, raised when an older release could not read it."""
MAX_BYTES = 256 * 1024
"""Larger plans are neither stored nor read; 200 features with long predicates may be larger."""

_LOG = logging.getLogger(__name__)


class RedisPlans:
    """Implement `ports.SharedPlans` in Redis, as msgpack; each plan expires after `seconds`.

    It never fails because Redis is unavailable: then no plan is found and none is stored.
    """

    def __init__(
        self,
        pool: BlockingConnectionPool,
        *,
        seconds: int,
        watch: Callable[[Redis], object] = lambda _: None,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = Redis(connection_pool=pool)
        watch(self._client)
        self._seconds = seconds
        self._timer = timer
        self._decoder = msgspec.msgpack.Decoder(Proposal)
        self._warn_at = -math.inf
        self._redis = OptionalDependency(
            "Redis",
            faults=(RedisError,),
            without="each process keeps plans by itself",
            logger=_LOG,
            timeout_seconds=timeout_seconds,
            timer=timer,
        )

    async def get(self, key: str) -> KeptPlan | None:
        """Return the plan under the key; None when there is none that can be read."""
        try:
            value, left = await self._redis.call(lambda: self._read(KEY_PREFIX + key))
        except Unavailable:
            return None
        if value == b"":
            return None
        proposal = self._decoded(value) if isinstance(left, int) and left > 0 else None
        if proposal is None:
            self._warn()
            return None
        return KeptPlan(proposal, min(cast("int", left) / 1000, self._seconds))

    async def put(self, key: str, proposal: Proposal) -> None:
        """Store the plan, unless it is too large."""
        value = msgspec.msgpack.encode(proposal)
        if len(value) <= MAX_BYTES:
            try:
                await self._redis.call(lambda: self._write(KEY_PREFIX + key, value))
            except Unavailable:
                return

    async def _read(self, key: str) -> tuple[object, object]:
        """Read the value, up to one byte over the limit, and its time to live in ms; an error in place of either."""
        async with self._client.pipeline(transaction=True) as commands:
            commands.getrange(key, 0, MAX_BYTES)
            commands.pttl(key)
            value, left = cast("list[object]", await commands.execute(raise_on_error=False))
        return value, left

    async def _write(self, key: str, value: bytes) -> None:
        await cast("Any", self._client).set(key, value, ex=self._seconds)

    def _decoded(self, value: object) -> Proposal | None:
        if not isinstance(value, bytes) or len(value) > MAX_BYTES:
            return None
        try:
            return self._decoder.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _warn(self) -> None:
        now = self._timer()
        if now >= self._warn_at:
            self._warn_at = now + WARNING_SECONDS
            _LOG.warning("Redis holds plans that cannot be read; what they are for is planned anew")
