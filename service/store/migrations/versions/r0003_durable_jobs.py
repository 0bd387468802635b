"""Attempts of extractions, idempotency keys, and the job queue's own tables."""  # noqa: INP001 - alembic finds it by path

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

QUEUE_SCHEMA = Path(__file__).parents[1] / "procrastinate_3_10.sql"
"""A copy, so that this revision does the same whichever release of Procrastinate is installed."""
FIELDS = (
    ("lane", sa.Text, "'small'"),
    ("patient", sa.Boolean, "false"),
    ("cancel_requested", sa.Boolean, "false"),
    ("attempt", sa.Integer, "0"),
    ("crashes", sa.Integer, "0"),
    ("retries", sa.Integer, "0"),
    ("version", sa.BigInteger, "0"),
)
"""With defaults in the database, so that the release before this one goes on inserting rows during a rollout."""


def upgrade() -> None:
    """Go up to this revision."""
    for name, kind, default in FIELDS:
        op.add_column("extractions", sa.Column(name, kind, nullable=False, server_default=sa.text(default)))
    op.add_column("extractions", sa.Column("due_at", sa.DateTime(timezone=True)))
    op.create_check_constraint(op.f("ck_extractions_lane"), "extractions", "lane IN ('small', 'large')")
    op.create_index(
        "ix_extractions_unfinished",
        "extractions",
        ["created_at"],
        postgresql_where=sa.text("status IN ('queued', 'processing')"),
    )
    op.create_index("ix_extractions_finished", "extractions", ["finished_at"])
    op.create_index("ix_datasets_artifact_key", "datasets", ["artifact_key"])
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("extraction_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer_status", sa.SmallInteger),
        sa.Column("answer_headers", JSONB),
        sa.Column("answer_body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("ck_idempotency_keys_digest")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    # Without parameters the driver takes several statements at once, and a percent sign for what it is.
    queue = QUEUE_SCHEMA.read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(queue, execution_options={"no_parameters": True})


def downgrade() -> None:
    """Go back to the revision before; jobs that wait are lost, their extractions stay queued."""
    bind = op.get_bind()
    for table in ("events", "periodic_defers", "jobs", "workers"):
        bind.exec_driver_sql(f"DROP TABLE procrastinate_{table} CASCADE")
    functions = bind.execute(
        sa.text(
            "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
            "WHERE n.nspname = current_schema() AND p.proname LIKE 'procrastinate\\_%'"
        )
    ).scalars()
    for function in functions.all():
        bind.exec_driver_sql(f"DROP FUNCTION {function} CASCADE")
    for kind in ("job_to_defer_v1", "job_event_type", "job_status"):
        bind.exec_driver_sql(f"DROP TYPE procrastinate_{kind} CASCADE")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_datasets_artifact_key", "datasets")
    op.drop_index("ix_extractions_finished", "extractions")
    op.drop_index("ix_extractions_unfinished", "extractions")
    for name in (*(name for name, _, _ in FIELDS), "due_at"):
        op.drop_column("extractions", name)
