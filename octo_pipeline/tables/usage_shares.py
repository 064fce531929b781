"""``usage_shares``: the inputs of the formulas for each resolved account in the booking month."""

from typing import ClassVar

from octo_pipeline.allocation import shares
from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.tables.base_rates import rate_inputs
from octo_pipeline.tables.dues import pinned_allocators
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.workspace import Workspace


class UsageShares(Table):
    """The usage of each resolved account in the month, and its share among the accounts that its allocator lists."""

    name = "usage_shares"
    group = "allocation"
    grain = "One row per allocator entry and account."
    key = ("allocator_version", "entry_index", "account_id")
    columns = shares.USAGE_SHARE_COLUMNS
    # The pinned allocators are those of the resolved accounts, whose fingerprint has their versions.
    reads = (Reads(LINE_ITEMS), Reads(ResolvedAccounts.name), Reads("exchange_rates"), Reads("base_currency"))
    code = ("model", "rules", "allocation")
    made_from: ClassVar[Lineage] = {
        "usage_cost": ((LINE_ITEMS, "effective_cost"),),
        "account_id": ((ResolvedAccounts.name, "account_id"),),
        "allocator_id": ((ResolvedAccounts.name, "allocator_id"),),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "account_rank": "Number of the row among its allocator's rows by account, then entry: the order that breaks ties "
        "of rounding.",
        "accounts": "The number of accounts that share the entry.",
        "entry_months": "The number of months over which the entry spreads the item.",
        "formula": "The entry's formula as it is written in the document.",
        "group_usage_share": "Share of all accounts of the entry together, 0 to 1.",
        "usage_cost": "What the account used in the month, in usage_currency.",
        "usage_currency": "Currency of usage_cost: the accounts' own if they share one, else the base currency.",
        "usage_share": "Share of the account among all accounts that the allocator lists, 0 to 1.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The exchange rates that count in the month, and the base currency."""
        return rate_inputs(workspace, month)

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Compute usage and shares of the resolved accounts."""
        lake = workspace.lake
        with lake.connect() as connection:
            query = shares.usage_shares_sql(
                connection,
                lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
                lake.scan(ResolvedAccounts.name, [month], ResolvedAccounts.columns),
                month,
                pinned_allocators(lake, month),
                workspace.configuration.rates,
                workspace.settings.base_currency,
            )
            lake.copy(connection, query, staged, metadata)
