"""What each principal spends on models, day by day."""  # noqa: INP001 - alembic finds it by path

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go up to this revision."""
    op.create_table(
        "model_spending",
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_usd", sa.Numeric(20, 10), nullable=False),
        sa.Column("unpriced_calls", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("principal", "day", name="pk_model_spending"),
        sa.CheckConstraint(
            "input_tokens >= 0 AND output_tokens >= 0 AND cost_usd >= 0 AND unpriced_calls >= 0",
            name=op.f("ck_model_spending_amounts"),
        ),
    )


def downgrade() -> None:
    """Go back to revision 0001; what was spent is forgotten."""
    op.drop_table("model_spending")
