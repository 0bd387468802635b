"""What the domain needs from the outside, as protocols; adapters implement them, the composition roots choose them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import date, datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from msgspec import Struct, field

from service.features.delivery import Deliveries, Delivery
from service.features.events import Event
from service.features.identity import ApiKey
from service.features.model import (
    Dataset,
    Extraction,
    ExtractionOptions,
    ExtractionState,
    FeatureEvidence,
    FeaturePlan,
    FeatureType,
    Lane,
    MediaType,
    ModelUsage,
    Profile,
    Stage,
    Status,
)

T = TypeVar("T")


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
    description: str
    options: ExtractionOptions
    fresh: bool = False
    """Do not answer from a cache."""
    spending: Spending = field(default_factory=Spending)
    """Planners add to it, so that what a failed plan took is known too."""


class Proposal(Struct, frozen=True):
    """A planner's answer."""

    plan: FeaturePlan
    usage: ModelUsage


class Capacity(Protocol):
    """Knows whether a request could be planned now, as a process that takes requests in must before it does."""

    async def require_capacity(self, request: PlanRequest) -> None:
        """Raise what `Planner.propose` would raise for want of a model or a place, as far as this process knows.

        It asks no model, so a request that cannot be planned now is turned away before anything is done for it. Raises
        ModelUnavailable (PlanningBusy).
        """
        ...


class Planner(Capacity, Protocol):
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
    """Tries a validated plan on a sample of its dataset."""

    async def rehearse(self, dataset: Dataset, plan: FeaturePlan) -> tuple[RehearsedFeature, ...]:
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
    def evidence(self) -> tuple[FeatureEvidence, ...]:
        """One measurement for each feature, in the plan's order."""
        ...

    @property
    def sql(self) -> str:
        """The statement that computed the table."""
        ...

    async def publish(self, names: Sequence[str], key: str) -> None:
        """Write the key columns and the named features as Parquet to the artifact `key`, atomically."""
        ...


class Reader(Protocol):
    """Reads files: uploads in, tables out. Never blocks the event loop; stops when its task is cancelled."""

    async def ingest(self, source_key: str, media_type: MediaType, target_key: str) -> Profile:
        """Read an uploaded file, write it as typed Parquet to `target_key`, and profile it.

        Raises DatasetUnreadable with the row and column at fault, ComputeOutOfMemory, DeadlineExceeded;
        DependencyUnavailable when the engine's process ended over it.
        """
        ...

    async def ping(self) -> None:
        """Raises ComputeFailed when the engine cannot start a sandbox."""
        ...

    async def export(self, key: str, media_type: MediaType) -> Path:
        """Render a published Parquet table as CSV or NDJSON into a temporary file that the caller removes.

        Raises ComputeFailed, DeadlineExceeded; DependencyUnavailable when the engine's process ended over it.
        """
        ...


class Engine(Reader, Protocol):
    """Runs validated plans, too."""

    def compute(
        self, dataset: Dataset, plan: FeaturePlan, *, target: str | None, progress: Callable[[float], None]
    ) -> AbstractAsyncContextManager[FeatureTable]:
        """Run the plan and measure each feature; the scratch space is gone on exit.

        `progress` is told the share of the work that is done, 0 to 1, never less than before, now and then.

        Raises ComputeFailed, ComputeOutOfMemory, DeadlineExceeded; DatasetNotFound when the dataset was deleted
        meanwhile.
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


class Page(Struct, Generic[T], frozen=True):
    """One page of a list."""

    items: tuple[T, ...]
    next_cursor: str | None = None


class Datasets(Protocol):
    """Datasets of one owner at a time: another's do not exist."""

    async def add(self, dataset: Dataset) -> None:
        """Raises DatasetExists when the owner already has that id."""
        ...

    async def get(self, owner: str, dataset_id: str) -> Dataset:
        """Raises DatasetNotFound."""
        ...

    async def list(self, owner: str, *, limit: int, cursor: str | None = None) -> Page[Dataset]:
        """Newest first. Raises InvalidRequest for a cursor that this list did not give."""
        ...

    async def delete(self, owner: str, dataset_id: str) -> Dataset:
        """Remove the row and give back what it was. Raises DatasetNotFound."""
        ...


class AttemptSuperseded(Exception):
    """The extraction has ended, or another attempt has taken it over: whoever writes for this one stops."""


class Extractions(Protocol):
    """Extractions: of one owner at a time for clients, of all for workers."""

    async def add(self, extraction: Extraction) -> None:
        """Store a new extraction."""
        ...

    async def claim(self, extraction_id: str, now: datetime) -> Extraction | None:
        """Begin the next attempt; None when there is no such extraction or it has ended.

        A row that is still `processing` was left by a worker that died: that counts in `crashes`.
        """
        ...

    async def save(self, extraction: Extraction) -> None:
        """Store the present state of a run, and wake whoever waits for the extraction.

        Raises AttemptSuperseded when the row has ended, is gone, or another attempt than `extraction.attempt` has it.
        """
        ...

    async def find(self, extraction_id: str) -> Extraction | None:
        """Any owner's extraction, for workers."""
        ...

    async def get(self, owner: str, extraction_id: str) -> Extraction:
        """Raises ExtractionNotFound."""
        ...

    async def wait_no_more(self, owner: str, extraction_id: str) -> None:
        """Note that its caller has been sent away with a 202: from now on it is `patient`."""
        ...

    async def cancel(self, owner: str, extraction_id: str, now: datetime) -> Extraction:
        """End a queued extraction as cancelled; ask for the end of a running one.

        Raises ExtractionNotFound, ExtractionEnded.
        """
        ...

    async def remove(self, owner: str, extraction_id: str) -> Extraction:
        """Delete the row of an extraction that has ended. Raises ExtractionNotFound, ExtractionNotReady."""
        ...

    async def revive(self, extraction_id: str) -> Extraction:
        """Queue a failed extraction again, as new; the caller enqueues it. Raises ExtractionNotFound or -NotReady."""
        ...

    async def newest(self, limit: int, status: Status | None = None) -> tuple[Extraction, ...]:
        """The newest of all owners, for operators."""
        ...

    async def usual_seconds(self, lane: Lane) -> float | None:
        """Median run time of the lane's last 100 completed extractions; None before there are 5."""
        ...

    async def list(
        self,
        owner: str,
        *,
        limit: int,
        cursor: str | None = None,
        status: Status | None = None,
        dataset_id: str | None = None,
    ) -> Page[Extraction]:
        """Newest first. Raises InvalidRequest for a cursor that this list did not give."""
        ...


class StoredAnswer(Struct, frozen=True):
    """An HTTP answer as it was given, to be given again."""

    status: int
    headers: dict[str, str]
    body: bytes


class IdempotencyRecord(Struct, frozen=True):
    """What an idempotency key stands for."""

    digest: bytes
    """SHA-256 of the request that it was first used for."""
    extraction_id: str
    answer: StoredAnswer | None = None
    """None while the first request is being answered, or when its process died before it could."""


class IdempotencyKeys(Protocol):
    """Idempotency keys of each owner, kept for 24 hours."""

    async def claim(self, owner: str, key: str, record: IdempotencyRecord, now: datetime) -> IdempotencyRecord | None:
        """Take the key for this request; gives the record that has it already, or None when it is ours now.

        Waits for a transaction that is taking the same key.
        """
        ...

    async def answer(self, owner: str, key: str, answer: StoredAnswer) -> None:
        """Keep the first answer given under the key; a later one changes nothing."""
        ...

    async def find(self, owner: str, key: str, now: datetime) -> IdempotencyRecord | None:
        """The record of a key that is still kept."""
        ...


class JobQueue(Protocol):
    """Makes extractions run and webhooks go out, here or in another process."""

    async def enqueue(self, work: UnitOfWork, extraction: Extraction, *, delay: float = 0.0) -> None:
        """Have the extraction run, `delay` seconds from now at the earliest; part of the unit of work's transaction."""
        ...

    async def enqueue_delivery(self, work: UnitOfWork, delivery: Delivery, *, delay: float = 0.0) -> None:
        """Have the webhook sent, `delay` seconds from now at the earliest; likewise."""
        ...


class Watch(Protocol):
    """Looks out for changes of one extraction, from its making on."""

    async def changed(self, seconds: float) -> bool:
        """Wait at most so long for a change since the last call; False when none was noticed.

        It may say so without a change, and after `seconds` there may have been one: whoever asks looks at the row.
        """
        ...


class Notices(Protocol):
    """Tells when extractions change, whichever process changes them."""

    def watch(self, extraction_id: str) -> AbstractContextManager[Watch]:
        """Look out for changes while the block runs; enter it before looking at the row."""
        ...


class Forgotten(Struct, frozen=True):
    """Extractions that were deleted."""

    count: int
    artifact_keys: tuple[str, ...]
    """What they referred to and nothing refers to any more."""


class Upkeep(Protocol):
    """What it takes of the database to keep only what is needed; each call is a transaction of its own.

    Its methods raise DependencyUnavailable when the database is away.
    """

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """True for one process at a time, while the block runs; False at once for all others."""
        ...

    async def now(self) -> datetime:
        """The instant by the database's clock, which all processes share."""
        ...

    async def forget_extractions(self, before: datetime, *, limit: int) -> Forgotten:
        """Delete at most `limit` extractions that ended before that instant, oldest first."""
        ...

    async def forget_idempotency_keys(self, now: datetime) -> int:
        """Delete the idempotency keys that are kept no longer; gives how many."""
        ...

    async def in_use(self, keys: Sequence[str]) -> frozenset[str]:
        """Which of these artifacts a row refers to."""
        ...


class Keys(Protocol):
    """API keys."""

    async def add(self, key: ApiKey) -> None:
        """Store a new key."""
        ...

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that public id, revoked and expired ones too."""
        ...

    async def list(self) -> tuple[ApiKey, ...]:
        """All keys, newest first."""
        ...

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke; False when there is no such key. Revoking twice keeps the first time."""
        ...


class UnitOfWork(Protocol):
    """One transaction: committed when its block ends well, rolled back otherwise."""

    @property
    def datasets(self) -> Datasets:
        """The datasets, in this transaction."""
        ...

    @property
    def extractions(self) -> Extractions:
        """The extractions, in this transaction."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """The webhooks, in this transaction."""
        ...

    @property
    def keys(self) -> Keys:
        """The API keys, in this transaction."""
        ...

    @property
    def idempotency(self) -> IdempotencyKeys:
        """The idempotency keys, in this transaction."""
        ...


class Store(Protocol):
    """The database. Every method of it and of its units of work raises DependencyUnavailable when it is away."""

    def begin(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a unit of work."""
        ...

    async def state_of(self, owner: str, extraction_id: str) -> ExtractionState:
        """How far an extraction has come now, outside of any unit of work and at the least cost.

        Raises ExtractionNotFound.
        """
        ...

    async def add_repeated(self, extraction: Extraction, dataset_key: str) -> bool:
        """Store an extraction that is completed as it begins, in a transaction of its own.

        False, and nothing stored, when its dataset is gone or not the one of that artifact any more. What it raises may
        leave the row stored.
        """
        ...

    async def usual_seconds(self, lane: Lane) -> float | None:
        """`Extractions.usual_seconds`, as it was some seconds ago at most."""
        ...

    async def ping(self) -> None:
        """Raises DependencyUnavailable when the database does not answer."""
        ...
