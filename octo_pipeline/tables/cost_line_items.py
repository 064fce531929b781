"""``cost_line_items``: the vendors' exports of a month in one shape, made by dbt."""

import duckdb

from octo_pipeline.allocation.columns import LINE_ITEM_COLUMNS
from octo_pipeline.allocation.proof import prove_cost_line_items
from octo_pipeline.errors import OctoError
from octo_pipeline.resources.dbt import DbtModelError, Session
from octo_pipeline.resources.lake import PartitionMetadata, Staged, copy_options
from octo_pipeline.sources import aws_cur
from octo_pipeline.sources.landing import Delivery, newest_deliveries
from octo_pipeline.tables.table import code_version
from octo_pipeline.tables.workspace import Workspace

# What the rows depend on; a change of another model must not make them again.
_SOURCES_OF_TRUTH = (
    "sources",
    "dbt_project/macros",
    "dbt_project/models/staging",
    "dbt_project/models/intermediate",
    "dbt_project/models/marts/cost_line_items.sql",
)


class CostLineItems:
    """The table ``cost_line_items``."""

    name = "cost_line_items"
    columns = LINE_ITEM_COLUMNS

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The newest complete delivery of each account, and the code."""
        inputs = {"code": code_version(*_SOURCES_OF_TRUTH)}
        for delivery in newest_deliveries(workspace.lake.root, month):
            inputs[f"landing/{delivery.vendor}/{delivery.account}"] = delivery.version
        return inputs

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Normalise the month's newest deliveries.

        Raises:
            OctoError: a delivery holds what cannot be read; the sentence names file and place.
            ProofError: the sum of billed costs is not the source's.
        """
        deliveries = newest_deliveries(workspace.lake.root, month)
        with workspace.lake.connect() as connection:
            landed = self._landed(connection, deliveries)
            settings = workspace.lake.duckdb_config()
            session = Session(
                variables={
                    "octo_month": month,
                    "octo_copy_cost_line_items": f"{staged.path}\n{copy_options(metadata.to_json())}",
                },
                relations={"landing.aws_cur": landed},
                settings={name: str(settings[name]) for name in ("memory_limit", "temp_directory") if name in settings},
            )
            try:
                workspace.dbt.run(["+cost_line_items"], session)
            except DbtModelError as error:
                raise aws_cur.explain_failure(connection, deliveries, error) from error
            prove_cost_line_items(connection, f"({landed})", f"read_parquet('{staged.path}')", month)

    def _landed(self, connection: duckdb.DuckDBPyConnection, deliveries: list[Delivery]) -> str:
        try:
            return aws_cur.relation_sql(connection, [d for d in deliveries if d.vendor == "aws"])
        except duckdb.Error as error:
            raise OctoError(f"A landed file cannot be read: {error}") from error
