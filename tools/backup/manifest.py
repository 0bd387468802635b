"""The format of a backup: `database.dump`, `artifacts/…` and, written last, `manifest.json`.

A folder or bucket without a manifest holds no complete backup. The secrets that sign tokens are not part of a backup,
nor are the API keys of model providers.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, inspect

from service.features.ports import Artifacts
from service.store.tables import METADATA, schema_compatibility

T = TypeVar("T")
R = TypeVar("R")

FORMAT = 1
MANIFEST = "manifest.json"
DUMP = "database.dump"
"""In PostgreSQL's custom format."""
PARALLEL_COPIES = 8
NO_LIMIT = 2**63
"""More bytes than any file has."""
IN_PROGRESS = "Another backup, restore or clean-up is under way: try again when it is done."


class BackupRefused(Exception):
    """The request cannot be carried out; the message says what to do."""


class BackupFailed(Exception):
    """A backup or restore began and failed; the message is for the operator."""


class FileEntry(Struct, frozen=True):
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
    """When the backup began, by the clock of the machine that made it."""
    rows: dict[str, int]
    """Number of rows by table."""
    dump: FileEntry
    artifacts: tuple[FileEntry, ...]
    deleted: tuple[str, ...] = ()
    """Artifacts that were deleted with their rows while the backup was made: a restore drops these rows."""
    missing: tuple[str, ...] = ()
    """Artifacts that rows refer to and that the store had lost before the backup."""
    oldest_revision: str | None = None
    """The oldest revision whose code works on the schema; None in a backup whose database does not record it."""


class HashingStream:
    """Pass a stream on while counting and hashing its bytes."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self._hash.update(chunk)
            self._size += len(chunk)
            yield chunk

    def entry(self, key: str) -> FileEntry:
        """Describe what has passed so far as a file with that key."""
        return FileEntry(key, self._size, self._hash.hexdigest())


async def read_manifest(backup: Artifacts) -> Manifest | None:
    """Read the manifest; None where there is no complete backup. Raises BackupRefused for one that cannot be read."""
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


async def write_manifest(backup: Artifacts, manifest: Manifest) -> None:
    """Write the manifest, which completes the backup. Raises DependencyUnavailable."""
    await backup.put_stream(MANIFEST, _single_chunk(msgspec.json.encode(manifest)), limit=NO_LIMIT)


async def _single_chunk(content: bytes) -> AsyncIterator[bytes]:
    yield content


def key_in_backup(artifact_key: str) -> str:
    """Return the key under which a backup keeps an artifact."""
    return f"artifacts/{artifact_key}"


def existing_tables(connection: Connection) -> tuple[str, ...]:
    """List the tables of user data that the database has; an older revision has fewer of them."""
    user_tables = METADATA.tables.keys() - {schema_compatibility.name}
    return tuple(sorted(user_tables & set(inspect(connection).get_table_names())))


async def map_in_batches(items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Apply `work` to the items, `PARALLEL_COPIES` at once, and return the results in order.

    Raises the first error of a batch, once all work of that batch has ended.
    """
    results: list[R] = []
    for first in range(0, len(items), PARALLEL_COPIES):
        batch = items[first : first + PARALLEL_COPIES]
        for outcome in await asyncio.gather(*(work(item) for item in batch), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
    return results
