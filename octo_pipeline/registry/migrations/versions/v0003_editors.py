"""Editors: the role between viewer and administrator."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ROLES = "role IN ('viewer', 'editor', 'admin')"


def upgrade() -> None:
    """Let users be editors; nobody becomes one by it."""
    if op.get_context().dialect.name != "sqlite":
        op.drop_constraint("ck_users_role", "users", type_="check")
        op.create_check_constraint("ck_users_role", "users", _ROLES)
        return
    # SQLite cannot change a constraint of a table.
    op.rename_table("users", "users_before")
    op.create_table(
        "users",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(_ROLES, name="ck_users_role"),
    )
    op.execute("INSERT INTO users (name, role, added_at) SELECT name, role, added_at FROM users_before")
    op.drop_table("users_before")


def downgrade() -> None:
    """Refuse: editors would have to become something else."""
    raise NotImplementedError("There may be editors now; restore a backup instead.")
