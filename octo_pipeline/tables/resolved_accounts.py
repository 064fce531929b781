"""``resolved_accounts``: the accounts and cost groups that each due allocator entry means in the booking month."""

from collections.abc import Sequence
from typing import ClassVar

from octo_pipeline.allocation import resolution
from octo_pipeline.lake.lake import PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.rules.allocator import Allocator, values_named
from octo_pipeline.rules.cost_group import group_document
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.tables.dues import origins_read, owned_digests, pinned_allocators
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.workspace import Workspace


class ResolvedAccounts(Table):
    """The accounts and cost groups that each due allocator entry means in the month; neither if it means nobody."""

    name = "resolved_accounts"
    group = "allocation"
    grain = "One row per allocator entry and account or cost group that it means; one row without either where it means nobody."
    key = ("allocator_version", "own_account_id", "own_group_id", "entry_index", "account_id", "group_id")
    columns = resolution.RESOLVED_ACCOUNT_COLUMNS
    reads = (
        Reads(LINE_ITEMS),
        Reads(MatchedItems.name, months="pinned"),
        Reads("cost_groups"),
        Reads(ContainerUsage.name, months="named"),
        Reads("registered_accounts"),
    )
    code = ("model", "rules", "allocation")
    made_from: ClassVar[Lineage] = {
        "account_id": ((LINE_ITEMS, "sub_account_id"),),
        "allocator_id": ((MatchedItems.name, "allocator_id"),),
        "allocator_version": ((MatchedItems.name, "allocator_version"),),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "account_id": "The account that the entry means; null: it means nobody in this month.",
        "own_account_id": "Of an allocator with an entry of type owner, the account of the items that the row is for.",
        "own_group_id": "The same of a rule for balances, where a cost group has the balance.",
        "group_id": "The cost group that the entry means.",
        "reason": "Why no tranche of the allocator can be split in the month: family_too_large.",
        "entry_index": "Position of the entry in the allocator's list, from 0.",
        "entry_type": "account, payer, costgroup, group or owner.",
        "entry_value": "The entry's value as it is written in the document.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The due allocators, and the cost groups and registered accounts that their entries name."""
        allocators = pinned_allocators(workspace.lake, month)
        registered = workspace.registered_accounts(values_named(allocators, "payer"), month)
        return (
            group_inputs(workspace, allocators, month)
            | {f"owners/{name}": digest for name, digest in owned_digests(workspace.lake, month, allocators).items()}
            | {
                "allocators": fingerprint({a.version: "" for a in allocators}),
                "registered_accounts": fingerprint({f"{payer}/{account}": "" for payer, account in registered}),
            }
        )

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Resolve accounts, payers and cost groups."""
        lake = workspace.lake
        allocators = pinned_allocators(lake, month)
        with lake.connect() as connection:
            query = resolution.resolved_accounts_sql(
                connection,
                lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
                lake.scan(ContainerUsage.name, [month], ContainerUsage.columns),
                lake.scan(MatchedItems.name, origins_read(lake, month), MatchedItems.columns),
                month,
                allocators,
                workspace.configuration_of(month).cost_groups,
                workspace.registered_accounts(values_named(allocators, "payer"), month),
            )
            lake.copy(connection, query, staged, metadata)


def group_inputs(workspace: Workspace, allocators: Sequence[Allocator], month: str) -> dict[str, str]:
    """The inputs of a table that reads the cost groups which allocators name, for its fingerprint.

    An entry with a pattern names all of them. Families of containers read what containers used.
    """
    groups = workspace.configuration_of(month).cost_groups
    if any(entry.pattern is not None for a in allocators for entry in a.entries):
        named = list(groups.values())
    else:
        documents = [group_document(groups, group_id) for a in allocators for group_id in a.groups_named]
        named = [document[0] for document in documents if document]
    inputs = {f"cost_groups/{group.id}": group.version for group in named}
    if any(group.of == "containers" for group in named):
        inputs |= Reads(ContainerUsage.name).inputs(workspace.lake, month)
    return inputs
