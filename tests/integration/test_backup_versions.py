"""Backups while datasets are replaced, read anew and deleted: each comes back whole, or not at all."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service import __version__
from service.features.errors import DatasetNotFound, OriginalMissing
from service.features.model import StorageLimits
from service.store.artifacts import FolderArtifacts, open_artifacts
from tests.integration.test_backup import Eventful
from tests.integration.test_dataset_versions import ZONE, Versions
from tests.integration.test_store import NOON, open_at
from tools.backup.create import create_backup
from tools.backup.manifest import Manifest
from tools.backup.restore import restore_backup


@pytest.fixture
async def sales(new_database: Callable[[], str], tmp_path: Path) -> Versions:
    """A principal with a dataset of three versions, two of the same original."""
    database = open_at(new_database(), pool_size=8)
    await database.migrate()
    sales = Versions(database, tmp_path / "here", StorageLimits())
    await sales.upload(b"one")
    await sales.upload(b"two22")
    await sales.reread(**ZONE)
    return sales


async def restored(
    sales: Versions, new_database: Callable[[], str], tmp_path: Path, meanwhile: Callable[[], Awaitable[object]]
) -> tuple[Versions, Manifest]:
    """Back up, with something that happens before the first file is copied, and restore elsewhere."""
    first = asyncio.Lock()
    happened = False

    async def happening(_: str) -> None:
        nonlocal happened
        async with first:
            if not happened:
                await meanwhile()
            happened = True

    backup = open_artifacts(str(tmp_path / "backup"))
    manifest = await create_backup(
        sales.database, Eventful(sales.folder, happening), backup, release=__version__, now=NOON
    )
    there = Versions(open_at(new_database(), pool_size=8), tmp_path / "there", StorageLimits())
    there.owner = sales.owner
    await restore_backup(there.database, FolderArtifacts(there.folder), backup, replace=False)
    return there, manifest


async def nothing() -> None:
    """Change nothing."""


async def test_every_version_and_original_comes_back(
    sales: Versions, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """Rows, bytes that are counted and files are as they were, and the original can be read anew."""
    there, manifest = await restored(sales, new_database, tmp_path, nothing)

    assert (manifest.rows["datasets"], manifest.rows["dataset_versions"]) == (1, 2)
    assert (manifest.deleted, manifest.missing) == ((), ())
    assert await there.files() == await sales.files()
    assert await there.use() == await sales.use()
    for version in (1, 2, 3):
        assert await there.get(version) == await sales.get(version)
    assert (await there.reread(zone=None)).version == 4
    await sales.database.close()
    await there.database.close()


async def test_what_is_replaced_meanwhile_comes_back_as_it_was(
    sales: Versions, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """A dataset that gets its next version while its files are copied is in the backup with the one of before."""
    there, manifest = await restored(sales, new_database, tmp_path, lambda: sales.upload(b"three"))

    assert (manifest.deleted, manifest.missing) == ((), ())
    assert (await sales.get()).version == 4
    assert await there.get() == await sales.get(3)
    assert await there.content(await there.get()) == b"two22"
    await sales.database.close()
    await there.database.close()


async def test_what_is_deleted_meanwhile_stays_deleted(
    sales: Versions, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """No version of a dataset that is deleted while its files are copied comes back without its files."""
    there, manifest = await restored(sales, new_database, tmp_path, lambda: sales.datasets.remove(sales.owner, "sales"))

    assert manifest.deleted
    for version in (None, 1, 2, 3):
        with pytest.raises(DatasetNotFound):
            await there.get(version)
    assert (await there.use()).stored_bytes == 0
    await sales.database.close()
    await there.database.close()


async def test_an_original_that_was_lost_does_not_cost_the_dataset(
    sales: Versions, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """The manifest names it, the dataset comes back and is read, and reading anew says what to do."""
    shutil.rmtree(sales.folder / "originals")
    there, manifest = await restored(sales, new_database, tmp_path, nothing)

    assert manifest.deleted == ()
    assert len(manifest.missing) == 2
    assert await there.content(await there.get()) == b"two22"
    with pytest.raises(OriginalMissing):
        await there.reread(zone=None)
    await sales.database.close()
    await there.database.close()
