"""Bringing a backup back: all of its rows in one transaction, after every file that they refer to."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sqlalchemy import delete, func, select

from service.features.ports import Artifacts
from service.store.backup import (
    ENDLESS,
    OTHERS_AT_IT,
    BackupFailed,
    BackupRefused,
    Copy,
    Digest,
    Manifest,
    copied_key,
    each,
    present_tables,
    read_manifest,
)
from service.store.database import Database
from service.store.programs import ProgramFailed, ProgramsMissing, connection_environment, find_programs, run
from service.store.schema import knows
from service.store.tables import METADATA, datasets, extractions
from service.store.upkeep import ARTIFACT_KEY

QUEUE_TABLES = ("events", "periodic_defers", "jobs", "workers")
DROP_QUEUE = r"""
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'procrastinate\_%'
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


async def restore(database: Database, artifacts: Artifacts, backup: Artifacts, *, replace: bool) -> Manifest:
    """Bring the backup's files and rows back, and an older schema to this release's.

    With `replace` the database's rows give way; it is as it was before until all of the backup's are there. Raises
    BackupRefused, BackupFailed, DependencyUnavailable.
    """
    manifest = await _usable(backup)
    programs = await _programs(manifest)
    await database.reach()
    if not replace and (full := await _full_tables(database)):
        raise BackupRefused(f"The database has rows ({', '.join(full)}): give --yes to replace them all.")
    async with database.upkeep.alone() as alone:
        if not alone:
            raise BackupFailed(OTHERS_AT_IT)
        async with _dump(backup, manifest.dump) as dump:
            await each(manifest.artifacts, lambda copy: _brought_back(backup, artifacts, copy))
            await _load(database, programs, dump, manifest)
        await database.migrate()
        await _forget(database, manifest.deleted)
    return manifest


async def _usable(backup: Artifacts) -> Manifest:
    manifest = await read_manifest(backup)
    if manifest is None:
        raise BackupRefused("There is no complete backup at that address.")
    if not knows(manifest.revision) and not knows(manifest.oldest_revision):
        raise BackupRefused(
            f"The backup was made by release {manifest.release}, whose schema {manifest.revision} this release does "
            "not know: restore it with that release or a newer one."
        )
    return manifest


async def _programs(manifest: Manifest) -> Path:
    try:
        return await asyncio.to_thread(find_programs, ["pg_restore", "psql"], major=manifest.server)
    except ProgramsMissing as missing:
        raise BackupRefused(str(missing)) from None


async def _full_tables(database: Database) -> list[str]:
    async with database.store.begin() as work:
        tables = await work.connection.run_sync(present_tables)
        return [
            name
            for name in tables
            if await work.connection.scalar(select(select(METADATA.tables[name]).exists()))
        ]  # fmt: skip


async def _brought_back(backup: Artifacts, artifacts: Artifacts, copy: Copy) -> None:
    try:
        await artifacts.put_stream(copy.key, _verified(backup, copy), limit=ENDLESS)
    except FileNotFoundError:
        raise BackupFailed(DAMAGED.format(copy.key)) from None


async def _verified(backup: Artifacts, copy: Copy) -> AsyncIterator[bytes]:
    """The copy's bytes; raises before the end of a stream that is not what it was, so that nothing of it is kept."""
    read = Digest(backup.stream(copied_key(copy.key)))
    async for chunk in read:
        yield chunk
    if read.copy(copy.key) != copy:
        raise BackupFailed(DAMAGED.format(copy.key))


@asynccontextmanager
async def _dump(backup: Artifacts, copy: Copy) -> AsyncGenerator[Path]:
    """The dump as a local file that is what it was."""
    async with AsyncExitStack() as stack:
        try:
            path = await stack.enter_async_context(backup.local(copy.key))
        except FileNotFoundError:
            raise BackupFailed(DAMAGED.format(copy.key)) from None
        await asyncio.to_thread(_require_same, path, copy)
        yield path


def _require_same(path: Path, copy: Copy) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (path.stat().st_size, digest) != (copy.size_bytes, copy.sha256):
        raise BackupFailed(DAMAGED.format(copy.key))


async def _load(database: Database, programs: Path, dump: Path, manifest: Manifest) -> None:
    environment = connection_environment(database.driver_arguments(session=""))
    with tempfile.TemporaryDirectory(prefix="restore-") as folder:
        drop, script, count = (Path(folder) / name for name in ("drop.sql", "rows.sql", "count.sql"))
        drop.write_text(_drop(), encoding="utf-8")
        count.write_text(_count(manifest), encoding="utf-8")
        try:
            written = [f"--file={script}", "--no-owner", "--no-privileges", str(dump)]
            await run(programs / "pg_restore", written, environment)
            files = [f"--file={file}" for file in (drop, script, count)]
            told = await run(programs / "psql", [*PSQL_OPTIONS, *files], environment)
        except ProgramFailed as failed:
            raise BackupFailed(f"The database is as it was: {failed}") from None
    _require_counts(told.splitlines(), manifest)


def _drop() -> str:
    tables = [*METADATA.tables, "alembic_version", *(f"procrastinate_{name}" for name in QUEUE_TABLES)]
    return f"DROP TABLE IF EXISTS {', '.join(tables)} CASCADE;{DROP_QUEUE}"


def _count(manifest: Manifest) -> str:
    """Statements that tell each table's rows; a dump leaves the session without a search path."""
    names = [name for name in METADATA.tables if name in manifest.rows]
    counts = [f"SELECT 'rows', '{name}', count(*) FROM {name};" for name in names]  # noqa: S608 -- the code's own names
    return "".join(["RESET search_path;", *counts])


def _require_counts(lines: Sequence[str], manifest: Manifest) -> None:
    told = [line.split("|") for line in lines if line.startswith("rows|")]
    found = {name: int(count) for _, name, count in told}
    known = {name: count for name, count in manifest.rows.items() if name in METADATA.tables}
    if found != known:
        wrong = ", ".join(sorted(name for name in known if known[name] != found.get(name)))
        raise BackupFailed(f"The database does not have as many rows as its backup: {wrong}.")


async def _forget(database: Database, deleted: Sequence[str]) -> None:
    """Drop the rows that were deleted while the backup was made: what they refer to is not in it."""
    async with database.store.begin() as work:
        for key in deleted:
            await work.connection.execute(delete(datasets).where(datasets.c.artifact_key == key))
            await work.connection.execute(delete(extractions).where(func.coalesce(ARTIFACT_KEY, "") == key))
