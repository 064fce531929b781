"""``allocations``: the month's items with their status, and the splits and remainders booked in it."""

from collections.abc import Sequence
from typing import ClassVar

import duckdb

from octo_pipeline.allocation import splits
from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.lake.lake import PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.sql import Relation
from octo_pipeline.tables.dues import origins_read, pinned_allocators
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

_RESTORED = Relation("restored_items")


class Allocations(Table):
    """The month's items with their status, and the splits and remainders booked in the month. Conserved."""

    name = "allocations"
    group = "allocation"
    grain = "One row per item billed in the month, and one per split or remainder booked in it."
    key = ("item_id", "kind", "target_account_id", "entry_index")
    columns = splits.ALLOCATION_COLUMNS
    reads = (Reads(UsageShares.name), Reads(MatchedItems.name, months="owing"), Reads("decisions"))
    code = ("model", "rules", "allocation")
    proofs = (
        Proof(
            "tranches",
            "the splits and remainders of each item add up to its tranche",
            "tables/proof_allocations_tranches",
        ),
        Proof(
            "instalments",
            "the instalments of each item add up to its cost",
            "tables/proof_allocations_instalments",
        ),
        Proof("items", "each item of the month is listed once, with its cost", "tables/proof_allocations_items"),
        Proof(
            "undistributed",
            "an item that is not distributed has no splits",
            "tables/proof_allocations_undistributed",
        ),
    )
    made_from: ClassVar[Lineage] = {
        "cost": ((MatchedItems.name, "cost"), (UsageShares.name, "usage_share")),
        "item_id": ((MatchedItems.name, "item_id"),),
        "origin_month": ((MatchedItems.name, "origin_month"),),
        "target_account_id": ((UsageShares.name, "account_id"),),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "status": "checked_allocated, checked_splitted or unchecked_allocated: the item was distributed, a part of it "
        "was booked, or it stays where it was billed.",
        "kind": "item, split or remainder.",
        "reason": "Why an item stays where it was billed, or why there is a remainder.",
        "target_account_id": "The account that the split or remainder is booked on.",
        "tranche_index": "Which of these months this is, from 0.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The restored items among those that are booked in the month."""
        return {"restored": fingerprint(dict.fromkeys(_restored(workspace, month), ""))}

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Split every due tranche and prove that each adds up."""
        lake = workspace.lake
        with lake.connect() as connection:
            _create_restored(connection, _restored(workspace, month))
            matched = lake.scan(MatchedItems.name, origins_read(lake, month), MatchedItems.columns)
            usage = lake.scan(UsageShares.name, [month], UsageShares.columns)
            query = splits.allocations_sql(connection, matched, usage, _RESTORED, month, pinned_allocators(lake, month))
            lake.copy(connection, query, staged, metadata)
            self.prove(connection, staged, matched_items=matched, restored_items=_RESTORED)


def _restored(workspace: Workspace, month: str) -> list[str]:
    origins = origins_read(workspace.lake, month)
    return [item.item_id for item in workspace.registry.restored_items(origins)]


def _create_restored(connection: duckdb.DuckDBPyConnection, item_ids: Sequence[str]) -> None:
    if item_ids:
        # There can be a million of them, so they are bound as one list instead of written out.
        connection.execute(
            f"CREATE TEMP TABLE {_RESTORED} AS SELECT unnest($1::VARCHAR[]) AS item_id", [list(item_ids)]
        )
    else:
        connection.execute(f"CREATE TEMP TABLE {_RESTORED} (item_id VARCHAR)")
