"""``usage_shares``: the inputs of the formulas for each resolved account and cost group in the booking month."""

from typing import ClassVar

from octo_pipeline.allocation import shares
from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.tables.base_rates import rate_inputs
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.tables.dues import pinned_allocators
from octo_pipeline.tables.metrics import metric_inputs, quantities
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts, group_inputs
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.workspace import Workspace


class UsageShares(Table):
    """The usage of each resolved account and cost group in the month, and its share among all that its allocator lists."""

    name = "usage_shares"
    group = "allocation"
    grain = "One row per allocator entry and account or cost group; one without either where nothing can be split."
    key = ("allocator_version", "own_account_id", "own_group_id", "entry_index", "account_id", "group_id")
    columns = shares.USAGE_SHARE_COLUMNS
    # The pinned allocators are those of the resolved accounts, whose fingerprint has their versions.
    reads = (
        Reads(LINE_ITEMS),
        Reads(ResolvedAccounts.name),
        Reads("cost_groups"),
        Reads(ContainerUsage.name, months="named"),
        Reads("metrics"),
        Reads("exchange_rates"),
        Reads("base_currency"),
    )
    code = ("model", "rules", "allocation")
    made_from: ClassVar[Lineage] = {
        "usage_cost": ((LINE_ITEMS, "effective_cost"),),
        "account_id": ((ResolvedAccounts.name, "account_id"),),
        "allocator_id": ((ResolvedAccounts.name, "allocator_id"),),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "account_rank": "Number of the row among its allocator's rows by account, then entry: the order that breaks ties "
        "of rounding.",
        "accounts": "The number of accounts or cost groups that share the entry.",
        "active_accounts": "How many of them have usage; null where no formula of the allocator depends on usage.",
        "entry_months": "The number of months over which the entry spreads the item.",
        "formula": "The entry's formula as it is written in the document.",
        "group_usage_share": "Share of everybody of the entry, 0 to 1.",
        "usage_cost": "What the account or cost group used in the month, in usage_currency; null where no formula of the "
        "allocator depends on it, or where a metric is weighed.",
        "usage_quantity": "The quantity of the metric that is weighed.",
        "reason": "Why no tranche of the allocator can be split in the month: family_too_large or metric_missing.",
        "usage_currency": "Currency of usage_cost: the accounts' own if they share one, else the base currency.",
        "usage_share": "Share of the account or cost group among all that the allocator lists, 0 to 1.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The cost groups and metrics that the due allocators name, the rates of the month and the base currency."""
        allocators = pinned_allocators(workspace.lake, month)
        return (
            group_inputs(workspace, allocators, month)
            | metric_inputs(workspace, allocators, month)
            | rate_inputs(workspace, month)
        )

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Compute usage and shares of the resolved accounts and cost groups."""
        lake, configuration = workspace.lake, workspace.configuration_of(month)
        allocators = pinned_allocators(lake, month)
        with lake.connect() as connection:
            query = shares.usage_shares_sql(
                connection,
                lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
                lake.scan(ContainerUsage.name, [month], ContainerUsage.columns),
                lake.scan(ResolvedAccounts.name, [month], ResolvedAccounts.columns),
                month,
                allocators,
                configuration.cost_groups,
                quantities(workspace, allocators, month),
                configuration.rates,
                configuration.base_currency,
            )
            lake.copy(connection, query, staged, metadata)
