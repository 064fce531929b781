"""``cost_line_items``: the vendors' exports of a month in one shape, made by dbt."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from octo_pipeline.allocation.proofs import prove_cost_line_items
from octo_pipeline.lake.lake import PartitionMetadata, Staged, copy_options
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.tables.dbt import DbtModelError, Session, dbt_project
from octo_pipeline.tables.table import code_version
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.landing import Delivery, newest_deliveries
from octo_pipeline.workspace import Workspace

# What the rows depend on. A change of another model, of how deliveries are fetched, of registration or of a sample
# must not make them again.
_SOURCES_OF_TRUTH = (
    "model",
    "vendors/data_columns.py",
    "vendors/data_files.py",
    *(f"vendors/{vendor.name}/{file}" for vendor in VENDORS.values() for file in vendor.row_sources),
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
            try:
                relations, source_costs = _landed(connection, deliveries, staged.folder)
                dbt_project().run(["+cost_line_items"], _session(workspace, month, relations, staged, metadata))
                rows = f"read_parquet({literal(str(staged.path))})"
                prove_cost_line_items(connection, f"({source_costs})", rows, month)
            except (DbtModelError, duckdb.Error) as error:
                raise _explanation(connection, deliveries, error) from error


def _session(
    workspace: Workspace, month: str, relations: Mapping[str, str], staged: Staged, metadata: PartitionMetadata
) -> Session:
    settings = workspace.lake.duckdb_config()
    return Session(
        variables={
            "octo_month": month,
            "octo_copy_cost_line_items": f"{staged.path}\n{copy_options(metadata.to_json())}",
        },
        relations={f"landing.{name}": query for name, query in relations.items()},
        settings={name: str(settings[name]) for name in ("memory_limit", "temp_directory") if name in settings},
        setup=workspace.lake.duckdb_setup(),
    )


def _landed(
    connection: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery], scratch: Path
) -> tuple[dict[str, str], str]:
    """The relations of all vendors, an absent vendor's without rows, and what their files say was billed.

    Args:
        connection: reads the files.
        deliveries: the newest of each account.
        scratch: a folder for what is read once and kept for later reads.
    """
    relations: dict[str, str] = {}
    costs = []
    for name, vendor in VENDORS.items():
        files = vendor.files()
        own = [delivery for delivery in deliveries if delivery.vendor == name]
        try:
            queries = files.relations(connection, own)
        except duckdb.Error as error:
            raise OctoError(f"A landed file cannot be read: {error}") from error
        if any(delivery.format != "parquet" for delivery in own):
            queries = {
                relation: _read_once(connection, query, scratch / f"{relation}.parquet")
                for relation, query in queries.items()
            }
        relations |= queries
        costs.append(files.source_costs(queries))
    return relations, " UNION ALL ".join(costs)


def _read_once(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> str:
    """Write a relation to a file and return the SQL that reads it: packed text takes longer to read than all the rest."""
    connection.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet)")
    return f"SELECT * FROM read_parquet({literal(str(path))})"


def _explanation(connection: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery], error: Exception) -> OctoError:
    """The first vendor's sentence about a bad file, or that all files are in order."""
    for name, vendor in VENDORS.items():
        own = [delivery for delivery in deliveries if delivery.vendor == name]
        if (explanation := vendor.files().explain_failure(connection, own)) is not None:
            return explanation
    return OctoError(f"The landed reports are as they were landed, but reading them failed: {error}")
