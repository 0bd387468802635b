from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service.features.errors import DependencyUnavailable
from service.store import redis_pool
from service.store.redis_pool import open_redis_pool, ping
from tests.redis_process import needs_redis, running_redis


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """Address of a Redis of the test's own, on a socket file and with a password."""
    with running_redis(tmp_path, password="hunter2") as server:
        yield f"unix://{server.socket_path}"


@needs_redis
async def test_pool_blocks_when_exhausted_and_answers_bytes(redis_url: str) -> None:
    """More callers than connections all get their answer, as bytes, from the chosen database."""
    pool = open_redis_pool(redis_url, password="hunter2", db=3, max_connections=2)
    client = Redis(connection_pool=pool)
    await client.set("name", "ada")
    assert await asyncio.gather(*(client.get("name") for _ in range(20))) == [b"ada"] * 20
    assert (await client.client_info())["db"] == 3
    assert len(await client.client_list()) <= 2
    await ping(pool)
    await pool.aclose()


@needs_redis
async def test_exhausted_pool_gives_up_after_its_wait(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller waits its time for a connection and no longer, and a ping then is an outage."""
    monkeypatch.setattr(redis_pool, "POOL_TIMEOUT_SECONDS", 0.05)
    pool = open_redis_pool(redis_url, password="hunter2", db=0, max_connections=1)
    held = await pool.get_connection()
    with pytest.raises(RedisConnectionError):
        await Redis(connection_pool=pool).get("name")
    with pytest.raises(DependencyUnavailable):
        await ping(pool)
    await pool.release(held)
    await ping(pool)
    await pool.aclose()


@needs_redis
async def test_wrong_password_is_an_outage_without_the_password(redis_url: str) -> None:
    """A refused password makes the ping fail as a dependency, and is not in the message."""
    pool = open_redis_pool(redis_url, password="wrong-secret", db=0, max_connections=2)
    with pytest.raises(DependencyUnavailable, match="does not answer") as refused:
        await ping(pool)
    assert "wrong-secret" not in repr(refused.value.__cause__)
    await pool.aclose()


async def test_absent_redis_is_an_outage(tmp_path: Path) -> None:
    """Where nothing listens a ping raises DependencyUnavailable with a time to come back."""
    pool = open_redis_pool(f"unix://{tmp_path}/nothing", password=None, db=0, max_connections=2)
    with pytest.raises(DependencyUnavailable, match="does not answer") as refused:
        await ping(pool)
    assert refused.value.retry_after == redis_pool.RETRY_SECONDS
    await pool.aclose()


async def test_silent_redis_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing does not hold up a ping."""
    monkeypatch.setattr(redis_pool, "PING_TIMEOUT_SECONDS", 0.1)
    silence = asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence.wait()
        writer.close()

    server = await asyncio.start_unix_server(listen, tmp_path / "silent")
    pool = open_redis_pool(f"unix://{tmp_path}/silent", password=None, db=0, max_connections=2)
    with pytest.raises(DependencyUnavailable):
        await ping(pool)
    silence.set()
    await pool.aclose()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("url", ["http://host", "hunter2", "redis://ada:hunter2", "redis://host:hunter2/0", ""])
def test_unusable_address_is_refused_without_repeating_it(url: str) -> None:
    """An address that is no Redis's is refused in words that hold nothing of it."""
    with pytest.raises(ValueError, match="Redis address") as refused:
        open_redis_pool(url, password=None, db=0, max_connections=1)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
