"""The versions of documents: what allocators and cost groups said, since when, and who saved them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the versions; none is known yet."""
    op.create_table(
        "document_versions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("document_id", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("saved_by", sa.Text),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('allocator', 'cost_group')", name="ck_document_versions_kind"),
    )
    op.create_index("ix_document_versions_document_id", "document_versions", ["kind", "document_id", "id"])


def downgrade() -> None:
    """Forget the versions; the audit trail still says who saved which."""
    op.drop_table("document_versions")
