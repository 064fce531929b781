"""The marts' assets: what accounts and cost groups cost in a month."""

import dagster as dg

from octo_pipeline.assets.months import materialise_months
from octo_pipeline.assets.partitions import monthly, origin_months
from octo_pipeline.assets.specs import FINOPS, FRESHNESS, table_metadata
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.workspace import Workspace

_GROUP = "marts"
_ONE_RUN = dg.BackfillPolicy.single_run()


@dg.asset(
    group_name=_GROUP,
    kinds={"dbt", "duckdb", "parquet"},
    owners=FINOPS,
    metadata=table_metadata(AccountCosts()),
    freshness_policy=FRESHNESS,
    partitions_def=monthly,
    backfill_policy=_ONE_RUN,
    deps=["cost_line_items", "allocations", dg.AssetDep("matched_items", partition_mapping=origin_months)],
)
def account_costs(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """What each account pays in the month: billed, moved away, moved in. Adds up to the bill, exactly."""
    return materialise_months(context, workspace, AccountCosts())


@dg.asset(
    group_name=_GROUP,
    kinds={"dbt", "duckdb", "parquet"},
    owners=FINOPS,
    metadata=table_metadata(CostGroupCosts()),
    freshness_policy=FRESHNESS,
    partitions_def=monthly,
    backfill_policy=_ONE_RUN,
    deps=[
        "cost_line_items",
        "cost_groups",
        "allocations",
        dg.AssetDep("matched_items", partition_mapping=origin_months),
    ],
)
def cost_group_costs(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """What each cost group costs in the month, by section. Groups that share an account share its fees."""
    return materialise_months(context, workspace, CostGroupCosts())
