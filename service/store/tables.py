"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from typing import get_args

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.features.delivery import DeliveryLog, DeliveryState
from service.features.model import (
    ExtractionRequest,
    ExtractionResult,
    Failure,
    Lane,
    MediaType,
    Profile,
    ReadOptions,
    Stage,
    Status,
)
from service.store.payload import Instant, Payload

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

USD_PLACES = 10
"""Decimal places of amounts: a token of the cheapest models costs about 1e-8 dollars."""

TERMINAL: tuple[Status, ...] = ("completed", "failed", "cancelled")
"""Final statuses."""
UNFINISHED = "status IN ('queued', 'processing')"
"""Of extractions; literal, so that PostgreSQL finds the index of these rows."""


def _one_of(column: str, words: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


datasets = Table(
    "datasets",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("media_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("artifact_key", Text, nullable=False),
    Column("profile", Payload(Profile), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("stored_bytes", BigInteger),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("updated_at", Instant),
    Column("original_key", Text),
    Column("original_digest", LargeBinary),
    Column("overrides", Payload(ReadOptions), nullable=False, server_default="{}"),
    _one_of("media_type", get_args(MediaType)),
    CheckConstraint("size_bytes >= 0", name="size_bytes"),
    Index(None, "owner", "created_at", "id"),
    Index(None, "artifact_key"),
    Index(None, "original_key"),
)
"""The current version of each dataset."""

dataset_versions = Table(
    "dataset_versions",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("media_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("artifact_key", Text, nullable=False),
    Column("profile", Payload(Profile), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("stored_bytes", BigInteger),
    Column("updated_at", Instant),
    Column("original_key", Text),
    Column("original_digest", LargeBinary),
    Column("overrides", Payload(ReadOptions), nullable=False, server_default="{}"),
    Column("replaced_at", Instant, nullable=False),
    ForeignKeyConstraint(
        ["owner", "id"], ["datasets.owner", "datasets.id"], name="fk_dataset_versions_dataset", ondelete="CASCADE"
    ),
    Index(None, "artifact_key"),
    Index(None, "original_key"),
    Index(None, "replaced_at"),
)
"""Versions that were replaced, until the housekeeping deletes them. Triggers count their bytes (revision 0008)."""

extractions = Table(
    "extractions",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("dataset_id", Text, nullable=False),
    Column("request", Payload(ExtractionRequest), nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("progress", SmallInteger, nullable=False),
    Column("stage", Text),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("result", Payload(ExtractionResult)),
    Column("failure", Payload(Failure)),
    Column("request_id", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("due_at", Instant),
    Column("patient", Boolean, key="detached", nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger),
    _one_of("status", get_args(Status)),
    _one_of("stage", get_args(Stage)),
    _one_of("lane", get_args(Lane)),
    CheckConstraint("progress BETWEEN 0 AND 100", name="progress"),
    Index(None, "owner", "created_at", "id"),
    Index(None, "owner", "status", "created_at", "id"),
    Index(None, "owner", "dataset_id", "created_at", "id"),
    Index("ix_extractions_unfinished", "created_at", postgresql_where=text(UNFINISHED)),
    Index("ix_extractions_finished", "finished_at"),
)

storage_usage = Table(
    "storage_usage",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("datasets", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
)
"""What each principal keeps: its number of datasets, and the sum of `stored_bytes` of its datasets, their older
versions, and its extractions.

Triggers on these tables keep it (revisions 0007, 0008), in the transaction of each change, whichever release makes it;
a change locks the owner's row until its transaction ends."""

webhook_deliveries = Table(
    "webhook_deliveries",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("extraction_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("log", Payload(DeliveryLog), nullable=False),
    Column("next_attempt_at", Instant),
    Column("finished_at", Instant),
    ForeignKeyConstraint(
        ["extraction_id"], ["extractions.id"], name="fk_webhook_deliveries_extraction_id", ondelete="CASCADE"
    ),
    _one_of("state", get_args(DeliveryState)),
    Index(None, "extraction_id"),
    Index(None, "created_at", "id"),
    Index("ix_webhook_deliveries_pending", "owner", "created_at", postgresql_where=text("state = 'pending'")),
)
"""Deleted together with their extraction."""

idempotency_keys = Table(
    "idempotency_keys",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("extraction_id", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("answer_status", SmallInteger),
    Column("answer_headers", JSONB(none_as_null=True)),
    Column("answer_body", LargeBinary),
    CheckConstraint("octet_length(digest) = 32", name="digest"),
    Index(None, "created_at"),
)

api_keys = Table(
    "api_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    CheckConstraint("octet_length(digest) = 32", name="digest"),
)

tallies = Table(
    "tallies", METADATA, Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False)
)
"""Counters that outlive the processes that count; each only grows."""

schema_compatibility = Table(
    "schema_compatibility",
    METADATA,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("oldest_revision", Text, nullable=False),
    CheckConstraint("id = 1", name="id"),
)
"""One row: the oldest revision whose code works on the schema. Older releases read it, so the table never changes."""

model_spending = Table(
    "model_spending",
    METADATA,
    Column("principal", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_usd", Numeric(20, USD_PLACES), nullable=False),
    Column("unpriced_calls", BigInteger, nullable=False),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint(
        "input_tokens >= 0 AND output_tokens >= 0 AND cost_usd >= 0 AND unpriced_calls >= 0", name="amounts"
    ),
)
