"""The record of the last backup: a small file beside the artifacts, where every process finds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
from msgspec import Struct

from service.features.ports import Artifacts

KEY = "records/last-backup.json"
"""Outside the prefixes that the sweep looks through, and not part of a backup."""
MAX_BYTES = 4096


class BackupRecord(Struct, frozen=True):
    """The last complete backup."""

    created_at: datetime
    release: str


async def record_backup(artifacts: Artifacts, record: BackupRecord) -> None:
    """Record a complete backup. Raises DependencyUnavailable."""
    await artifacts.put_stream(KEY, _single_chunk(msgspec.json.encode(record)), limit=MAX_BYTES)


async def last_backup_at(artifacts: Artifacts) -> float:
    """Return when the last backup was made, in seconds since the epoch; 0 without one. Raises DependencyUnavailable."""
    try:
        content = b"".join([chunk async for chunk in artifacts.stream(KEY)])
    except FileNotFoundError:
        return 0.0
    return msgspec.json.decode(content, type=BackupRecord).created_at.timestamp()


async def _single_chunk(content: bytes) -> AsyncIterator[bytes]:
    yield content
