"""Runs the migrations on the connection it is given; the caller owns the transaction."""

from alembic import context

from octo_pipeline.registry.database import VERSION_TABLE
from octo_pipeline.registry.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
