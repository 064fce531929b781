"""Viewers of some cost groups."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let viewers be limited to cost groups; nobody is by it."""
    op.add_column("users", sa.Column("cost_groups", sa.JSON))


def downgrade() -> None:
    """Refuse: limited viewers would see everything."""
    raise NotImplementedError("There may be limited viewers now; restore a backup instead.")
