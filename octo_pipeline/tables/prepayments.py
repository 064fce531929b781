"""``prepayments``: what is billed and not yet booked, carried from month to month (allocation.md §12).

An item with more than one instalment is paid in one month and borne in others. Its cost is owed by the months to come until
they have booked it, and this is the balance between the bill and what accounts pay.
"""

from typing import ClassVar

from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.lake.lake import PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.templates import render
from octo_pipeline.registry.records import RestoredItem
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.dues import origins_outstanding
from octo_pipeline.tables.explained_allocations import INPUTS_CHANGED
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.restored_items import create_restored_items
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.workspace import Workspace

_FLOWS = ("opening", "billed", "booked", "closing")

# What describes an item in its corrections too.
_ITEM_COLUMNS = (
    "vendor", "payer", "source_account", "service_code", "charge_description", "allocator_id", "tranche_count", "currency",
)  # fmt: skip

PREPAYMENT_COLUMNS: dict[str, str] = {
    "item_id": "VARCHAR",
    "origin_month": "VARCHAR",
    "category": "VARCHAR",
    "vendor": "VARCHAR",
    "payer": "VARCHAR",
    "source_account": "VARCHAR",
    "service_code": "VARCHAR",
    "charge_description": "VARCHAR",
    "allocator_id": "VARCHAR",
    "first_booking_month": "VARCHAR",
    "tranche_count": "INTEGER",
    "currency": "VARCHAR",
    **dict.fromkeys(_FLOWS, MONEY),
    **{f"effective_{name}": MONEY for name in _FLOWS},
}


class Prepayments(Table):
    """What is billed and not yet booked, in both measures: due later at the start, billed, booked, due later at the end."""

    name = "prepayments"
    group = "marts"
    grain = "One row per fee or account-usage item with several instalments, until the last of them is booked."
    key = ("item_id",)
    columns = PREPAYMENT_COLUMNS
    reads = (
        Reads(MatchedItems.name, months="outstanding"),
        Reads(Allocations.name),
        Reads(Corrections.name),
        Reads("decisions"),
    )
    code = ("model", "rules", "allocation", "tables/prepayments.py", "tables/restored_items.py")
    proofs = (
        Proof(
            "rolled_forward",
            "opening + billed - booked = closing of each item, in both measures",
            "tables/proof_prepayments_rolled",
        ),
        Proof(
            "booked",
            "what is billed and booked of each item is what the allocations and corrections say",
            "tables/proof_prepayments_booked",
        ),
        Proof(
            "due_later",
            "what is carried on of each item are its instalments of later months",
            "tables/proof_prepayments_due_later",
        ),
    )
    remedy = INPUTS_CHANGED
    made_from: ClassVar[Lineage] = {
        **dict.fromkeys(_FLOWS, ((MatchedItems.name, "cost"),)),
        **dict.fromkeys((f"effective_{name}" for name in _FLOWS), ((MatchedItems.name, "effective_cost"),)),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "opening": "Due in this month or later, at its start.",
        "billed": "Cost of the item, in the month in which it was billed.",
        "booked": "The instalment that is booked in the month.",
        "closing": "Due in later months: opening + billed - booked.",
        "effective_opening": "The same as opening, of the amortised cost.",
        "effective_billed": "The same as billed, of the amortised cost.",
        "effective_booked": "The same as booked, of the amortised cost.",
        "effective_closing": "The same as closing, of the amortised cost.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The restore decisions on items with something due in the month or later."""
        decided_ids = [decision.item_id for decision in _decisions(workspace, month)]
        return {"restored": fingerprint(dict.fromkeys(decided_ids, ""))}

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Roll every spread item forward by a month, and prove it against the allocations."""
        lake = workspace.lake
        lake.require([month], Allocations.name)
        with lake.connect() as connection:
            matched = lake.scan(MatchedItems.name, origins_outstanding(lake, month), MatchedItems.columns)
            restored = create_restored_items(connection, _decisions(workspace, month), matched)
            corrected = lake.scan(Corrections.name, [month], Corrections.columns)
            query = render(
                "tables/prepayments",
                matched_items=matched,
                restored_items=restored,
                corrections=corrected,
                described_columns=_ITEM_COLUMNS,
                columns=list(self.columns),
                month=month,
            )
            lake.copy(connection, query, staged, metadata)
            booked = lake.scan(Allocations.name, [month], Allocations.columns)
            self.prove(
                connection,
                staged,
                matched_items=matched,
                restored_items=restored,
                booked=booked,
                corrections=corrected,
            )


def _decisions(workspace: Workspace, month: str) -> tuple[RestoredItem, ...]:
    return workspace.registry.restored_items(origins_outstanding(workspace.lake, month))
