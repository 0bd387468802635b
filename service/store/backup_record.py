"""When the last backup was made: a note beside the artifacts, where every process finds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
from msgspec import Struct

from service.features.ports import Artifacts

KEY = "records/last-backup.json"
"""Not below a prefix that the sweep looks through, and not part of a backup."""
MOST_BYTES = 4096


class BackupRecord(Struct, frozen=True):
    """The last complete backup."""

    created_at: datetime
    release: str


async def note_backup(artifacts: Artifacts, record: BackupRecord) -> None:
    """Remember a backup that has everything. Raises DependencyUnavailable."""
    await artifacts.put_stream(KEY, _once(msgspec.json.encode(record)), limit=MOST_BYTES)


async def last_backup_at(artifacts: Artifacts) -> float:
    """When it was made, in seconds since the epoch; 0 when there never was one. Raises DependencyUnavailable."""
    try:
        content = b"".join([chunk async for chunk in artifacts.stream(KEY)])
    except FileNotFoundError:
        return 0.0
    return msgspec.json.decode(content, type=BackupRecord).created_at.timestamp()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
