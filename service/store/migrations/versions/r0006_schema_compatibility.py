"""The oldest code that may use the schema, said by the database itself."""  # noqa: INP001 - alembic finds it by path

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WORKS_FOR = "0006"
"""Code of this revision and later works on the schema. The first release ends here, and older code does not ask."""


def upgrade() -> None:
    """Go up to this revision; `env.py` writes the row."""
    op.create_table(
        "schema_compatibility",
        sa.Column("id", sa.SmallInteger, nullable=False, autoincrement=False),
        sa.Column("oldest_revision", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schema_compatibility"),
        sa.CheckConstraint("id = 1", name=op.f("ck_schema_compatibility_id")),
    )


def downgrade() -> None:
    """Go back to revision 0005; code of any other revision is refused again."""
    op.drop_table("schema_compatibility")
