"""What the domain needs from the outside, as protocols; adapters implement them, the composition roots choose them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import date, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from msgspec import Struct, field

from service.features.events import Event
from service.features.model import (
    NO_OVERRIDES,
    Dataset,
    ExtractionOptions,
    FeatureEvidence,
    FeaturePlan,
    FeatureType,
    MediaType,
    ModelUsage,
    Profile,
    ReadOptions,
    Stage,
    TableForm,
)
from service.features.tables import Tables


class Clock(Protocol):
    """Time, so that tests can set it."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...


class Observer(Protocol):
    """Listens to the domain."""

    def record(self, event: Event) -> None:
        """Take note of a fact. Never raises, never blocks."""
        ...

    def stage(self, extraction_id: str, stage: Stage) -> AbstractContextManager[None]:
        """Surround one stage with its span `extraction.{stage}`."""
        ...


class Spending(Struct):
    """What planning one request has taken so far, over every model and attempt, failed ones too; it only grows."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    """Of the calls whose price is known."""
    unpriced_calls: int = 0
    """Answered calls whose price is not known: with any, `cost_usd` is a lower bound."""


class PlanRequest(Struct, frozen=True):
    """What is to be planned, on whose behalf."""

    dataset: Dataset
    """With the columns of all tables that a plan may read."""
    description: str
    options: ExtractionOptions
    fresh: bool = False
    """Do not answer from a cache."""
    tables: Tables | None = None
    """All that the dataset is made of, when that is more than one table or moment."""
    spending: Spending = field(default_factory=Spending)
    """Planners add to it, so that what a failed plan took is known too."""


class Proposal(Struct, frozen=True):
    """A planner's answer."""

    plan: FeaturePlan
    usage: ModelUsage


class Capacity(Protocol):
    """Knows whether a request could be planned now."""

    async def require_capacity(self, request: PlanRequest) -> None:
        """Raise what `Planner.propose` would raise for want of a model or a place, as far as this process knows.

        Asks no model, so that a request which cannot be planned now is refused before anything is done for it. Raises
        ModelUnavailable (PlanningBusy).
        """
        ...


class Planner(Protocol):
    """Proposes a plan for a sentence; has already put it through `plan.validate`."""

    async def propose(self, request: PlanRequest) -> Proposal:
        """Plan the described features.

        Raises RequestImpossible, BudgetExceeded, ModelUnavailable (PlanningBusy), ModelTimeout, ModelOutputInvalid or
        DeadlineExceeded.
        """
        ...


class RehearsedFeature(Struct, frozen=True):
    """What one feature came to on a sample: statistics only, never a value of a cell."""

    name: str
    dtype: FeatureType
    null_ratio: float
    distinct_count: int
    top_share: float
    """Share of non-null rows that hold the most frequent value."""
    mean: float | None = None
    standard_deviation: float | None = None


class Rehearsal(Protocol):
    """Tries a validated plan on a sample of its data."""

    async def rehearse(self, tables: Tables, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
        """Compute the plan on a sample that is small enough to take about a second.

        Raises ComputeFailed, ComputeOutOfMemory, DeadlineExceeded.
        """
        ...


class KeptPlan(Struct, frozen=True):
    """A plan that is kept for equal requests."""

    proposal: Proposal
    seconds: float
    """For how long it may still be served."""


class SharedPlans(Protocol):
    """The second level of the plan cache, shared by all processes. It never raises for want of its server."""

    async def get(self, key: str) -> KeptPlan | None:
        """The plan kept under the key; None when there is none, when it cannot be read, or when the server is away."""
        ...

    async def put(self, key: str, proposal: Proposal) -> None:
        """Keep the plan; no error when the server is away."""
        ...


class Spent(Struct, frozen=True):
    """What a principal's planning took on one day."""

    tokens: int = 0
    """Input and output together."""
    cost_usd: float = 0.0
    unpriced_calls: int = 0


class Budgets(Protocol):
    """What each principal has spent on models, day by day (UTC)."""

    async def spent(self, principal: str, day: date) -> Spent:
        """Raises DependencyUnavailable when the database is away."""
        ...

    async def charge(self, principal: str, day: date, spending: Spending) -> tuple[Spent, Spent]:
        """Add to the day's spending, atomically over all processes; gives it as it was before and is after.

        Raises DependencyUnavailable.
        """
        ...


class FeatureTable(Protocol):
    """Computed features that are not published yet."""

    @property
    def row_count(self) -> int:
        """Rows of the table."""
        ...

    @property
    def sql(self) -> str:
        """The statement that computed the table."""
        ...

    async def publish(self, names: Sequence[str], key: str) -> None:
        """Write the key columns and the named features as Parquet to the artifact `key`, atomically."""
        ...


ComputedTable_co = TypeVar("ComputedTable_co", bound=FeatureTable, covariant=True)
MeasuredTable_contra = TypeVar("MeasuredTable_contra", bound=FeatureTable, contravariant=True)
"""Tables of an engine: what computes them and what measures them must agree on where they lie."""


class Reader(Protocol):
    """Reads files: uploads in, tables out. Never blocks the event loop; stops when its task is cancelled."""

    async def ingest(
        self, source_key: str, media_type: MediaType, target_key: str, *, overrides: ReadOptions = NO_OVERRIDES
    ) -> Profile:
        """Read an uploaded file as `overrides` say, write it as typed Parquet to `target_key`, and profile it.

        Raises DatasetUnreadable with the row and column at fault, also where values do not convert to the type that
        `overrides` gives their column; InvalidRequest for overrides that name an unknown column or zone or contradict
        each other (`columns.price.zone`); ComputeOutOfMemory, DeadlineExceeded; DependencyUnavailable when the
        engine's process ended over it. After any of them nothing is kept.
        """
        ...

    async def ping(self) -> None:
        """Raises ComputeFailed when the engine cannot start a sandbox."""
        ...

    async def export(self, key: str, form: TableForm) -> Path:
        """Render a published Parquet table as CSV or NDJSON into a temporary file that the caller removes.

        Raises ComputeFailed, DeadlineExceeded; DependencyUnavailable when the engine's process ended over it.
        """
        ...


class Compute(Protocol[ComputedTable_co]):
    """Runs validated plans. Never blocks the event loop; stops when its task is cancelled."""

    def compute(
        self, tables: Tables, plan: FeaturePlan, *, progress: Callable[[float], None]
    ) -> AbstractAsyncContextManager[ComputedTable_co]:
        """Run the plan; the scratch space is gone on exit.

        `progress` receives the share of the work that is done, 0 to 1, never less than before, now and then.

        Raises ComputeFailed, ComputeOutOfMemory, DeadlineExceeded; DatasetNotFound when a dataset was deleted
        meanwhile; InvalidRequest when a key that must be unique is not.
        """
        ...


class Measure(Protocol[MeasuredTable_contra]):
    """Measures computed features, where they lie. Never blocks the event loop; stops when its task is cancelled."""

    async def measure(
        self, table: MeasuredTable_contra, *, target: str | None, progress: Callable[[float], None]
    ) -> tuple[FeatureEvidence, ...]:
        """Measure each feature, in the plan's order, and how well it gives the target away.

        `progress` is as in `Compute.compute`. Raises ComputeFailed, ComputeOutOfMemory, DeadlineExceeded;
        DatasetNotFound when the dataset was deleted meanwhile.
        """
        ...


class StoredArtifact(Struct, frozen=True):
    """One file in the artifact store."""

    key: str
    size_bytes: int
    modified_at: datetime


class Files(Protocol):
    """What an engine needs of the artifacts."""

    async def put_file(self, key: str, path: Path) -> None:
        """Store a local file under the key, atomically."""
        ...

    async def size(self, key: str) -> int:
        """Return the artifact's size in bytes. Raises FileNotFoundError when there is none."""
        ...

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The artifact as a local file (the stored one itself when it is local), read only.

        Raises FileNotFoundError on entry when there is none.
        """
        ...


class Artifacts(Files, Protocol):
    """Files by key, in a folder or an object store. Keys are made by the service, never by a client."""

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, limit: int) -> int:
        """Store a stream and give its size in bytes. Raises PayloadTooLarge over `limit` bytes, leaving nothing."""
        ...

    async def copy(self, source: str, target: str) -> None:
        """Store the artifact under another key as well, atomically, and without reading it where that can be.

        The copy is as young as any artifact that is written now. Raises FileNotFoundError when there is no such source.
        """
        ...

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """The artifact's bytes in chunks."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the artifact; no error when there is none."""
        ...

    def pages(self, prefix: str) -> AsyncIterator[tuple[StoredArtifact, ...]]:
        """All artifacts below a prefix (`features`), a thousand at a time; the store may change meanwhile."""
        ...

    async def tidy(self, before: datetime) -> int:
        """Remove what writes that broke off before that instant have left; gives how many pieces."""
        ...

    async def ping(self) -> None:
        """Raises DependencyUnavailable when the store cannot be reached or written."""
        ...
