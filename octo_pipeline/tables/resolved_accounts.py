"""``resolved_accounts``: the accounts that each due allocator entry means in the booking month."""

from typing import ClassVar

from octo_pipeline.allocation import resolution
from octo_pipeline.lake.lake import PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.rules.allocator import values_named
from octo_pipeline.tables.dues import pinned_allocators
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.workspace import Workspace


class ResolvedAccounts(Table):
    """The accounts that each due allocator entry means in the month. The account is null if it means nobody."""

    name = "resolved_accounts"
    group = "allocation"
    grain = "One row per allocator entry and account that it means; one row without an account where it means nobody."
    key = ("allocator_version", "entry_index", "account_id")
    columns = resolution.RESOLVED_ACCOUNT_COLUMNS
    reads = (
        Reads(LINE_ITEMS),
        Reads("matched_items", months="pinned"),
        Reads("cost_groups"),
        Reads("registered_accounts"),
    )
    code = ("model", "rules", "allocation")
    made_from: ClassVar[Lineage] = {
        "account_id": ((LINE_ITEMS, "sub_account_id"),),
        "allocator_id": (("matched_items", "allocator_id"),),
        "allocator_version": (("matched_items", "allocator_version"),),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "account_id": "The account that the entry means; null: it means nobody in this month.",
        "entry_index": "Position of the entry in the allocator's list, from 0.",
        "entry_type": "account, payer or costgroup.",
        "entry_value": "The entry's value as it is written in the document.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The due allocators, and the cost groups and registered accounts that their entries name."""
        allocators = pinned_allocators(workspace.lake, month)
        groups = workspace.configuration.cost_groups
        registered = workspace.registered_accounts(values_named(allocators, "payer"))
        return {
            f"cost_groups/{name}": groups[name].version
            for name in values_named(allocators, "costgroup")
            if name in groups
        } | {
            "allocators": fingerprint({a.version: "" for a in allocators}),
            "registered_accounts": fingerprint({f"{payer}/{account}": "" for payer, account in registered}),
        }

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Resolve accounts, payers and cost groups."""
        lake = workspace.lake
        allocators = pinned_allocators(lake, month)
        with lake.connect() as connection:
            query = resolution.resolved_accounts_sql(
                lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
                allocators,
                workspace.configuration.cost_groups,
                workspace.registered_accounts(values_named(allocators, "payer")),
            )
            lake.copy(connection, query, staged, metadata)
