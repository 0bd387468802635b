from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.extractions import retention as module
from service.extractions.retention import Housekeeping, Removed
from service.features.errors import DependencyUnavailable
from service.features.ports import Artifacts
from service.features.stores import Purged
from service.store.artifacts import ObjectArtifacts, open_artifacts
from tests.doubles import FixedClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Rows:
    """Rows in memory: extractions as artifact key → end, and the keys that other rows refer to."""

    def __init__(self) -> None:
        self.ended: dict[str, datetime] = {}
        self.others: set[str] = set()
        self.replaced: dict[str, datetime] = {}
        self.keys = 3
        self.taken = False
        self.clock = NOW + DAY
        self.batches: list[int] = []
        self.asked: list[int] = []
        self.sizes: dict[str, int] = {}

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """True unless somebody else is at it."""
        yield not self.taken

    async def now(self) -> datetime:
        """The database's clock."""
        return self.clock

    async def purge_extractions(self, before: datetime, *, limit: int) -> Purged:
        """Oldest first."""
        old = sorted((end, key) for key, end in self.ended.items() if end < before)[:limit]
        for _, key in old:
            del self.ended[key]
        self.batches.append(len(old))
        return Purged(len(old), tuple(key for _, key in old if not key.startswith("none")))

    async def purge_dataset_versions(self, before: datetime, *, limit: int) -> Purged:
        """Those that were replaced before."""
        old = [key for key, at in self.replaced.items() if at < before][:limit]
        for key in old:
            del self.replaced[key]
        return Purged(len(old), tuple(old))

    async def purge_idempotency_keys(self, now: datetime) -> int:
        """All of them."""
        assert now == min(NOW, self.clock)
        keys, self.keys = self.keys, 0
        return keys

    async def record_sizes(self, sizes: Mapping[str, int]) -> int:
        """Keep them."""
        self.sizes |= sizes
        return len(sizes)

    async def in_use(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of rows."""
        self.asked.append(len(keys))
        return frozenset(keys) & (self.others | set(self.ended) | set(self.replaced))


class Failing(ObjectArtifacts):
    """A store that is unavailable as soon as something is to be removed."""

    async def delete(self, key: str) -> None:
        """Fail."""
        raise DependencyUnavailable("away")


@pytest.fixture
def rows() -> Rows:
    """No rows yet."""
    return Rows()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where artifacts go."""
    return tmp_path / "artifacts"


@pytest.fixture
def artifacts(folder: Path) -> Artifacts:
    """An empty artifact store."""
    return open_artifacts(str(folder))


def store(folder: Path, *keys: str, age: timedelta = DAY) -> None:
    """Put files of an age into the store."""
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, ((NOW - age).timestamp(),) * 2)


def files(folder: Path) -> set[str]:
    """All files of the store."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def housekeeping(rows: Rows, artifacts: Artifacts, days: int = 30) -> Housekeeping:
    """The use case on these rows and files."""
    return Housekeeping(upkeep=rows, artifacts=artifacts, clock=FixedClock(NOW), days=days)


async def test_old_extractions_go_with_their_tables(
    rows: Rows, artifacts: Artifacts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended before the last thirty days goes with its file, batch by batch; what ended within them stays."""
    monkeypatch.setattr(module, "BATCH", 2)
    rows.ended = {f"features/{age}/1.parquet": NOW - age * DAY for age in (0, 29, 31, 32, 99)}
    rows.ended |= {"none-33": NOW - 33 * DAY, "features/30/1.parquet": NOW - 30 * DAY}
    store(folder, *(key for key in rows.ended if not key.startswith("none")))
    assert await housekeeping(rows, artifacts)() == Removed(4, 3, 0)
    kept = {f"features/{age}/1.parquet" for age in (0, 29, 30)}
    assert (set(rows.ended), files(folder)) == (kept, kept)
    assert rows.batches == [2, 2, 0]
    assert await housekeeping(rows, artifacts)() == Removed()


async def test_replaced_versions_go_after_an_hour(rows: Rows, artifacts: Artifacts, folder: Path) -> None:
    """A version of a dataset goes with its file once it was replaced an hour ago, also where extractions are kept."""
    rows.replaced = {f"versions/{age}.parquet": NOW - timedelta(minutes=age) for age in (0, 60, 61, 99)}
    store(folder, *rows.replaced)
    assert await housekeeping(rows, artifacts, days=0)() == Removed(0, 3, 0, 2)
    kept = {f"versions/{age}.parquet" for age in (0, 60)}
    assert (set(rows.replaced), files(folder)) == (kept, kept)


async def test_zero_days_keep_everything(rows: Rows, artifacts: Artifacts, folder: Path) -> None:
    """Without a retention nothing that ended is deleted; idempotency keys and orphans go all the same."""
    rows.ended = {"features/a/1.parquet": NOW - 9999 * DAY}
    store(folder, "features/a/1.parquet", "features/b/1.parquet")
    assert await housekeeping(rows, artifacts, days=0)() == Removed(0, 3, 1)
    assert rows.batches == []
    assert files(folder) == {"features/a/1.parquet"}


async def test_file_without_a_row_goes_after_an_hour(rows: Rows, artifacts: Artifacts, folder: Path) -> None:
    """Old files below the swept prefixes that no row refers to go; young ones, used ones and all others stay."""
    rows.ended = {"features/used/2.parquet": NOW}
    rows.others = {"datasets/used.parquet"}
    stay = {"features/used/2.parquet", "datasets/used.parquet", "health/ping", "other"}
    store(folder, *stay, "features/used/1.parquet", "features/gone/1.parquet", "datasets/gone.parquet", "uploads/gone")
    store(folder, "versions/gone.parquet", "originals/gone")
    store(folder, "uploads/young", "datasets/young.parquet", "features/young/1.parquet", age=timedelta(minutes=59))
    store(folder, "uploads/half#1")
    assert await housekeeping(rows, artifacts)() == Removed(0, 3, 7)
    young = {"uploads/young", "datasets/young.parquet", "features/young/1.parquet"}
    assert files(folder) == stay | young


async def test_rows_go_before_files(rows: Rows, artifacts: Artifacts, folder: Path) -> None:
    """When files cannot be removed, no row refers to one that is gone, and the next sweep finds what was left."""
    rows.ended = {"features/a/1.parquet": NOW - 31 * DAY}
    store(folder, "features/a/1.parquet")
    with pytest.raises(DependencyUnavailable):
        await housekeeping(rows, Failing(artifacts._store))()  # type: ignore[attr-defined]
    assert (rows.ended, files(folder)) == ({}, {"features/a/1.parquet"})
    assert await housekeeping(rows, artifacts)() == Removed(0, 0, 1)
    assert files(folder) == set()


async def test_clock_that_runs_ahead_deletes_nothing(rows: Rows, artifacts: Artifacts, folder: Path) -> None:
    """What is old by this process's clock alone, or by the database's alone, is kept."""
    rows.ended = {"features/a/1.parquet": NOW - 31 * DAY}
    rows.others = {"features/a/1.parquet"}
    rows.clock = NOW - 2 * DAY
    store(folder, "features/a/1.parquet", "uploads/orphan", age=timedelta(hours=2))
    kept = {"features/a/1.parquet", "uploads/orphan"}
    assert await housekeeping(rows, artifacts)() == Removed(0, 3, 0)
    assert files(folder) == kept
    rows.clock = NOW + 99 * DAY
    rows.ended = {"features/a/1.parquet": NOW - 29 * DAY}
    assert await housekeeping(rows, artifacts)() == Removed(0, 0, 1)
    assert files(folder) == kept - {"uploads/orphan"}


async def test_one_process_at_a_time(rows: Rows, artifacts: Artifacts, folder: Path) -> None:
    """While another process cleans up this one does nothing, and says so."""
    rows.taken, rows.ended = True, {"features/a/1.parquet": NOW - 31 * DAY}
    store(folder, "features/a/1.parquet", "uploads/orphan")
    assert await housekeeping(rows, artifacts)() is None
    assert (rows.keys, files(folder)) == (3, {"features/a/1.parquet", "uploads/orphan"})


async def test_rows_are_asked_of_a_thousand_files_at_once(rows: Rows, artifacts: Artifacts, folder: Path) -> None:
    """However many files there are, no more than a page of them is in hand."""
    store(folder, *(f"uploads/{number}" for number in range(2_500)))
    assert await housekeeping(rows, artifacts)() == Removed(0, 3, 2_500)
    assert sorted(rows.asked) == [500, 1_000, 1_000]
    assert files(folder) == set()
