"""Ports in memory, with switches for every failure: what the HTTP edge is tested against, error by error."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from service.features.errors import (
    DatasetExists,
    DatasetNotFound,
    DatasetUnreadable,
    DependencyUnavailable,
    ExtractionNotFound,
    InvalidRequest,
    PayloadTooLarge,
)
from service.features.events import Event
from service.features.identity import ApiKey
from service.features.model import (
    ColumnProfile,
    Dataset,
    Extraction,
    FeatureEvidence,
    FeaturePlan,
    FeatureStatistics,
    FieldError,
    MediaType,
    ModelUsage,
    PlannedFeature,
    Profile,
    Stage,
    Status,
    ValueCount,
)
from service.features.operations.types import Count, Predicate, Rate
from service.features.ports import Page, PlanRequest, Proposal

T = TypeVar("T")

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

PROFILE = Profile(
    row_count=3,
    columns=(
        ColumnProfile("user_id", 0, "identifier", "BIGINT", 0.0, 2, minimum=1, maximum=2),
        ColumnProfile(
            "amount", 1, "numeric", "DOUBLE", 0.1, 3, minimum=0.5, maximum=9, mean=3.0, quantiles={"p50": 2.0},
            top_values=(ValueCount("2.0", 1),), examples=("2.0",),
        ),
    ),
    fingerprint="f" * 64,
    notes=("delimiter ,",),
)  # fmt: skip

PLAN = FeaturePlan(
    grain="entity",
    entity="user_id",
    features=(
        PlannedFeature(
            "click_rate", "Clicks over impressions.", Rate(numerator=(Predicate("event", "eq", ("click",)),))
        ),
        PlannedFeature("events", "Events of the user.", Count()),
    ),
    steps=("Grouped by user_id.",),
)
EVIDENCE = tuple(
    FeatureEvidence(
        name,
        "number",
        FeatureStatistics(100, 0.0, 60, minimum=0.0, maximum=1.0, mean=0.5, standard_deviation=0.2, median=0.5),
        non_finite_ratio=0.0,
        top_share=0.05,
        drift=0.01,
    )
    for name in ("click_rate", "events")
)

TABLE = b"PAR1 not really"


class FixedClock:
    """It is always noon."""

    def now(self) -> datetime:
        """Noon."""
        return NOW


@dataclass
class Recorder:
    """Keeps what it is told."""

    events: list[Event] = field(default_factory=list)

    def record(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    @contextmanager
    def stage(self, extraction_id: str, stage: Stage) -> Iterator[None]:
        """No span."""
        yield


class MemoryStore:
    """Datasets, extractions and keys in dictionaries; can be `away` like a lost database, or hang."""

    def __init__(self) -> None:
        self.away = False
        self.hangs = False
        self.datasets = MemoryDatasets()
        self.extractions = MemoryExtractions()
        self.keys = MemoryKeys()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryStore]:
        """A unit of work without a rollback."""
        await self.ping()
        yield self

    async def ping(self) -> None:
        """Raises when away."""
        if self.hangs:
            await asyncio.sleep(30)
        if self.away:
            raise DependencyUnavailable("The database does not answer.")


class MemoryDatasets:
    """Datasets by owner and id."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Dataset] = {}

    async def add(self, dataset: Dataset) -> None:
        """Add."""
        if (dataset.owner, dataset.id) in self.rows:
            raise DatasetExists("You already have that dataset.")
        self.rows[dataset.owner, dataset.id] = dataset

    async def get(self, owner: str, dataset_id: str) -> Dataset:
        """Get."""
        try:
            return self.rows[owner, dataset_id]
        except KeyError:
            raise DatasetNotFound("You have no such dataset.") from None

    async def list(self, owner: str, *, limit: int, cursor: str | None = None) -> Page[Dataset]:
        """A page."""
        return page([row for (who, _), row in self.rows.items() if who == owner], limit, cursor)

    async def delete(self, owner: str, dataset_id: str) -> Dataset:
        """Delete."""
        dataset = await self.get(owner, dataset_id)
        del self.rows[owner, dataset_id]
        return dataset


class MemoryExtractions:
    """Extractions by id."""

    def __init__(self) -> None:
        self.rows: dict[str, Extraction] = {}

    async def add(self, extraction: Extraction) -> None:
        """Add."""
        self.rows[extraction.id] = extraction

    async def save(self, extraction: Extraction) -> None:
        """Save."""
        self.rows[extraction.id] = extraction

    async def get(self, owner: str, extraction_id: str) -> Extraction:
        """Get."""
        extraction = self.rows.get(extraction_id)
        if extraction is None or extraction.owner != owner:
            raise ExtractionNotFound("You have no such extraction.")
        return extraction

    async def list(
        self,
        owner: str,
        *,
        limit: int,
        cursor: str | None = None,
        status: Status | None = None,
        dataset_id: str | None = None,
    ) -> Page[Extraction]:
        """A page."""
        rows = [
            row
            for row in self.rows.values()
            if row.owner == owner and status in {None, row.status} and dataset_id in {None, row.request.dataset_id}
        ]
        return page(rows, limit, cursor)


class MemoryKeys:
    """API keys by id."""

    def __init__(self) -> None:
        self.rows: dict[str, ApiKey] = {}

    async def add(self, key: ApiKey) -> None:
        """Add."""
        self.rows[key.id] = key

    async def find(self, key_id: str) -> ApiKey | None:
        """Find."""
        return self.rows.get(key_id)

    async def list(self) -> tuple[ApiKey, ...]:
        """All."""
        return tuple(self.rows.values())

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke."""
        self.rows[key_id] = replace(self.rows[key_id], revoked_at=at)
        return True


def page(rows: list[T], limit: int, cursor: str | None) -> Page[T]:
    """Newest first; the cursor is the offset."""
    if cursor is not None and not cursor.isdigit():
        raise InvalidRequest("Bad cursor.", errors=[FieldError("cursor", "was not given by this list")])
    start = int(cursor or 0)
    newest = rows[::-1]
    following = str(start + limit) if start + limit < len(newest) else None
    return Page(tuple(newest[start : start + limit]), following)


class MemoryArtifacts:
    """Files in a dictionary; reads uploads chunk by chunk and stops at the limit."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.consumed = 0

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, limit: int) -> int:
        """Store."""
        held = bytearray()
        async for chunk in chunks:
            held += chunk
            self.consumed = len(held)
            if len(held) > limit:
                raise PayloadTooLarge("The upload is over the limit.")
        self.files[key] = bytes(held)
        return len(held)

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file."""
        self.files[key] = path.read_bytes()  # noqa: ASYNC240 - a few bytes in a test

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """A copy in a temporary folder."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "artifact"
            path.write_bytes(self.files[key])
            yield path

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """In two chunks."""
        if key not in self.files:
            raise DependencyUnavailable("The artifact store does not have the file.")
        content = self.files[key]
        yield content[:4]
        yield content[4:]

    async def delete(self, key: str) -> None:
        """Delete."""
        self.files.pop(key, None)

    async def ping(self) -> None:
        """There."""


class MemoryEngine:
    """Remembers uploads instead of reading them; the word `broken` in one is unreadable."""

    def __init__(self, artifacts: MemoryArtifacts) -> None:
        self._artifacts = artifacts
        self.ingested: list[tuple[MediaType, bytes]] = []
        self.exported: list[Path] = []
        self.error: Exception | None = None

    async def ingest(self, source_key: str, media_type: MediaType, target_key: str) -> Profile:
        """Remember."""
        content = self._artifacts.files[source_key]
        self.ingested.append((media_type, content))
        if b"broken" in content or not content:
            raise DatasetUnreadable("Not a table.", errors=[FieldError("row 2, column amount", "is not a number")])
        return PROFILE

    @asynccontextmanager
    async def compute(self, dataset: Dataset, plan: FeaturePlan, *, target: str | None) -> AsyncIterator[MemoryTable]:
        """The same table for every plan, or the failure in `error`."""
        if self.error is not None:
            raise self.error
        yield MemoryTable(self._artifacts)

    async def export(self, key: str, media_type: MediaType) -> Path:
        """Two rows."""
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(b"user_id,click_rate\n1,0.5\n" if media_type == "text/csv" else b'{"user_id":1}\n')
        self.exported.append(Path(file.name))
        return self.exported[-1]


class ScriptedPlanner:
    """Answers with the plan, or fails with `error`; waits at `gate` when it is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate: threading.Event | None = None
        self.started = threading.Event()

    async def require_capacity(self, request: PlanRequest) -> None:
        """There is always room."""

    async def propose(self, request: PlanRequest) -> Proposal:
        """The plan."""
        self.started.set()
        if self.gate is not None:
            await asyncio.to_thread(self.gate.wait, 30)
        if self.error is not None:
            raise self.error
        return Proposal(PLAN, ModelUsage("builtin:planner", 10, 20))


class MemoryTable:
    """Two computed features."""

    row_count = 100
    evidence = EVIDENCE
    sql = "SELECT 1"

    def __init__(self, artifacts: MemoryArtifacts) -> None:
        self._artifacts = artifacts

    async def publish(self, names: Sequence[str], key: str) -> None:
        """Write the table."""
        self._artifacts.files[key] = TABLE


@dataclass
class Life:
    """How far the process has come."""

    ready: bool = True
    draining: bool = False
