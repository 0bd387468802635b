"""Create a backup: the rows of one snapshot of the database, and every file that they refer to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime

from msgspec import Struct
from sqlalchemy import func, select, text, union
from sqlalchemy.ext.asyncio import AsyncConnection

from service.features.ports import Artifacts
from service.store.database import Database
from service.store.revision import current_revision, oldest_revision
from service.store.tables import METADATA, dataset_versions, datasets
from service.store.upkeep import ARTIFACT_KEY, FILES_OF_DATASETS
from tools.backup.manifest import (
    DUMP,
    FORMAT,
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
    write_manifest,
)
from tools.backup.postgres_programs import ProgramFailed, ProgramsMissing, find_programs, libpq_environment, output

DUMP_OPTIONS = ("--format=custom", "--no-owner", "--no-privileges")


class _Snapshot(Struct, frozen=True):
    """What the transaction of the dump saw."""

    revision: str
    oldest_revision: str | None
    server: int
    row_counts: dict[str, int]
    artifact_keys: tuple[str, ...]
    dump: FileEntry


async def create_backup(
    database: Database, artifacts: Artifacts, target: Artifacts, *, release: str, now: datetime
) -> Manifest:
    """Write a backup to `target`, which has none yet, while the service runs.

    Raises BackupRefused, BackupFailed, DependencyUnavailable.
    """
    if await read_manifest(target) is not None:
        raise BackupRefused("There is a backup already: choose another place for this one.")
    await database.reach()
    async with database.upkeep.alone() as alone:
        if not alone:
            raise BackupFailed(IN_PROGRESS)
        snapshot = await _dump_snapshot(database, target)
        copies = await map_in_batches(snapshot.artifact_keys, lambda key: _copy(artifacts, target, key))
    absent = [key for key, copy in zip(snapshot.artifact_keys, copies, strict=True) if copy is None]
    missing = await _still_referred_to(database, absent)
    manifest = Manifest(
        format=FORMAT,
        release=release,
        revision=snapshot.revision,
        server=snapshot.server,
        created_at=now,
        rows=snapshot.row_counts,
        dump=snapshot.dump,
        artifacts=tuple(copy for copy in copies if copy is not None),
        deleted=tuple(key for key in absent if key not in missing),
        missing=tuple(sorted(missing)),
        oldest_revision=snapshot.oldest_revision,
    )
    await write_manifest(target, manifest)
    return manifest


async def _dump_snapshot(database: Database, target: Artifacts) -> _Snapshot:
    """Dump the rows of one transaction, and read in it what they refer to."""
    async with database.snapshot() as connection:
        snapshot_id = str(await connection.scalar(select(func.pg_export_snapshot())))
        revision = await connection.run_sync(current_revision)
        if revision is None:
            raise BackupRefused("The database is empty: there is nothing to back up.")
        oldest = await connection.run_sync(oldest_revision)
        server = int(str(await connection.scalar(text("SHOW server_version_num")))) // 10_000
        row_counts = await _count_rows(connection)
        artifact_keys = await _artifact_keys(connection)
        dump = await _dump(database, target, server, snapshot_id)
    return _Snapshot(revision, oldest, server, row_counts, artifact_keys, dump)


async def _dump(database: Database, target: Artifacts, server: int, snapshot_id: str) -> FileEntry:
    environment = libpq_environment(database.driver_arguments(session=""))
    try:
        folder = await asyncio.to_thread(find_programs, ["pg_dump"], major=server)
        arguments = [*DUMP_OPTIONS, f"--snapshot={snapshot_id}"]
        async with aclosing(output(folder / "pg_dump", arguments, environment)) as chunks:
            stream = HashingStream(chunks)
            await target.put_stream(DUMP, aiter(stream), limit=NO_LIMIT)
    except ProgramsMissing as missing:
        raise BackupRefused(str(missing)) from None
    except ProgramFailed as failed:
        raise BackupFailed(str(failed)) from None
    return stream.entry(DUMP)


async def _count_rows(connection: AsyncConnection) -> dict[str, int]:
    tables = await connection.run_sync(existing_tables)
    counts = {name: select(func.count()).select_from(METADATA.tables[name]) for name in tables}
    return {name: int(await connection.scalar(statement) or 0) for name, statement in counts.items()}


async def _artifact_keys(connection: AsyncConnection) -> tuple[str, ...]:
    """List what rows refer to; the schema may be an older one, without versions of datasets."""
    versioned = dataset_versions.name in await connection.run_sync(existing_tables)
    files = FILES_OF_DATASETS if versioned else (datasets.c.artifact_key,)
    keys = union(select(ARTIFACT_KEY.label("key")), *map(select, files)).subquery()
    found = await connection.scalars(select(keys.c.key).where(keys.c.key.is_not(None)).order_by(keys.c.key))
    return tuple(found)


async def _still_referred_to(database: Database, absent: Sequence[str]) -> frozenset[str]:
    """Return those of the absent artifacts whose rows are still there."""
    if not absent:
        return frozenset()
    async with database.snapshot() as connection:
        return frozenset(await _artifact_keys(connection)).intersection(absent)


async def _copy(artifacts: Artifacts, target: Artifacts, key: str) -> FileEntry | None:
    """Copy an artifact into the backup; None when it is not there."""
    stream = HashingStream(artifacts.stream(key))
    try:
        await target.put_stream(key_in_backup(key), aiter(stream), limit=NO_LIMIT)
    except FileNotFoundError:
        return None
    return stream.entry(key)
