"""Restore a backup: all of its rows in one transaction, after every file that they refer to."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sqlalchemy import delete, func, or_, select

from service.features.ports import Artifacts
from service.store.database import Database
from service.store.schema import knows
from service.store.tables import METADATA, dataset_versions, datasets, extractions
from service.store.upkeep import ARTIFACT_KEY
from tools.backup.manifest import (
    IN_PROGRESS,
    NO_LIMIT,
    BackupFailed,
    BackupRefused,
    FileEntry,
    HashingStream,
    Manifest,
    existing_tables,
    key_in_backup,
    map_in_batches,
    read_manifest,
)
from tools.backup.postgres_programs import ProgramFailed, ProgramsMissing, find_programs, libpq_environment, run

QUEUE_TABLES = ("events", "periodic_defers", "jobs", "workers")
DROP_ROUTINES = r"""
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname SIMILAR TO '(procrastinate|feature\_agent)\_%'
    LOOP EXECUTE format('DROP FUNCTION %s CASCADE', found.name); END LOOP;
    FOR found IN SELECT oid::regtype AS name FROM pg_type
        WHERE typnamespace = current_schema()::regnamespace AND typname LIKE 'procrastinate\_%' AND typelem = 0
    LOOP EXECUTE format('DROP TYPE %s CASCADE', found.name); END LOOP;
END $$;
"""
PSQL_OPTIONS = (
    "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--single-transaction",
    "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse",
)  # fmt: skip
DAMAGED = "The backup is damaged: {} is not what its manifest says. Nothing of the database was changed."


async def restore_backup(database: Database, artifacts: Artifacts, backup: Artifacts, *, replace: bool) -> Manifest:
    """Restore the files and the rows of a backup, then migrate an older schema to this release's.

    `replace` allows to replace the rows of a database that has some; they stay as they are until all of the backup's
    rows are loaded. Raises BackupRefused, BackupFailed, DependencyUnavailable.
    """
    manifest = await _read_restorable(backup)
    programs = await _find_programs(manifest)
    await database.reach()
    if not replace and (occupied := await _tables_with_rows(database)):
        raise BackupRefused(f"The database has rows ({', '.join(occupied)}): give --yes to replace them all.")
    async with database.upkeep.alone() as alone:
        if not alone:
            raise BackupFailed(IN_PROGRESS)
        async with _local_dump(backup, manifest.dump) as dump:
            await map_in_batches(manifest.artifacts, lambda entry: _restore_file(backup, artifacts, entry))
            await _load(database, programs, dump, manifest)
        await database.migrate()
        await _drop_deleted(database, manifest.deleted)
    return manifest


async def _read_restorable(backup: Artifacts) -> Manifest:
    manifest = await read_manifest(backup)
    if manifest is None:
        raise BackupRefused("There is no complete backup at that address.")
    if not knows(manifest.revision) and not knows(manifest.oldest_revision):
        raise BackupRefused(
            f"The backup was made by release {manifest.release}, whose schema {manifest.revision} this release does "
            "not know: restore it with that release or a newer one."
        )
    return manifest


async def _find_programs(manifest: Manifest) -> Path:
    try:
        return await asyncio.to_thread(find_programs, ["pg_restore", "psql"], major=manifest.server)
    except ProgramsMissing as missing:
        raise BackupRefused(str(missing)) from None


async def _tables_with_rows(database: Database) -> list[str]:
    async with database.store.begin() as work:
        tables = await work.connection.run_sync(existing_tables)
        return [
            name
            for name in tables
            if await work.connection.scalar(select(select(METADATA.tables[name]).exists()))
        ]  # fmt: skip


async def _restore_file(backup: Artifacts, artifacts: Artifacts, entry: FileEntry) -> None:
    try:
        await artifacts.put_stream(entry.key, _verified(backup, entry), limit=NO_LIMIT)
    except FileNotFoundError:
        raise BackupFailed(DAMAGED.format(entry.key)) from None


async def _verified(backup: Artifacts, entry: FileEntry) -> AsyncIterator[bytes]:
    """Stream a file of the backup. Raises before the end of one that has changed, so that nothing of it is kept."""
    stream = HashingStream(backup.stream(key_in_backup(entry.key)))
    async for chunk in stream:
        yield chunk
    if stream.entry(entry.key) != entry:
        raise BackupFailed(DAMAGED.format(entry.key))


@asynccontextmanager
async def _local_dump(backup: Artifacts, entry: FileEntry) -> AsyncGenerator[Path]:
    """Provide the dump as a local file, after checking that it has not changed."""
    async with AsyncExitStack() as stack:
        try:
            path = await stack.enter_async_context(backup.local(entry.key))
        except FileNotFoundError:
            raise BackupFailed(DAMAGED.format(entry.key)) from None
        await asyncio.to_thread(_require_unchanged, path, entry)
        yield path


def _require_unchanged(path: Path, entry: FileEntry) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (path.stat().st_size, digest) != (entry.size_bytes, entry.sha256):
        raise BackupFailed(DAMAGED.format(entry.key))


async def _load(database: Database, programs: Path, dump: Path, manifest: Manifest) -> None:
    environment = libpq_environment(database.driver_arguments(session=""))
    with tempfile.TemporaryDirectory(prefix="restore-") as folder:
        drop, script, count = (Path(folder) / name for name in ("drop.sql", "rows.sql", "count.sql"))
        drop.write_text(_drop_script(), encoding="utf-8")
        count.write_text(_count_script(manifest), encoding="utf-8")
        try:
            options = [f"--file={script}", "--no-owner", "--no-privileges", str(dump)]
            await run(programs / "pg_restore", options, environment)
            files = [f"--file={file}" for file in (drop, script, count)]
            printed = await run(programs / "psql", [*PSQL_OPTIONS, *files], environment)
        except ProgramFailed as failed:
            raise BackupFailed(f"The database is as it was: {failed}") from None
    _require_row_counts(printed.splitlines(), manifest)


def _drop_script() -> str:
    tables = [*METADATA.tables, "alembic_version", *(f"procrastinate_{name}" for name in QUEUE_TABLES)]
    return f"DROP TABLE IF EXISTS {', '.join(tables)} CASCADE;{DROP_ROUTINES}"


def _count_script(manifest: Manifest) -> str:
    """Write statements that count the rows of each table; a dump leaves the session without a search path."""
    names = [name for name in METADATA.tables if name in manifest.rows]
    counts = [f"SELECT 'rows', '{name}', count(*) FROM {name};" for name in names]  # noqa: S608 -- the code's own names
    return "".join(["RESET search_path;", *counts])


def _require_row_counts(lines: Sequence[str], manifest: Manifest) -> None:
    printed = [line.split("|") for line in lines if line.startswith("rows|")]
    found = {name: int(count) for _, name, count in printed}
    expected = {name: count for name, count in manifest.rows.items() if name in METADATA.tables}
    if found != expected:
        wrong = ", ".join(sorted(name for name in expected if expected[name] != found.get(name)))
        raise BackupFailed(f"The database does not have as many rows as its backup: {wrong}.")


async def _drop_deleted(database: Database, deleted: Sequence[str]) -> None:
    """Drop the rows that were deleted while the backup was made: their files are not in it.

    Nothing but a deletion removes files while a backup is made, so a dataset that lacks any of its files was deleted.
    """
    async with database.store.begin() as work:
        for key in deleted:
            for table in (datasets, dataset_versions):
                await work.connection.execute(
                    delete(table).where(or_(table.c.artifact_key == key, table.c.original_key == key))
                )
            await work.connection.execute(delete(extractions).where(func.coalesce(ARTIFACT_KEY, "") == key))
