"""Audit a database and an artifact store after a drill: what was accepted has ended once, and nothing else is left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.extractions.retention import Housekeeping
from service.resources.storage import SystemClock, open_storage
from service.settings import Settings
from service.store.artifacts import FolderArtifacts

Row = Mapping[str, Any]
TERMINAL = ("completed", "failed", "cancelled")
FAULTS = ("lost", "unexplained", "missing", "orphans_after_sweep", "duplicates", "jobs_left")
"""Findings that must be empty or zero."""


@dataclass
class Audit:
    """What was found."""

    accepted: int
    by_status: dict[str, int]
    failures: dict[str, int]
    """Failed extractions by error code."""
    jobs_left: int
    lost: list[str]
    """Extractions that were acknowledged and are not there, or have not ended."""
    unexplained: list[str]
    """Extractions that failed without a reason."""
    missing: list[str]
    """Artifact keys of completed extractions whose table is not there."""
    orphans: int
    """Tables of attempts that died between publishing and storing their end."""
    orphans_after_sweep: list[str]
    duplicates: list[str]
    """Extractions with more than one table after the sweep."""

    def faults(self) -> dict[str, Any]:
        """Return the findings that must not be there."""
        return {name: found for name in FAULTS if (found := getattr(self, name))}

    @property
    def ended(self) -> int:
        """Return how many extractions have ended."""
        return sum(self.by_status.get(status, 0) for status in TERMINAL)

    def require_nothing_lost(self) -> None:
        """Raise AssertionError unless everything accepted has ended once and nothing else is left."""
        assert not self.faults(), self.faults()
        assert self.accepted == self.ended


async def audit(
    settings: Settings, artifacts_folder: Path, rows: Sequence[Row], jobs_left: int, acknowledged: Sequence[str]
) -> Audit:
    """Compare the acknowledged extractions with their rows and tables, before and after a sweep of the artifacts."""
    by_id = {str(row["id"]): row for row in rows}
    used = {str(row["result"]["artifact_key"]) for row in rows if row["status"] == "completed"}
    found, swept = await _sweep(settings, artifacts_folder)
    owners = [key.split("/")[1] for key in swept]
    return Audit(
        accepted=len(rows),
        by_status=_count(row["status"] for row in rows),
        failures=_count(row["failure"]["code"] for row in rows if row["status"] == "failed"),
        jobs_left=jobs_left,
        lost=[
            *sorted(set(acknowledged) - by_id.keys()),
            *(key for key, row in by_id.items() if row["finished_at"] is None),
        ],
        unexplained=[key for key, row in by_id.items() if row["status"] == "failed" and not row["failure"]],
        missing=sorted(used - found),
        orphans=len(found - used),
        orphans_after_sweep=sorted(swept - used),
        duplicates=sorted({owner for owner in owners if owners.count(owner) > 1}),
    )


async def _sweep(settings: Settings, artifacts_folder: Path) -> tuple[set[str], set[str]]:
    """Return the keys of all tables, before and after the service's own sweep."""
    storage = open_storage(settings)
    try:
        artifacts = storage.artifacts
        found = {item.key async for page in artifacts.pages("features") for item in page}
        if isinstance(artifacts, FolderArtifacts):
            _age(artifacts_folder, hours=2)
        housekeeping = Housekeeping(upkeep=storage.database.upkeep, artifacts=artifacts, clock=SystemClock(), days=30)
        assert await housekeeping() is not None
        return found, {item.key async for page in artifacts.pages("features") for item in page}
    finally:
        await storage.close()


def _count(words: Iterable[str]) -> dict[str, int]:
    listed = list(words)
    return {word: listed.count(word) for word in sorted(set(listed))}


def _age(folder: Path, *, hours: int) -> None:
    """Make every file so old that the sweep may delete it."""
    then = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))
