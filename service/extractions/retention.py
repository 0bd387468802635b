"""Keeping what is needed and no more: old extractions go, and so do files that nothing refers to.

A row goes before the file that it refers to, so that nothing ever refers to what is not there. What a process that dies
in between leaves behind is a file without a row, which the sweep finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from service.features.ports import Artifacts, Clock, StoredArtifact
from service.features.stores import Upkeep

BATCH = 500
"""Extractions deleted in one transaction."""
SWEPT = ("features", "datasets", "uploads")
"""Prefixes under which every artifact belongs to a row, or to an upload or a run that is under way."""
YOUNG = timedelta(hours=1)
"""A file may be that much older than the row that will refer to it."""


class Removed(Struct, frozen=True):
    """What housekeeping has removed."""

    extractions: int = 0
    idempotency_keys: int = 0
    artifacts: int = 0
    """Files that nothing referred to, and pieces that writes left when they broke off."""


class Retention:
    """Deletes ended extractions with their feature tables after `days`, and idempotency keys after theirs."""

    def __init__(self, *, upkeep: Upkeep, artifacts: Artifacts, days: int) -> None:
        """With 0 days all extractions are kept."""
        self._upkeep = upkeep
        self._artifacts = artifacts
        self._days = days

    async def __call__(self, now: datetime) -> Removed:
        """Delete what is over its time. Raises DependencyUnavailable; what is left then goes the next time."""
        keys = await self._upkeep.purge_idempotency_keys(now)
        return Removed(extractions=await self._extractions(now) if self._days else 0, idempotency_keys=keys)

    async def _extractions(self, now: datetime) -> int:
        before = now - timedelta(days=self._days)
        count = 0
        while True:
            purged = await self._upkeep.purge_extractions(before, limit=BATCH)
            for key in purged.artifact_keys:
                await self._artifacts.delete(key)
            count += purged.count
            if purged.count < BATCH:
                return count


class Sweep:
    """Removes artifacts that no row refers to, and what writes left that broke off.

    It takes the artifact store for its database's own: two databases never share an ARTIFACTS_URL.
    """

    def __init__(self, *, upkeep: Upkeep, artifacts: Artifacts) -> None:
        self._upkeep = upkeep
        self._artifacts = artifacts

    async def __call__(self, now: datetime) -> Removed:
        """Remove what is older than an hour and belongs to nothing. Raises DependencyUnavailable."""
        before = now - YOUNG
        count = await self._artifacts.tidy(before)
        for prefix in SWEPT:
            async for page in self._artifacts.pages(prefix):
                count += await self._remove(artifact for artifact in page if artifact.modified_at < before)
        return Removed(artifacts=count)

    async def _remove(self, artifacts: Iterable[StoredArtifact]) -> int:
        keys = [artifact.key for artifact in artifacts]
        orphans = set(keys) - await self._upkeep.in_use(keys)
        for key in orphans:
            await self._artifacts.delete(key)
        return len(orphans)


class Housekeeping:
    """Both, in one process at a time; to be called about every hour by each worker.

    Nothing is old unless both clocks say so, this process's and the database's: one machine whose clock runs ahead
    would otherwise delete for all what is new.
    """

    def __init__(self, *, upkeep: Upkeep, artifacts: Artifacts, clock: Clock, days: int) -> None:
        """`days` is how long ended extractions are kept; 0 keeps them all."""
        self._upkeep = upkeep
        self._clock = clock
        self._retention = Retention(upkeep=upkeep, artifacts=artifacts, days=days)
        self._sweep = Sweep(upkeep=upkeep, artifacts=artifacts)

    async def __call__(self) -> Removed | None:
        """Clean up; None when another process does just now. Raises DependencyUnavailable."""
        async with self._upkeep.alone() as alone:
            if not alone:
                return None
            now = min(self._clock.now(), await self._upkeep.now())
            old = await self._retention(now)
            orphaned = await self._sweep(now)
        return Removed(old.extractions, old.idempotency_keys, orphaned.artifacts)
