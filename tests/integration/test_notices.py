from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from embedded_postgres.server import start_embedded
from service.store import notices as module
from service.store.database import Database, open_database
from service.store.extractions import CHANNEL
from service.store.notices import PostgresNotices
from service.store.schema import upgrade
from tests.integration.test_store import NOON, extraction

LONG = 60.0
"""Seconds: reached only when a notice does not come, which fails the test."""


@pytest.fixture(scope="module")
def migrated_url(new_database: Callable[[], str]) -> str:
    """Address of a database with tables."""
    url = new_database()
    upgrade(make_url(url), {})
    return url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """An open database."""
    database = open_database(migrated_url, pool_size=4, max_overflow=0, pool_timeout=5.0)
    yield database
    await database.close()


def ask(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement from outside."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        return connection.execute(statement.encode(), values).fetchall()


LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN %%' AND datname = current_database()"


async def listening(url: str) -> int:
    """The server process of the one connection that listens, once there is one."""
    while True:
        found = await asyncio.to_thread(ask, url, LISTENERS)
        if found:
            ((process,),) = found
            return process
        await asyncio.sleep(0.01)


async def nobody_listens(url: str) -> None:
    """Until no connection listens."""
    while await asyncio.to_thread(ask, url, LISTENERS):  # noqa: ASYNC110 -- another process's state
        await asyncio.sleep(0.01)


async def drained(notices: PostgresNotices, url: str) -> None:
    """Wait until the listener runs, and swallow the wake-up of its connecting."""
    with notices.watch("drain") as watch:
        assert await watch.changed(LONG)
        await listening(url)  # inside: without a watch the connection may be closed before it is found


async def test_change_by_another_process_wakes_its_watches_alone(database: Database, migrated_url: str) -> None:
    """A committed change wakes every watch of that extraction, in this process's other tasks too, and no other's."""
    mine, other = extraction("ada"), extraction("ada")
    async with database.store.begin() as work:
        await work.extractions.add(mine)
        await work.extractions.add(other)
    async with database.notices() as notices:
        await drained(notices, migrated_url)
        with notices.watch(mine.id) as first, notices.watch(mine.id) as second, notices.watch(other.id) as third:
            async with database.store.begin() as work:
                await work.extractions.claim(mine.id, NOON)
                assert not await first.changed(0.05)
            assert await asyncio.gather(first.changed(LONG), second.changed(LONG)) == [True, True]
            async with database.store.begin() as work:
                await work.extractions.claim(other.id, NOON)
            assert await third.changed(LONG)
            assert not await first.changed(0)


async def test_change_before_the_question_is_not_missed(database: Database, migrated_url: str) -> None:
    """Changes since the watch began are reported, several as one, and only once."""
    mine = extraction("ada")
    async with database.store.begin() as work:
        await work.extractions.add(mine)
    async with database.notices() as notices:
        await drained(notices, migrated_url)
        with notices.watch(mine.id) as watch, notices.watch("last") as last:
            for _ in range(2):
                async with database.store.begin() as work:
                    await work.extractions.claim(mine.id, NOON)
            await asyncio.to_thread(ask, migrated_url, "SELECT pg_notify(%s, 'last')", CHANNEL)
            assert await last.changed(LONG)
            assert await watch.changed(0.001)
            assert not await watch.changed(0.001)


async def test_rolled_back_change_is_not_told(database: Database, migrated_url: str) -> None:
    """A change whose transaction fails wakes no watch."""
    mine = extraction("ada")
    async with database.store.begin() as work:
        await work.extractions.add(mine)

    async def fail() -> None:
        async with database.store.begin() as work:
            await work.extractions.claim(mine.id, NOON)
            raise RuntimeError

    async with database.notices() as notices:
        await drained(notices, migrated_url)
        with notices.watch(mine.id) as watch, notices.watch("last") as last:
            with pytest.raises(RuntimeError):
                await fail()
            await asyncio.to_thread(ask, migrated_url, "SELECT pg_notify(%s, 'last')", CHANNEL)
            assert await last.changed(LONG)
            assert not await watch.changed(0)


async def test_nothing_is_kept_of_ended_watches(database: Database) -> None:
    """Watches leave nothing behind, whether their blocks end well, badly or by cancellation."""
    async with database.notices() as notices:

        async def watch(fault: BaseException | None) -> None:
            with notices.watch("a"):
                if fault is None:
                    await asyncio.Event().wait()
                else:
                    raise fault

        waiting = asyncio.create_task(watch(None))
        await asyncio.sleep(0)
        assert set(notices._wakes) == {"a"}
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
        with pytest.raises(KeyError):
            await watch(KeyError())
        assert notices._wakes == {}


async def test_no_connection_without_watches(
    database: Database, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no connection before the first watch and after a while without watches; the next watch opens one."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.02)
    async with database.notices() as notices:
        assert ask(migrated_url, LISTENERS) == []
        for _ in range(2):
            await drained(notices, migrated_url)
            await nobody_listens(migrated_url)
    assert ask(migrated_url, LISTENERS) == []


async def test_one_connection_is_enough(database: Database, migrated_url: str) -> None:
    """A thousand watches share one connection beside the pool, which is closed with them."""
    async with database.notices() as notices:
        await drained(notices, migrated_url)
        managers = [notices.watch(str(number)) for number in range(1000)]
        watches = [manager.__enter__() for manager in managers]
        await asyncio.to_thread(
            ask, migrated_url, "SELECT pg_notify(%s, n::text) FROM generate_series(0, 999) AS n", CHANNEL
        )
        assert all(await asyncio.gather(*(watch.changed(LONG) for watch in watches)))
        await listening(migrated_url)
        assert database.pool_connections()["in_use"] == 0
        for manager in managers:
            manager.__exit__(None, None, None)
    await nobody_listens(migrated_url)


async def test_killed_connection_heals(database: Database, migrated_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """When its connection is terminated, every watch is woken once it is back, and then notified as before."""
    async with database.notices() as notices:
        await drained(notices, migrated_url)
        with notices.watch("a") as first, notices.watch("b") as second:
            for _ in range(3):
                process = await listening(migrated_url)
                await asyncio.to_thread(ask, migrated_url, "SELECT pg_terminate_backend(%s, 10000)", process)
                assert await asyncio.gather(first.changed(LONG), second.changed(LONG)) == [True, True]
                await asyncio.to_thread(ask, migrated_url, "SELECT pg_notify(%s, 'a')", CHANNEL)
                assert await first.changed(LONG)
                assert not await second.changed(0)
    told = [record.message for record in caplog.records if record.name == module.__name__]
    assert [message.split("(")[0].strip() for message in told] == ["no notices of extractions"] * 3


async def test_restarted_server_is_listened_to_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed server raises nothing in the watches; after its restart they are woken and notified as before."""
    monkeypatch.setattr(module, "MAX_PAUSE_SECONDS", 0.2)
    server = await asyncio.to_thread(start_embedded, tmp_path / "postgresql")
    database = open_database(server.url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    async with database.notices() as notices:
        with notices.watch("a") as watch:
            assert await watch.changed(LONG)
            os.kill(int((tmp_path / "postgresql/data/postmaster.pid").read_text().splitlines()[0]), signal.SIGQUIT)
            while not notices._unavailable:
                assert not await watch.changed(0.05)
            again = await asyncio.to_thread(start_embedded, tmp_path / "postgresql")
            assert await watch.changed(LONG)
            await asyncio.to_thread(ask, server.url, "SELECT pg_notify(%s, 'a')", CHANNEL)
            assert await watch.changed(LONG)
    await database.close()
    await asyncio.to_thread(again.stop)
    await asyncio.to_thread(server.stop)


async def test_absent_server_raises_nothing() -> None:
    """Where nothing listens the watch just hears nothing, and the room closes at once."""
    database = open_database("postgresql://ada:hunter2@127.0.0.1:1/x", pool_size=1, max_overflow=0, pool_timeout=5.0)
    async with database.notices() as notices:
        with notices.watch("a") as watch:
            assert not await watch.changed(0.05)
    await database.close()
