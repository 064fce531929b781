"""Decisions, audit trail and registered accounts; the first two can only be appended to."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_APPEND_ONLY = ("decisions", "audit_events")

_POSTGRESQL_REFUSAL = """
CREATE FUNCTION octo_registry_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only';
END
$$
"""


def upgrade() -> None:
    """Make the tables and the triggers that keep them append-only."""
    _create_decisions()
    _create_audit_events()
    _create_registered_accounts()
    if op.get_bind().dialect.name == "postgresql":
        _refuse_changes_on_postgresql()
    else:
        _refuse_changes_on_sqlite()


def downgrade() -> None:
    """Refuse: it would delete what must be kept."""
    raise NotImplementedError("The first migration holds the decisions and the audit trail; restore a backup instead.")


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _create_decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", _id(), primary_key=True, autoincrement=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("origin_month", sa.Text, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action IN ('restore', 'reapply')", name="ck_decisions_action"),
    )
    op.create_index("ix_decisions_item_id", "decisions", ["item_id", "id", "action", "origin_month"])


def _create_audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", _id(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
    )


def _create_registered_accounts() -> None:
    op.create_table(
        "registered_accounts",
        sa.Column("id", _id(), primary_key=True, autoincrement=True),
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("payer_id", sa.Text),
        sa.Column("name", sa.Text),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("vendor", "account_id", name="uq_registered_accounts_account"),
    )
    op.create_index("ix_registered_accounts_payer_id", "registered_accounts", ["payer_id"])


def _refuse_changes_on_postgresql() -> None:
    op.execute(_POSTGRESQL_REFUSAL)
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION octo_registry_refuse_change()"
        )


def _refuse_changes_on_sqlite() -> None:
    for table in _APPEND_ONLY:
        refusal = f"SELECT RAISE(ABORT, '{table} is append-only')"
        for change in ("UPDATE", "DELETE"):
            op.execute(f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} BEGIN {refusal}; END")
        # INSERT OR REPLACE takes the old row away without firing a DELETE trigger.
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) BEGIN {refusal}; END"
        )
