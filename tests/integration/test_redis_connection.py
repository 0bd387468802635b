"""Send commands over a Redis connection that stays checked out of its pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from service.security.limits import open_limiter
from service.security.redis_connection import DedicatedRedisConnection
from service.store.redis_pool import open_redis_pool
from tests.redis_process import needs_redis
from tools.testbed.redis import RedisProcess


@pytest.fixture
async def pool(redis_process: RedisProcess) -> AsyncIterator[BlockingConnectionPool]:
    """The service's own pool to it, to a database of another number."""
    pool = open_redis_pool(f"redis://127.0.0.1:{redis_process.port}/3", password=None, db=0, max_connections=4)
    yield pool
    await pool.aclose()


@needs_redis
async def test_answers_of_every_kind(pool: BlockingConnectionPool) -> None:
    """Texts are bytes, errors are raised and cost no connection, and the pool's settings count."""
    connection = DedicatedRedisConnection(pool)
    await connection.execute("SET", "key", "ü")
    assert await connection.execute("GET", "key") == "ü".encode()
    assert await Redis(connection_pool=pool).get("key") == "ü".encode()
    with pytest.raises(ResponseError, match="unknown command"):
        await connection.execute("NONSENSE")
    assert await connection.execute("ECHO", "x" * 5_000_000) == b"x" * 5_000_000
    number = await connection.execute("CLIENT", "ID")
    assert b"db=3 " in await connection.execute("CLIENT", "LIST", "ID", number)


@needs_redis
async def test_a_connection_that_redis_closed(pool: BlockingConnectionPool) -> None:
    """Closed while idle, it is opened again; closed under a command, that one fails and the next is answered."""
    connection, client = DedicatedRedisConnection(pool), Redis(connection_pool=pool)
    number = await connection.execute("CLIENT", "ID")
    await client.client_kill_filter(_id=number)
    await asyncio.sleep(0.1)
    renewed = await connection.execute("CLIENT", "ID")
    assert renewed != number
    asking = asyncio.create_task(connection.execute("BLPOP", "never", 30))
    await asyncio.sleep(0.1)
    await client.client_kill_filter(_id=renewed)
    with pytest.raises(RedisConnectionError):
        await asking
    assert await connection.execute("PING") in {b"PONG", "PONG"}


@needs_redis
async def test_late_answers_are_dropped(pool: BlockingConnectionPool) -> None:
    """Who leaves before its answer takes the connection along, and the pool has its place back."""
    connection, client = DedicatedRedisConnection(pool), Redis(connection_pool=pool)
    for _ in range(6):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.execute("BLPOP", "never", 30)
    assert await connection.execute("ECHO", "mine") == b"mine"
    assert await client.ping()


@needs_redis
async def test_the_limit_s_script_is_loaded_again(pool: BlockingConnectionPool) -> None:
    """A Redis that has lost the script counts on without an outage."""
    limiter = open_limiter(5, pool, timeout_seconds=20)
    await limiter.hit("acme")
    await Redis(connection_pool=pool).script_flush()
    decision = await limiter.hit("acme")
    assert (decision.degraded, decision.remaining) == (False, 3)
