"""What principals keep, as the database counts it: races, deletion, retention, migration, and the files themselves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from msgspec.structs import replace
from sqlalchemy import make_url

from service.extractions.retention import SWEPT, Housekeeping
from service.features.datasets import UploadDataset
from service.features.errors import QuotaExceeded
from service.features.model import Dataset, Extraction, StorageLimits, StorageUse
from service.features.ports import Artifacts
from service.features.quotas import StorageQuotas
from service.store.artifacts import open_artifacts
from service.store.database import Database
from service.store.schema import upgrade
from tests.doubles import PROFILE, FixedClock
from tests.integration.test_migrations import go, rows
from tests.integration.test_store import NOON, dataset, extraction, open_at, result

CHUNK = b"x" * 100
SEED = 20_261_130


class CopyingReader:
    """A reader that stores each upload as it came."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def ingest(self, source_key: str, media_type: object, target_key: str, *, overrides: object) -> Any:
        """Copy the file."""
        await self._artifacts.copy(source_key, target_key)
        return PROFILE


class Keeping:
    """Uploads, extractions and deletions of principals, on a real database and a real folder."""

    def __init__(self, database: Database, folder: Path, limits: StorageLimits) -> None:
        self.database = database
        self.artifacts = open_artifacts(str(folder))
        self.clock = FixedClock(datetime.now(UTC))
        self.quotas = StorageQuotas(limits, store=database.store, retention_days=30)
        reader: Any = CopyingReader(self.artifacts)
        self.upload = UploadDataset(
            store=database.store, artifacts=self.artifacts, reader=reader, clock=self.clock,
            new_id=lambda: uuid4().hex, max_bytes=10_000, quotas=self.quotas,
        )  # fmt: skip

    async def add(self, owner: str, size: int = 50, name: str = "") -> Dataset:
        """Upload so many bytes, as a stream of unknown length; twice as many are stored."""
        return await self.upload(owner, name or f"d-{uuid4().hex}", "text/csv", _bytes(size))

    async def complete(self, owner: str, size: int, finished_at: datetime | None = None) -> Extraction:
        """Store a completed extraction with a table of so many bytes."""
        name = uuid4().hex
        key = f"features/{name}/1.parquet"
        await self.artifacts.put_stream(key, _bytes(size), limit=size)
        queued = extraction(owner, id=name)
        async with self.database.store.begin() as work:
            await work.extractions.add(queued)
            claimed = await work.extractions.claim(name, NOON)
            assert claimed is not None
            ended = replace(
                claimed, status="completed", progress=100, finished_at=finished_at or self.clock.now(),
                result=replace(result(), artifact_key=key), stored_bytes=size,
            )  # fmt: skip
            await work.extractions.save(ended)
        return ended

    async def delete(self, ended: Extraction) -> None:
        """Delete an extraction with its table."""
        async with self.database.store.begin() as work:
            await work.extractions.remove(ended.owner, ended.id)
        for key in _keys(ended):
            await self.artifacts.delete(key)

    async def files(self) -> dict[str, int]:
        """Sizes of all stored files."""
        return {
            artifact.key: artifact.size_bytes
            for prefix in SWEPT
            async for page in self.artifacts.pages(prefix)
            for artifact in page
        }


def _keys(one: Dataset | Extraction) -> list[str]:
    if isinstance(one, Dataset):
        return [one.artifact_key, one.original_key or ""]
    return [one.result.artifact_key] if one.result else []


async def _bytes(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // len(CHUNK)):
        yield CHUNK
    yield b"x" * (size % len(CHUNK))


@pytest.fixture(scope="module")
def migrated_url(new_database: Callable[[], str]) -> str:
    """Address of a database with tables; tests in it keep apart by owner."""
    url = new_database()
    upgrade(make_url(url), {})
    return url


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """An open database."""
    database = open_at(migrated_url, pool_size=16)
    yield database
    await database.close()


@pytest.fixture
def owner() -> str:
    """A principal that no other test uses."""
    return f"owner-{uuid4().hex}"


@pytest.fixture
def make(database: Database, tmp_path: Path) -> Callable[..., Keeping]:
    """Makes a store with limits."""
    return lambda **limits: Keeping(database, tmp_path, StorageLimits(**limits))


@pytest.mark.parametrize(("limits", "fit"), [({"datasets": 3}, 3), ({"stored_bytes": 350}, 3)])
async def test_uploads_at_once_never_pass_the_limit(
    make: Callable[..., Keeping], owner: str, limits: dict[str, int], fit: int
) -> None:
    """Of ten uploads that all saw room before they were read, as many are registered as fit, and no file is left."""
    keeping = make(**limits)
    outcomes = await asyncio.gather(*(keeping.add(owner) for _ in range(10)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(Dataset) == fit
    assert [type(outcome) for outcome in outcomes].count(QuotaExceeded) == 10 - fit
    assert await keeping.quotas.use_of(owner) == StorageUse(fit, fit * 100)
    assert sorted((await keeping.files()).values()) == [50] * 2 * fit


async def test_the_second_upload_waits_for_the_first(make: Callable[..., Keeping], owner: str) -> None:
    """While one upload's registration is not committed, the next waits, and then counts it."""
    keeping = make(datasets=1)
    first, second = (replace(dataset(owner, name), stored_bytes=7) for name in ("first", "second"))

    async def register() -> None:
        async with keeping.database.store.begin() as work:
            await work.datasets.add(second)
            await keeping.quotas.require_kept(work, second)

    async with keeping.database.store.begin() as work:
        await work.datasets.add(first)
        await keeping.quotas.require_kept(work, first)
        waiting = asyncio.create_task(register())
        await asyncio.wait({waiting}, timeout=0.2)
        assert not waiting.done()
    with pytest.raises(QuotaExceeded, match="first"):
        await waiting
    assert await keeping.quotas.use_of(owner) == StorageUse(1, 7)


async def test_deleting_gives_back_at_once(make: Callable[..., Keeping], owner: str) -> None:
    """The refusal names the largest datasets; when one is deleted there is room for what it took."""
    keeping = make(stored_bytes=1000)
    for name, size in (("small", 50), ("large", 350), ("middle", 100)):
        await keeping.add(owner, size, name)
    with pytest.raises(QuotaExceeded) as refused:
        await keeping.add(owner, 600)
    assert (refused.value.quota, refused.value.used.stored_bytes) == ("stored_bytes", 1000)
    assert "large (700 bytes), middle (200 bytes), small (100 bytes)" in refused.value.message
    assert "30 days" in refused.value.message
    await keeping.upload.remove(owner, "large")
    await keeping.add(owner, 300)
    assert await keeping.quotas.use_of(owner) == StorageUse(3, 900)


async def test_a_body_that_cannot_fit_is_not_read(make: Callable[..., Keeping], owner: str) -> None:
    """An announced length beyond what is left, and any upload beyond the datasets, is refused before the stream."""

    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    keeping = make(stored_bytes=500, datasets=2)
    await keeping.add(owner, 150, "old")
    with pytest.raises(QuotaExceeded) as refused:
        await keeping.upload(owner, "new", "text/csv", untouched(), announced_bytes=201)
    assert refused.value.quota == "stored_bytes"
    await keeping.add(owner, 50, "other")
    with pytest.raises(QuotaExceeded, match="old, other") as refused:
        await keeping.upload(owner, "new", "text/csv", untouched())
    assert refused.value.quota == "datasets"


async def test_extractions_are_refused_when_nothing_is_left(make: Callable[..., Keeping], owner: str) -> None:
    """A table may pass the limit by its own size; after it no extraction is accepted until something is deleted."""
    keeping = make(stored_bytes=1000)
    await keeping.add(owner, 450)
    async with keeping.database.store.begin() as work:
        await keeping.quotas.require_space(work, owner)
    ended = await keeping.complete(owner, 500)
    assert (await keeping.quotas.use_of(owner)).stored_bytes == 1400
    async with keeping.database.store.begin() as work:
        with pytest.raises(QuotaExceeded):
            await keeping.quotas.require_space(work, owner)
    await keeping.delete(ended)
    async with keeping.database.store.begin() as work:
        await keeping.quotas.require_space(work, owner)


async def test_repeats_count_and_stop_at_the_limit(make: Callable[..., Keeping], owner: str) -> None:
    """Each repeated result counts its own table; at the limit none is stored."""
    keeping = make()
    kept = await keeping.add(owner, 50, "sales")

    async def repeat() -> bool:
        again = extraction(owner, status="completed", progress=100, result=result(), stored_bytes=50, finished_at=NOON)
        return await keeping.database.store.add_repeated(again, kept.artifact_key, max_stored_bytes=200)

    assert [await repeat() for _ in range(3)] == [True, True, False]
    assert await keeping.quotas.use_of(owner) == StorageUse(1, 200)


async def test_retention_gives_back(database: Database, make: Callable[..., Keeping], owner: str) -> None:
    """Extractions that are over their time free their bytes in the transaction that deletes them, for every owner."""
    keeping, other = make(), f"{owner}-2"
    long_ago = keeping.clock.now() - timedelta(days=31)
    for principal in (other, owner):
        await keeping.complete(principal, 300, long_ago)
        await keeping.complete(principal, 40)
    housekeeping = Housekeeping(upkeep=database.upkeep, artifacts=keeping.artifacts, clock=keeping.clock, days=30)
    removed = await housekeeping()
    assert removed is not None
    assert removed.extractions >= 2  # other tests have some as well
    assert [await keeping.quotas.use_of(principal) for principal in (owner, other)] == [StorageUse(0, 40)] * 2


async def test_usage_is_the_sum_of_the_files(make: Callable[..., Keeping]) -> None:
    """After random uploads, extractions and deletions of three principals, also at once, all sums are the files'."""
    chance = random.Random(SEED)  # noqa: S311 -- chooses test data
    keeping = make(datasets=12, stored_bytes=9_000)
    owners = [f"owner-{uuid4().hex}" for _ in range(3)]
    kept: list[Dataset | Extraction] = []

    async def step(action: int, owner: str, size: int) -> None:
        if action == 0 and kept:
            gone = kept.pop(size % len(kept))
            await (keeping.delete(gone) if isinstance(gone, Extraction) else keeping.upload.remove(gone.owner, gone.id))
        elif action == 1:
            kept.append(await keeping.complete(owner, size))
        else:
            kept.append(await keeping.add(owner, size))

    refused = 0
    for _ in range(40):
        steps = [step(chance.randrange(5), chance.choice(owners), chance.randrange(1, 2_000)) for _ in range(5)]
        outcomes = await asyncio.gather(*steps, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), QuotaExceeded}
        refused += sum(outcome is not None for outcome in outcomes)
    assert refused
    files = await keeping.files()
    for owner in owners:
        mine = [one for one in kept if one.owner == owner]
        keys = [key for one in mine for key in _keys(one)]
        count = sum(isinstance(one, Dataset) for one in mine)
        assert await keeping.quotas.use_of(owner) == StorageUse(count, sum(files.pop(key) for key in keys))
    assert files == {}


OLD_DATASET = """
INSERT INTO datasets (owner, id, media_type, size_bytes, artifact_key, profile, created_at)
VALUES (%s, %s, 'text/csv', 10, %s, '{}', now()) RETURNING id
"""
OLD_EXTRACTION = """
INSERT INTO extractions (id, owner, dataset_id, request, status, created_at, progress, result, request_id, trace_id)
VALUES (%s, %s, 'sales', '{}', 'completed', now(), 100, jsonb_build_object('artifact_key', %s::text), '', '')
RETURNING id
"""
"""As the release before writes them, with the columns that it knows."""


async def test_older_rows_are_measured_by_the_housekeeping(database_url: str, tmp_path: Path) -> None:
    """Rows of the release before count as datasets at once, and with their bytes after a sweep; new ones of it too."""
    go(database_url, command.upgrade, "0006")
    rows(database_url, OLD_DATASET, "ada", "a", "datasets/a.parquet")
    rows(database_url, OLD_DATASET, "bob", "b", "datasets/b.parquet")
    rows(database_url, OLD_EXTRACTION, "e", "ada", "features/e/1.parquet")
    database = open_at(database_url)
    await database.migrate()
    keeping = Keeping(database, tmp_path, StorageLimits())
    assert await keeping.quotas.use_of("ada") == StorageUse(1, 0)
    rows(database_url, OLD_DATASET, "ada", "late", "datasets/l.parquet")
    for key, size in {"datasets/a.parquet": 11, "datasets/b.parquet": 22, "features/e/1.parquet": 33,
                      "datasets/l.parquet": 44, "datasets/orphan.parquet": 55}.items():  # fmt: skip
        await keeping.artifacts.put_stream(key, _bytes(size), limit=size)
    housekeeping = Housekeeping(upkeep=database.upkeep, artifacts=keeping.artifacts, clock=keeping.clock, days=30)
    for _ in range(2):
        await housekeeping()
        assert await keeping.quotas.use_of("ada") == StorageUse(2, 88)
        assert await keeping.quotas.use_of("bob") == StorageUse(1, 22)
    assert await database.upkeep.stored_bytes() == 110
    async with database.store.begin() as work:
        found = await work.usage.largest_owners(limit=1)
    assert [(one.owner, one.use) for one in found] == [("ada", StorageUse(2, 88))]
    await database.close()
    go(database_url, command.downgrade, "0006")
    assert rows(database_url, "SELECT proname FROM pg_proc WHERE proname LIKE 'feature_agent%%'") == []
