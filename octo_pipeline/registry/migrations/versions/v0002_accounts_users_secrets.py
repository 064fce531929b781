"""What registering accounts needs: their kind, settings and steps, users with tokens, and encrypted secrets."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A name may have been given twice so far; the accounts registered later keep it with their id.
_TELL_NAMES_APART = """
UPDATE registered_accounts SET name = name || ' (' || account_id || ')'
WHERE EXISTS (
    SELECT 1 FROM registered_accounts AS earlier
    WHERE earlier.vendor = registered_accounts.vendor AND earlier.name = registered_accounts.name
    AND earlier.id < registered_accounts.id
)
"""


def upgrade() -> None:
    """Widen the accounts and make the new tables."""
    _widen_registered_accounts()
    _create_users()
    _create_secrets()


def downgrade() -> None:
    """Refuse: it would delete who may change what, and secrets that cannot be had again."""
    raise NotImplementedError("This migration holds users, tokens and secrets; restore a backup instead.")


def _widen_registered_accounts() -> None:
    for column in (
        sa.Column("kind", sa.Text),
        sa.Column("external_id", sa.Text),
        sa.Column("settings", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("api_confirmed_at", sa.DateTime(timezone=True)),
        sa.Column("payer_confirmed_at", sa.DateTime(timezone=True)),
        sa.Column("cur_confirmed_at", sa.DateTime(timezone=True)),
        sa.Column("problem", sa.Text),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    ):
        op.add_column("registered_accounts", column)
    op.execute(_TELL_NAMES_APART)
    op.create_index("ix_registered_accounts_name", "registered_accounts", ["vendor", "name"], unique=True)


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('admin', 'viewer')", name="ck_users_role"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_tokens_user_name", "tokens", ["user_name"])


def _create_secrets() -> None:
    op.create_table(
        "secrets",
        sa.Column("vendor", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("ciphertext", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    )
