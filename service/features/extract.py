"""Implement the product's use case: a sentence and a dataset in, validated features out.

`AcceptExtraction` stores a request and its job; `Pipeline` computes its features, run by a worker
(`extractions/run.py`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from service.features.context import CURRENT
from service.features.errors import (
    CompletionDateUnreachable,
    ComputeFailed,
    DatasetNotFound,
    ExtractionNotFound,
    IdempotencyKeyReused,
    InvalidRequest,
)
from service.features.events import FeatureAssessed
from service.features.model import (
    Assessment,
    Extraction,
    ExtractionRequest,
    ExtractionResult,
    FeatureEvidence,
    FieldError,
    Lane,
    Profile,
    Stage,
)
from service.features.pins import pinned, read_pinned
from service.features.ports import (
    Capacity,
    Clock,
    Compute,
    FeatureTable,
    Measure,
    Observer,
    Planner,
    PlanRequest,
    Proposal,
)
from service.features.quality import assess, require_features
from service.features.quotas import StorageQuotas
from service.features.resolve_tables import others_of, planning_options, resolve
from service.features.stores import IdempotencyRecord, JobQueue, Store, StoredAnswer, UnitOfWork
from service.features.table_options import TableOptions
from service.features.tables import Tables, explain, with_levels

LARGE_CELLS = 50_000_000
"""From this many cells (rows times columns) extractions run in the large lane, some ten seconds each."""
COMPUTED_SHARE = 0.6
"""Share of the stage `compute` that is done when the features are computed and not yet measured."""

Table = TypeVar("Table", bound=FeatureTable)


class IdempotencyClaim(Struct, frozen=True):
    """Hold the caller's Idempotency-Key and the digest of its request."""

    key: str
    digest: bytes


class Accepted(Struct, frozen=True):
    """An extraction that will run, or the existing one of its idempotency key."""

    extraction: Extraction
    replayed: bool = False
    answer: StoredAnswer | None = None
    """The stored answer under the key, if there is one."""
    dataset_key: str = ""
    """The artifact of its dataset; empty for an existing extraction, and for one that reads more than that file."""


class AcceptExtraction:
    """Accept requests: when it returns, the extraction is stored together with the job that runs it."""

    def __init__(
        self,
        *,
        store: Store,
        queue: JobQueue,
        capacity: Capacity,
        clock: Clock,
        new_id: Callable[[], str],
        quotas: StorageQuotas,
    ) -> None:
        self._store = store
        self._queue = queue
        self._capacity = capacity
        self._clock = clock
        self._new_id = new_id
        self._quotas = quotas

    async def __call__(
        self, owner: str, request: ExtractionRequest, *, detached: bool = False, claim: IdempotencyClaim | None = None
    ) -> Accepted:
        """Store the request as a queued extraction and have it run, in one transaction.

        Raises DatasetNotFound; InvalidRequest when `options` name columns that the dataset does not have;
        QuotaExceeded; CompletionDateUnreachable; IdempotencyKeyReused; and, unless `detached`, ModelUnavailable when no
        model could plan it now, so that nothing is stored for what cannot be done.
        """
        extraction = self._new(owner, request, detached=detached)
        async with self._store.begin() as work:
            if claim is not None:
                record = await self._claim(work, claim, extraction)
                if record is not None:
                    return await _replayed(work, record, claim)
            tables = await read_tables(work, owner, request)
            extraction = replace(extraction, request=pinned(request, *tables.all), lane=lane_of(tables))
            await self._quotas.require_space(work, owner)
            await self._require_time(work, extraction)
            if not detached:
                await self._capacity.require_capacity(_to_plan(request, tables))
            await work.extractions.add(extraction)
            await self._queue.enqueue(work, extraction)
        return Accepted(extraction, dataset_key=tables.main.artifact_key if tables.plain else "")

    def _new(self, owner: str, request: ExtractionRequest, *, detached: bool) -> Extraction:
        context = CURRENT.get()
        return Extraction(
            id=self._new_id(),
            owner=owner,
            request=request,
            status="queued",
            created_at=self._clock.now(),
            request_id=context.request_id if context else "",
            trace_id=context.trace_id if context else "",
            due_at=_end_of(request),
            detached=detached,
        )

    async def _claim(
        self, work: UnitOfWork, claim: IdempotencyClaim, extraction: Extraction
    ) -> IdempotencyRecord | None:
        ours = IdempotencyRecord(claim.digest, extraction.id)
        return await work.idempotency.claim(extraction.owner, claim.key, ours, extraction.created_at)

    async def _require_time(self, work: UnitOfWork, extraction: Extraction) -> None:
        if extraction.due_at is None:
            return
        usual = await work.extractions.usual_seconds(extraction.lane) or 0.0
        if extraction.created_at + timedelta(seconds=usual) > extraction.due_at:
            fault = FieldError("completion_date", f"such extractions usually take {usual:.0f} seconds")
            raise CompletionDateUnreachable("The extraction cannot be done by its completion date.", errors=[fault])


class Pipeline(Generic[Table]):
    """Profile, plan, compute, assess and publish features."""

    def __init__(
        self, *, store: Store, planner: Planner, compute: Compute[Table], measure: Measure[Table], observer: Observer
    ) -> None:
        self._store = store
        self._planner = planner
        self._compute = compute
        self._measure = measure
        self._observer = observer

    async def __call__(self, extraction: Extraction, enter: Callable[[Stage, float], None]) -> ExtractionResult:
        """Make the features and publish them under a key of this attempt.

        `enter` is called when a stage begins and as it progresses, with the share done, 0 to 1. Raises any
        FeatureAgentError.
        """
        request, key = extraction.request, artifact_key(extraction)
        with self._stage(extraction, "profile", enter):
            tables = await self._tables(extraction)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._reading(extraction, tables))
            with self._stage(extraction, "plan", enter):
                proposal = await self._planner.propose(_to_plan(request, tables))
                proposal = replace(proposal, plan=with_levels(proposal.plan, tables))
            with self._stage(extraction, "compute", enter):
                computing = self._compute.compute(
                    tables, proposal.plan, progress=lambda share: enter("compute", COMPUTED_SHARE * share)
                )
                table = await stack.enter_async_context(computing)
                evidence = await self._measure.measure(
                    table,
                    target=request.options.target,
                    progress=lambda share: enter("compute", COMPUTED_SHARE + (1 - COMPUTED_SHARE) * share),
                )
            with self._stage(extraction, "assess", enter):
                assessment = self._assess(extraction, proposal, evidence)
                await table.publish([feature.name for feature in assessment.accepted], key)
            return _result(proposal, tables, table, assessment, key)

    def _stage(
        self, extraction: Extraction, stage: Stage, enter: Callable[[Stage, float], None]
    ) -> AbstractContextManager[None]:
        enter(stage, 0.0)
        return self._observer.stage(extraction.id, stage)

    def _assess(self, extraction: Extraction, proposal: Proposal, evidence: Sequence[FeatureEvidence]) -> Assessment:
        assessment = assess(proposal.plan, evidence, extraction.request.quality_threshold)
        for feature in assessment.accepted:
            self._observer.record(FeatureAssessed(feature.quality_score))
        for rejected in assessment.rejected:
            self._observer.record(FeatureAssessed(rejected.quality_score, rejected.reason))
        require_features(assessment)
        return assessment

    @asynccontextmanager
    async def _reading(self, extraction: Extraction, tables: Tables) -> AsyncGenerator[None]:
        """Raise DatasetNotFound instead of the errors that readers get while a dataset is deleted."""
        try:
            yield
        except (FileNotFoundError, ComputeFailed):
            present = (await self._tables(extraction)).all
            if [one.artifact_key for one in present] != [one.artifact_key for one in tables.all]:
                raise DatasetNotFound("The dataset was replaced while the extraction ran.") from None
            raise

    async def _tables(self, extraction: Extraction) -> Tables:
        async with self._store.begin() as work:
            return await read_tables(work, extraction.owner, extraction.request)


async def read_tables(work: UnitOfWork, owner: str, request: ExtractionRequest) -> Tables:
    """Return all data that the request reads. Raises DatasetNotFound, and InvalidRequest for what does not fit it."""
    main = await read_pinned(work, owner, request, request.dataset_id)
    others = {name: await read_pinned(work, owner, request, name) for name in others_of(request.tables)}
    if request.tables == TableOptions():
        _require_columns(request, main.profile)
    return resolve(request, main, others)


def artifact_key(extraction: Extraction) -> str:
    """Return the key for an attempt's features; no other attempt writes there."""
    return f"features/{extraction.id}/{extraction.attempt}.parquet"


def lane_of(tables: Tables) -> Lane:
    """Return the lane for extractions on data of that size."""
    cells = sum(dataset.profile.row_count * len(dataset.profile.columns) for dataset in tables.all)
    return "large" if cells >= LARGE_CELLS else "small"


def _end_of(request: ExtractionRequest) -> datetime | None:
    """Return the end of the completion date (UTC); None for the last representable day, which has no next day."""
    if request.completion_date is None or request.completion_date == date.max:
        return None
    return datetime.combine(request.completion_date + timedelta(days=1), time(), tzinfo=UTC)


async def _replayed(work: UnitOfWork, record: IdempotencyRecord, claim: IdempotencyClaim) -> Accepted:
    if record.digest != claim.digest:
        fault = FieldError("Idempotency-Key", "was used for another request in the last 24 hours")
        raise IdempotencyKeyReused("The Idempotency-Key stands for another request: take a new one.", errors=[fault])
    extraction = await work.extractions.find(record.extraction_id)
    if extraction is None:
        raise ExtractionNotFound("The extraction of this Idempotency-Key has been deleted.")
    return Accepted(extraction, replayed=True, answer=record.answer)


def _to_plan(request: ExtractionRequest, tables: Tables) -> PlanRequest:
    options = planning_options(request, tables)
    return PlanRequest(tables.dataset, request.feature_description, options, fresh=request.fresh, tables=tables)


def _require_columns(request: ExtractionRequest, profile: Profile) -> None:
    options = request.options
    named = {"entity": options.entity, "time": options.time, "target": options.target}
    missing = [
        FieldError(f"options.{role}", f"the dataset has no column {name!r}")
        for role, name in named.items()
        if name is not None and profile.column(name) is None
    ]
    if missing:
        columns = ", ".join(column.name for column in profile.columns[:50])
        raise InvalidRequest(
            f"The options name columns that the dataset does not have. It has: {columns}.", errors=missing
        )


def _result(
    proposal: Proposal, tables: Tables, table: FeatureTable, assessment: Assessment, key: str
) -> ExtractionResult:
    plan = proposal.plan
    return ExtractionResult(
        features=assessment.accepted,
        rejected_features=assessment.rejected,
        feature_pipeline_steps=(*explain(tables), *plan.steps),
        quality=assessment.quality,
        model=proposal.usage,
        row_count=table.row_count,
        grain=plan.grain if tables.observed is None else "observation",
        entity=plan.entity,
        time=plan.time,
        artifact_key=key,
        sql=table.sql,
        columns=plan.columns,
        dataset_version=tables.main.version,
    )
