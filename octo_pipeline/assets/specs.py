"""What assets show about themselves: owners, columns, freshness and column lineage. No asset is defined here."""

from datetime import timedelta
from typing import Any

import dagster as dg

from octo_pipeline.tables.graph import column_meaning
from octo_pipeline.tables.table import Table

DATA_ENGINEERING = ("team:data-engineering",)
FINOPS = ("team:finops",)

# The check of the raw exports.
EVERY_SOURCE_ANSWERED = "every_source_answered"

# The daily schedule makes every table once a day; the rest is time for the run itself.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))


def table_metadata(table: Table) -> dict[str, Any]:
    """Grain, columns and column lineage of a table, as an asset's metadata."""
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(name, kind.lower(), description=column_meaning(table, name))
            for name, kind in table.columns.items()
        ]
    )
    lineage = dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key=dg.AssetKey(asset), column_name=name) for asset, name in deps]
            for column, deps in table.made_from.items()
        }
    )
    return {"grain": table.grain, "dagster/column_schema": schema, "dagster/column_lineage": lineage}
