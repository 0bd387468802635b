"""What each principal keeps, counted by triggers in the transaction of each change."""  # noqa: INP001 - alembic finds it by path

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WORKS_FOR = "0006"
"""The release before names its own columns, and the triggers count what it writes."""

COUNTED = {"datasets": 1, "extractions": 0}
"""Tables whose rows take bytes, and how many datasets one row is."""
FUNCTIONS = """
CREATE OR REPLACE FUNCTION feature_agent_count_rows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign CONSTANT bigint := CASE TG_OP WHEN 'DELETE' THEN -1 ELSE 1 END;
    datasets_each CONSTANT bigint := TG_ARGV[0];
BEGIN
    INSERT INTO storage_usage AS used (owner, datasets, stored_bytes)
    SELECT owner, sign * datasets_each * count(*), sign * coalesce(sum(stored_bytes), 0)
    FROM changed GROUP BY owner HAVING datasets_each > 0 OR sum(stored_bytes) > 0 ORDER BY owner
    ON CONFLICT (owner) DO UPDATE SET
        datasets = used.datasets + excluded.datasets, stored_bytes = used.stored_bytes + excluded.stored_bytes;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION feature_agent_count_bytes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO storage_usage AS used (owner, datasets, stored_bytes)
    VALUES (NEW.owner, 0, coalesce(NEW.stored_bytes, 0) - coalesce(OLD.stored_bytes, 0))
    ON CONFLICT (owner) DO UPDATE SET stored_bytes = used.stored_bytes + excluded.stored_bytes;
    RETURN NULL;
END $$;
"""
"""Owners are counted in the order of their names, so that two statements never wait for each other's. Rows of progress
change often and their bytes once: only a change of the bytes calls the second function."""
TRIGGERS = """
CREATE TRIGGER count_inserted AFTER INSERT ON {table} REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION feature_agent_count_rows({datasets_each});
CREATE TRIGGER count_deleted AFTER DELETE ON {table} REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION feature_agent_count_rows({datasets_each});
CREATE TRIGGER count_bytes AFTER UPDATE OF stored_bytes ON {table}
    FOR EACH ROW WHEN (OLD.stored_bytes IS DISTINCT FROM NEW.stored_bytes)
    EXECUTE FUNCTION feature_agent_count_bytes();
"""
COUNT_DATASETS = "INSERT INTO storage_usage SELECT owner, count(*), 0 FROM datasets GROUP BY owner"


def upgrade() -> None:
    """Go up to this revision. Bytes of older rows are not known here: the housekeeping records them."""
    op.create_table(
        "storage_usage",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("datasets", sa.BigInteger, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_storage_usage"),
    )
    op.execute(FUNCTIONS)
    for table, datasets_each in COUNTED.items():
        op.add_column(table, sa.Column("stored_bytes", sa.BigInteger))
        op.execute(TRIGGERS.format(table=table, datasets_each=datasets_each))
    op.execute(COUNT_DATASETS)


def downgrade() -> None:
    """Go back to revision 0006; what each principal keeps is counted no more."""
    for table in COUNTED:
        for trigger in ("count_inserted", "count_deleted", "count_bytes"):
            op.execute(f"DROP TRIGGER {trigger} ON {table}")
        op.drop_column(table, "stored_bytes")
    op.execute("DROP FUNCTION feature_agent_count_rows()")
    op.execute("DROP FUNCTION feature_agent_count_bytes()")
    op.drop_table("storage_usage")
