"""Transactions of two connections that want the same row: who comes second sees what the first has done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import make_url, text

from service.features.errors import ExtractionEnded, ExtractionNotFound, ExtractionNotReady
from service.features.model import Extraction
from service.features.stores import AttemptSuperseded, IdempotencyRecord, StoredAnswer
from service.store.database import Database
from service.store.idempotency import RETENTION
from service.store.schema import upgrade
from service.store.unit_of_work import SqlUnitOfWork
from tests.integration.test_store import NOON, extraction, open_at, result

T = TypeVar("T")

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 AND datname = %s"
ANSWER = StoredAnswer(202, {"Location": "/x"}, b"\0body\xff")


@pytest.fixture(scope="module")
def migrated_url(new_database: Callable[[], str]) -> str:
    """Address of a database with tables; tests in it keep apart by id."""
    url = new_database()
    upgrade(make_url(url), {})
    return url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """An open database."""
    database = open_at(migrated_url)
    yield database
    await database.close()


@pytest.fixture
async def queued(database: Database) -> Extraction:
    """A stored extraction that waits."""
    mine = extraction("ada")
    async with database.store.begin() as work:
        await work.extractions.add(mine)
    return mine


@pytest.fixture
async def running(database: Database, queued: Extraction) -> Extraction:
    """A stored extraction in its first attempt."""
    async with database.store.begin() as work:
        claimed = await work.extractions.claim(queued.id, NOON)
    assert claimed is not None
    return claimed


def blocked(url: str) -> int:
    """How many transactions wait for another's."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        found = connection.execute(BLOCKED, [make_url(url).database]).fetchone()
    assert found is not None
    return int(found[0])


async def one_waits(url: str, waiting: asyncio.Task[Any]) -> None:
    """Until the task's transaction waits for another's."""
    while await asyncio.to_thread(blocked, url) == 0:
        assert not waiting.done(), "the second did not wait"
        await asyncio.sleep(0.01)


class Race:
    """Two transactions, of which the second comes upon the first's uncommitted change."""

    def __init__(self, database: Database, url: str) -> None:
        self._database = database
        self._url = url

    async def run(
        self,
        first: Callable[[SqlUnitOfWork], Coroutine[Any, Any, object]],
        second: Callable[[SqlUnitOfWork], Coroutine[Any, Any, T]],
    ) -> T:
        """What the second makes of it, having waited for the first to commit."""

        async def alone() -> T:
            async with self._database.store.begin() as work:
                return await second(work)

        async with self._database.store.begin() as work:
            await first(work)
            task = asyncio.create_task(alone())
            await one_waits(self._url, task)
        return await task


@pytest.fixture
def race(database: Database, migrated_url: str) -> Race:
    """Runs two transactions against each other."""
    return Race(database, migrated_url)


async def stored(database: Database, mine: Extraction) -> Extraction:
    """The row as it is."""
    async with database.store.begin() as work:
        return await work.extractions.get(mine.owner, mine.id)


def done(claimed: Extraction) -> Extraction:
    """The run's good end."""
    return replace(claimed, status="completed", progress=100, finished_at=NOON, result=result())


async def test_two_claims_are_two_attempts(database: Database, race: Race, queued: Extraction) -> None:
    """Of two workers that claim at once the later has the extraction, and the earlier can write no more."""
    claims: list[Extraction | None] = []

    async def first(work: SqlUnitOfWork) -> None:
        claims.append(await work.extractions.claim(queued.id, NOON))

    later = await race.run(first, lambda work: work.extractions.claim(queued.id, NOON + timedelta(seconds=1)))
    (earlier,) = claims
    assert earlier is not None
    assert later is not None
    assert (earlier.attempt, later.attempt) == (1, 2)
    assert (later.crashes, later.started_at) == (1, NOON)
    async with database.store.begin() as work:
        with pytest.raises(AttemptSuperseded):
            await work.extractions.save(done(earlier))
        await work.extractions.save(done(later))
    assert (await stored(database, queued)).status == "completed"


async def test_save_after_claim_is_refused(database: Database, race: Race, running: Extraction) -> None:
    """A run that ends while another worker takes its extraction over changes nothing."""
    with pytest.raises(AttemptSuperseded):
        await race.run(
            lambda work: work.extractions.claim(running.id, NOON), lambda work: work.extractions.save(done(running))
        )
    row = await stored(database, running)
    assert (row.status, row.attempt, row.crashes, row.result) == ("processing", 2, 1, None)


async def test_claim_after_end_is_refused(race: Race, running: Extraction, database: Database) -> None:
    """A worker that takes an extraction over while it ends gets nothing."""
    claimed = await race.run(
        lambda work: work.extractions.save(done(running)), lambda work: work.extractions.claim(running.id, NOON)
    )
    assert claimed is None
    assert await stored(database, running) == replace(done(running), version=2)


async def test_claim_after_hand_back_is_no_crash(race: Race, running: Extraction) -> None:
    """What was handed back is claimed as an attempt that no worker died of."""
    again = await race.run(
        lambda work: work.extractions.save(replace(running, status="queued", retries=1)),
        lambda work: work.extractions.claim(running.id, NOON + timedelta(seconds=9)),
    )
    assert again is not None
    assert (again.attempt, again.crashes, again.retries, again.started_at) == (2, 0, 1, NOON)


async def test_cancel_after_completion_is_refused(database: Database, race: Race, running: Extraction) -> None:
    """A cancellation that comes upon the end says so, and the result stays."""
    with pytest.raises(ExtractionEnded, match="completed"):
        await race.run(
            lambda work: work.extractions.save(done(running)),
            lambda work: work.extractions.cancel("ada", running.id, NOON),
        )
    assert await stored(database, running) == replace(done(running), version=2)


async def test_completion_after_cancellation_is_kept(database: Database, race: Race, running: Extraction) -> None:
    """A result that is stored before the run sees its cancellation is kept."""
    await race.run(
        lambda work: work.extractions.cancel("ada", running.id, NOON), lambda work: work.extractions.save(done(running))
    )
    assert await stored(database, running) == replace(done(running), version=3, cancel_requested=True)


async def test_claim_after_cancel_gets_nothing(database: Database, race: Race, queued: Extraction) -> None:
    """A queued extraction that was cancelled does not run."""
    claimed = await race.run(
        lambda work: work.extractions.cancel("ada", queued.id, NOON),
        lambda work: work.extractions.claim(queued.id, NOON),
    )
    assert claimed is None
    row = await stored(database, queued)
    expected = replace(queued, status="cancelled", progress=100, finished_at=NOON, cancel_requested=True, version=1)
    assert row == expected


async def test_cancel_after_claim_asks(database: Database, race: Race, queued: Extraction) -> None:
    """A cancellation that comes upon a claim asks the run to end, and ends nothing itself."""
    row = await race.run(
        lambda work: work.extractions.claim(queued.id, NOON),
        lambda work: work.extractions.cancel("ada", queued.id, NOON),
    )
    assert (row.status, row.cancel_requested, row.finished_at, row.progress) == ("processing", True, None, 0)
    assert await stored(database, queued) == row


async def test_remove_after_revival_is_refused(database: Database, race: Race, running: Extraction) -> None:
    """A failed extraction that is queued again is not removed by a request that still saw it failed."""
    failed = replace(running, status="failed", progress=100, finished_at=NOON, crashes=0)
    async with database.store.begin() as work:
        await work.extractions.save(failed)
    with pytest.raises(ExtractionNotReady):
        await race.run(
            lambda work: work.extractions.revive(running.id), lambda work: work.extractions.remove("ada", running.id)
        )
    row = await stored(database, running)
    assert row == replace(
        running, status="queued", progress=0, stage=None, started_at=None, detached=True, version=row.version
    )
    async with database.store.begin() as work:
        again = await work.extractions.claim(running.id, NOON + timedelta(days=1))
    assert again is not None
    assert (again.attempt, again.started_at) == (2, NOON + timedelta(days=1))


async def test_revive_after_removal_finds_nothing(database: Database, race: Race, running: Extraction) -> None:
    """A failed extraction that is being removed cannot be queued again."""
    async with database.store.begin() as work:
        await work.extractions.save(replace(running, status="failed", finished_at=NOON))
    with pytest.raises(ExtractionNotFound):
        await race.run(
            lambda work: work.extractions.remove("ada", running.id), lambda work: work.extractions.revive(running.id)
        )


async def test_only_ended_extractions_are_removed_and_only_failed_revived(
    database: Database, queued: Extraction
) -> None:
    """Removing takes an end, reviving a failure; a removed row is given back once."""
    async with database.store.begin() as work:
        with pytest.raises(ExtractionNotReady):
            await work.extractions.remove("ada", queued.id)
        with pytest.raises(ExtractionNotReady):
            await work.extractions.revive(queued.id)
        ended = await work.extractions.cancel("ada", queued.id, NOON)
        with pytest.raises(ExtractionNotReady):
            await work.extractions.revive(queued.id)
        assert await work.extractions.remove("ada", queued.id) == ended
        with pytest.raises(ExtractionNotFound):
            await work.extractions.remove("ada", queued.id)


async def test_detaching_is_recorded_once(database: Database, queued: Extraction) -> None:
    """Detaching an extraction a second time changes nothing, not even the version."""
    async with database.store.begin() as work:
        for _ in range(2):
            await work.extractions.mark_detached("ada", queued.id)
        assert await work.extractions.get("ada", queued.id) == replace(queued, detached=True, version=1)


async def test_usual_time_is_the_median_of_the_newest(database_url: str) -> None:
    """The usual time is of a lane's last hundred completed ones, and unknown before there are five."""
    database = open_at(database_url)
    await database.migrate()

    async def complete(seconds: float, day: int, count: int, **fields: Any) -> None:
        finished = NOON + timedelta(days=day)
        async with database.store.begin() as work:
            for _ in range(count):
                started = finished - timedelta(seconds=seconds)
                done = {"status": "completed", "started_at": started, "finished_at": finished}
                await work.extractions.add(extraction("ada", **{**done, **fields}))

    async def usual(lane: Any = "small") -> float | None:
        async with database.store.begin() as work:
            return await work.extractions.usual_seconds(lane)

    await complete(8.0, 1, 4)
    await complete(99.0, 1, 20, status="failed")
    await complete(99.0, 1, 5, lane="large")
    await complete(99.0, 1, 3, status="queued", started_at=None, finished_at=None)
    assert await usual() is None
    await complete(12.0, 1, 1)
    assert await usual() == 8.0
    assert await usual("large") == 99.0
    await complete(2.5, 2, 100)
    assert await usual() == 2.5
    await database.close()


def record(extraction_id: str, digest: bytes = b"d" * 32) -> IdempotencyRecord:
    """What a key would stand for."""
    return IdempotencyRecord(digest, extraction_id)


async def test_fifty_claims_have_one_winner(migrated_url: str) -> None:
    """Of fifty that claim one key over two pools exactly one gets it, and the others see its record, committed."""
    key = uuid4().hex
    pools = [open_at(migrated_url, pool_size=25) for _ in range(2)]
    together = asyncio.Barrier(50)

    async def claim(database: Database, name: str) -> IdempotencyRecord | None:
        async with database.store.begin() as work:
            await work.connection.execute(text("SELECT 1"))
            await together.wait()
            kept = await work.idempotency.claim("ada", key, record(name), NOON)
            if kept is None:
                await work.extractions.add(extraction("ada", id=name))
            else:
                await work.extractions.get("ada", kept.extraction_id)
            return kept

    names = [f"{key}-{number}" for number in range(50)]
    seen = await asyncio.gather(*(claim(pools[index % 2], name) for index, name in enumerate(names)))
    for pool in pools:
        await pool.close()
    (winner,) = [name for name, kept in zip(names, seen, strict=True) if kept is None]
    assert [kept for kept in seen if kept is not None] == [record(winner)] * 49


async def test_rolled_back_claim_frees_its_key(database: Database, migrated_url: str) -> None:
    """A key whose first user fails goes to the one that waited for it."""
    key = uuid4().hex

    async def second() -> IdempotencyRecord | None:
        async with database.store.begin() as work:
            return await work.idempotency.claim("ada", key, record("second"), NOON)

    async def fail(waiting: list[asyncio.Task[IdempotencyRecord | None]]) -> None:
        async with database.store.begin() as work:
            assert await work.idempotency.claim("ada", key, record("first"), NOON) is None
            waiting.append(asyncio.create_task(second()))
            await one_waits(migrated_url, waiting[0])
            raise RuntimeError

    waiting: list[asyncio.Task[IdempotencyRecord | None]] = []
    with pytest.raises(RuntimeError):
        await fail(waiting)
    assert await waiting[0] is None
    async with database.store.begin() as work:
        assert await work.idempotency.find("ada", key, NOON) == record("second")


async def test_keys_are_kept_for_a_day(database: Database) -> None:
    """A key keeps its first answer for 24 hours and is then free, without that answer; each owner has its own keys."""
    key, day_later = uuid4().hex, NOON + RETENTION
    async with database.store.begin() as work:
        keys = work.idempotency
        assert await keys.claim("ada", key, record("a"), NOON) is None
        assert await keys.claim("bob", key, record("b"), NOON) is None
        assert await keys.find("ada", key, NOON) == record("a")
        await keys.answer("ada", key, ANSWER)
        await keys.answer("ada", key, StoredAnswer(500, {}, b""))
        kept = IdempotencyRecord(b"d" * 32, "a", ANSWER)
        assert await keys.claim("ada", key, record("c", b"e" * 32), day_later - timedelta(microseconds=1)) == kept
        assert await keys.find("ada", key, day_later) is None
        assert await keys.claim("ada", key, record("c", b"e" * 32), day_later) is None
        assert await keys.find("ada", key, day_later) == record("c", b"e" * 32)
        assert await keys.find("bob", key, NOON) == record("b")


async def test_key_that_is_being_swept_away_is_free(database: Database, migrated_url: str) -> None:
    """A claim that comes upon the removal of the key's record waits for it, and takes the key."""
    key = uuid4().hex
    async with database.store.begin() as work:
        await work.idempotency.claim("ada", key, record("old"), NOON)

    async def claim() -> IdempotencyRecord | None:
        async with database.store.begin() as work:
            return await work.idempotency.claim("ada", key, record("new"), NOON)

    async with database.store.begin() as sweeping:
        await sweeping.connection.execute(text("DELETE FROM idempotency_keys WHERE key = :key"), {"key": key})
        claiming = asyncio.create_task(claim())
        await one_waits(migrated_url, claiming)
    assert await claiming is None
    async with database.store.begin() as work:
        assert await work.idempotency.find("ada", key, NOON) == record("new")


async def test_record_that_a_claim_found_cannot_be_swept_away(database: Database, migrated_url: str) -> None:
    """A record cannot be deleted between its claim and the reading of its extraction."""
    key = uuid4().hex
    async with database.store.begin() as work:
        await work.idempotency.claim("ada", key, record("old"), NOON)

    async def sweep() -> None:
        async with database.store.begin() as work:
            await work.connection.execute(text("DELETE FROM idempotency_keys WHERE key = :key"), {"key": key})

    async with database.store.begin() as work:
        assert await work.idempotency.claim("ada", key, record("new"), NOON) == record("old")
        sweeping = asyncio.create_task(sweep())
        await one_waits(migrated_url, sweeping)
        assert await work.idempotency.find("ada", key, NOON) == record("old")
    await sweeping
