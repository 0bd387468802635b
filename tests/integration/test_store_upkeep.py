"""What housekeeping does to real rows and files."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from service.extractions.retention import SWEPT, Housekeeping, Removed
from service.features.context import CURRENT
from service.features.errors import ComputeFailed, DatasetNotFound, DependencyUnavailable
from service.features.extract import Pipeline
from service.features.model import Dataset, Extraction, ExtractionRequest
from service.features.ports import Artifacts
from service.features.stores import IdempotencyRecord
from service.store.artifacts import open_artifacts
from service.store.database import Database
from tests.doubles import FixedClock
from tests.integration.test_store import NOON, dataset, extraction, open_at, result

ROOT = Path(__file__).parents[2]
LATER = NOON + timedelta(days=365)
HOLD = """
import asyncio, sys
from service.store.database import open_database
async def hold():
    database = open_database(sys.argv[1], pool_size=1, max_overflow=0, pool_timeout=5.0)
    async with database.upkeep.alone() as alone:
        print(alone, flush=True)
        await asyncio.Event().wait()
asyncio.run(hold())
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database with tables, of the test's own."""
    database = open_at(database_url)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where artifacts go."""
    return tmp_path / "artifacts"


@pytest.fixture
def artifacts(folder: Path) -> Artifacts:
    """An empty artifact store."""
    return open_artifacts(str(folder))


def held_elsewhere(url: str) -> subprocess.Popen[str]:
    """A process that takes the lock and keeps it."""
    return subprocess.Popen([sys.executable, "-c", HOLD, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def put(artifacts: Artifacts, key: str) -> None:
    """Store a small file."""

    async def chunks() -> AsyncIterator[bytes]:
        yield key.encode()

    await artifacts.put_stream(key, chunks(), limit=1000)


def completed(key: str, **fields: Any) -> Extraction:
    """An extraction that ended well and refers to a table."""
    done = {"status": "completed", "finished_at": NOON, "result": replace(result(), artifact_key=key)}
    return extraction(fields.pop("owner", "ada"), **{**done, **fields})


async def test_only_old_extractions_are_purged(database: Database) -> None:
    """Ended extractions of all owners go oldest first, as many as asked; what has not ended stays, however old."""
    rows = [
        completed(f"features/{day}/1.parquet", id=str(day), finished_at=NOON + timedelta(days=day), owner=owner)
        for day, owner in enumerate(("ada", "bob", "ada"))
    ]
    failed = extraction("ada", id="failed", status="failed", finished_at=NOON - timedelta(days=1))
    stay = [extraction("ada", id="queued"), extraction("ada", id="running", status="processing")]
    async with database.store.begin() as work:
        for row in (*rows, failed, *stay):
            await work.extractions.add(row)
    first = await database.upkeep.purge_extractions(LATER, limit=2)
    assert (first.count, first.artifact_keys) == (2, ("features/0/1.parquet",))
    rest = await database.upkeep.purge_extractions(rows[2].finished_at or NOON, limit=9)
    assert (rest.count, rest.artifact_keys) == (1, ("features/1/1.parquet",))
    async with database.store.begin() as work:
        left = (await work.extractions.list("ada", limit=9)).items
        assert {row.id for row in left} == {"2", "queued", "running"}
        assert (await work.extractions.list("bob", limit=9)).items == ()


async def test_extraction_in_somebodys_hands_is_passed_over(database: Database) -> None:
    """A row that another transaction changes just now, such as to revive it, does not hold housekeeping up."""
    failed = extraction("ada", status="failed", finished_at=NOON)
    async with database.store.begin() as work:
        await work.extractions.add(failed)
    async with database.store.begin() as work:
        await work.extractions.revive(failed.id)
        assert (await database.upkeep.purge_extractions(LATER, limit=9)).count == 0
    assert (await database.upkeep.purge_extractions(LATER, limit=9)).count == 0


async def test_only_keys_that_are_kept_no_longer_go(database: Database) -> None:
    """Idempotency keys go once they are 24 hours old."""
    record = IdempotencyRecord(b"d" * 32, "x")
    async with database.store.begin() as work:
        for hours in range(3):
            await work.idempotency.claim("ada", f"key {hours}", record, NOON + timedelta(hours=hours))
    assert await database.upkeep.purge_idempotency_keys(NOON + timedelta(hours=25)) == 2
    async with database.store.begin() as work:
        found = [await work.idempotency.find("ada", f"key {hours}", NOON) for hours in range(3)]
    assert found == [None, None, record]


async def test_keys_in_use_are_those_of_rows(database: Database) -> None:
    """A table is used by the attempt that its row names, a dataset by its row; nothing else is."""
    async with database.store.begin() as work:
        await work.extractions.add(completed("features/a/2.parquet", id="a"))
        await work.extractions.add(completed("features/old.parquet", id="old"))
        await work.extractions.add(extraction("ada", id="b"))
        await work.datasets.add(replace(dataset("ada"), artifact_key="datasets/d.parquet"))
    used = ["features/a/2.parquet", "features/old.parquet", "datasets/d.parquet"]
    others = ["features/a/1.parquet", "features/b/1.parquet", "features/x/1.parquet", "datasets/x.parquet", "uploads/a"]
    assert await database.upkeep.in_use([*used, *others, "features", "a"]) == frozenset(used)
    assert await database.upkeep.in_use([]) == frozenset()


async def test_one_process_is_alone_until_it_ends(database: Database, database_url: str) -> None:
    """The lock is one process's, goes with a killed one, is free after use and leaves no connection in use."""
    with held_elsewhere(database_url) as other:
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == "True\n"
        async with database.upkeep.alone() as alone:
            assert not alone
        other.send_signal(signal.SIGKILL)
        other.wait()
    while True:
        async with database.upkeep.alone() as alone, database.upkeep.alone() as second:
            assert not second
            if alone:
                break
        await asyncio.sleep(0.01)

    async def fail() -> None:
        async with database.upkeep.alone() as alone:
            assert alone
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with database.upkeep.alone() as alone:
        assert alone
    assert database.pool_connections()["in_use"] == 0


async def test_lost_lock_is_an_outage_and_no_more(database: Database, database_url: str) -> None:
    """When the connection of the lock breaks its holder fails as with any lost database, and the lock is free."""

    async def lose() -> None:
        async with database.upkeep.alone() as alone:
            assert alone
            with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory'")

    with pytest.raises(DependencyUnavailable):
        await lose()
    async with database.upkeep.alone() as alone:
        assert alone


async def test_housekeeping_cleans_up(database: Database, artifacts: Artifacts, folder: Path) -> None:
    """Rows over their time go with their tables, orphans go, and whatever a row refers to is still there."""
    clock = FixedClock(datetime.now(UTC))
    kept = completed("features/kept/1.parquet", id="kept", finished_at=clock.instant)
    old = completed("features/old/1.parquet", id="old", finished_at=clock.instant - timedelta(days=31))
    async with database.store.begin() as work:
        await work.extractions.add(kept)
        await work.extractions.add(old)
        await work.datasets.add(replace(dataset("ada"), artifact_key="datasets/d.parquet"))
        await work.idempotency.claim("ada", "k", IdempotencyRecord(b"d" * 32, "x"), clock.instant - timedelta(days=2))
    orphans = ("features/kept/2.parquet", "datasets/x.parquet", "uploads/x", "originals/x", "versions/x.parquet")
    for key in ("features/kept/1.parquet", "features/old/1.parquet", "datasets/d.parquet", *orphans):
        await put(artifacts, key)
    housekeeping = Housekeeping(upkeep=database.upkeep, artifacts=artifacts, clock=clock, days=30)
    assert await housekeeping() == Removed(1, 1, 0)
    for key in orphans:
        os.utime(folder / key, ((clock.instant - timedelta(hours=2)).timestamp(),) * 2)
    assert await housekeeping() == Removed(0, 0, 5)
    found = [artifact.key for prefix in SWEPT async for page in artifacts.pages(prefix)
             for artifact in page]  # fmt: skip
    assert found == ["features/kept/1.parquet", "datasets/d.parquet"]


async def test_results_outlive_their_dataset(database: Database, artifacts: Artifacts, folder: Path) -> None:
    """Deleting a dataset leaves what was extracted from it readable, row and table, also by housekeeping."""
    clock = FixedClock(datetime.now(UTC))
    done = completed("features/a/1.parquet", id="a", finished_at=clock.instant)
    async with database.store.begin() as work:
        await work.datasets.add(replace(dataset("ada"), artifact_key="datasets/d.parquet"))
        await work.extractions.add(done)
    for key in ("features/a/1.parquet", "datasets/d.parquet"):
        await put(artifacts, key)
        os.utime(folder / key, ((clock.instant - timedelta(days=1)).timestamp(),) * 2)
    async with database.store.begin() as work:
        await work.datasets.delete("ada", "sales")
    assert await Housekeeping(upkeep=database.upkeep, artifacts=artifacts, clock=clock, days=30)() == Removed(0, 0, 1)
    async with database.store.begin() as work:
        assert await work.extractions.get("ada", "a") == replace(done, stored_bytes=len("features/a/1.parquet"))
    assert [chunk async for chunk in artifacts.stream("features/a/1.parquet")] == [b"features/a/1.parquet"]


class Reading:
    """Planner, engine and observer of a run that reads its dataset's file, after something happened."""

    def __init__(self, artifacts: Artifacts, happening: Any, fault: Exception | None = None) -> None:
        self._artifacts = artifacts
        self._happening = happening
        self._fault = fault

    async def propose(self, request: Any) -> Any:
        """Open the file and fail, as an engine does."""
        await self._happening()
        async with self._artifacts.local(request.tables.main.artifact_key):
            raise self._fault or AssertionError

    def stage(self, extraction_id: str, stage: str) -> Any:
        """No span."""
        return nullcontext()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("kind", ["memory:///", "folder"])
async def test_deletion_in_mid_run_is_told_as_such(database: Database, folder: Path, kind: str, *, again: bool) -> None:
    """A run whose dataset is deleted meanwhile, or replaced under its name, ends as dataset_not_found."""
    artifacts = open_artifacts(str(folder) if kind == "folder" else kind)
    await put(artifacts, "datasets/d.parquet")

    async def delete() -> None:
        async with database.store.begin() as work:
            (gone,) = await work.datasets.delete("ada", "sales")
            if again:
                await work.datasets.add(replace(gone, artifact_key="datasets/other.parquet"))
        await artifacts.delete(gone.artifact_key)

    with pytest.raises(DatasetNotFound):
        await run(database, replace(dataset("ada"), artifact_key="datasets/d.parquet"), Reading(artifacts, delete))


@pytest.mark.parametrize("fault", [ComputeFailed("no"), None])
async def test_other_faults_stay_what_they_are(
    database: Database, artifacts: Artifacts, fault: ComputeFailed | None
) -> None:
    """A file that is missing though its dataset is there, and a computation that fails, are no deletion."""
    if fault is not None:
        await put(artifacts, "datasets/d.parquet")

    async def nothing() -> None:
        assert CURRENT.get() is None

    with pytest.raises(FileNotFoundError if fault is None else ComputeFailed):
        await run(
            database, replace(dataset("ada"), artifact_key="datasets/d.parquet"), Reading(artifacts, nothing, fault)
        )


async def run(database: Database, data: Dataset, reading: Any) -> None:
    """Store the dataset and run an extraction on it."""
    async with database.store.begin() as work:
        await work.datasets.add(data)
    pipeline = Pipeline(store=database.store, planner=reading, compute=reading, measure=reading, observer=reading)
    asked = extraction("ada", request=ExtractionRequest("sales", "spend"))
    await pipeline(asked, lambda stage, share: None)
