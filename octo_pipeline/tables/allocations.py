"""``allocations``: the month's items with their status, and the splits and remainders booked in it."""

from typing import ClassVar

from octo_pipeline.allocation import balances, splits
from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.sql import Relation, Sql, literal, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.registry.records import RestoredItem
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.tables.dues import origins_read, pinned_allocators
from octo_pipeline.tables.known import as_known
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
    reads = (
        Reads(UsageShares.name),
        Reads(MatchedItems.name, months="owing"),
        # A balance has what its owner was billed.
        Reads(LINE_ITEMS, months="named"),
        # They compute what is known of closed months.
        Reads("corrections", months="named"),
        Reads("decisions"),
    )
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
        Proof(
            "balances",
            "each balance is what its owner was billed and booked before its step, in both measures",
            "tables/proof_allocations_balances",
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
        "step": "Of a row of a balance, the step in which it is handed on, 1 to 9.",
        "own_account_id": "Of a balance, the account that has it.",
        "own_group_id": "Of a balance, the cost group that has it, if it is not an account.",
        "currency": "Of a balance, the currency of its amounts.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The restore decisions on items that are booked in the month, and what failed in earlier months."""
        decided_ids = [decision.item_id for decision in _decisions(workspace, month)]
        failed = {
            f"allocations/{origin}/failed": fingerprint(dict.fromkeys(item_ids, ""))
            for origin, item_ids in _failed_before(workspace, month).items()
        }
        billed = Reads(LINE_ITEMS).inputs(workspace.lake, month) if _balance_rules(workspace.lake, month) else {}
        return {"restored": fingerprint(dict.fromkeys(decided_ids, ""))} | failed | billed

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Split every due tranche and prove that each adds up."""
        lake = workspace.lake
        with lake.connect() as connection:
            matched = lake.scan(MatchedItems.name, origins_read(lake, month), MatchedItems.columns)
            restored = create_restored_items(connection, _decisions(workspace, month), matched)
            usage = lake.scan(UsageShares.name, [month], UsageShares.columns)
            failed_ids = [(item_id,) for ids in _failed_before(workspace, month).values() for item_id in ids]
            failed_before = Relation(f"({rows_sql({'item_id': 'VARCHAR'}, failed_ids)})")
            line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
            allocators = [a for a in pinned_allocators(lake, month) if a.category != "balance"]
            query = splits.allocations_sql(connection, matched, usage, restored, month, allocators, failed_before)
            facts: dict[str, object] = {_FAILED: splits.failed_moving_items(connection, matched, month)}
            steps = None
            if rules := _balance_rules(lake, month):
                # Written before the steps, which are made with the same temporary tables.
                file = literal(str(staged.folder / "before_steps.parquet"))
                connection.execute(f"COPY ({query}) TO {file}")
                booked = Relation(f"read_parquet({file})")
                steps = balances.book_steps(connection, booked, line_items, matched, usage, restored, month, rules)
                query = Sql(f"FROM {booked}")
                facts[HAS_BALANCES] = True
            absent = ", ".join(
                f"null::{kind} as {name}" for name, kind in self.columns.items() if name not in splits.BOOKED_COLUMNS
            )
            rows = render(
                "tables/allocations", columns=self.columns, booked_rows=query, steps=steps, absent_columns=absent
            )
            lake.copy(connection, rows, staged, metadata, facts=facts)
            self.prove(
                connection,
                staged,
                items=Relation(f"({balances.items_sql(matched, staged.relation if steps else None)})"),
                line_items=line_items,
                has_balances=steps is not None,
                restored_items=restored,
                failed_before=failed_before,
            )


# Whether the month has rows of balances, the items of which nothing else holds.
HAS_BALANCES = "has_balances"
# The fact of a month that later months read: which of its items do not move the cost of a commitment after all.
_FAILED = "failed_moving_items"


def _failed_before(workspace: Workspace, month: str) -> dict[str, list[str]]:
    """Earlier origin month -> its failed items that later months ask for; only months that have any.

    Of a closed month what is known now counts, as its corrections have made it.
    """
    lake = workspace.lake
    earlier = [origin for origin in origins_read(lake, month) if origin != month]
    closed = [origin for origin in earlier if origin in workspace.closed_months]
    metadata = lake.metadata_of("allocations", earlier) | as_known(workspace).lake.metadata_of("allocations", closed)
    return {origin: ids for origin, partition in metadata.items() if (ids := partition.facts.get(_FAILED))}


def _balance_rules(lake: Lake, month: str) -> list[Allocator]:
    return [a for a in pinned_allocators(lake, month) if a.category == "balance"]


def _decisions(workspace: Workspace, month: str) -> tuple[RestoredItem, ...]:
    return workspace.registry.restored_items(origins_read(workspace.lake, month))
