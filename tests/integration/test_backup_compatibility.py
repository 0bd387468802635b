"""Backups of a schema that a newer release has migrated, and what a restored database says of the code it serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command

from service import __version__
from service.store.artifacts import open_artifacts
from service.store.revision import REVISION
from tests.integration.test_migrations import INSERT_OF_0001, go, head, rows
from tests.integration.test_schema_compatibility import NEWER, OLDEST, change, newer, upgraded
from tests.integration.test_store import NOON, open_at
from tools.backup.create import create_backup
from tools.backup.manifest import BackupRefused, read_manifest
from tools.backup.restore import restore_backup


async def test_a_backup_carries_the_row(new_database: Callable[[], str], tmp_path: Path) -> None:
    """A backup of a newer schema made and restored by the older release that still works on it is usable by both."""
    here, there = new_database(), new_database()
    await upgraded(here, newer(tmp_path))
    rows(here, INSERT_OF_0001, "kept", "failed")
    backup, artifacts = open_artifacts(str(tmp_path / "backup")), open_artifacts(str(tmp_path / "artifacts"))
    source, target = open_at(here), open_at(there)
    manifest = await create_backup(source, artifacts, backup, release=__version__, now=NOON)
    assert (manifest.revision, manifest.oldest_revision) == (NEWER, REVISION)
    assert "schema_compatibility" not in manifest.rows
    await restore_backup(target, artifacts, backup, replace=False)
    assert await target.schema_state() == "newer"
    async with target.store.begin() as work:
        assert (await work.extractions.get("ada", "kept")).status == "failed"
    await source.close()
    await target.close()
    assert rows(there, OLDEST) == [(REVISION,)]


async def test_a_backup_of_a_schema_that_does_not_serve_is_refused(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    """A backup whose database needs newer code than this release's is refused before anything is touched."""
    here, there = new_database(), new_database()
    await upgraded(here, newer(tmp_path, NEWER))
    backup, artifacts = open_artifacts(str(tmp_path / "backup")), open_artifacts(str(tmp_path / "artifacts"))
    source, target = open_at(here), open_at(there)
    await create_backup(source, artifacts, backup, release="9.0.0", now=NOON)
    with pytest.raises(BackupRefused, match="does not know"):
        await restore_backup(target, artifacts, backup, replace=False)
    assert await target.revision() is None
    await source.close()
    await target.close()


@pytest.mark.parametrize("start", ["0005", "0006"])
async def test_a_restored_older_backup_says_what_the_migrated_schema_says(
    new_database: Callable[[], str], tmp_path: Path, start: str
) -> None:
    """A backup with or without the row, restored over a database that has one, ends with this release's."""
    here, there = new_database(), new_database()
    go(here, command.upgrade, start)
    backup, artifacts = open_artifacts(str(tmp_path / "backup")), open_artifacts(str(tmp_path / "artifacts"))
    source, target = open_at(here), open_at(there)
    await target.migrate()
    change(there, "UPDATE schema_compatibility SET oldest_revision = '0005'")
    await create_backup(source, artifacts, backup, release=__version__, now=NOON)
    made = await read_manifest(backup)
    assert made is not None
    assert made.oldest_revision == ("0006" if start == "0006" else None)
    await restore_backup(target, artifacts, backup, replace=False)
    assert await target.revision() == head()
    await source.close()
    await target.close()
    assert rows(there, OLDEST) == [("0006",)]
