"""``allocations``: the month's items with their status, and the splits and remainders booked in it."""

from typing import ClassVar

from octo_pipeline.allocation import splits
from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.sql import Relation, rows_sql
from octo_pipeline.registry.records import RestoredItem
from octo_pipeline.tables.dues import origins_read, pinned_allocators
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.restored_items import create_restored_items
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace


class Allocations(Table):
    """The month's items with their status, and the splits and remainders booked in the month. Conserved."""

    name = "allocations"
    group = "allocation"
    grain = "One row per item billed in the month, and one per split or remainder booked in it."
    key = ("item_id", "kind", "target_account_id", "target_group_id", "entry_index")
    columns = splits.ALLOCATION_COLUMNS
    reads = (Reads(UsageShares.name), Reads(MatchedItems.name, months="owing"), Reads("decisions"))
    code = ("model", "rules", "allocation", "tables/restored_items.py")
    proofs = (
        Proof(
            "tranches",
            "the splits and remainders of each item add up to its tranche, in both measures",
            "tables/proof_allocations_tranches",
        ),
        Proof(
            "instalments",
            "the instalments of each item add up to its cost, in both measures",
            "tables/proof_allocations_instalments",
        ),
        Proof("items", "each item of the month is listed once, with both costs", "tables/proof_allocations_items"),
        Proof(
            "undistributed",
            "an item that is not distributed has no splits",
            "tables/proof_allocations_undistributed",
        ),
    )
    made_from: ClassVar[Lineage] = {
        "cost": ((MatchedItems.name, "cost"), (UsageShares.name, "usage_share")),
        "effective_cost": ((MatchedItems.name, "effective_cost"), (UsageShares.name, "usage_share")),
        "item_id": ((MatchedItems.name, "item_id"),),
        "origin_month": ((MatchedItems.name, "origin_month"),),
        "target_account_id": ((UsageShares.name, "account_id"),),
        "target_group_id": ((UsageShares.name, "group_id"),),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "status": "checked_allocated, checked_splitted or unchecked_allocated: the item was distributed, a part of it "
        "was booked, or it stays where it was billed.",
        "kind": "item, split or remainder.",
        "reason": "Why an item stays where it was billed, or why there is a remainder.",
        "target_account_id": "The account that the split or remainder is booked on.",
        "target_group_id": "The cost group that the split or remainder is booked on, if it is not an account.",
        "tranche_index": "Which of these months this is, from 0.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The restore decisions on items that are booked in the month, and what failed in earlier months."""
        decided_ids = [decision.item_id for decision in _decisions(workspace, month)]
        failed = {
            f"allocations/{origin}/failed": fingerprint(dict.fromkeys(item_ids, ""))
            for origin, item_ids in _failed_before(workspace.lake, month).items()
        }
        return {"restored": fingerprint(dict.fromkeys(decided_ids, ""))} | failed

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Split every due tranche and prove that each adds up."""
        lake = workspace.lake
        with lake.connect() as connection:
            matched = lake.scan(MatchedItems.name, origins_read(lake, month), MatchedItems.columns)
            restored = create_restored_items(connection, _decisions(workspace, month), matched)
            usage = lake.scan(UsageShares.name, [month], UsageShares.columns)
            failed_ids = [(item_id,) for ids in _failed_before(lake, month).values() for item_id in ids]
            failed_before = Relation(f"({rows_sql({'item_id': 'VARCHAR'}, failed_ids)})")
            query = splits.allocations_sql(
                connection, matched, usage, restored, month, pinned_allocators(lake, month), failed_before
            )
            facts = {_FAILED: splits.failed_moving_items(connection, matched, month)}
            lake.copy(connection, query, staged, metadata, facts=facts)
            self.prove(connection, staged, matched_items=matched, restored_items=restored, failed_before=failed_before)


# The fact of a month that later months read: which of its items do not move the cost of a commitment after all.
_FAILED = "failed_moving_items"


def _failed_before(lake: Lake, month: str) -> dict[str, list[str]]:
    """Earlier origin month -> its failed items that later months ask for; only months that have any."""
    earlier = [origin for origin in origins_read(lake, month) if origin != month]
    metadata = lake.metadata_of("allocations", earlier)
    return {origin: ids for origin, partition in metadata.items() if (ids := partition.facts.get(_FAILED))}


def _decisions(workspace: Workspace, month: str) -> tuple[RestoredItem, ...]:
    return workspace.registry.restored_items(origins_read(workspace.lake, month))
