"""Datasets, extractions and API keys."""  # noqa: INP001 - alembic finds it by path

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go up to this revision."""
    op.create_table(
        "datasets",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("artifact_key", sa.Text, nullable=False),
        sa.Column("profile", JSONB, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "id", name="pk_datasets"),
        sa.CheckConstraint(
            "media_type IN ('text/csv', 'application/vnd.apache.parquet', 'application/x-ndjson')",
            name=op.f("ck_datasets_media_type"),
        ),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_datasets_size_bytes")),
    )
    op.create_index("ix_datasets_owner_created_at_id", "datasets", ["owner", "created_at", "id"])
    op.create_table(
        "extractions",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("dataset_id", sa.Text, nullable=False),
        sa.Column("request", JSONB, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("progress", sa.SmallInteger, nullable=False),
        sa.Column("stage", sa.Text),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("result", JSONB),
        sa.Column("failure", JSONB),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("trace_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_extractions"),
        sa.CheckConstraint(
            "status IN ('queued', 'processing', 'completed', 'failed', 'cancelled')", name=op.f("ck_extractions_status")
        ),
        sa.CheckConstraint("stage IN ('profile', 'plan', 'compute', 'assess')", name=op.f("ck_extractions_stage")),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("ck_extractions_progress")),
    )
    for filtered in ([], ["status"], ["dataset_id"]):
        columns = ["owner", *filtered, "created_at", "id"]
        op.create_index("_".join(["ix_extractions", *columns]), "extractions", columns)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("ck_api_keys_digest")),
    )


def downgrade() -> None:
    """Go back to the empty database."""
    for table in ("api_keys", "extractions", "datasets"):
        op.drop_table(table)
