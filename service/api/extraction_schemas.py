"""Wire structs of extractions and what they are made from."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from msgspec import Meta, Struct

from service.api.problems import Fault
from service.api.schemas import OptionsBody, PageView, Success, ValueCountView
from service.features.model import Dimension, FeatureType, RejectionReason, Stage, Status, TableGrain, Threshold
from service.features.operations import AnyOperation

Progress = Annotated[int, Meta(ge=0, le=100, description="Percent.")]
Score = Annotated[float, Meta(description="0 … 1.")]


class StatisticsView(Struct, frozen=True):
    """Statistics of a computed feature."""

    count: Annotated[int, Meta(description="Rows of the feature table.")]
    null_ratio: float
    distinct_count: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    standard_deviation: float | None
    median: float | None
    top_values: tuple[ValueCountView, ...]


class ComputedColumnView(Struct, frozen=True):
    """A column that was computed for each row before the features."""

    name: str
    operation: Annotated[AnyOperation, Meta(description="How it is computed; `kind` names the operation.")]


class FeatureView(Struct, frozen=True):
    """An accepted feature."""

    name: str
    description: str
    dtype: FeatureType
    operation: Annotated[AnyOperation, Meta(description="How it is computed; `kind` names the operation.")]
    source_columns: tuple[str, ...]
    statistics: StatisticsView
    quality_score: Score
    quality_dimensions: dict[Dimension, float]
    table: Annotated[
        str | None, Meta(description="The dataset whose rows it was aggregated from; null for a single table.")
    ]


class RejectedFeatureView(Struct, frozen=True):
    """A feature that was computed and not accepted."""

    name: str
    description: str
    operation: Annotated[AnyOperation, Meta(description="How it is computed; `kind` names the operation.")]
    reason: RejectionReason
    detail: str
    quality_score: Score


class QualityView(Struct, frozen=True):
    """Quality of the accepted features together."""

    threshold: Threshold
    score: Score
    dimensions: dict[Dimension, float]


class ModelView(Struct, frozen=True):
    """Which model planned, and what it took."""

    name: str
    input_tokens: int
    output_tokens: int
    cost_usd: Annotated[float | None, Meta(description="Null when the price is not known.")]
    fallback: Annotated[
        bool, Meta(description="Whether the configured first model could not, so that another planned.")
    ]
    cached: Annotated[bool, Meta(description="Whether the plan was made for an earlier equal request.")]


class ExtractionLinks(Struct, frozen=True):
    """Paths to follow."""

    self: str
    status: str
    events: str
    dataset: str
    features: Annotated[str | None, Meta(description="The feature table; null until the extraction is completed.")]
    deliveries: Annotated[str | None, Meta(description="Its webhooks; null without a `callback_url`.")]
    trace: Annotated[str | None, Meta(description="Its trace; null where the service has no address for traces.")]
    logs: Annotated[str | None, Meta(description="Its log lines; null likewise.")]
    dashboard: Annotated[str | None, Meta(description="The service's dashboard at that time; null likewise.")]


class FailureView(Struct, frozen=True):
    """Why an extraction failed."""

    error_code: str
    error_category: str
    detail: str
    retryable: bool
    errors: tuple[Fault, ...]


class ExtractionView(Struct, frozen=True):
    """The whole of an extraction; what only a completed one has is empty or null until then."""

    extraction_id: str
    dataset_id: str
    dataset_version: Annotated[
        int | None,
        Meta(description="The version of the dataset that it reads; null when an older release accepted or ran it."),
    ]
    status: Status
    progress: Progress
    feature_description: str
    quality_threshold: Threshold
    completion_date: date | None
    callback_url: str | None
    options: OptionsBody
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    features: tuple[FeatureView, ...]
    rejected_features: tuple[RejectedFeatureView, ...]
    feature_pipeline_steps: tuple[str, ...]
    quality: QualityView | None
    model: ModelView | None
    row_count: int | None
    grain: TableGrain | None
    entity: str | None
    time: str | None
    sql: Annotated[str | None, Meta(description="The statement that computed the features.")]
    computed_columns: Annotated[
        tuple[ComputedColumnView, ...], Meta(description="Columns that were computed first, and that features read.")
    ]
    failure: FailureView | None
    links: ExtractionLinks
    trace_id: str


class StatusView(Struct, frozen=True):
    """How far an extraction has come."""

    extraction_id: str
    status: Status
    progress: Progress
    stage: Stage | None
    estimated_completion: Annotated[
        datetime | None,
        Meta(description="From what others took, or from its progress; the true end of a finished one; else null."),
    ]
    error_message: Annotated[
        str | None, Meta(description="Why it failed; while it is queued again, why its last run did.")
    ]


class ExtractionSummary(Struct, frozen=True):
    """An extraction in a list."""

    extraction_id: str
    dataset_id: str
    status: Status
    progress: Progress
    feature_description: str
    quality_threshold: Threshold
    created_at: datetime
    finished_at: datetime | None
    error_message: str | None
    links: ExtractionLinks


class ExtractionPage(PageView[ExtractionSummary], frozen=True):
    """A page of extractions, newest first."""


class ExtractionAnswer(Success[ExtractionView], frozen=True):
    """Answer with one extraction."""


class StatusAnswer(Success[StatusView], frozen=True):
    """Answer of `GET /extraction/{id}/status`."""


class ExtractionListAnswer(Success[ExtractionPage], frozen=True):
    """Answer of `GET /extractions`."""
