"""An asset for each table of the graph, made from what the table declares.

``cost_line_items`` is not among them. Its asset comes from dbt's manifest, together with the models below it.
"""

import inspect
from collections.abc import Iterable, Iterator

import dagster as dg

from octo_pipeline.assets.configuration import allocators, cost_groups, metrics
from octo_pipeline.assets.months import make_step
from octo_pipeline.assets.partitions import a_run_a_month, monthly
from octo_pipeline.assets.specs import FINOPS, FRESHNESS, table_metadata
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import OUTSIDE, Table
from octo_pipeline.workspace import Workspace

# Inputs from outside the graph of tables that are assets nevertheless.
_DOCUMENTS = {asset.key.to_user_string(): asset for asset in (allocators, cost_groups, metrics)}


def table_asset(table: Table) -> dg.AssetsDefinition:
    """The asset of a table: its docstring is the description."""

    @dg.asset(
        name=table.name,
        description=inspect.getdoc(type(table)),
        group_name=table.group,
        kinds={"duckdb", "parquet", *(("dbt",) if table.is_dbt_model else ())},
        owners=FINOPS,
        metadata=table_metadata(table) | _source_code(table),
        freshness_policy=FRESHNESS,
        partitions_def=monthly,
        backfill_policy=a_run_a_month,
        deps=list(_deps(table)),
    )
    def make(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        return make_step(context, workspace, table)

    return make


def table_assets(tables: Iterable[Table]) -> list[dg.AssetsDefinition]:
    """The assets of the tables, without the one that dbt gives."""
    return [table_asset(table) for table in tables if table.name != CostLineItems.name]


def _deps(table: Table) -> Iterator[dg.AssetDep]:
    """What the table reads, month by month.

    A table that also reads what earlier months owe has no mapping to them: Dagster would make the next 36 months whenever
    somebody asks for one. Those that owe something else now are stale, which the sensors see.
    """
    for read in table.reads:
        if read.name in _DOCUMENTS:
            yield dg.AssetDep(_DOCUMENTS[read.name])
        elif read.name not in OUTSIDE:
            yield dg.AssetDep(read.name)


def _source_code(table: Table) -> dict[str, dg.CodeReferencesMetadataValue]:
    """The table's file and line for the link in the UI, because the function that Dagster would link is shared."""
    _, first = inspect.getsourcelines(type(table))
    file = inspect.getsourcefile(type(table))
    reference = dg.LocalFileCodeReference(file_path=str(file), line_number=first, label=table.name)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


assets = table_assets(order())
