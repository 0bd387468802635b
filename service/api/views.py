"""Convert the domain's structs to those of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from service.api.extraction_schemas import (
    ComputedColumnView,
    ExtractionLinks,
    ExtractionSummary,
    ExtractionView,
    FailureView,
    FeatureView,
    ModelView,
    QualityView,
    RejectedFeatureView,
    StatusView,
)
from service.api.observability_links import Links
from service.api.problems import Fault
from service.api.read_options import OverridesView
from service.api.schemas import ColumnView, DatasetLinks, DatasetSummary, DatasetView, OptionsBody, SuggestedJoinView
from service.features.joins import SuggestedJoin
from service.features.model import Dataset, Extraction, ExtractionState
from service.webhooks.links import BASE, dataset_path, deliveries_path, extraction_path


def dataset_view(dataset: Dataset, joins: Sequence[SuggestedJoin]) -> DatasetView:
    """Convert a dataset with its profile, and what could be related to it."""
    profile = dataset.profile
    return DatasetView(
        dataset_id=dataset.id,
        version=dataset.version,
        media_type=dataset.media_type,
        size_bytes=dataset.size_bytes,
        row_count=profile.row_count,
        columns=msgspec.convert(profile.columns, tuple[ColumnView, ...], from_attributes=True),
        fingerprint=profile.fingerprint,
        notes=profile.notes,
        candidate_keys=profile.candidate_keys,
        suggested_joins=msgspec.convert(tuple(joins), tuple[SuggestedJoinView, ...], from_attributes=True),
        overrides=msgspec.convert(dataset.overrides, OverridesView, from_attributes=True),
        created_at=dataset.created_at,
        updated_at=dataset.updated_at or dataset.created_at,
        links=_dataset_links(dataset.id),
    )


def dataset_summary(dataset: Dataset) -> DatasetSummary:
    """Convert a dataset for a list."""
    return DatasetSummary(
        dataset_id=dataset.id,
        version=dataset.version,
        media_type=dataset.media_type,
        size_bytes=dataset.size_bytes,
        row_count=dataset.profile.row_count,
        column_count=len(dataset.profile.columns),
        created_at=dataset.created_at,
        links=_dataset_links(dataset.id),
    )


def extraction_view(extraction: Extraction, observability_links: Links) -> ExtractionView:
    """Convert an extraction with everything known of it."""
    request, result = extraction.request, extraction.result
    return ExtractionView(
        extraction_id=extraction.id,
        dataset_id=request.dataset_id,
        dataset_version=request.dataset_version if result is None else result.dataset_version,
        status=extraction.status,
        progress=extraction.progress,
        feature_description=request.feature_description,
        quality_threshold=request.quality_threshold,
        completion_date=request.completion_date,
        callback_url=request.callback_url,
        options=OptionsBody.of(request),
        created_at=extraction.created_at,
        started_at=extraction.started_at,
        finished_at=extraction.finished_at,
        features=msgspec.convert(result.features, tuple[FeatureView, ...], from_attributes=True) if result else (),
        rejected_features=msgspec.convert(
            result.rejected_features, tuple[RejectedFeatureView, ...], from_attributes=True
        )
        if result
        else (),
        feature_pipeline_steps=result.feature_pipeline_steps if result else (),
        quality=msgspec.convert(result.quality, QualityView, from_attributes=True) if result else None,
        model=msgspec.convert(result.model, ModelView, from_attributes=True) if result else None,
        row_count=result.row_count if result else None,
        grain=result.grain if result else None,
        entity=result.entity if result else None,
        time=result.time if result else None,
        sql=result.sql if result else None,
        computed_columns=msgspec.convert(result.columns, tuple[ComputedColumnView, ...], from_attributes=True)
        if result
        else (),
        failure=_failure(extraction),
        links=_extraction_links(extraction, observability_links),
        trace_id=extraction.trace_id,
    )


def extraction_summary(extraction: Extraction, observability_links: Links) -> ExtractionSummary:
    """Convert an extraction for a list."""
    return ExtractionSummary(
        extraction_id=extraction.id,
        dataset_id=extraction.request.dataset_id,
        status=extraction.status,
        progress=extraction.progress,
        feature_description=extraction.request.feature_description,
        quality_threshold=extraction.request.quality_threshold,
        created_at=extraction.created_at,
        finished_at=extraction.finished_at,
        error_message=_error_message(extraction),
        links=_extraction_links(extraction, observability_links),
    )


def status_view(extraction: Extraction | ExtractionState, now: datetime, usual: float | None) -> StatusView:
    """Convert an extraction's status at the instant `now`; `usual` is the seconds that similar ones took."""
    return StatusView(
        extraction_id=extraction.id,
        status=extraction.status,
        progress=extraction.progress,
        stage=extraction.stage,
        estimated_completion=_estimated_completion(extraction, now, usual),
        error_message=_error_message(extraction),
    )


def has_ended(extraction: Extraction | ExtractionState) -> bool:
    """Check whether its status is final."""
    return extraction.status not in {"queued", "processing"}


def _estimated_completion(
    extraction: Extraction | ExtractionState, now: datetime, usual: float | None
) -> datetime | None:
    """Estimate the end from the time that others took; after that, or without others, linearly from the progress.

    A queued one is taken to start now.
    """
    if extraction.finished_at is not None:
        return extraction.finished_at
    started = now if extraction.status == "queued" else extraction.started_at or now
    if usual is not None and (expected := started + timedelta(seconds=usual)) > now:
        return expected
    if extraction.progress == 0:
        return None
    return now + (now - started) * (100 - extraction.progress) / extraction.progress


def _error_message(extraction: Extraction | ExtractionState) -> str | None:
    if extraction.failure is None:
        return None
    again = "" if has_ended(extraction) else "The last run failed and will be tried again: "
    return again + extraction.failure.message


def _failure(extraction: Extraction) -> FailureView | None:
    if (failure := extraction.failure) is None:
        return None
    errors = tuple(Fault(fault.field, fault.message) for fault in failure.errors)
    return FailureView(failure.code, failure.category, failure.message, failure.retryable, errors)


def _dataset_links(dataset_id: str) -> DatasetLinks:
    return DatasetLinks(self=dataset_path(dataset_id), extractions=f"{BASE}/extractions?dataset_id={dataset_id}")


def _extraction_links(extraction: Extraction, observability_links: Links) -> ExtractionLinks:
    path = extraction_path(extraction.id)
    return ExtractionLinks(
        self=path,
        status=f"{path}/status",
        events=f"{path}/events",
        dataset=dataset_path(extraction.request.dataset_id),
        features=f"{path}/features" if extraction.status == "completed" else None,
        deliveries=deliveries_path(extraction.id) if extraction.request.callback_url is not None else None,
        **observability_links._asdict(),
    )
