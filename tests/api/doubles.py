"""Ports in memory, with switches for every failure: what the HTTP edge is tested against, error by error."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from service.features.errors import (
    DatasetUnreadable,
    DependencyUnavailable,
    PayloadTooLarge,
)
from service.features.events import Event
from service.features.model import (
    ColumnProfile,
    Dataset,
    FeatureEvidence,
    FeaturePlan,
    FeatureStatistics,
    FieldError,
    MediaType,
    ModelUsage,
    PlannedFeature,
    Profile,
    Stage,
    ValueCount,
)
from service.features.operations import Count, Predicate, Rate
from service.features.ports import PlanRequest, Proposal

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
    """It is noon until the test moves it on."""

    def __init__(self) -> None:
        self._now = NOW

    def now(self) -> datetime:
        """Noon, at first."""
        return self._now

    def advance(self, **spans: float) -> None:
        """Move on by a `timedelta` of these parts."""
        self._now += timedelta(**spans)


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

    async def copy(self, source: str, target: str) -> None:
        """Copy."""
        if source not in self.files:
            raise FileNotFoundError(source)
        self.files[target] = self.files[source]

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
    async def compute(
        self, dataset: Dataset, plan: FeaturePlan, *, progress: Callable[[float], None]
    ) -> AsyncIterator[MemoryTable]:
        """The same table for every plan, or the failure in `error`."""
        if self.error is not None:
            raise self.error
        progress(0.5)
        yield MemoryTable(self._artifacts)

    async def measure(
        self, table: MemoryTable, *, target: str | None, progress: Callable[[float], None]
    ) -> tuple[FeatureEvidence, ...]:
        """The same evidence for every table."""
        return EVIDENCE

    async def export(self, key: str, media_type: MediaType) -> Path:
        """Two rows."""
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(b"user_id,click_rate\n1,0.5\n" if media_type == "text/csv" else b'{"user_id":1}\n')
        self.exported.append(Path(file.name))
        return self.exported[-1]


class Gate:
    """Closed until it is set, from any thread."""

    def __init__(self) -> None:
        self._open = False
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def set(self) -> None:
        """Open it."""
        with self._lock:
            self._open = True
            for loop, opened in self._waiting:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(opened.set)

    async def wait(self) -> None:
        """Until it is open."""
        opened = asyncio.Event()
        with self._lock:
            if self._open:
                return
            self._waiting.append((asyncio.get_running_loop(), opened))
        await opened.wait()


class ScriptedPlanner:
    """Answers with the plan, or fails with `error`; waits at `gate` when it is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate: Gate | None = None
        self.started = threading.Event()
        self.asked = 0

    async def require_capacity(self, request: PlanRequest) -> None:
        """There is always room."""

    async def propose(self, request: PlanRequest) -> Proposal:
        """The plan."""
        self.asked += 1
        self.started.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Proposal(PLAN, ModelUsage("builtin:planner", 10, 20))


class MemoryTable:
    """Two computed features."""

    row_count = 100
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
