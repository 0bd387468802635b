"""Versions of datasets on a real database and a real folder: replacing, reading anew, pins, and the housekeeping."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from msgspec.structs import replace
from sqlalchemy import make_url, text

from service.extractions.retention import SWEPT, Housekeeping, Removed
from service.features.datasets import UploadDataset
from service.features.errors import (
    DatasetChanged,
    DatasetExists,
    DatasetNotFound,
    DatasetUnreadable,
    DependencyUnavailable,
    InvalidRequest,
    OriginalMissing,
    PayloadTooLarge,
    QuotaExceeded,
)
from service.features.extract import Pipeline
from service.features.model import (
    NO_OVERRIDES,
    ColumnOverride,
    Dataset,
    ExtractionRequest,
    MediaType,
    Profile,
    ReadOptions,
    StorageLimits,
    StorageUse,
)
from service.features.overrides import patched
from service.features.pins import pinned, read_pinned
from service.features.ports import Artifacts
from service.features.quotas import StorageQuotas
from service.store.artifacts import open_artifacts
from service.store.database import Database
from service.store.schema import upgrade
from tests.doubles import PROFILE, FaultyStore, FixedClock
from tests.integration.test_migrations import go, rows
from tests.integration.test_store import extraction, open_at

ZONE = {"zone": "Europe/Berlin"}
AGO = timedelta(hours=3)


class WordReader:
    """Reads an upload as it is; one that has the word `broken` is unreadable, and a gate holds each reading."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self.gate: asyncio.Event | None = None
        self.read: list[ReadOptions] = []
        self._began = asyncio.Event()

    async def reading(self, count: int) -> None:
        """Wait until so many readings have begun."""
        while len(self.read) < count:
            self._began.clear()
            await self._began.wait()

    async def ingest(
        self, source_key: str, media_type: MediaType, target_key: str, *, overrides: ReadOptions = NO_OVERRIDES
    ) -> Profile:
        """Copy the file."""
        self.read.append(overrides)
        self._began.set()
        if self.gate is not None:
            await self.gate.wait()
        async with self._artifacts.local(source_key) as path:
            content = path.read_bytes()
        await self._artifacts.put_file(target_key, path)
        if b"broken" in content or overrides.zone == "broken":
            raise DatasetUnreadable("Not a table.")
        return replace(PROFILE, notes=(content.decode(),))


class Versions:
    """Uploads of one principal."""

    def __init__(self, database: Database, folder: Path, limits: StorageLimits) -> None:
        self.owner = f"owner-{uuid4().hex}"
        self.database = database
        self.folder = folder
        self.artifacts = open_artifacts(str(folder))
        self.clock = FixedClock(datetime.now(UTC))
        self.reader = WordReader(self.artifacts)
        self.store = FaultyStore().around(database.store)
        self.quotas = StorageQuotas(limits, store=database.store)
        reader: Any = self.reader
        self.datasets = UploadDataset(
            store=self.store, artifacts=self.artifacts, reader=reader, clock=self.clock,
            new_id=lambda: uuid4().hex, max_bytes=1000, quotas=self.quotas,
        )  # fmt: skip

    async def upload(self, content: bytes, *, replace: bool = True, **options: Any) -> Dataset:
        """Upload under the id `sales`."""

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return await self.datasets(self.owner, "sales", "text/csv", chunks(), replace=replace, **options)

    async def reread(self, **patch: Any) -> Dataset:
        """Read it anew."""
        return await self.datasets.reread(self.owner, "sales", patch)

    async def get(self, version: int | None = None) -> Dataset:
        """A version of it."""
        async with self.database.store.begin() as work:
            return await work.datasets.get(self.owner, "sales", version)

    async def content(self, dataset: Dataset) -> bytes:
        """The stored table."""
        return b"".join([chunk async for chunk in self.artifacts.stream(dataset.artifact_key)])

    async def files(self) -> dict[str, int]:
        """Sizes of all files."""
        return {
            artifact.key: artifact.size_bytes
            for prefix in SWEPT
            async for page in self.artifacts.pages(prefix)
            for artifact in page
        }

    async def use(self) -> StorageUse:
        """What is kept."""
        return await self.quotas.use_of(self.owner)

    async def sql(self, statement: str) -> None:
        """Change rows of this principal."""
        async with self.database.store.begin() as work:
            await work.connection.execute(text(statement), {"owner": self.owner})

    async def age(self) -> None:
        """Let every replacement, and every file, be of three hours ago."""
        await self.sql("UPDATE dataset_versions SET replaced_at = now() - interval '3 hours' WHERE owner = :owner")
        then = (datetime.now(UTC) - AGO).timestamp()
        for path in self.folder.rglob("*"):
            os.utime(path, (then, then))

    async def keep_house(self) -> Removed:
        """Clean up."""
        self.clock.instant = datetime.now(UTC)
        house = Housekeeping(upkeep=self.database.upkeep, artifacts=self.artifacts, clock=self.clock, days=30)
        removed = await house()
        assert removed is not None
        return removed


@pytest.fixture(scope="module")
def migrated_url(new_database: Callable[[], str]) -> str:
    """Address of a database with tables."""
    url = new_database()
    upgrade(make_url(url), {})
    return url


@pytest.fixture
async def make(migrated_url: str, tmp_path: Path) -> AsyncIterator[Callable[..., Versions]]:
    """Makes principals with limits."""
    database = open_at(migrated_url, pool_size=8)
    yield lambda **limits: Versions(database, tmp_path, StorageLimits(**limits))
    await database.close()


@pytest.fixture
def sales(make: Callable[..., Versions]) -> Versions:
    """A principal without limits."""
    return make()


async def test_replacing_makes_the_next_version(sales: Versions) -> None:
    """The newest is the dataset, older ones stay readable by their numbers, and the dataset's creation stays."""
    first = await sales.upload(b"one", replace=False)
    sales.clock.advance(seconds=5)
    second = await sales.upload(b"three", overrides=ReadOptions(zone="Europe/Berlin"))
    assert (first.version, second.version) == (1, 2)
    assert (second.created_at, second.updated_at) == (first.created_at, first.created_at + timedelta(seconds=5))
    assert await sales.get() == second == await sales.get(2)
    assert await sales.get(1) == first
    assert (await sales.get(1)).profile.notes == ("one",)
    assert [await sales.content(one) for one in (first, second)] == [b"one", b"three"]
    assert second.overrides.zone == "Europe/Berlin"
    async with sales.database.store.begin() as work:
        assert (await work.datasets.list(sales.owner, limit=9)).items == (second,)
        for stranger, version in ((sales.owner, 3), (sales.owner, 0), ("stranger", 1), ("stranger", 2)):
            with pytest.raises(DatasetNotFound):
                await work.datasets.get(stranger, "sales", version)


async def test_without_replace_nothing_is_replaced(sales: Versions) -> None:
    """The refusal says how, and the dataset is as it was; with it and without a dataset there is a first version."""
    first = await sales.upload(b"one")
    assert first.version == 1
    with pytest.raises(DatasetExists, match=r"\?replace=true"):
        await sales.upload(b"two", replace=False)
    assert await sales.get() == first
    assert len(await sales.files()) == 2


async def test_the_same_again_makes_no_version(sales: Versions) -> None:
    """The bytes and options of the present version are not read again; other options, and older bytes, are."""
    first = await sales.upload(b"one")
    assert await sales.upload(b"one") == first
    assert (len(sales.reader.read), len(await sales.files())) == (1, 2)
    assert (await sales.upload(b"one", overrides=ReadOptions(zone="Asia/Tokyo"))).version == 2
    assert (await sales.upload(b"two")).version == 3
    assert (await sales.upload(b"one")).version == 4


async def test_replacements_at_once_follow_each_other(sales: Versions) -> None:
    """Each of ten uploads that replace, also where there is no dataset yet, becomes a version of its own."""
    made = await asyncio.gather(*(sales.upload(f"n{number}".encode()) for number in range(10)))
    assert sorted(one.version for one in made) == [*range(1, 11)]
    assert (await sales.get()).version == 10
    for one in made:
        assert await sales.get(one.version) == one
        assert await sales.content(one) == one.profile.notes[0].encode()
    assert await sales.use() == StorageUse(1, sum((await sales.files()).values()))


@pytest.mark.parametrize(
    ("content", "limits", "error"),
    [
        (b"broken", {}, DatasetUnreadable),
        (b"x" * 1001, {}, PayloadTooLarge),
        (b"x" * 60, {"stored_bytes": 100}, QuotaExceeded),
    ],
)
async def test_a_failed_replacement_leaves_the_dataset_alone(
    make: Callable[..., Versions], content: bytes, limits: dict[str, int], error: type[Exception]
) -> None:
    """Unreadable, too large, over the quota: the version of before stands, and no file is left."""
    sales = make(**limits)
    first = await sales.upload(b"one")
    before = await sales.files()
    with pytest.raises(error):
        await sales.upload(content)
    assert (await sales.get(), await sales.files(), await sales.use()) == (first, before, StorageUse(1, 6))


async def test_a_cancelled_replacement_leaves_the_dataset_alone(sales: Versions) -> None:
    """Somebody who goes while the file is read leaves the version of before, and no file."""
    first = await sales.upload(b"one")
    before = await sales.files()
    sales.reader.gate = asyncio.Event()
    for work in (sales.upload(b"two"), sales.reread(**ZONE)):
        waiting = asyncio.create_task(work)
        await asyncio.wait({waiting}, timeout=0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await sales.get(), await sales.files()) == (first, before)


async def test_an_answer_of_the_database_that_was_lost_loses_no_file(sales: Versions) -> None:
    """When it is not known whether the version was stored its files stay, so that a stored one can be read."""
    await sales.upload(b"one")
    gate = sales.reader.gate = asyncio.Event()
    waiting = asyncio.create_task(sales.upload(b"two"))
    await sales.reader.reading(2)
    sales.store.lost_commits = 1
    gate.set()
    with pytest.raises(DependencyUnavailable):
        await waiting
    kept = await sales.get()
    assert await sales.content(kept) == kept.profile.notes[0].encode() == b"two"


async def test_reading_anew_makes_a_version_of_the_same_original(sales: Versions) -> None:
    """The patch is merged into the overrides of before; the original is shared and counted once."""
    await sales.upload(b"one", overrides=ReadOptions(columns={"a": ColumnOverride(type="text")}))
    second = await sales.reread(columns={"b": {"zone": "Asia/Tokyo"}}, zone="UTC")
    assert second.version == 2
    assert sales.reader.read[-1] == second.overrides == ReadOptions(
        columns={"a": ColumnOverride(type="text"), "b": ColumnOverride(zone="Asia/Tokyo")}, zone="UTC"
    )  # fmt: skip
    assert await sales.get() == second
    files = await sales.files()
    assert len(files) == 3
    assert await sales.use() == StorageUse(1, sum(files.values()))
    assert await sales.reread(zone="UTC") == second, "nothing changed"
    third = await sales.reread(columns={"a": None, "b": {"zone": None}})
    assert (third.version, third.overrides) == (3, ReadOptions(zone="UTC"))
    await sales.upload(b"five5")
    assert await sales.use() == StorageUse(1, sum((await sales.files()).values()))
    await sales.age()
    assert (await sales.keep_house()).dataset_versions == 3
    assert sorted((await sales.files()).values()) == [5, 5]
    assert await sales.use() == StorageUse(1, 10)


async def test_a_failed_reading_anew_leaves_the_dataset_alone(sales: Versions) -> None:
    """Overrides that do not fit are refused, and the version of before stands with the overrides of before."""
    first = await sales.upload(b"one")
    before = await sales.files()
    with pytest.raises(DatasetUnreadable):
        await sales.reread(zone="broken")
    assert (await sales.get(), await sales.files()) == (first, before)


@pytest.mark.parametrize("change", ["replaced", "reread", "deleted"])
async def test_reading_anew_what_changes_meanwhile_is_a_conflict(sales: Versions, change: str) -> None:
    """Of a patch that another request overtakes nothing is stored: its overrides were merged into older ones."""
    await sales.upload(b"one")
    sales.reader.gate = asyncio.Event()
    waiting = asyncio.create_task(sales.reread(zone="Asia/Tokyo"))
    await sales.reader.reading(2)
    gate, sales.reader.gate = sales.reader.gate, None
    if change == "deleted":
        await sales.datasets.remove(sales.owner, "sales")
    else:
        await (sales.upload(b"two") if change == "replaced" else sales.reread(zone="Europe/Berlin"))
    before = await sales.files()
    gate.set()
    with pytest.raises(DatasetNotFound if change == "deleted" else DatasetChanged):
        await waiting
    assert await sales.files() == before
    if change != "deleted":
        assert ((await sales.get()).version, (await sales.get()).overrides.zone != "Asia/Tokyo") == (2, True)


@pytest.mark.parametrize(
    "columns",
    [
        {f"c{number}": {"role": "ignored"} for number in range(6_000)},
        {f"c{number}": {"null_words": [f"{place:0100}" for place in range(100)]} for number in range(20)},
    ],
)
async def test_overrides_that_grow_too_large_are_refused(sales: Versions, columns: dict[str, Any]) -> None:
    """Each patch is small enough, but not all of them together: the version of before stands."""
    await sales.upload(b"one")
    second = await sales.reread(columns=columns)
    with pytest.raises(InvalidRequest) as refused:
        await sales.reread(columns={f"more-{name}": column for name, column in columns.items()})
    assert [fault.field for fault in refused.value.errors] == ["columns"]
    assert await sales.get() == second


async def test_an_original_that_is_not_kept_says_so(sales: Versions) -> None:
    """What an older release uploaded, and what a backup of one brought back, has to be uploaded again."""
    first = await sales.upload(b"one")
    assert first.original_key is not None
    await sales.artifacts.delete(first.original_key)
    with pytest.raises(OriginalMissing, match="upload it again"):
        await sales.reread(**ZONE)
    await sales.sql("UPDATE datasets SET original_key = NULL WHERE owner = :owner")
    with pytest.raises(OriginalMissing, match="upload it again"):
        await sales.reread(**ZONE)
    assert (await sales.upload(b"one")).version == 2, "the same bytes, and now kept"
    assert (await sales.reread(**ZONE)).version == 3


async def test_deleting_removes_every_version(sales: Versions) -> None:
    """All tables and originals go at once, and a dataset of the same id begins again."""
    await sales.upload(b"one")
    await sales.upload(b"two")
    await sales.reread(**ZONE)
    await sales.datasets.remove(sales.owner, "sales")
    assert (await sales.files(), await sales.use()) == ({}, StorageUse(0, 0))
    for version in (None, 1, 2, 3):
        with pytest.raises(DatasetNotFound):
            await sales.get(version)
    assert (await sales.upload(b"one")).version == 1


async def test_deletions_and_replacements_at_once_neither_hang_nor_leak(sales: Versions) -> None:
    """Whatever the order, what is counted and what is stored agree in the end."""

    async def remove() -> None:
        await sales.datasets.remove(sales.owner, "sales")

    for _ in range(5):
        works = [sales.upload(b"x" * 9), remove(), sales.upload(b"y" * 9), remove(), sales.upload(b"z" * 9)]
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        assert {type(one) for one in outcomes} <= {Dataset, type(None), DatasetNotFound, DatasetExists}
    assert sum((await sales.files()).values()) == (await sales.use()).stored_bytes


async def test_a_replacement_counts_as_if_the_version_before_were_gone(make: Callable[..., Versions]) -> None:
    """One dataset may take more than half of the quota and still be replaced; a second time only after a cleaning."""
    sales = make(stored_bytes=100, datasets=1)
    await sales.upload(b"x" * 30)
    await sales.upload(b"y" * 30)
    assert await sales.use() == StorageUse(1, 120)
    with pytest.raises(QuotaExceeded):
        await sales.upload(b"z" * 30)
    await sales.age()
    await sales.keep_house()
    assert await sales.use() == StorageUse(1, 60)
    assert (await sales.upload(b"z" * 30)).version == 3


# Extractions read the version of their acceptance


async def queued(sales: Versions, dataset: Dataset, **fields: Any) -> str:
    """Store an extraction that was accepted for this version."""
    accepted = extraction(sales.owner, **fields)
    accepted = replace(accepted, request=pinned(accepted.request, dataset))
    async with sales.database.store.begin() as work:
        await work.extractions.add(accepted)
    return accepted.id


async def end(sales: Versions, extraction_id: str) -> None:
    """End the extraction."""
    async with sales.database.store.begin() as work:
        claimed = await work.extractions.claim(extraction_id, sales.clock.now())
        assert claimed is not None
        await work.extractions.save(replace(claimed, status="failed", finished_at=sales.clock.now()))


async def test_a_replaced_version_stays_while_an_extraction_needs_it(sales: Versions) -> None:
    """It stays an hour for requests that are just being accepted, then while an unfinished extraction has pinned it."""
    first = await sales.upload(b"one")
    waiting = await queued(sales, first)
    second = await sales.upload(b"two")
    assert (await sales.keep_house()).dataset_versions == 0
    await sales.age()
    other = await queued(sales, second)
    assert (await sales.keep_house()).dataset_versions == 0
    assert await sales.content(await sales.get(1)) == b"one"
    await end(sales, waiting)
    assert (await sales.keep_house()).dataset_versions == 1
    with pytest.raises(DatasetNotFound):
        await sales.get(1)
    async with sales.database.store.begin() as work:
        again = await work.extractions.revive(waiting)
        with pytest.raises(DatasetNotFound, match="Version 1 of the dataset"):
            await read_pinned(work, sales.owner, again.request, "sales")
    assert sorted(await sales.files()) == sorted([second.artifact_key, second.original_key or ""])
    await end(sales, other)


@pytest.mark.parametrize("status", ["queued", "processing"])
async def test_only_its_own_version_is_kept_for_an_extraction(sales: Versions, status: str) -> None:
    """Versions between, and equal numbers of other owners' datasets, are no reason to keep one."""
    other = Versions(sales.database, sales.folder, StorageLimits())
    first = await sales.upload(b"one")
    await queued(sales, first, status=status)
    for content in (b"two", b"three"):
        await sales.upload(content)
    for content in (b"one", b"two"):
        await other.upload(content)
    await sales.age()
    await other.age()
    assert (await sales.keep_house()).dataset_versions == 2
    assert await sales.content(await sales.get(1)) == b"one"
    with pytest.raises(DatasetNotFound):
        await sales.get(2)


class Planning:
    """Planner, engine and observer of a run; keeps what dataset it was to plan for and goes no further."""

    def __init__(self) -> None:
        self.dataset: Dataset | None = None

    async def propose(self, request: Any) -> Any:
        """Keep the dataset."""
        self.dataset = request.dataset
        raise DependencyUnavailable("far enough")

    def stage(self, extraction_id: str, stage: str) -> Any:
        """No span."""
        return nullcontext()


async def test_a_queued_extraction_reads_the_version_it_was_accepted_for(sales: Versions) -> None:
    """Not the one that is current when its turn comes; an extraction of an older release has no pin and reads that."""
    first = await sales.upload(b"one")
    request = ExtractionRequest("sales", "spend")
    waiting, unpinned = await queued(sales, first, request=request), extraction(sales.owner, request=request)
    second = await sales.upload(b"two")
    planning: Any = Planning()
    pipeline = Pipeline(
        store=sales.database.store, planner=planning, compute=planning, measure=planning, observer=planning
    )
    async with sales.database.store.begin() as work:
        accepted = await work.extractions.get(sales.owner, waiting)
    assert accepted.request.dataset_version == 1
    for run, expected in ((accepted, first), (unpinned, second)):
        with pytest.raises(DependencyUnavailable, match="far enough"):
            await pipeline(run, lambda stage, share: None)
        assert planning.dataset == expected


async def test_a_dataset_that_was_uploaded_anew_is_not_the_pinned_one(sales: Versions) -> None:
    """Version 1 after a deletion is other data than version 1 before it."""
    request = pinned(extraction(sales.owner).request, await sales.upload(b"one"))
    await sales.datasets.remove(sales.owner, "sales")
    await sales.upload(b"two")
    async with sales.database.store.begin() as work:
        with pytest.raises(DatasetNotFound, match="deleted"):
            await read_pinned(work, sales.owner, request, "sales")


# The release before


OLD = "INSERT INTO datasets (owner, id, media_type, size_bytes, artifact_key, profile, created_at) VALUES "
OLD_INSERT = (
    OLD + "(%s, 'sales', 'text/csv', 3, 'datasets/old.parquet', '{}', now()) ON CONFLICT DO NOTHING RETURNING id"
)
OLD_DELETE = "DELETE FROM datasets WHERE owner = %s AND id = 'sales' RETURNING artifact_key"


async def test_the_release_before_works_on(database_url: str, tmp_path: Path) -> None:
    """It uploads beside this release and deletes what this one has versions of; their files go with the next sweep."""
    upgrade(make_url(database_url), {})
    database = open_at(database_url)
    sales = Versions(database, tmp_path, StorageLimits())
    assert rows(database_url, OLD_INSERT, sales.owner) == [("sales",)]
    sales.folder.joinpath("datasets").mkdir()
    sales.folder.joinpath("datasets/old.parquet").write_bytes(b"old")
    await sales.sql("""UPDATE datasets SET profile = '{"row_count": 1, "columns": [], "fingerprint": "f"}'""")
    old = await sales.get()
    assert (old.version, old.overrides, old.original_key, old.updated_at) == (1, NO_OVERRIDES, None, None)
    await sales.upload(b"new")
    assert await sales.get(1) == old
    assert rows(database_url, OLD_INSERT, sales.owner) == []
    await sales.reread(**ZONE)
    assert len(rows(database_url, OLD_DELETE, sales.owner)) == 1
    assert await sales.use() == StorageUse(0, 0)
    await sales.age()
    assert (await sales.keep_house()).artifacts == 4
    assert await sales.files() == {}
    await database.close()
    go(database_url, command.downgrade, "0007")


def test_a_merge_patch_does_what_the_standard_says() -> None:
    """Null removes, objects are merged, lists and values replace; what is left empty says nothing."""
    before = ReadOptions(columns={"a": ColumnOverride(type="text", null_words=("x", "y"))}, zone="UTC")
    cases: list[tuple[dict[str, Any], ReadOptions]] = [
        ({}, before),
        ({"zone": None}, replace(before, zone=None)),
        ({"columns": None}, ReadOptions(zone="UTC")),
        ({"columns": {"a": None, "none": None}}, ReadOptions(zone="UTC")),
        ({"columns": {"a": {}}}, before),
        ({"columns": {"b": {}}}, before),
        ({"columns": {"a": {"type": None, "null_words": None}}}, ReadOptions(zone="UTC")),
        (
            {"columns": {"a": {"null_words": ["z"]}, "b": {"role": "identifier"}}},
            replace(
                before,
                columns={"a": ColumnOverride(type="text", null_words=("z",)), "b": ColumnOverride(role="identifier")},
            ),
        ),
        (
            {"columns": {"a": {"null_words": []}}},
            replace(before, columns={"a": ColumnOverride(type="text", null_words=())}),
        ),
    ]
    for patch, after in cases:
        assert patched(before, patch) == after, patch
