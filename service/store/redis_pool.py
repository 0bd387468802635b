"""The one pool of Redis connections that a process uses."""

from __future__ import annotations

import asyncio

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from service.features.errors import DependencyUnavailable

WAIT_SECONDS = 2.0
"""For a connection of a busy pool."""
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
CHECK_SECONDS = 30
"""A connection idle for longer is tried before it is used."""
PING_SECONDS = 2.0
RETRY_SECONDS = 2.0


def open_redis_pool(url: str, *, password: str | None, db: int, max_connections: int) -> BlockingConnectionPool:
    """A pool at a `redis://`, `rediss://` or `unix://` address that connects when it is used.

    It blocks when it is exhausted: redis-py's own default raises. Answers are bytes. A password or database number in
    the address goes before the arguments. Raises ValueError, with a message that does not repeat the address.
    """
    try:
        return BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] -- its options are not typed
            url,
            password=password,
            db=db,
            max_connections=max_connections,
            timeout=WAIT_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            health_check_interval=CHECK_SECONDS,
            decode_responses=False,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=1),
        )
    except ValueError:
        raise ValueError("The Redis address cannot be read; it looks like redis://host:6379/0.") from None


async def ping(pool: BlockingConnectionPool) -> None:
    """Raises DependencyUnavailable when Redis does not answer within `PING_SECONDS`."""
    try:
        async with asyncio.timeout(PING_SECONDS):
            await Redis(connection_pool=pool).ping()  # pyright: ignore[reportUnknownMemberType] -- likewise
    except (RedisError, OSError) as error:
        raise DependencyUnavailable("Redis does not answer.", retry_after=RETRY_SECONDS) from error
