from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import make_url, text, update

from embedded_postgres.server import start_embedded
from service.features.errors import (
    DatasetExists,
    DatasetNotFound,
    DependencyUnavailable,
    ExtractionEnded,
    ExtractionNotFound,
    InvalidRequest,
)
from service.features.identity import DEFAULT_SCOPES, SCOPES, ApiKey
from service.features.model import (
    ColumnProfile,
    Dataset,
    Extraction,
    ExtractionOptions,
    ExtractionRequest,
    ExtractionResult,
    Failure,
    FeatureReport,
    FeatureStatistics,
    FieldError,
    ModelUsage,
    Profile,
    QualitySummary,
    RejectedFeature,
    Status,
    ValueCount,
)
from service.features.operations import Flag, Predicate, Rate, RollingStatistic
from service.features.stores import AttemptSuperseded
from service.store import unit_of_work
from service.store.database import Database, open_database
from service.store.schema import upgrade
from service.store.tables import api_keys, extractions

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
NASTY = "a\0b\x10c\x100\\u0000\\\x00é 😀 '; DROP TABLE datasets; --"


def open_at(url: str, **options: Any) -> Database:
    """A database with a small pool."""
    return open_database(url, **{"pool_size": 4, "max_overflow": 0, "pool_timeout": 5.0, **options})


@pytest.fixture(scope="module")
def migrated_url(new_database: Callable[[], str]) -> str:
    """Address of a database with tables; tests in it keep apart by owner."""
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
def owner() -> str:
    """A principal that no other test uses."""
    return f"owner-{uuid4().hex}"


def profile() -> Profile:
    """A profile with every field set."""
    column = ColumnProfile(
        name=NASTY,
        position=0,
        logical_type="numeric",
        physical_type="DOUBLE",
        null_ratio=0.25,
        distinct_count=3,
        minimum=-1e300,
        maximum=1e-300,
        mean=0.1,
        standard_deviation=1 / 3,
        quantiles={"p05": -1.5, "p50": 0.1 + 0.2},
        top_values=(ValueCount(NASTY, 2),),
        examples=(NASTY, ""),
        mean_length=4.5,
        non_finite_ratio=0.01,
        personal=True,
    )
    return Profile(4, (column,), "f" * 64, (NASTY,))


def dataset(owner: str, dataset_id: str = "sales", created_at: datetime = NOON) -> Dataset:
    """A dataset with every field set."""
    return Dataset(dataset_id, owner, "text/csv", 2**40, "datasets/x.parquet", profile(), created_at)


def extraction(owner: str, **fields: Any) -> Extraction:
    """A queued extraction."""
    request = ExtractionRequest(
        "sales", NASTY, "high", date(2030, 1, 2), ExtractionOptions(7, entity="customer", time="at", target=NASTY)
    )
    return Extraction(
        **{
            "id": uuid4().hex,
            "owner": owner,
            "request": request,
            "status": "queued",
            "created_at": NOON,
            "request_id": "request",
            "trace_id": "t" * 32,
            **fields,
        }
    )


def result() -> ExtractionResult:
    """A result with every field set and operations of several kinds."""
    predicates = (Predicate("kind", "in", ("x", 1, 2.5, True, NASTY, 2**70)),)
    statistics = FeatureStatistics(4, 0.25, 2, -1.0, 1.0, 0.5, 0.1, 0.2, (ValueCount(NASTY, 1),))
    accepted = FeatureReport(
        "rolling",
        "Rolling mean",
        "number",
        RollingStatistic("price", "customer", "at", 7.5, "mean"),
        ("price", "customer"),
        statistics,
        0.875,
        {"completeness": 1.0, "leakage": 0.5},
    )
    rejected = RejectedFeature("rate", "Rate", Rate(predicates, (), 30.0), "leakage", NASTY, 0.1)
    flag = replace(accepted, name="flag", dtype="boolean", operation=Flag(predicates))
    return ExtractionResult(
        features=(accepted, flag), rejected_features=(rejected,), feature_pipeline_steps=("first", NASTY),
        quality=QualitySummary("high", 0.8, {"validity": 0.9}),
        model=ModelUsage("builtin:planner", 1, 2, None, fallback=True),
        row_count=2**40, grain="entity", entity="customer", time="at", artifact_key="features/x.parquet",
        sql="SELECT 1",
    )  # fmt: skip


async def test_dataset_comes_back_as_it_was(database: Database, owner: str) -> None:
    """A dataset's every field survives, also NUL and escape characters, tiny and huge numbers, and microseconds."""
    async with database.store.begin() as work:
        await work.datasets.add(dataset(owner))
    async with database.store.begin() as work:
        assert await work.datasets.get(owner, "sales") == dataset(owner)
        assert (await work.datasets.list(owner, limit=10)).items == (dataset(owner),)


async def test_dataset_id_is_taken_once(database: Database, owner: str) -> None:
    """The second dataset of an id is refused without spoiling the transaction; another owner may use the id."""
    async with database.store.begin() as work:
        await work.datasets.add(dataset(owner))
        with pytest.raises(DatasetExists):
            await work.datasets.add(dataset(owner))
        await work.datasets.add(dataset(f"{owner}-other"))
        await work.datasets.add(dataset(owner, "more"))
    async with database.store.begin() as work:
        assert {item.id for item in (await work.datasets.list(owner, limit=10)).items} == {"sales", "more"}


async def test_race_for_dataset_id_has_one_winner(database: Database, owner: str) -> None:
    """Of several that add the same id at once exactly one succeeds, and the others learn why."""

    async def add() -> bool:
        try:
            async with database.store.begin() as work:
                await work.datasets.add(dataset(owner))
        except DatasetExists:
            return False
        return True

    assert sorted(await asyncio.gather(*(add() for _ in range(4)))) == [False, False, False, True]


async def test_deleted_dataset_is_gone(database: Database, owner: str) -> None:
    """Deleting gives back what was there, once; an owner cannot delete another's."""
    async with database.store.begin() as work:
        await work.datasets.add(dataset(owner))
    async with database.store.begin() as work:
        with pytest.raises(DatasetNotFound):
            await work.datasets.delete(f"{owner}-other", "sales")
        assert await work.datasets.delete(owner, "sales") == (dataset(owner),)
        for missing in (work.datasets.get, work.datasets.delete):
            with pytest.raises(DatasetNotFound):
                await missing(owner, "sales")


async def test_others_do_not_exist(database: Database, owner: str) -> None:
    """Another owner's datasets and extractions cannot be read, listed or changed."""
    stranger, mine = f"{owner}-other", extraction(owner)
    async with database.store.begin() as work:
        await work.datasets.add(dataset(owner))
        await work.extractions.add(mine)
    async with database.store.begin() as work:
        with pytest.raises(DatasetNotFound):
            await work.datasets.get(stranger, "sales")
        with pytest.raises(ExtractionNotFound):
            await work.extractions.get(stranger, mine.id)
        assert (await work.datasets.list(stranger, limit=10)).items == ()
        assert (await work.extractions.list(stranger, limit=10)).items == ()
        for change in (work.extractions.cancel(stranger, mine.id, NOON), work.extractions.remove(stranger, mine.id)):
            with pytest.raises(ExtractionNotFound):
                await change
        await work.extractions.mark_detached(stranger, mine.id)
        assert await work.extractions.get(owner, mine.id) == mine


async def test_extraction_comes_back_as_it_was(database: Database, owner: str) -> None:
    """An extraction's every field survives, with the operations of its features as what they were."""
    full = extraction(
        owner, status="failed", progress=100, stage="assess", started_at=NOON, finished_at=NOON + timedelta(seconds=1),
        result=result(),
        failure=Failure("code", "internal", NASTY, retryable=True, errors=(FieldError("row 1", NASTY),)),
        lane="large", due_at=NOON + timedelta(days=1), detached=True, cancel_requested=True, attempt=4, crashes=2,
        retries=1, version=2**40,
    )  # fmt: skip
    bare = extraction(owner, request_id="", trace_id="")
    async with database.store.begin() as work:
        await work.extractions.add(full)
        await work.extractions.add(bare)
    async with database.store.begin() as work:
        assert await work.extractions.get(owner, full.id) == full
        assert await work.extractions.get(owner, bare.id) == bare


async def test_extraction_is_saved_as_it_proceeds(database: Database, owner: str) -> None:
    """Status, stage, progress, times and result are stored at each step; the request stays what was accepted."""
    queued = extraction(owner)
    async with database.store.begin() as work:
        await work.extractions.add(queued)
        claimed = await work.extractions.claim(queued.id, NOON)
    assert claimed == replace(queued, status="processing", attempt=1, started_at=NOON, version=1)
    running = replace(claimed, stage="plan", progress=10, version=2)
    done = replace(running, status="completed", stage=None, progress=100, finished_at=NOON, result=result(), version=3)
    for state in (running, done):
        async with database.store.begin() as work:
            await work.extractions.save(replace(state, owner="x", request=replace(state.request, dataset_id="other")))
        async with database.store.begin() as work:
            assert await work.extractions.get(owner, queued.id) == state


@pytest.mark.parametrize("terminal", ["completed", "failed", "cancelled"])
async def test_terminal_status_stays(database: Database, owner: str, terminal: Status) -> None:
    """The first terminal status is never overwritten, neither by another one nor by late progress."""
    ended = extraction(owner, status=terminal, progress=100, finished_at=NOON)
    later: tuple[Status, ...] = ("queued", "processing", "completed", "failed", "cancelled")
    async with database.store.begin() as work:
        await work.extractions.add(ended)
        for status in later:
            late = replace(ended, status=status, progress=1, finished_at=NOON + timedelta(seconds=1), result=result())
            with pytest.raises(AttemptSuperseded):
                await work.extractions.save(late)
        assert await work.extractions.claim(ended.id, NOON) is None
        with pytest.raises(ExtractionEnded, match=terminal):
            await work.extractions.cancel(owner, ended.id, NOON)
        assert await work.extractions.get(owner, ended.id) == ended


async def test_end_may_be_stored_twice(database: Database, owner: str) -> None:
    """An end whose acknowledgement was lost is stored again by its own attempt without a fault, and without change."""
    queued = extraction(owner)
    async with database.store.begin() as work:
        await work.extractions.add(queued)
        claimed = await work.extractions.claim(queued.id, NOON)
        assert claimed is not None
        done = replace(claimed, status="completed", progress=100, finished_at=NOON, result=result())
        for _ in range(2):
            await work.extractions.save(done)
        assert await work.extractions.get(owner, queued.id) == replace(done, version=2)
        for other in (replace(done, attempt=2), replace(done, status="failed"), replace(done, finished_at=None)):
            with pytest.raises(AttemptSuperseded):
                await work.extractions.save(other)


async def test_unknown_extraction_is_not_made_by_saving(database: Database, owner: str) -> None:
    """Saving or claiming an extraction that is not there brings none into being."""
    async with database.store.begin() as work:
        for status in ("processing", "completed"):
            with pytest.raises(AttemptSuperseded):
                await work.extractions.save(extraction(owner, status=status))
        assert await work.extractions.claim("unknown", NOON) is None
        assert (await work.extractions.list(owner, limit=1)).items == ()


async def test_pages_over_equal_instants_are_complete(database: Database, owner: str) -> None:
    """Paging in any size over rows of the same instant shows each row once, newest first, and ends."""
    rows = [extraction(owner, created_at=NOON + timedelta(microseconds=index // 5)) for index in range(17)]
    async with database.store.begin() as work:
        for row in rows:
            await work.extractions.add(row)
    expected = sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)
    for limit in (1, 3, 17, 50):
        seen: list[Extraction] = []
        cursor = None
        while True:
            async with database.store.begin() as work:
                page = await work.extractions.list(owner, limit=limit, cursor=cursor)
            assert 0 < len(page.items) <= limit
            seen += page.items
            if (cursor := page.next_cursor) is None:
                break
            assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        assert seen == expected


async def test_pages_stay_right_while_rows_arrive(database: Database, owner: str) -> None:
    """A row that arrives between two pages neither repeats nor hides another."""
    async with database.store.begin() as work:
        for day in range(4):
            await work.datasets.add(dataset(owner, f"d{day}", NOON + timedelta(days=day)))
        first = await work.datasets.list(owner, limit=2)
        await work.datasets.add(dataset(owner, "new", NOON + timedelta(days=9)))
        await work.datasets.delete(owner, "d2")
        second = await work.datasets.list(owner, limit=2, cursor=first.next_cursor)
    assert [item.id for item in (*first.items, *second.items)] == ["d3", "d2", "d1", "d0"]
    assert second.next_cursor is None


async def test_extractions_are_filtered(database: Database, owner: str) -> None:
    """Status and dataset filter alone, together, and across pages."""
    rows = {
        (status, dataset_id): extraction(owner, status=status, request=ExtractionRequest(dataset_id, "features"))
        for status in ("queued", "completed")
        for dataset_id in ("a", "b")
    }
    async with database.store.begin() as work:
        for row in rows.values():
            await work.extractions.add(row)
        queued = await work.extractions.list(owner, limit=9, status="queued")
        of_a = await work.extractions.list(owner, limit=1, dataset_id="a")
        rest = await work.extractions.list(owner, limit=1, dataset_id="a", cursor=of_a.next_cursor)
        both = await work.extractions.list(owner, limit=9, status="completed", dataset_id="b")
    assert {row.id for row in queued.items} == {rows["queued", "a"].id, rows["queued", "b"].id}
    assert {row.id for row in (*of_a.items, *rest.items)} == {rows["queued", "a"].id, rows["completed", "a"].id}
    assert [row.id for row in both.items] == [rows["completed", "b"].id]


async def test_foreign_cursors_are_refused(database: Database, owner: str) -> None:
    """A cursor of another list, a made-up or a damaged one is the client's fault, at the field `cursor`."""
    async with database.store.begin() as work:
        for name in ("a", "b"):
            await work.datasets.add(dataset(owner, name))
        cursor = (await work.datasets.list(owner, limit=1)).next_cursor
        assert cursor is not None
        for bad in (cursor, cursor[:-3], "", "é", "x" * 5000, "bm90IGpzb24"):
            with pytest.raises(InvalidRequest) as refused:
                await work.extractions.list(owner, limit=1, cursor=bad)
            assert [fault.field for fault in refused.value.errors] == ["cursor"]
        assert (await work.datasets.list(f"{owner}-other", limit=1, cursor=cursor)).items == ()


@pytest.mark.parametrize("hostile", ["a\0b", "\ud800", "' OR TRUE --", "%s", ":owner", "x" * 100_000])
async def test_hostile_ids_are_not_found(database: Database, owner: str, hostile: str) -> None:
    """Ids that no row can have are just not there, and leave the transaction usable."""
    async with database.store.begin() as work:
        for missing in (work.datasets.get, work.datasets.delete):
            with pytest.raises(DatasetNotFound):
                await missing(owner, hostile)
        with pytest.raises(ExtractionNotFound):
            await work.extractions.get(owner, hostile)
        for change in (
            work.extractions.cancel(owner, hostile, NOON),
            work.extractions.remove(owner, hostile),
            work.extractions.revive(hostile),
        ):
            with pytest.raises(ExtractionNotFound):
                await change
        assert await work.extractions.find(hostile) is None
        assert (await work.extractions.list(owner, limit=1, dataset_id=hostile)).items == ()
        assert await work.keys.find(hostile) is None
        assert await work.keys.revoke(hostile, NOON) is False
        await work.datasets.add(dataset(owner))


def api_key(**fields: Any) -> ApiKey:
    """A key of a fresh id."""
    return ApiKey(
        **{
            "id": uuid4().hex[:12],
            "name": "ada",
            "digest": bytes(range(32)),
            "scopes": DEFAULT_SCOPES,
            "created_at": NOON,
            **fields,
        }
    )


async def test_keys_come_back_as_they_were(database_url: str) -> None:
    """Keys survive with digest, scopes in their order and times in any zone, and are listed newest first."""
    database = open_at(database_url)
    await database.migrate()
    older = api_key(scopes=SCOPES[::-1], expires_at=NOON + timedelta(days=1), revoked_at=NOON)
    newer = api_key(created_at=(NOON + timedelta(days=1)).astimezone(timezone(timedelta(hours=5))), scopes=())
    async with database.store.begin() as work:
        assert await work.keys.list() == ()
        await work.keys.add(older)
        await work.keys.add(newer)
    async with database.store.begin() as work:
        found = await work.keys.list()
        assert found == (newer, older)
        assert found[0].created_at.tzinfo is UTC
        assert await work.keys.find(older.id) == older
        assert await work.keys.find("unknown") is None
    await database.close()


async def test_scopes_of_newer_release_are_dropped(database: Database) -> None:
    """A scope that this release does not know gives no right and does no harm."""
    key = api_key()
    async with database.store.begin() as work:
        await work.keys.add(key)
        await work.connection.execute(
            api_keys.update().where(api_keys.c.id == key.id).values(scopes=["admin", "moon:read"])
        )
        assert await work.keys.find(key.id) == replace(key, scopes=("admin",))


async def test_first_revocation_counts(database: Database) -> None:
    """Revoking twice keeps the first time; revoking an unknown key says so."""
    key = api_key()
    async with database.store.begin() as work:
        await work.keys.add(key)
        assert await work.keys.revoke(key.id, NOON) is True
        assert await work.keys.revoke(key.id, NOON + timedelta(days=1)) is True
        assert await work.keys.revoke("unknown", NOON) is False
        assert await work.keys.find(key.id) == replace(key, revoked_at=NOON)


@pytest.mark.parametrize("fault", [RuntimeError, asyncio.CancelledError, DatasetNotFound])
async def test_failed_unit_of_work_leaves_nothing(database: Database, owner: str, fault: type[BaseException]) -> None:
    """Whatever ends the block badly, nothing of it is stored and the error is passed on."""

    async def work_badly() -> None:
        async with database.store.begin() as work:
            await work.datasets.add(dataset(owner))
            raise fault("no")

    with pytest.raises(fault):
        await work_badly()
    async with database.store.begin() as work:
        assert (await work.datasets.list(owner, limit=1)).items == ()
    assert database.pool_connections()["in_use"] == 0


async def test_unit_of_work_gives_its_connection(database: Database, owner: str) -> None:
    """What is done on the unit's connection is committed and rolled back with its rows."""
    mine = extraction(owner)
    progress = update(extractions).where(extractions.c.id == mine.id).values(progress=50)

    async def work_badly() -> None:
        async with database.store.begin() as work:
            await work.connection.execute(progress)
            assert (await work.extractions.get(owner, mine.id)).progress == 50
            raise RuntimeError

    async with database.store.begin() as work:
        await work.extractions.add(mine)
    with pytest.raises(RuntimeError):
        await work_badly()
    async with database.store.begin() as work:
        assert (await work.extractions.get(owner, mine.id)).progress == 0
        await work.connection.execute(progress)
    async with database.store.begin() as work:
        assert (await work.extractions.get(owner, mine.id)).progress == 50


async def test_connections_are_counted(database: Database) -> None:
    """The pool's connections are counted by state."""
    assert database.pool_connections() == {"in_use": 0, "idle": 0}
    async with database.store.begin():
        assert database.pool_connections() == {"in_use": 1, "idle": 0}
    await database.store.ping()
    assert database.pool_connections() == {"in_use": 0, "idle": 1}


async def test_session_is_in_utc_with_limits(migrated_url: str) -> None:
    """Sessions run in UTC under a name and a statement timeout; options in the address are kept and win."""
    database = open_at(migrated_url + "&application_name=mine&options=-c%20statement_timeout%3D1234")
    names = ("TimeZone", "application_name", "statement_timeout", "idle_in_transaction_session_timeout")
    async with database.store.begin() as work:
        shown = [await work.connection.scalar(text("SELECT current_setting(:name)"), {"name": name}) for name in names]
    await database.close()
    assert shown == ["UTC", "mine", "1234ms", "1min"]


async def test_exhausted_pool_is_an_outage(migrated_url: str) -> None:
    """With all connections in use a unit of work fails as a dependency that is back in about a second."""
    database = open_at(migrated_url, pool_size=1, pool_timeout=0.05)
    async with database.store.begin():
        with pytest.raises(DependencyUnavailable, match="in use") as refused:
            async with database.store.begin():
                pass
    assert refused.value.retry_after == 1.0
    await database.store.ping()
    await database.close()


async def test_slow_statement_is_an_outage(migrated_url: str) -> None:
    """A statement over its time fails as a dependency, and the connection serves on."""
    database = open_at(migrated_url + "&options=-c%20statement_timeout%3D50", pool_size=1)
    with pytest.raises(DependencyUnavailable):
        async with database.store.begin() as work:
            await work.connection.execute(text("SELECT pg_sleep(30)"))
    await database.store.ping()
    await database.close()


async def test_slow_ping_is_given_up(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping that finds no free connection in its time is an outage."""
    monkeypatch.setattr(unit_of_work, "PING_TIMEOUT_SECONDS", 0.05)
    database = open_at(migrated_url, pool_size=1, pool_timeout=30.0)
    async with database.store.begin():
        with pytest.raises(DependencyUnavailable, match="too slow"):
            await database.store.ping()
    await database.close()


@pytest.mark.parametrize("query", ["host=/nowhere", "host=127.0.0.1&port=1"])
async def test_absent_database_is_an_outage(query: str) -> None:
    """Where nothing listens every entrance raises DependencyUnavailable, without address or password."""
    database = open_at(f"postgresql://ada:hunter2@/feature?{query}")
    for entrance in (database.store.ping, database.migrate, database.revision, database.store.begin().__aenter__):
        with pytest.raises(DependencyUnavailable) as refused:
            await entrance()
        assert refused.value.message == "The database does not answer."
        assert refused.value.retry_after == 3.0
        assert "hunter2" not in repr(refused.value.__cause__)
    await database.close()


def wait_for_end(process: int) -> None:
    """A server that is shutting down may still answer so."""
    status = Path(f"/proc/{process}/stat")
    while status.exists() and ") Z " not in status.read_text():
        time.sleep(0.05)


async def test_killed_database_is_an_outage_until_it_is_back(tmp_path: Path) -> None:
    """Killing the server makes running and new work fail as a dependency; after its restart the same pool works."""
    server = start_embedded(tmp_path / "postgresql")
    database = open_at(server.url)
    await database.migrate()
    process = int((tmp_path / "postgresql/data/postmaster.pid").read_text().splitlines()[0])

    async def work_through_outage() -> None:
        async with database.store.begin() as work:
            await work.datasets.add(dataset("ada", "lost"))
            os.kill(process, signal.SIGQUIT)
            while True:
                await work.datasets.list("ada", limit=1)

    with pytest.raises(DependencyUnavailable):
        await work_through_outage()
    with pytest.raises(DependencyUnavailable):
        await database.store.ping()
    await asyncio.to_thread(wait_for_end, process)
    again = await asyncio.to_thread(start_embedded, tmp_path / "postgresql")
    try:
        await database.store.ping()
        async with database.store.begin() as work:
            assert (await work.datasets.list("ada", limit=1)).items == ()
            await work.datasets.add(dataset("ada", "kept"))
    finally:
        await database.close()
        await asyncio.to_thread(again.stop)
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://ada:hunter2@host/db", "not mysql://"),
        ("postgresql+asyncpg://ada:hunter2@host/db", "not postgresql+asyncpg://"),
        ("hunter2", "something else"),
        ("HUNTER2 hunter2://x", "something else"),
        ("postgresql://ada:hunter2@host:port/db", "cannot be read"),
        ("postgresql://ada:hunter2", "cannot be read"),
        ("", "something else"),
    ],
)
def test_unusable_address_is_refused_without_repeating_it(url: str, shown: str) -> None:
    """An address that is no PostgreSQL's is refused in one line that holds nothing of it but its scheme."""
    with pytest.raises(ValueError, match="database address") as refused:
        open_at(url)
    assert shown in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in repr(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
async def test_usual_spellings_of_address(migrated_url: str, scheme: str) -> None:
    """All usual spellings of the scheme open the same database."""
    database = open_at(migrated_url.replace("postgresql+psycopg", scheme))
    await database.store.ping()
    await database.close()


def traced() -> tuple[TracerProvider, InMemorySpanExporter]:
    """A tracer provider and what it exports."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


async def test_statements_are_spans_of_their_own_provider(migrated_url: str, owner: str) -> None:
    """Each database traces to its own provider, under the current span, and no parameter is in any span."""
    (provider, exporter), (other_provider, other_exporter) = traced(), traced()
    database = open_at(migrated_url, tracer_provider=provider)
    other = open_at(migrated_url, tracer_provider=other_provider)
    with provider.get_tracer("test").start_as_current_span("request") as request:
        async with database.store.begin() as work:
            await work.extractions.add(extraction(owner))
            with pytest.raises(DatasetNotFound):
                await work.datasets.get(owner, "secret-name")
    await other.store.ping()
    await database.close()
    await other.close()
    spans = [span for span in exporter.get_finished_spans() if span.name != "request"]
    assert {span.name.split()[0] for span in spans} == {"INSERT", "SELECT"}
    assert {span.parent.span_id for span in spans if span.parent} == {request.get_span_context().span_id}
    assert not any(hidden in span.to_json() for span in spans for hidden in (owner, "secret-name", "DROP TABLE"))
    assert [span.name.split()[0] for span in other_exporter.get_finished_spans()] == ["SELECT"]


async def test_looking_again_and_again_makes_no_spans(migrated_url: str, owner: str) -> None:
    """Within a trace each statement of a unit of work is a span; one that watches has none."""
    provider, exporter = traced()
    database = open_at(migrated_url, tracer_provider=provider)
    with provider.get_tracer("test").start_as_current_span("request"):
        async with database.store.begin(watching=True) as work:
            await work.extractions.find("none")
        watched = exporter.get_finished_spans()
        async with database.store.begin() as work:
            await work.extractions.find("none")
    await database.close()
    assert watched == ()
    assert [span.name.split()[0] for span in exporter.get_finished_spans()] == ["SELECT", "request"]


async def test_untraced_database_makes_no_spans(migrated_url: str) -> None:
    """Without a provider there are no spans, also when another database of the process is traced."""
    provider, exporter = traced()
    database, plain = open_at(migrated_url, tracer_provider=provider), open_at(migrated_url)
    await plain.store.ping()
    await database.close()
    await plain.close()
    assert exporter.get_finished_spans() == ()


# ------------------------------------------------------------------------- past the pool: states and repeated results


async def test_states_are_read_fresh_and_only_by_their_owner(database: Database, owner: str) -> None:
    """Concurrent requests each get their own extraction's present state; another owner's is not found."""
    own = [extraction(owner) for _ in range(30)]
    async with database.store.begin() as work:
        for item in own:
            await work.extractions.add(item)
    states = await asyncio.gather(*(database.store.state_of(owner, item.id) for item in own))
    assert [(state.id, state.status, state.progress) for state in states] == [(x.id, x.status, x.progress) for x in own]
    for asking, identity in ((f"not-{owner}", own[0].id), (owner, "none"), (owner, "\0")):
        with pytest.raises(ExtractionNotFound):
            await database.store.state_of(asking, identity)
    async with database.store.begin() as work:
        claimed = await work.extractions.claim(own[0].id, NOON)
        assert claimed is not None
        failure = Failure("code", "internal", NASTY, retryable=True, errors=(FieldError("f", NASTY),))
        await work.extractions.save(replace(claimed, status="failed", finished_at=NOON, failure=failure))
    state = await database.store.state_of(owner, own[0].id)
    assert (state.status, state.failure, state.started_at, state.finished_at) == ("failed", failure, NOON, NOON)


async def test_a_state_is_read_over_a_connection_that_was_cut(
    database: Database, migrated_url: str, owner: str
) -> None:
    """A connection that the database closed while it was idle is replaced without an error."""
    item = extraction(owner)
    async with database.store.begin() as work:
        await work.extractions.add(item)
    await database.store.state_of(owner, item.id)
    async with database.store.begin() as work:
        await work.connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND query LIKE :it"
            ),
            {"it": "SELECT id, owner, status, progress%"},
        )
    assert (await database.store.state_of(owner, item.id)).id == item.id


async def test_a_repeated_extraction_is_stored_for_its_very_dataset(database: Database, owner: str) -> None:
    """It is there as it was given, once its dataset is the one of that file; else nothing is stored."""
    async with database.store.begin() as work:
        await work.datasets.add(dataset(owner))
        kept = await work.datasets.get(owner, dataset(owner).id)
    moments = {"created_at": NOON, "started_at": NOON, "finished_at": NOON}
    request = replace(extraction(owner).request, dataset_id=kept.id)
    new = [
        replace(
            extraction(owner),
            id=uuid4().hex,
            request=request,
            status="completed",
            progress=100,
            result=result(),
            **moments,
        )
        for _ in range(3)
    ]
    keys = (kept.artifact_key, "datasets/other.parquet", kept.artifact_key)
    added = await asyncio.gather(*(database.store.add_repeated(*pair) for pair in zip(new, keys, strict=True)))
    assert added == [True, False, True]
    async with database.store.begin() as work:
        assert await work.extractions.find(new[0].id) == new[0]
        assert await work.extractions.find(new[1].id) is None
        assert (await work.extractions.get(owner, new[2].id)).result == result()


async def test_a_sampled_caller_s_statement_is_a_span_of_its_trace(migrated_url: str, owner: str) -> None:
    """A sampled caller gets a span of its own wait; others get none."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    database = open_at(migrated_url, tracer_provider=provider)
    item = extraction(owner)
    async with database.store.begin() as work:
        await work.extractions.add(item)
    exporter.clear()
    await database.store.state_of(owner, item.id)
    assert not exporter.get_finished_spans()
    with provider.get_tracer("test").start_as_current_span("request") as request:
        await database.store.state_of(owner, item.id)
    inner, _ = exporter.get_finished_spans()
    await database.close()
    assert inner.parent is not None
    assert inner.parent.span_id == request.get_span_context().span_id
    assert inner.name == "SELECT extractions"
    assert inner.attributes is not None
    assert inner.attributes["db.system.name"] == "postgresql"
    assert owner not in str(inner.attributes)
