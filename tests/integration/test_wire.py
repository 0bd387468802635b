"""The two connections past their drivers: a statement over libpq, a script over hiredis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from service.features.errors import DependencyUnavailable
from service.security.limits import open_limiter
from service.security.redis_wire import RedisWire
from service.store.dedicated_connection import DedicatedConnection
from service.store.redis_pool import open_redis_pool
from service.store.wire import Wire, array
from tests.redis_process import needs_redis, running_redis
from tools.testbed.redis import RedisProcess

NASTY = ["", "a", "a,b", '"', "\\", '\\"', "{}", "NULL", "ü\n\t", "'; DROP TABLE x"]


async def connect(url: str) -> psycopg.AsyncConnection[Any]:
    """A connection as the store opens one."""
    address = url.replace("postgresql+psycopg://", "postgresql://")
    return await psycopg.AsyncConnection.connect(address, autocommit=True)


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[Wire]:
    """A wire to the database."""
    wire = Wire(await connect(database_url))
    yield wire
    await wire.close()


async def test_texts_arrive_as_they_are(wire: Wire) -> None:
    """An array of any texts is the same array in the database, and rows come back with their types."""
    assert await wire.rows("SELECT unnest($1::text[])", (array(NASTY),)) == [(text,) for text in NASTY]
    [row] = await wire.rows(
        "SELECT 1, NULL, true, 'x', '2026-01-02 03:04:05+00'::timestamptz, $1::jsonb", ('{"a": 1}',)
    )
    assert row[:4] == (1, None, True, "x")
    assert (row[4].year, row[4].utcoffset() is not None, row[5]) == (2026, True, {"a": 1})
    assert await wire.rows("SELECT $1::int WHERE false", ("1",)) == []


async def test_a_large_statement(wire: Wire) -> None:
    """Parameters and rows larger than what a socket takes at once arrive whole."""
    large = "x" * 20_000_000
    assert await wire.rows("SELECT $1::text, length($1::text)", (large,)) == [(large, len(large))]


async def test_a_faulty_statement_is_an_error_of_its_kind(wire: Wire) -> None:
    """What the database refuses is raised as the driver raises it, and the wire goes on."""
    with pytest.raises(psycopg.errors.UndefinedTable):
        await wire.rows("SELECT * FROM nowhere", ())
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        await wire.rows("SELECT $1::int", ("x",))
    assert await wire.rows("SELECT $1::int", ("7",)) == [(7,)]


async def test_a_connection_that_is_cut_in_between(database_url: str) -> None:
    """The wire hears of the end while nothing is asked; while something is, the caller gets an error."""
    wire, other = Wire(await connect(database_url)), Wire(await connect(database_url))
    [(pid,)] = await wire.rows("SELECT pg_backend_pid()", ())
    asking = asyncio.create_task(wire.rows("SELECT pg_sleep(30)", ()))
    await asyncio.sleep(0.2)
    await other.rows("SELECT pg_terminate_backend($1::int)", (str(pid),))
    with pytest.raises(psycopg.OperationalError):
        await asking
    assert wire.broken
    with pytest.raises(psycopg.OperationalError):
        await wire.rows("SELECT 1", ())
    wire.cut()
    await other.close()


async def test_an_idle_connection_that_was_cut_costs_no_statement(database_url: str) -> None:
    """Not even one that must not be sent twice: the connection's end was heard, and another is opened first."""
    lasting = DedicatedConnection(lambda: connect(database_url))
    [(pid,)] = await lasting.rows("SELECT pg_backend_pid()", (), repeatable=False)
    other = Wire(await connect(database_url))
    await other.rows("SELECT pg_terminate_backend($1::int)", (str(pid),))
    for _ in range(100):
        if lasting._wire is not None and lasting._wire.broken:
            break
        await asyncio.sleep(0.05)
    [(renewed,)] = await lasting.rows("SELECT pg_backend_pid()", (), repeatable=False)
    assert renewed != pid
    await lasting.close()
    await other.close()


async def test_a_caller_that_leaves_takes_the_connection_along(database_url: str) -> None:
    """A late answer is never taken for another caller's."""
    lasting = DedicatedConnection(lambda: connect(database_url))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await lasting.rows("SELECT 'late' FROM pg_sleep(1)", (), repeatable=True)
    assert await lasting.rows("SELECT 'mine'", (), repeatable=True) == [("mine",)]
    await lasting.close()


async def test_no_server() -> None:
    """Without a database DependencyUnavailable is raised."""
    lasting = DedicatedConnection(lambda: connect("postgresql://none@127.0.0.1:1/none"))
    with pytest.raises(DependencyUnavailable):
        await lasting.rows("SELECT 1", (), repeatable=True)


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisProcess]:
    """A running redis-server."""
    with running_redis(tmp_path) as process:
        yield process


@pytest.fixture
async def pool(redis_process: RedisProcess) -> AsyncIterator[BlockingConnectionPool]:
    """The service's own pool to it, to a database of another number."""
    pool = open_redis_pool(f"redis://127.0.0.1:{redis_process.port}/3", password=None, db=0, max_connections=4)
    yield pool
    await pool.aclose()


@needs_redis
async def test_answers_of_every_kind(pool: BlockingConnectionPool) -> None:
    """Texts are bytes, errors are raised and cost no connection, and the pool's settings count."""
    wire = RedisWire(pool)
    await wire.ask("SET", "key", "ü")
    assert await wire.ask("GET", "key") == "ü".encode()
    assert await Redis(connection_pool=pool).get("key") == "ü".encode()
    with pytest.raises(ResponseError, match="unknown command"):
        await wire.ask("NONSENSE")
    assert await wire.ask("ECHO", "x" * 5_000_000) == b"x" * 5_000_000
    number = await wire.ask("CLIENT", "ID")
    assert b"db=3 " in await wire.ask("CLIENT", "LIST", "ID", number)


@needs_redis
async def test_a_connection_that_redis_closed(pool: BlockingConnectionPool) -> None:
    """Closed while idle, it is opened again; closed under a command, that one fails and the next is answered."""
    wire, client = RedisWire(pool), Redis(connection_pool=pool)
    number = await wire.ask("CLIENT", "ID")
    await client.client_kill_filter(_id=number)
    await asyncio.sleep(0.1)
    renewed = await wire.ask("CLIENT", "ID")
    assert renewed != number
    asking = asyncio.create_task(wire.ask("BLPOP", "never", 30))
    await asyncio.sleep(0.1)
    await client.client_kill_filter(_id=renewed)
    with pytest.raises(RedisConnectionError):
        await asking
    assert await wire.ask("PING") in {b"PONG", "PONG"}


@needs_redis
async def test_late_answers_are_dropped(pool: BlockingConnectionPool) -> None:
    """Who leaves before its answer takes the connection along, and the pool has its place back."""
    wire, client = RedisWire(pool), Redis(connection_pool=pool)
    for _ in range(6):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await wire.ask("BLPOP", "never", 30)
    assert await wire.ask("ECHO", "mine") == b"mine"
    assert await client.ping()


@needs_redis
async def test_the_limit_s_script_is_loaded_again(pool: BlockingConnectionPool) -> None:
    """A Redis that has lost the script counts on without an outage."""
    limiter = open_limiter(5, pool, timeout_seconds=20)
    await limiter.hit("acme")
    await Redis(connection_pool=pool).script_flush()
    standing = await limiter.hit("acme")
    assert (standing.degraded, standing.remaining) == (False, 3)
