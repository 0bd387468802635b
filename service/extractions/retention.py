"""Delete old extractions, replaced versions of datasets, and files that nothing refers to.

A row is deleted before its file, so that no row ever refers to a missing file. A process that dies in between leaves a
file without a row, which the sweep removes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct

from service.features.ports import Artifacts, Clock, StoredArtifact
from service.features.stores import Purged, Upkeep

BATCH = 500
"""Rows deleted in one transaction."""
SWEPT = ("features", "versions", "originals", "datasets", "uploads")
"""Prefixes under which every artifact belongs to a row, or to an upload or run in progress; an older release put files
under the last two."""
YOUNG = timedelta(hours=1)
"""A file may be this much older than the row that will refer to it, and so may a version be replaced before the row of
the extraction that was accepted for it is there."""


class Purge(Protocol):
    """Deletes at most `limit` rows of before an instant."""

    async def __call__(self, before: datetime, *, limit: int) -> Purged: ...  # noqa: D102 -- the class says it


class Removed(Struct, frozen=True):
    """Count what housekeeping has removed."""

    extractions: int = 0
    idempotency_keys: int = 0
    artifacts: int = 0
    """Files that nothing referred to, and parts of interrupted writes."""
    dataset_versions: int = 0


class Retention:
    """Delete ended extractions and their feature tables after `days`, replaced versions, and expired idempotency keys.

    A version of a dataset is kept for an hour after it was replaced, and then while an extraction that has not ended
    reads it.
    """

    def __init__(self, *, upkeep: Upkeep, artifacts: Artifacts, days: int) -> None:
        """With 0 days all extractions are kept."""
        self._upkeep = upkeep
        self._artifacts = artifacts
        self._days = days

    async def __call__(self, now: datetime) -> Removed:
        """Delete what has expired. Raises DependencyUnavailable; the rest is deleted next time."""
        keys = await self._upkeep.purge_idempotency_keys(now)
        old = await self._purge(self._upkeep.purge_extractions, now - timedelta(days=self._days)) if self._days else 0
        versions = await self._purge(self._upkeep.purge_dataset_versions, now - YOUNG)
        return Removed(extractions=old, idempotency_keys=keys, dataset_versions=versions)

    async def _purge(self, purge: Purge, before: datetime) -> int:
        count = 0
        while True:
            purged = await purge(before, limit=BATCH)
            for key in purged.artifact_keys:
                await self._artifacts.delete(key)
            count += purged.count
            if purged.count < BATCH:
                return count


class Sweep:
    """Delete artifacts that no row refers to, and parts of interrupted writes; record sizes that rows lack.

    It assumes that the artifact store belongs to this database alone: two databases never share an ARTIFACTS_URL.
    """

    def __init__(self, *, upkeep: Upkeep, artifacts: Artifacts) -> None:
        self._upkeep = upkeep
        self._artifacts = artifacts

    async def __call__(self, now: datetime) -> Removed:
        """Delete unreferenced files older than an hour. Raises DependencyUnavailable."""
        before = now - YOUNG
        count = await self._artifacts.tidy(before)
        for prefix in SWEPT:
            async for page in self._artifacts.pages(prefix):
                await self._upkeep.record_sizes({artifact.key: artifact.size_bytes for artifact in page})
                count += await self._remove(artifact for artifact in page if artifact.modified_at < before)
        return Removed(artifacts=count)

    async def _remove(self, artifacts: Iterable[StoredArtifact]) -> int:
        keys = [artifact.key for artifact in artifacts]
        orphans = set(keys) - await self._upkeep.in_use(keys)
        for key in orphans:
            await self._artifacts.delete(key)
        return len(orphans)


class Housekeeping:
    """Run retention and sweep, in one process at a time; every worker calls it about once an hour.

    Something is old only if both the process's and the database's clock say so: one machine with a fast clock would
    otherwise delete everything new.
    """

    def __init__(self, *, upkeep: Upkeep, artifacts: Artifacts, clock: Clock, days: int) -> None:
        """`days` is how long ended extractions are kept; 0 keeps them all."""
        self._upkeep = upkeep
        self._clock = clock
        self._retention = Retention(upkeep=upkeep, artifacts=artifacts, days=days)
        self._sweep = Sweep(upkeep=upkeep, artifacts=artifacts)

    async def __call__(self) -> Removed | None:
        """Clean up; None if another process is cleaning up. Raises DependencyUnavailable."""
        async with self._upkeep.alone() as alone:
            if not alone:
                return None
            now = min(self._clock.now(), await self._upkeep.now())
            old = await self._retention(now)
            orphaned = await self._sweep(now)
        return Removed(old.extractions, old.idempotency_keys, orphaned.artifacts, old.dataset_versions)
