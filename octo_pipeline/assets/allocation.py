"""The allocation's assets: who takes which item, whose usage counts, and who pays how much."""

import dagster as dg

from octo_pipeline.assets.months import materialise_months
from octo_pipeline.assets.partitions import monthly, origin_months
from octo_pipeline.assets.specs import FINOPS, FRESHNESS, table_metadata
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

_GROUP = "allocation"
_ONE_RUN = dg.BackfillPolicy.single_run()


@dg.asset(group_name="configuration", kinds={"json"}, owners=FINOPS)
def allocators(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The allocator documents as they are on disk; a file with an error is left out and listed."""
    found = workspace.configuration
    lines = [f"| {a.id} | {a.category} | {a.start} | {a.end or ''} | {a.name} |" for a in found.allocators]
    return dg.MaterializeResult(
        metadata={
            "allocators": len(found.allocators),
            "problems": dg.MetadataValue.md("\n".join(f"- {p}" for p in found.problems) or "none"),
            "list": dg.MetadataValue.md(
                "\n".join(["| id | category | start | end | name |", "| --- | --- | --- | --- | --- |", *lines])
            ),
        }
    )


@dg.asset(group_name="configuration", kinds={"json"}, owners=FINOPS)
def cost_groups(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The cost group documents as they are on disk."""
    found = workspace.configuration.cost_groups
    return dg.MaterializeResult(metadata={"cost_groups": len(found), "list": ", ".join(found) or "none"})


@dg.asset(
    group_name=_GROUP,
    kinds={"duckdb", "parquet"},
    owners=FINOPS,
    metadata=table_metadata(MatchedItems()),
    freshness_policy=FRESHNESS,
    partitions_def=monthly,
    backfill_policy=_ONE_RUN,
    deps=["cost_line_items", allocators],
)
def matched_items(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The month's fee and savings items and the taken account-usage items, each with its pinned allocator."""
    return materialise_months(context, workspace, MatchedItems())


@dg.asset(
    group_name=_GROUP,
    kinds={"duckdb", "parquet"},
    owners=FINOPS,
    metadata=table_metadata(ResolvedAccounts()),
    freshness_policy=FRESHNESS,
    partitions_def=monthly,
    backfill_policy=_ONE_RUN,
    deps=["cost_line_items", cost_groups, dg.AssetDep(matched_items, partition_mapping=origin_months)],
)
def resolved_accounts(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult:
    """The accounts that each due allocator entry means in the month. A null account: it means nobody."""
    return materialise_months(context, workspace, ResolvedAccounts())


@dg.asset(
    group_name=_GROUP,
    kinds={"duckdb", "parquet"},
    owners=FINOPS,
    metadata=table_metadata(UsageShares()),
    freshness_policy=FRESHNESS,
    partitions_def=monthly,
    backfill_policy=_ONE_RUN,
    deps=["cost_line_items", resolved_accounts],
)
def usage_shares(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The usage of each resolved account in the month, and its share among those its allocator lists."""
    return materialise_months(context, workspace, UsageShares())


@dg.asset(
    group_name=_GROUP,
    kinds={"duckdb", "parquet"},
    owners=FINOPS,
    metadata=table_metadata(Allocations()),
    freshness_policy=FRESHNESS,
    partitions_def=monthly,
    backfill_policy=_ONE_RUN,
    deps=[usage_shares, dg.AssetDep(matched_items, partition_mapping=origin_months)],
)
def allocations(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The month's items with their status, and the splits and remainders booked in the month. Conserved."""
    return materialise_months(context, workspace, Allocations())
