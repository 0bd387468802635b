"""Backups: the rows as they are at one instant, and every file that they refer to.

A backup is `database.dump` (PostgreSQL's custom format), `artifacts/…`, and last of all `manifest.json`: without it the
backup is not complete. The secrets that sign tokens are not in it, nor is a model's key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, func, inspect, select, text, union
from sqlalchemy.ext.asyncio import AsyncConnection

from service.features.ports import Artifacts
from service.store.database import Database
from service.store.programs import ProgramFailed, ProgramsMissing, connection_environment, find_programs, output
from service.store.revision import current_revision, oldest_revision
from service.store.tables import METADATA, datasets, schema_compatibility
from service.store.upkeep import ARTIFACT_KEY

T = TypeVar("T")
R = TypeVar("R")

FORMAT = 1
MANIFEST = "manifest.json"
DUMP = "database.dump"
COPIES_AT_ONCE = 8
ENDLESS = 2**63
"""No limit of bytes."""
DUMP_OPTIONS = ("--format=custom", "--no-owner", "--no-privileges")
OTHERS_AT_IT = "Another backup, restore or clean-up is under way: try again when it is done."


class BackupRefused(Exception):
    """It cannot be done as asked; the message says what to do."""


class BackupFailed(Exception):
    """It was tried and did not come to a good end; the message is for the operator."""


class Copy(Struct, frozen=True):
    """One file of a backup."""

    key: str
    size_bytes: int
    sha256: str


class Manifest(Struct, frozen=True):
    """What a backup holds."""

    format: int
    release: str
    revision: str
    """Of the schema."""
    server: int
    """PostgreSQL's major version."""
    created_at: datetime
    """The instant at which the rows were as they are in it, by the clock of whoever made it."""
    rows: dict[str, int]
    """Table → its rows."""
    dump: Copy
    artifacts: tuple[Copy, ...]
    deleted: tuple[str, ...] = ()
    """Artifacts that were deleted with their rows while the backup was made: a restore drops these rows."""
    missing: tuple[str, ...] = ()
    """Artifacts that rows refer to and that are not there: the service had lost them before."""
    oldest_revision: str | None = None
    """The oldest revision whose code works on the schema; None in a backup whose database does not say."""


class Digest:
    """Passes a stream on, counting and hashing it."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self._hash.update(chunk)
            self._size += len(chunk)
            yield chunk

    def copy(self, key: str) -> Copy:
        """What has come past, as a file of that key."""
        return Copy(key, self._size, self._hash.hexdigest())


class _Rows(Struct, frozen=True):
    """What the dump's transaction saw."""

    revision: str
    oldest_revision: str | None
    server: int
    counts: dict[str, int]
    keys: tuple[str, ...]
    dump: Copy


async def back_up(
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
            raise BackupFailed(OTHERS_AT_IT)
        rows = await _dumped(database, target)
        copies = await each(rows.keys, lambda key: _copied(artifacts, target, key))
    gone = [key for key, copy in zip(rows.keys, copies, strict=True) if copy is None]
    missing = await database.upkeep.in_use(gone)
    manifest = Manifest(
        format=FORMAT,
        release=release,
        revision=rows.revision,
        server=rows.server,
        created_at=now,
        rows=rows.counts,
        dump=rows.dump,
        artifacts=tuple(copy for copy in copies if copy is not None),
        deleted=tuple(key for key in gone if key not in missing),
        missing=tuple(sorted(missing)),
        oldest_revision=rows.oldest_revision,
    )
    await target.put_stream(MANIFEST, _once(msgspec.json.encode(manifest)), limit=ENDLESS)
    return manifest


async def read_manifest(backup: Artifacts) -> Manifest | None:
    """The manifest, or None where there is no complete backup. Raises BackupRefused for one that cannot be read."""
    try:
        content = b"".join([chunk async for chunk in backup.stream(MANIFEST)])
        manifest = msgspec.json.decode(content, type=Manifest)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        raise BackupRefused("The backup's manifest cannot be read.") from None
    if manifest.format != FORMAT:
        raise BackupRefused(f"The backup has format {manifest.format}, and this release reads {FORMAT}.")
    return manifest


async def each(items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """The work's results, a few at once. Raises what the first that failed raised, when all begun have ended."""
    results: list[R] = []
    for first in range(0, len(items), COPIES_AT_ONCE):
        batch = items[first : first + COPIES_AT_ONCE]
        for outcome in await asyncio.gather(*(work(item) for item in batch), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
    return results


def copied_key(key: str) -> str:
    """Where a backup keeps an artifact."""
    return f"artifacts/{key}"


async def _dumped(database: Database, target: Artifacts) -> _Rows:
    async with database.snapshot() as connection:
        snapshot = str(await connection.scalar(select(func.pg_export_snapshot())))
        revision = await connection.run_sync(current_revision)
        if revision is None:
            raise BackupRefused("The database is empty: there is nothing to back up.")
        oldest = await connection.run_sync(oldest_revision)
        server = int(str(await connection.scalar(text("SHOW server_version_num")))) // 10_000
        counts = await _counts(connection)
        keys = await _keys(connection)
        dump = await _dump(database, target, server, snapshot)
    return _Rows(revision, oldest, server, counts, keys, dump)


async def _dump(database: Database, target: Artifacts, server: int, snapshot: str) -> Copy:
    environment = connection_environment(database.driver_arguments(session=""))
    try:
        folder = await asyncio.to_thread(find_programs, ["pg_dump"], major=server)
        arguments = [*DUMP_OPTIONS, f"--snapshot={snapshot}"]
        async with aclosing(output(folder / "pg_dump", arguments, environment)) as chunks:
            printed = Digest(chunks)
            await target.put_stream(DUMP, aiter(printed), limit=ENDLESS)
    except ProgramsMissing as missing:
        raise BackupRefused(str(missing)) from None
    except ProgramFailed as failed:
        raise BackupFailed(str(failed)) from None
    return printed.copy(DUMP)


async def _counts(connection: AsyncConnection) -> dict[str, int]:
    tables = await connection.run_sync(present_tables)
    counted = {name: select(func.count()).select_from(METADATA.tables[name]) for name in tables}
    return {name: int(await connection.scalar(statement) or 0) for name, statement in counted.items()}


def present_tables(connection: Connection) -> tuple[str, ...]:
    """The tables of what users keep that the database has, which an older revision has fewer of."""
    kept = METADATA.tables.keys() - {schema_compatibility.name}
    return tuple(sorted(kept & set(inspect(connection).get_table_names())))


async def _keys(connection: AsyncConnection) -> tuple[str, ...]:
    keys = union(select(ARTIFACT_KEY.label("key")), select(datasets.c.artifact_key)).subquery()
    found = await connection.scalars(select(keys.c.key).where(keys.c.key.is_not(None)).order_by(keys.c.key))
    return tuple(found)


async def _copied(artifacts: Artifacts, target: Artifacts, key: str) -> Copy | None:
    """The copy; None when the artifact is gone."""
    read = Digest(artifacts.stream(key))
    try:
        await target.put_stream(copied_key(key), aiter(read), limit=ENDLESS)
    except FileNotFoundError:
        return None
    return read.copy(key)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
