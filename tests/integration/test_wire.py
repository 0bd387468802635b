"""Execute statements over libpq, without the driver's cursors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from service.features.errors import DependencyUnavailable
from service.store.dedicated_connection import DedicatedConnection
from service.store.wire import Wire, array

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
