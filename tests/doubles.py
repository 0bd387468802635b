"""Doubles that several tests share: clocks, an observer, ports in memory, and a real store that can be made to fail."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self, TypeVar

from service.features.delivery import Delivery, Sent
from service.features.errors import DatasetUnreadable, DependencyUnavailable, ModelUnavailable, PayloadTooLarge
from service.features.events import Event
from service.features.extract import artifact_key
from service.features.model import (
    NO_OVERRIDES,
    ColumnProfile,
    Extraction,
    ExtractionResult,
    ExtractionState,
    FeatureEvidence,
    FeaturePlan,
    FeatureStatistics,
    FieldError,
    Lane,
    MediaType,
    ModelUsage,
    PlannedFeature,
    Profile,
    QualitySummary,
    ReadOptions,
    Stage,
    TableForm,
    ValueCount,
)
from service.features.operations import Count, Predicate, Rate
from service.features.ports import PlanRequest, Proposal, RehearsedFeature, StoredArtifact
from service.features.stores import Notices, Store, UnitOfWork, Watch
from service.features.tables import Tables

E = TypeVar("E", bound=Event)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
"""Noon, so that half of the day is left."""

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
    """A clock that stands at one instant until the test moves it."""

    def __init__(self, instant: datetime = NOW) -> None:
        self.instant = instant

    def now(self) -> datetime:
        """Return the instant."""
        return self.instant

    def advance(self, **spans: float) -> None:
        """Move on by a `timedelta` of these parts."""
        self.instant += timedelta(**spans)


class Timer:
    """A monotonic timer that stands until the test sets `seconds`."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """Return the seconds."""
        return self.seconds


@dataclass
class Recorder:
    """An observer that keeps every event."""

    events: list[Event] = field(default_factory=list)

    def record(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    @contextmanager
    def stage(self, extraction_id: str, stage: Stage) -> Iterator[None]:
        """Open no span."""
        yield

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


def result_of(extraction: Extraction) -> ExtractionResult:
    """Build a result without features, published by the extraction's present attempt."""
    return ExtractionResult(
        features=(), rejected_features=(), feature_pipeline_steps=(), quality=QualitySummary("medium", 1.0, {}),
        model=ModelUsage("builtin:planner"), row_count=1, grain="row", entity=None, time=None,
        artifact_key=artifact_key(extraction), sql="SELECT 1",
    )  # fmt: skip


class FaultyStore:
    """The real store, with switches for the failures of a database.

    While `away`, every call raises DependencyUnavailable; while it `hangs`, a ping takes 30 seconds. The next
    `lost_commits` transactions are committed, but their callers get DependencyUnavailable.
    """

    def __init__(self) -> None:
        self.away = False
        self.hangs = False
        self.lost_commits = 0
        self.refused = 0
        """Calls that failed because the database was away."""
        self.begun = 0
        """Transactions."""
        self.watching = 0
        """Transactions of requests that wait for a change."""
        self.state_queries = 0
        """Queries for the states of many extractions."""
        self._store: Store

    def around(self, store: Store) -> Self:
        """Wrap the store; for `Overrides.wrap_store`."""
        self._store = store
        return self

    @asynccontextmanager
    async def begin(self, *, watching: bool = False) -> AsyncIterator[UnitOfWork]:
        """Open a unit of work of the real store."""
        self._require()
        self.begun += 1
        self.watching += watching
        async with self._store.begin(watching=watching) as work:
            yield work
        self._lose_commit()

    async def state_of(self, owner: str, extraction_id: str) -> ExtractionState:
        """Read the state from the real store."""
        self._require()
        return await self._store.state_of(owner, extraction_id)

    async def states(self, extraction_ids: Sequence[str]) -> Mapping[str, ExtractionState]:
        """Read the states from the real store."""
        self._require()
        self.state_queries += 1
        return await self._store.states(extraction_ids)

    async def add_repeated(self, extraction: Extraction, dataset_key: str, *, max_stored_bytes: int = 0) -> bool:
        """Add the extraction to the real store."""
        self._require()
        added = await self._store.add_repeated(extraction, dataset_key, max_stored_bytes=max_stored_bytes)
        self._lose_commit()
        return added

    async def usual_seconds(self, lane: Lane) -> float | None:
        """Ask the real store."""
        self._require()
        return await self._store.usual_seconds(lane)

    async def ping(self) -> None:
        """Ping the real store."""
        if self.hangs:
            await asyncio.sleep(30)
        self._require()
        await self._store.ping()

    def _require(self) -> None:
        if self.away:
            self.refused += 1
            raise DependencyUnavailable("The database does not answer.")

    def _lose_commit(self) -> None:
        if self.lost_commits:
            self.lost_commits -= 1
            raise DependencyUnavailable("The connection broke.")


class DeafWatch:
    """A watch that never notices anything."""

    async def changed(self, seconds: float) -> bool:
        """Wait in vain."""
        await asyncio.sleep(seconds)
        return False


class CountedNotices:
    """The real notices; counts the watches of each extraction, and while `deaf` hands out those that notice nothing."""

    def __init__(self) -> None:
        self.watches: Counter[str] = Counter()
        self.deaf = False
        self._notices: Notices

    def around(self, notices: Notices) -> Self:
        """Wrap the notices; for `Overrides.wrap_notices`."""
        self._notices = notices
        return self

    @contextmanager
    def watch(self, extraction_id: str) -> Iterator[Watch]:
        """Watch the extraction in the block."""
        with self._counted(extraction_id), self._notices.watch(extraction_id) as watch:
            yield DeafWatch() if self.deaf else watch

    @contextmanager
    def subscribe(self, extraction_id: str, wake: Callable[[], None]) -> Iterator[None]:
        """Watch the extraction in the block, unless deaf."""
        with self._counted(extraction_id):
            if self.deaf:
                yield
                return
            with self._notices.subscribe(extraction_id, wake):
                yield

    @contextmanager
    def _counted(self, extraction_id: str) -> Iterator[None]:
        self.watches[extraction_id] += 1
        try:
            yield
        finally:
            self.watches[extraction_id] -= 1
            self.watches += Counter()  # drops what has come to zero


class MemoryArtifacts:
    """An artifact store in a dictionary; reads uploads chunk by chunk and stops at the limit."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.consumed = 0

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, limit: int) -> int:
        """Store a stream."""
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
        """Copy a file."""
        if source not in self.files:
            raise FileNotFoundError(source)
        self.files[target] = self.files[source]

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """Provide a copy in a temporary folder."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "artifact"
            path.write_bytes(self.files[key])
            yield path

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Read a file in two chunks."""
        if key not in self.files:
            raise DependencyUnavailable("The artifact store does not have the file.")
        content = self.files[key]
        yield content[:4]
        yield content[4:]

    async def size(self, key: str) -> int:
        """Return the length of a file."""
        if key not in self.files:
            raise FileNotFoundError(key)
        return len(self.files[key])

    async def delete(self, key: str) -> None:
        """Delete a file."""
        self.files.pop(key, None)

    async def pages(self, prefix: str) -> AsyncIterator[tuple[StoredArtifact, ...]]:
        """List the files in one page, as if they were written now."""
        yield tuple(
            StoredArtifact(key, len(content), datetime.now(UTC))
            for key, content in self.files.items()
            if key.startswith(prefix)
        )

    async def tidy(self, before: datetime) -> int:
        """Find nothing to remove."""
        return 0

    async def ping(self) -> None:
        """Succeed."""


class MemoryEngine:
    """An engine that keeps uploads instead of reading them; what is empty or has the word `broken` is unreadable."""

    def __init__(self, artifacts: MemoryArtifacts) -> None:
        self._artifacts = artifacts
        self.ingested: list[tuple[MediaType, bytes]] = []
        self.overrides: list[ReadOptions] = []
        """How each of them was to be read."""
        self.exported: list[Path] = []
        self.forms: list[TableForm] = []
        self.error: Exception | None = None
        self.gate: Gate | None = None
        """Holds whatever is read until it is set."""
        self.cancelled = 0
        """Readings that were cancelled at the gate."""

    async def ingest(
        self, source_key: str, media_type: MediaType, target_key: str, *, overrides: ReadOptions = NO_OVERRIDES
    ) -> Profile:
        """Keep the upload and return PROFILE."""
        content = self._artifacts.files[source_key]
        self.ingested.append((media_type, content))
        self.overrides.append(overrides)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if b"broken" in content or not content:
            raise DatasetUnreadable("Not a table.", errors=[FieldError("row 2, column amount", "is not a number")])
        self._artifacts.files[target_key] = content
        return PROFILE

    @asynccontextmanager
    async def compute(
        self, tables: Tables, plan: FeaturePlan, *, progress: Callable[[float], None]
    ) -> AsyncIterator[MemoryTable]:
        """Compute the same table for every plan, or raise `error`."""
        if self.error is not None:
            raise self.error
        progress(0.5)
        yield MemoryTable(self._artifacts)

    async def measure(
        self, table: MemoryTable, *, target: str | None, progress: Callable[[float], None]
    ) -> tuple[FeatureEvidence, ...]:
        """Return EVIDENCE for every table."""
        return EVIDENCE

    async def export(self, key: str, form: TableForm) -> Path:
        """Write a file of one row."""
        self.forms.append(form)
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(b"user_id,click_rate\n1,0.5\n" if form.startswith("text/csv") else b'{"user_id":1}\n')
        self.exported.append(Path(file.name))
        return self.exported[-1]

    async def rehearse(self, tables: Tables, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
        """Measure nothing."""
        return ()

    async def ping(self) -> None:
        """Succeed."""


class MemoryTable:
    """Two computed features, which are published as TABLE."""

    row_count = 100
    sql = "SELECT 1"

    def __init__(self, artifacts: MemoryArtifacts) -> None:
        self._artifacts = artifacts

    async def publish(self, names: Sequence[str], key: str) -> None:
        """Store the table."""
        self._artifacts.files[key] = TABLE


class Gate:
    """An event that any thread can set and any event loop can wait for."""

    def __init__(self) -> None:
        self._open = False
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def set(self) -> None:
        """Let everybody pass."""
        with self._lock:
            self._open = True
            for loop, opened in self._waiting:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(opened.set)

    async def wait(self) -> None:
        """Wait until it is set."""
        opened = asyncio.Event()
        with self._lock:
            if self._open:
                return
            self._waiting.append((asyncio.get_running_loop(), opened))
        await opened.wait()


class ScriptedPlanner:
    """A planner that returns PLAN, or raises `error`; with a `gate` it waits there first.

    While `away`, its ping raises ModelUnavailable.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.gate: Gate | None = None
        self.away = False
        self.started = threading.Event()
        self.asked = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def ping(self) -> None:
        """Succeed unless the model is away."""
        if self.away:
            raise ModelUnavailable("No model answers.")

    async def require_capacity(self, request: PlanRequest) -> None:
        """Accept every request."""

    async def propose(self, request: PlanRequest) -> Proposal:
        """Return the plan."""
        self.asked += 1
        self.started.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Proposal(PLAN, ModelUsage("builtin:planner", 10, 20))


class HeldSender:
    """A webhook sender whose receivers never answer; keeps what it has sent."""

    def __init__(self) -> None:
        self.sent: list[Delivery] = []

    async def send(self, delivery: Delivery, now: datetime) -> Sent:
        """Keep the delivery and wait until the sending is cancelled."""
        self.sent.append(delivery)
        await asyncio.Event().wait()
        raise AssertionError("nobody lets it go")
