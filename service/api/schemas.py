"""Wire structs of requests, the success envelope, tokens, datasets and health; separate from the domain on purpose."""

from __future__ import annotations

import time
from datetime import date, datetime
from typing import Annotated, Generic, Literal, Self, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict

from service.api.read_options import ColumnName, OverridesView
from service.features.context import CURRENT
from service.features.datasets import ID_PATTERN, MAX_ID_LENGTH
from service.features.model import ExtractionOptions, ExtractionRequest, LogicalType, MediaType, Threshold
from service.features.operations import Scalar
from service.features.table_options import (
    MAX_RELATED,
    EntityKey,
    Horizon,
    Observations,
    RelatedTable,
    TableOptions,
)

T = TypeVar("T")

DatasetId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_ID_LENGTH,
        pattern=ID_PATTERN,
        description="The dataset's id: letters, digits, `.`, `_` and `-`, beginning with a letter or digit.",
        examples=["orders-2026"],
    ),
]

VERSION = "Counts uploads under the id and changes of how the upload is read, from 1 on."
MINIMUM_DESCRIPTION = 5
"""Minimum number of characters, without surrounding space."""


LATER_OPTIONS = frozenset({"related", "as_of", "observations", "horizon"})
"""Options that the first release did not have."""


class OptionsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What the client may fix beforehand; what is left open, the planner chooses."""

    max_features: Annotated[int, Meta(ge=1, le=200, description="Most features to propose.")] = 20
    entity: (
        Annotated[
            ColumnName | EntityKey,
            Meta(
                description=(
                    "Column whose values are the entities; or an object: several `columns`, one datetime column and "
                    "`by`, or no columns for all rows together."
                ),
                examples=["user_id"],
            ),
        ]
        | None
    ) = None
    time: (
        Annotated[ColumnName, Meta(description="Column that orders the rows in time.", examples=["timestamp"])] | None
    ) = None
    target: (
        Annotated[ColumnName, Meta(description="Column that no feature may read or give away.", examples=["churned"])]
        | None
    ) = None
    related: Annotated[
        tuple[RelatedTable, ...],
        Meta(
            max_length=MAX_RELATED,
            description="Other datasets of yours, joined by a column: looked up by its rows, or aggregated.",
        ),
    ] = ()
    as_of: (
        Annotated[
            datetime,
            Meta(
                description="Only what happened before is known; an instant with its offset.",
                examples=["2026-01-01T00:00:00Z"],
                tz=True,
            ),
        ]
        | None
    ) = None
    observations: (
        Annotated[
            Observations,
            Meta(
                description=(
                    "A dataset of yours with an entity and a time in each row: each gets every feature, computed from "
                    "what was known before its time."
                )
            ),
        ]
        | None
    ) = None
    horizon: (
        Annotated[Horizon, Meta(description="Adds a label: what happens in the days after the moment, or how much.")]
        | None
    ) = None

    def to_options(self) -> ExtractionOptions:
        """Convert what is fixed for the planner."""
        entity = None if isinstance(self.entity, EntityKey) else self.entity
        return ExtractionOptions(self.max_features, entity, self.time, self.target)

    def to_tables(self) -> TableOptions:
        """Convert what says which rows are read."""
        key = self.entity if isinstance(self.entity, EntityKey) else None
        return TableOptions(key, self.related, self.as_of, self.observations, self.horizon)

    @classmethod
    def of(cls, request: ExtractionRequest) -> Self:
        """Convert a request's options back."""
        options, tables = request.options, request.tables
        return cls(
            options.max_features,
            options.entity if tables.entity is None else tables.entity,
            options.time,
            options.target,
            tables.related,
            tables.as_of,
            tables.observations,
            tables.horizon,
        )


class ExtractionBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /extract-features`."""

    dataset_id: DatasetId
    feature_description: Annotated[
        str,
        Meta(
            min_length=MINIMUM_DESCRIPTION,
            max_length=10_000,
            description="The features that are wanted, in a sentence.",
            examples=["Customer lifetime value and purchase frequency"],
        ),
    ]
    quality_threshold: Annotated[Threshold, Meta(description="How good a feature must be to be kept.")] = "medium"
    completion_date: (
        Annotated[
            date, Meta(description="Day by which the result is wanted (UTC); not in the past.", examples=["2030-12-31"])
        ]
        | None
    ) = None
    options: OptionsBody = OptionsBody()
    callback_url: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=2048,
                description=(
                    "Where the end of the extraction is sent, as a webhook signed as standardwebhooks.com describes; "
                    "`GET /webhooks/secrets` gives what to verify it with."
                ),
                examples=["https://example.org/hooks/features"],
            ),
        ]
        | None
    ) = None

    def canonical(self) -> bytes:
        """Return the same bytes for equal requests, in any release: a new member is left out while unset."""
        given = {name: value for name, value in asdict(self).items() if name != "callback_url" or value is not None}
        options = asdict(self.options)
        given["options"] = {name: value for name, value in options.items() if name not in LATER_OPTIONS or value}
        return msgspec.json.encode(given)

    def to_request(self, *, fresh: bool) -> ExtractionRequest:
        """Convert to the domain's request; `fresh` requests a plan that no cache gave."""
        return ExtractionRequest(
            dataset_id=self.dataset_id,
            feature_description=self.feature_description,
            quality_threshold=self.quality_threshold,
            completion_date=self.completion_date,
            options=self.options.to_options(),
            fresh=fresh,
            callback_url=self.callback_url,
            tables=self.options.to_tables(),
        )


class Success(Struct, Generic[T], frozen=True):
    """Every successful JSON answer below /api/v1."""

    status: Literal["success"]
    data: T
    request_id: Annotated[str, Meta(description="The same as the X-Request-ID header.")]
    processing_time: Annotated[float, Meta(ge=0, description="Seconds.")]

    @classmethod
    def of(cls, data: T) -> Self:
        """Wrap an answer's data; the id and the elapsed time are those of the current request."""
        context = CURRENT.get()
        elapsed = max(0.0, time.perf_counter() - context.started) if context else 0.0
        return cls("success", data, context.request_id if context else "", round(elapsed, 6))


class PageView(Struct, Generic[T], frozen=True):
    """One page of a list."""

    items: tuple[T, ...]
    next_cursor: Annotated[str | None, Meta(description="Ask with `?cursor=` for the next page; null on the last.")]


class TokenView(Struct, frozen=True):
    """An access token."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Meta(description="Seconds.")]
    scope: Annotated[str, Meta(description="Scopes, separated by a space.", examples=["datasets:read"])]


class TokenAnswer(Success[TokenView], frozen=True):
    """Answer of `POST /auth/token`."""


class ValueCountView(Struct, frozen=True):
    """How many rows hold a value."""

    value: str
    count: int


class ColumnView(Struct, frozen=True):
    """What is known of one column; its statistics are over non-null values."""

    name: str
    position: int
    logical_type: LogicalType
    physical_type: Annotated[str, Meta(description="The engine's type.")]
    null_ratio: float
    distinct_count: int
    distinct_is_approximate: Annotated[
        bool,
        Meta(description="Whether distinct_count is an estimate, usually within a few percent, instead of a count."),
    ]
    minimum: Scalar | None
    maximum: Scalar | None
    mean: float | None
    standard_deviation: float | None
    quantiles: Annotated[dict[str, float], Meta(description="p05, p25, p50, p75, p95 of a number.")]
    top_values: tuple[ValueCountView, ...]
    examples: tuple[str, ...]
    frequent_terms: Annotated[
        tuple[ValueCountView, ...],
        Meta(description="Words that at least five of 20 000 rows of a text hold, with how many do, most first."),
    ]
    mean_length: Annotated[float | None, Meta(description="Mean characters of a text.")]
    non_finite_ratio: Annotated[float, Meta(description="Share of NaN and infinite values.")]
    personal: Annotated[bool, Meta(description="Looks like personal data: no value of it is ever shown.")]


class DatasetLinks(Struct, frozen=True):
    """Paths to follow."""

    self: str
    extractions: str


class DatasetSummary(Struct, frozen=True):
    """A dataset in a list."""

    dataset_id: str
    version: Annotated[int, Meta(description=VERSION)]
    media_type: MediaType
    size_bytes: Annotated[int, Meta(description="Bytes uploaded.")]
    row_count: int
    column_count: int
    created_at: datetime
    links: DatasetLinks


class SuggestedJoinView(Struct, frozen=True):
    """A dataset that could be related: a parent is looked up by each row, a child's rows are aggregated."""

    dataset_id: str
    on: Annotated[str, Meta(description="Its column.")]
    to_on: Annotated[str, Meta(description="The column here.")]
    kind: Literal["parent", "child"]


class DatasetView(Struct, frozen=True):
    """A dataset with its profile."""

    dataset_id: str
    version: Annotated[int, Meta(description=VERSION)]
    media_type: MediaType
    size_bytes: Annotated[int, Meta(description="Bytes uploaded.")]
    row_count: int
    columns: tuple[ColumnView, ...]
    fingerprint: Annotated[str, Meta(description="Equal data have equal fingerprints.")]
    notes: Annotated[tuple[str, ...], Meta(description="What was found and done on reading the upload.")]
    candidate_keys: Annotated[
        tuple[tuple[str, ...], ...],
        Meta(description="Columns that tell every row apart: no value is missing and none comes twice."),
    ]
    suggested_joins: Annotated[
        tuple[SuggestedJoinView, ...],
        Meta(description="Others of your datasets that could be its `options.related`, by columns of the same name."),
    ]
    overrides: Annotated[
        OverridesView,
        Meta(description="What `PATCH` or the upload said of how the file is read; the rest is found out."),
    ]
    created_at: Annotated[datetime, Meta(description="When the first version was uploaded.")]
    updated_at: Annotated[datetime, Meta(description="When this version was made.")]
    links: DatasetLinks


class DatasetPage(PageView[DatasetSummary], frozen=True):
    """A page of datasets, newest first."""


class DatasetAnswer(Success[DatasetView], frozen=True):
    """Answer with one dataset."""


class DatasetListAnswer(Success[DatasetPage], frozen=True):
    """Answer of `GET /datasets`."""


class DependencyStates(Struct, frozen=True):
    """Each dependency; "disabled" when this deployment does without it."""

    database: Literal["healthy", "unhealthy", "disabled"]
    redis: Literal["healthy", "unhealthy", "disabled"]
    ai_model: Literal["healthy", "unhealthy", "disabled"]


class HealthView(Struct, frozen=True):
    """Answer of `GET /health`."""

    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: datetime
    version: str
    services: DependencyStates


class LivenessView(Struct, frozen=True):
    """Answer of `GET /health/live`."""

    status: Literal["alive", "stuck"]


class ReadinessView(Struct, frozen=True):
    """Answer of `GET /health/ready`."""

    status: Literal["ready", "starting", "draining", "unavailable"]
