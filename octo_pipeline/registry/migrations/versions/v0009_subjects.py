"""Users who sign in at a provider."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add whom a provider means by a user; nobody signs in at one yet."""
    op.add_column("users", sa.Column("subject", sa.Text))
    op.create_index("ix_users_subject", "users", ["subject"], unique=True)


def downgrade() -> None:
    """Refuse: who signs in at a provider would be somebody else."""
    raise NotImplementedError("Users may sign in at a provider now; restore a backup instead.")
