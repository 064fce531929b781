"""The FOCUS export as an asset: made when somebody asks for it, so that it never makes the daily months slower."""

from urllib.parse import quote

import dagster as dg

from octo_pipeline.assets.failures import in_dagster
from octo_pipeline.assets.metadata import markdown_table
from octo_pipeline.assets.partitions import a_run_a_month, monthly
from octo_pipeline.assets.specs import FINOPS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.outputs.focus.export import TABLE, publish_focus
from octo_pipeline.workspace import Workspace


@dg.asset(
    name=TABLE,
    description="The month as FOCUS 1.4, data set Cost and Usage: every charge as it is allocated, proved to be the bill.",
    group_name="outputs",
    kinds={"duckdb", "parquet"},
    owners=FINOPS,
    partitions_def=monthly,
    backfill_policy=a_run_a_month,
    deps=["account_costs", "allocations", "corrections", "cost_line_items"],
)
def focus_export(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """Publish the month and say what it is made of."""
    month = context.partition_key
    try:
        written = publish_focus(workspace, month)
    except OctoError as error:
        raise dg.Failure(in_dagster(error), allow_retries=False) from None
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(written.kinds.column("row_count")),
            "dagster/uri": quote(str(workspace.lake.path(TABLE, month)), safe="/=:"),
            "totals": dg.MetadataValue.md(markdown_table(written.totals)),
            "rows": dg.MetadataValue.md(markdown_table(written.kinds)),
        }
    )
