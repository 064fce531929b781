"""The states of months: what was closed, reopened and made final, by whom and why."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the events of months; all months are open."""
    op.create_table(
        "period_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("is_proposal", sa.Boolean, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("closing", sa.Text, nullable=False),
        sa.Column("proposed_by", sa.Text),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action IN ('close', 'reopen', 'finalise', 'accept')", name="ck_period_events_action"),
    )


def downgrade() -> None:
    """Refuse: closed months would change."""
    raise NotImplementedError("Months may be closed now; restore a backup instead.")
