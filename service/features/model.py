"""The words of the domain: what a dataset, a plan, a report and an extraction are, as frozen data."""

from __future__ import annotations

from datetime import date, datetime
from functools import cached_property
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from service.features.operations import AnyOperation, FeatureType, Grain, LogicalType, Scalar
from service.features.table_options import DatasetName, EntityKey, Name, TableOptions

Threshold = Literal["low", "medium", "high"]
Status = Literal["queued", "processing", "completed", "failed", "cancelled"]
Stage = Literal["profile", "plan", "compute", "assess"]
Lane = Literal["small", "large"]
"""Size class of an extraction's job: small ones never wait behind a large one."""
Dimension = Literal["completeness", "validity", "variability", "redundancy", "stability", "leakage"]
RejectionReason = Literal[
    "incomplete", "invalid_values", "constant", "redundant", "unstable", "leakage", "below_threshold"
]
TableGrain = Grain | Literal["observation"]
"""What a row of a feature table stands for: a row of the dataset, an entity, or an observation of one at a moment."""
Quota = Literal["datasets", "stored_bytes"]
MediaType = Literal["text/csv", "application/vnd.apache.parquet", "application/x-ndjson"]
SPREADSHEET_CSV: Final = "text/csv;safe=spreadsheet"
TableForm = MediaType | Literal["text/csv;safe=spreadsheet"]
"""How a feature table is rendered; the last is CSV in which no text is a formula to a spreadsheet."""

TimeUnit = Literal["seconds", "milliseconds", "microseconds", "date", "year", "year_month", "time_of_day"]
"""What a column's values count or spell, where its text alone does not say: instants since 1970 in UTC, `YYYYMMDD`,
`YYYY`, `YYYY-MM` or `YYYYMM`, and times of day, which are read as seconds since midnight."""
ColumnRole = Literal["feature", "identifier", "ignored"]
"""What a column is for: values to compute from, a key of things, or nothing (it is left out)."""

FeatureName = Annotated[str, Meta(min_length=1, max_length=120, pattern=r"^[a-z][a-z0-9_]*$")]


class ValueCount(Struct, frozen=True):
    """How many rows hold a value; the value is rendered as text."""

    value: str
    count: int


class ColumnProfile(Struct, frozen=True):
    """What is known of one column. Statistics are over its non-null values."""

    name: str
    """As the dataset spells it; empty and repeated names are made unique on ingest (see `Profile.notes`)."""
    position: int
    logical_type: LogicalType
    physical_type: str
    """The engine's type: BIGINT, DOUBLE, BOOLEAN, TIMESTAMP, VARCHAR …"""
    null_ratio: float
    distinct_count: int
    minimum: Scalar | None = None
    """Number, or ISO 8601 text for a datetime; none for text and for personal columns."""
    maximum: Scalar | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    quantiles: dict[str, float] = field(default_factory=dict[str, float])
    """Keys p05, p25, p50, p75, p95 (numeric and integer columns)."""
    top_values: tuple[ValueCount, ...] = ()
    """Most frequent values first; empty for personal columns."""
    examples: tuple[str, ...] = ()
    """A few distinct values; empty for personal columns."""
    frequent_terms: tuple[ValueCount, ...] = ()
    """Words that at least five of 20 000 rows hold, with how many of them do, most first (text columns)."""
    mean_length: float | None = None
    """Mean characters of a text column."""
    non_finite_ratio: float = 0.0
    """Share of NaN and infinite values."""
    personal: bool = False
    """Looks like personal data (name, e-mail, phone, address …): its values never leave the engine."""
    distinct_is_approximate: bool = False
    """Whether `distinct_count` is an estimate (HyperLogLog, usually within a few percent) instead of a count."""


class Profile(Struct, frozen=True, dict=True):
    """What the planner sees of a dataset: statistics of columns, never rows."""

    row_count: int
    columns: tuple[ColumnProfile, ...]
    fingerprint: str
    """SHA-256 (hex) of the columns' names, types and statistics: equal data, equal fingerprint."""
    notes: tuple[str, ...] = ()
    """What ingest did: delimiter, encoding, header and date formats found, columns renamed, values changed."""
    candidate_keys: tuple[tuple[str, ...], ...] = ()
    """Column names, each tuple of which tells every row apart: no value is missing and none comes twice, counted."""

    def column(self, name: str) -> ColumnProfile | None:
        """The column of that exact name, or None."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, ColumnProfile]:
        return {column.name: column for column in reversed(self.columns)}


class ColumnOverride(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one column is read, where the client knows better than its values tell; what is None is found out."""

    type: LogicalType | None = None
    """The column's logical type; its values must all convert."""
    unit: TimeUnit | None = None
    """Of a datetime column, or `time_of_day`, which makes an integer column."""
    zone: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """IANA name of the zone in which values without an offset are local times."""
    null_words: Annotated[tuple[Annotated[str, Meta(max_length=100)], ...], Meta(max_length=100)] | None = None
    """Texts that stand for a missing value, instead of the usual ones; an empty cell of a text file always does."""
    role: ColumnRole | None = None


class ReadOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an upload is read, where the client says so."""

    columns: Annotated[dict[str, ColumnOverride], Meta(max_length=10_000)] = field(
        default_factory=dict[str, ColumnOverride]
    )
    """By the column's name, as the profile spells it."""
    zone: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """IANA name of the zone of local times in columns that name none; UTC when that is None, too."""


NO_OVERRIDES: Final = ReadOptions()
"""Everything is found out from the upload."""


class Dataset(Struct, frozen=True):
    """An uploaded dataset, stored as Parquet under `artifact_key`."""

    id: str
    owner: str
    media_type: MediaType
    size_bytes: int
    """Bytes uploaded."""
    artifact_key: str
    profile: Profile
    created_at: datetime
    """When its first version was uploaded."""
    stored_bytes: int | None = None
    """Bytes of the stored Parquet and of the original together; None until the housekeeping has measured what an older
    release stored."""
    version: int = 1
    """Counts uploads and changes of how the upload is read; begins at 1 again when the dataset is deleted."""
    updated_at: datetime | None = None
    """When this version was made; None for what an older release uploaded."""
    original_key: str | None = None
    """The artifact with the uploaded bytes; None for what an older release uploaded, and for a version that was
    replaced by another one of the same bytes."""
    original_digest: bytes | None = None
    """SHA-256 of the uploaded bytes."""
    overrides: ReadOptions = NO_OVERRIDES
    """How the original was to be read."""

    @property
    def parquet_bytes(self) -> int | None:
        """Bytes of the stored Parquet alone."""
        kept = 0 if self.original_key is None else self.size_bytes
        return None if self.stored_bytes is None else self.stored_bytes - kept


class DatasetPin(Struct, frozen=True):
    """One version of a dataset, by its number and by its artifact: numbers are used again after a deletion."""

    version: int
    artifact_key: str


class StorageUse(Struct, frozen=True):
    """What a principal keeps."""

    datasets: int = 0
    stored_bytes: int = 0
    """Of its datasets and feature tables together."""


class StorageLimits(Struct, frozen=True):
    """What each principal may keep; 0 is no limit."""

    datasets: int = 0
    stored_bytes: int = 0


class PlannedFeature(Struct, frozen=True, forbid_unknown_fields=True):
    """One proposed feature."""

    name: FeatureName
    description: Annotated[str, Meta(min_length=3, max_length=500)]
    operation: AnyOperation
    table: DatasetName | None = None
    """The dataset whose rows are aggregated, among related ones.

    By default the lowest whose columns are read; without columns, the one with the plan's time.
    """


class ComputedColumn(Struct, frozen=True, forbid_unknown_fields=True):
    """A column that is computed for each row by a row operation, and read like a column of the dataset."""

    name: FeatureName
    operation: AnyOperation


class GroupedRows(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of an entity that belong together (lines of an order, readings of a day), made one row each.

    Features read its columns as `name.column`: those of `by`, its features, and `time`, the latest instant of its rows.
    """

    name: FeatureName
    by: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=4)]
    features: Annotated[tuple[PlannedFeature, ...], Meta(min_length=1, max_length=20)]
    """Operations of grain "entity", computed for each group."""

    def column(self, name: str) -> str:
        """Return what features call one of its columns."""
        return f"{self.name}.{name}"

    @property
    def time(self) -> str:
        """Return what features call its latest instant."""
        return self.column("time")


class FeaturePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """What a planner proposes and `plan.validate` decides on.

    `grain` "entity" gives one row for each value of the `entity` column; "row" keeps the dataset's rows.
    """

    grain: Grain
    features: Annotated[tuple[PlannedFeature, ...], Meta(min_length=1, max_length=200)]
    entity: str | None = None
    time: str | None = None
    steps: Annotated[tuple[Annotated[str, Meta(max_length=500)], ...], Meta(max_length=20)] = ()
    """The reasoning in plain words, shown to the client as `feature_pipeline_steps`."""
    entity_key: EntityKey | None = None
    """What `entity` is made of, when it is no column; `entity` is then its name."""
    columns: Annotated[tuple[ComputedColumn, ...], Meta(max_length=50)] = ()
    """Columns that are computed first, in order; each may read those before it."""
    groups: Annotated[tuple[GroupedRows, ...], Meta(max_length=5)] = ()
    """At grain "entity": rows that are aggregated to groups before features aggregate those."""
    unpublished: Annotated[tuple[FeatureName, ...], Meta(max_length=200)] = ()
    """Features that only others are made of: at grain "entity", a row operation reads features before it."""

    @property
    def published(self) -> tuple[PlannedFeature, ...]:
        """Return the features that are measured and published."""
        return tuple(feature for feature in self.features if feature.name not in self.unpublished)


class ExtractionOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What the client may fix beforehand; the planner chooses what is left open."""

    max_features: Annotated[int, Meta(ge=1, le=200)] = 20
    entity: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    time: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    target: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """A column that no feature may read or give away."""


class ExtractionRequest(Struct, frozen=True):
    """What a client asked for."""

    dataset_id: str
    feature_description: str
    quality_threshold: Threshold = "medium"
    completion_date: date | None = None
    options: ExtractionOptions = ExtractionOptions()
    fresh: bool = False
    """Plan anew instead of answering from the plan cache (`Cache-Control: no-cache`)."""
    callback_url: str | None = None
    """Receives a notification when the extraction ends."""
    tables: TableOptions = TableOptions()
    """Which rows of which datasets the features are computed from."""
    pins: dict[str, DatasetPin] = field(default_factory=dict[str, DatasetPin])
    """The version of each dataset that it reads, by the dataset's id, fixed when it was accepted; empty in what an
    older release accepted."""

    @property
    def dataset_version(self) -> int | None:
        """The version of its dataset that it reads; None when it was fixed by no release."""
        pin = self.pins.get(self.dataset_id)
        return None if pin is None else pin.version


class FeatureStatistics(Struct, frozen=True):
    """A computed feature's statistics, as published."""

    count: int
    """Rows of the feature table."""
    null_ratio: float
    distinct_count: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    median: float | None = None
    top_values: tuple[ValueCount, ...] = ()


class FeatureEvidence(Struct, frozen=True):
    """What the engine measured of one computed feature; `quality.assess` scores it."""

    name: str
    dtype: FeatureType
    statistics: FeatureStatistics
    non_finite_ratio: float
    """Share of NaN and infinite values before they were made null."""
    top_share: float
    """Share of non-null rows that hold the most frequent value."""
    drift: float | None = None
    """Population stability index between the table's earlier and later half; None when it cannot be measured."""
    target_association: float | None = None
    """0 … 1: how well the feature alone gives the target away; None without a target."""
    correlations: dict[str, float] = field(default_factory=dict[str, float])
    """Absolute rank correlation with each *earlier* feature of the plan where it is at least 0.8."""


class FeatureReport(Struct, frozen=True):
    """An accepted feature, as answered."""

    name: str
    description: str
    dtype: FeatureType
    operation: AnyOperation
    source_columns: tuple[str, ...]
    statistics: FeatureStatistics
    quality_score: float
    quality_dimensions: dict[Dimension, float]
    table: str | None = None
    """The dataset whose rows it was aggregated from, where there are several."""


class RejectedFeature(Struct, frozen=True):
    """A feature that was computed and not accepted, with the reason."""

    name: str
    description: str
    operation: AnyOperation
    reason: RejectionReason
    detail: str
    quality_score: float


class QualitySummary(Struct, frozen=True):
    """Quality of the accepted features together; all scores 0 … 1."""

    threshold: Threshold
    score: float
    dimensions: dict[Dimension, float]


class Assessment(Struct, frozen=True):
    """The outcome of `quality.assess`."""

    accepted: tuple[FeatureReport, ...]
    rejected: tuple[RejectedFeature, ...]
    quality: QualitySummary


class ModelUsage(Struct, frozen=True):
    """Which model planned, and what it took."""

    name: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    """None when the model's price is unknown; 0 for the built-in planner."""
    fallback: bool = False
    """Whether another model than the configured first one planned, because that one could not."""
    cached: bool = False
    """Whether the plan came from the cache: then nothing was spent on it."""


class ExtractionResult(Struct, frozen=True):
    """Everything a completed extraction answers with, but for the identifiers around it."""

    features: tuple[FeatureReport, ...]
    rejected_features: tuple[RejectedFeature, ...]
    feature_pipeline_steps: tuple[str, ...]
    quality: QualitySummary
    model: ModelUsage
    row_count: int
    grain: TableGrain
    entity: str | None
    time: str | None
    artifact_key: str
    sql: str
    """The statement that ran, in the engine's dialect: what runs is what is exported."""
    columns: tuple[ComputedColumn, ...] = ()
    """Columns that were computed first."""
    dataset_version: int | None = None
    """The version of the dataset that was read; None in results of an older release."""


class FieldError(Struct, frozen=True):
    """One fault, with the place it is at (`options.entity`, `row 17, column price` …)."""

    field: str
    message: str


class Failure(Struct, frozen=True):
    """Why an extraction failed: the error's code, category and words, fit for the client."""

    code: str
    category: str
    message: str
    retryable: bool
    errors: tuple[FieldError, ...] = ()
    retry_after: float | None = None
    """Seconds, from the failure on, after which the same request may succeed."""


class Extraction(Struct, frozen=True):
    """One accepted request and what has become of it.

    queued → processing → completed | failed | cancelled; a run that is handed back, or whose worker died, leads from
    processing to queued again. The last three are terminal.
    """

    id: str
    owner: str
    request: ExtractionRequest
    status: Status
    created_at: datetime
    progress: int = 0
    stage: Stage | None = None
    started_at: datetime | None = None
    """When a worker first took it."""
    finished_at: datetime | None = None
    result: ExtractionResult | None = None
    failure: Failure | None = None
    """Why it failed; while it is queued again, why its last run did."""
    request_id: str = ""
    trace_id: str = ""
    lane: Lane = "small"
    due_at: datetime | None = None
    """End of the completion date: later the result is of no use."""
    detached: bool = False
    """Whether no client waits for the response any more, so that transient failures are retried."""
    cancel_requested: bool = False
    attempt: int = 0
    """Times that a worker has taken it. Every write of a run names its own attempt; an older one changes nothing."""
    crashes: int = 0
    """Attempts that ended without a word, because their worker died."""
    retries: int = 0
    """Runs that failed in a way that may pass, and were tried again."""
    version: int = 0
    """Grows with every change of the row; the id of a server-sent event."""
    stored_bytes: int | None = None
    """Bytes of its feature table; None without one, and until the housekeeping has measured it."""


class ExtractionState(Struct, frozen=True):
    """How far an extraction has come: what of it clients ask for again and again."""

    id: str
    owner: str
    status: Status
    progress: int
    stage: Stage | None
    lane: Lane
    started_at: datetime | None
    finished_at: datetime | None
    failure: Failure | None
    version: int
    """Grows with each change of the extraction."""
