"""Versions of datasets, and the original of each upload."""  # noqa: INP001 - alembic finds it by path

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WORKS_FOR = "0006"
"""The release before names its own columns. It deletes a dataset with its older versions by the cascade, and leaves
their files to the next sweep of this release. Its own sweep knows neither `originals` nor `versions`, where this
release puts files, so it deletes none of them. Its backups have no originals and no older versions: a dataset restored
from one says that its original is missing when it is to be read anew."""

COLUMNS = ("version", "updated_at", "original_key", "original_digest", "overrides")
"""Added to `datasets`."""
TRIGGERS = """
CREATE TRIGGER count_inserted AFTER INSERT ON dataset_versions REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION feature_agent_count_rows(0);
CREATE TRIGGER count_deleted AFTER DELETE ON dataset_versions REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION feature_agent_count_rows(0);
"""
"""Bytes of an older version never change. An older version is no dataset of its own."""


def upgrade() -> None:
    """Go up to this revision. Constant defaults rewrite no table."""
    op.add_column("datasets", sa.Column("version", sa.Integer, nullable=False, server_default="1"))
    op.add_column("datasets", sa.Column("updated_at", sa.DateTime(timezone=True)))
    op.add_column("datasets", sa.Column("original_key", sa.Text))
    op.add_column("datasets", sa.Column("original_digest", sa.LargeBinary))
    op.add_column("datasets", sa.Column("overrides", JSONB, nullable=False, server_default="{}"))
    op.create_index("ix_datasets_original_key", "datasets", ["original_key"])
    op.create_table(
        "dataset_versions",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("artifact_key", sa.Text, nullable=False),
        sa.Column("profile", JSONB, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.Column("original_key", sa.Text),
        sa.Column("original_digest", sa.LargeBinary),
        sa.Column("overrides", JSONB, nullable=False, server_default="{}"),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "id", "version", name="pk_dataset_versions"),
        sa.ForeignKeyConstraint(
            ["owner", "id"], ["datasets.owner", "datasets.id"], name="fk_dataset_versions_dataset", ondelete="CASCADE"
        ),
    )
    for column in ("artifact_key", "original_key", "replaced_at"):
        op.create_index(f"ix_dataset_versions_{column}", "dataset_versions", [column])
    op.execute(TRIGGERS)


def downgrade() -> None:
    """Go back to revision 0007: only the current versions stay, without their originals."""
    op.drop_table("dataset_versions")
    op.drop_index("ix_datasets_original_key", "datasets")
    for column in COLUMNS:
        op.drop_column("datasets", column)
