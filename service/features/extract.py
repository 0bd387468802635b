"""The use case of the product: a sentence and a dataset in, validated features out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import AsyncExitStack

from msgspec.structs import replace

from service.features.context import CURRENT
from service.features.deadline import seconds_left
from service.features.errors import DeadlineExceeded, FeatureAgentError, InvalidRequest
from service.features.events import ExtractionFinished, ExtractionStarted, FeatureAssessed
from service.features.model import (
    Assessment,
    Dataset,
    Extraction,
    ExtractionRequest,
    ExtractionResult,
    Failure,
    FieldError,
    Profile,
    Stage,
    Status,
)
from service.features.ports import Clock, Engine, FeatureTable, Observer, Planner, PlanRequest, Proposal, Store
from service.features.quality import assess, require_features

PROGRESS: dict[Stage, int] = {"profile": 5, "plan": 10, "compute": 40, "assess": 85}
"""Percent shown while a stage runs."""

GRACE_SECONDS = 1.0
"""Beyond the deadline, for the step that runs to say by itself what it was that did not end."""

INTERRUPTED = Failure("service_stopped", "internal", "The service stopped before the extraction ended.", retryable=True)
UNEXPECTED = Failure("internal_error", "internal", "The extraction failed for an unexpected reason.", retryable=False)


class ExtractFeatures:
    """Accepts requests and runs them to their end; knows neither HTTP nor queues."""

    def __init__(
        self,
        *,
        store: Store,
        planner: Planner,
        engine: Engine,
        observer: Observer,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._planner = planner
        self._engine = engine
        self._observer = observer
        self._clock = clock
        self._new_id = new_id

    async def accept(self, owner: str, request: ExtractionRequest) -> Extraction:
        """Store the request as a queued extraction.

        Raises DatasetNotFound; InvalidRequest when `options` name columns that the dataset does not have; and
        ModelUnavailable when no model could plan it now, so that nothing is stored for what cannot be done.
        """
        context = CURRENT.get()
        extraction = Extraction(
            id=self._new_id(),
            owner=owner,
            request=request,
            status="queued",
            created_at=self._clock.now(),
            request_id=context.request_id if context else "",
            trace_id=context.trace_id if context else "",
        )
        async with self._store.begin() as work:
            dataset = await work.datasets.get(owner, request.dataset_id)
            _require_columns(request, dataset.profile)
            await self._planner.require_capacity(_to_plan(request, dataset))
            await work.extractions.add(extraction)
        return extraction

    async def run(self, extraction: Extraction) -> Extraction:
        """Run an accepted extraction to its end and give it back completed.

        It obeys the deadline around it. Whatever goes wrong, the extraction is stored as failed with the reason, and
        the error is raised on.
        """
        if context := CURRENT.get():
            context.extraction_id = extraction.id
        started = self._clock.now()
        extraction = replace(extraction, status="processing", started_at=started)
        self._observer.record(ExtractionStarted(extraction.id, extraction.request.quality_threshold))
        try:
            result = await self._in_time(extraction)
        except FeatureAgentError as error:
            await self._finish(extraction, "failed", failure=error.failure())
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._finish(extraction, "failed", failure=INTERRUPTED))
            raise
        except Exception:
            await self._finish(extraction, "failed", failure=UNEXPECTED)
            raise
        return await self._finish(extraction, "completed", result=result)

    async def _in_time(self, extraction: Extraction) -> ExtractionResult:
        """The result, within the deadline even when a step forgets it."""
        left = seconds_left(math.inf)
        limit = asyncio.timeout(None if left == math.inf else left + GRACE_SECONDS)
        try:
            async with limit:
                return await self._result(extraction)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded("The extraction did not end within the time that it may take.") from error

    async def _result(self, extraction: Extraction) -> ExtractionResult:
        """Profile, plan, compute, assess, save."""
        request, key = extraction.request, f"features/{extraction.id}.parquet"
        with self._observer.stage(extraction.id, "profile"):
            dataset = await self._dataset(extraction)
        with self._observer.stage(extraction.id, "plan"):
            await self._enter(extraction, "plan")
            proposal = await self._planner.propose(_to_plan(request, dataset))
        async with AsyncExitStack() as stack:
            with self._observer.stage(extraction.id, "compute"):
                await self._enter(extraction, "compute")
                computing = self._engine.compute(dataset, proposal.plan, target=request.options.target)
                table = await stack.enter_async_context(computing)
            with self._observer.stage(extraction.id, "assess"):
                await self._enter(extraction, "assess")
                assessment = self._assess(extraction, proposal, table)
                await table.publish([feature.name for feature in assessment.accepted], key)
            return _result(proposal, table, assessment, key)

    def _assess(self, extraction: Extraction, proposal: Proposal, table: FeatureTable) -> Assessment:
        assessment = assess(proposal.plan, table.evidence, extraction.request.quality_threshold)
        for feature in assessment.accepted:
            self._observer.record(FeatureAssessed(feature.quality_score))
        for rejected in assessment.rejected:
            self._observer.record(FeatureAssessed(rejected.quality_score, rejected.reason))
        require_features(assessment)
        return assessment

    async def _dataset(self, extraction: Extraction) -> Dataset:
        async with self._store.begin() as work:
            return await work.datasets.get(extraction.owner, extraction.request.dataset_id)

    async def _enter(self, extraction: Extraction, stage: Stage) -> None:
        async with self._store.begin() as work:
            await work.extractions.save(replace(extraction, stage=stage, progress=PROGRESS[stage]))

    async def _finish(
        self,
        extraction: Extraction,
        status: Status,
        *,
        result: ExtractionResult | None = None,
        failure: Failure | None = None,
    ) -> Extraction:
        now = self._clock.now()
        finished = replace(
            extraction, status=status, finished_at=now, result=result, failure=failure, stage=None, progress=100
        )
        async with self._store.begin() as work:
            await work.extractions.save(finished)
        seconds = (now - (extraction.started_at or now)).total_seconds()
        self._observer.record(
            ExtractionFinished(
                extraction.id,
                extraction.request.quality_threshold,
                status,
                seconds,
                failure.code if failure else None,
            )
        )
        return finished


def _to_plan(request: ExtractionRequest, dataset: Dataset) -> PlanRequest:
    return PlanRequest(dataset, request.feature_description, request.options, fresh=request.fresh)


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


def _result(proposal: Proposal, table: FeatureTable, assessment: Assessment, key: str) -> ExtractionResult:
    plan = proposal.plan
    return ExtractionResult(
        features=assessment.accepted,
        rejected_features=assessment.rejected,
        feature_pipeline_steps=plan.steps,
        quality=assessment.quality,
        model=proposal.usage,
        row_count=table.row_count,
        grain=plan.grain,
        entity=plan.entity,
        time=plan.time,
        artifact_key=key,
        sql=table.sql,
    )
