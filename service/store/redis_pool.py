"""Open the pool of Redis connections of a process."""

from __future__ import annotations

import asyncio

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from service.features.errors import DependencyUnavailable

POOL_TIMEOUT_SECONDS = 2.0
"""To wait for a connection of a busy pool."""
CONNECT_TIMEOUT_SECONDS = 2.0
RESPONSE_TIMEOUT_SECONDS = 5.0
HEALTH_CHECK_SECONDS = 30
"""A connection that was idle for longer is checked before it is used."""
PING_TIMEOUT_SECONDS = 2.0
RETRY_SECONDS = 2.0


def open_redis_pool(url: str, *, password: str | None, db: int, max_connections: int) -> BlockingConnectionPool:
    """Open a pool at a `redis://`, `rediss://` or `unix://` address; it connects when it is used.

    An exhausted pool blocks, where redis-py's default raises. Responses are bytes. A password or database number in
    the address takes precedence over the arguments. Raises ValueError, with a message that does not repeat the address.
    """
    try:
        return BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] -- its options are not typed
            url,
            password=password,
            db=db,
            max_connections=max_connections,
            timeout=POOL_TIMEOUT_SECONDS,
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            socket_timeout=RESPONSE_TIMEOUT_SECONDS,
            health_check_interval=HEALTH_CHECK_SECONDS,
            decode_responses=False,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=1),
        )
    except ValueError:
        raise ValueError("The Redis address cannot be read; it looks like redis://host:6379/0.") from None


async def ping(pool: BlockingConnectionPool) -> None:
    """Raises DependencyUnavailable when Redis does not answer within `PING_TIMEOUT_SECONDS`."""
    try:
        async with asyncio.timeout(PING_TIMEOUT_SECONDS):
            await Redis(connection_pool=pool).ping()  # pyright: ignore[reportUnknownMemberType] -- likewise
    except (RedisError, OSError) as error:
        raise DependencyUnavailable("Redis does not answer.", retry_after=RETRY_SECONDS) from error
