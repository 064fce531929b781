"""``matched_items``: the items of the month and the allocators that take them."""

from typing import ClassVar

from octo_pipeline.allocation import matching
from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.workspace import Workspace

# The fact that says which deliveries the items are of, whatever version of the program read them.
DELIVERIES = "deliveries"


class MatchedItems(Table):
    """The month's fee and savings items and the taken account-usage items, each with its pinned allocator."""

    name = "matched_items"
    group = "allocation"
    grain = "One row per item: every fee and savings item, and the account-usage items that an allocator takes."
    key = ("item_id",)
    columns = matching.MATCHED_ITEM_COLUMNS
    reads = (Reads(LINE_ITEMS), Reads("allocators"))
    code = ("model", "rules", "allocation")
    proofs = (
        Proof("items_once", "each item is listed once", "tables/proof_matched_items_once"),
        Proof(
            "fees",
            "the fee items of each payer and currency add up to its fee lines, in both measures",
            "tables/proof_matched_items_fees",
        ),
        Proof(
            "savings",
            "the savings items of each payer and currency add up to the savings of its lines",
            "tables/proof_matched_items_savings",
        ),
        Proof("usage", "no account takes more usage lines than it has", "tables/proof_matched_items_usage"),
    )
    made_from: ClassVar[Lineage] = {
        "cost": ((LINE_ITEMS, "billed_cost"), (LINE_ITEMS, "list_cost"), (LINE_ITEMS, "effective_cost")),
        "effective_cost": ((LINE_ITEMS, "effective_cost"),),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "item_id": "128 bits of a digest over category and grain, not over the cost; the same in every run.",
        "category": "fee, account or savings.",
        "origin_month": "Month in which the item was billed, YYYY-MM.",
        "cost": "Billed or allocated cost.",
        "effective_cost": "The same of the amortised cost; 0 for savings.",
        "allocator_id": "The allocator that takes the item; null: none does.",
        "allocator_version": "Digest of the allocator's document.",
        "allocator_document": "The allocator as it was when it took the item, as canonical JSON.",
        "first_booking_month": "The first month in which a part of the item is booked.",
        "tranche_count": "The number of months over which the item is spread.",
        "conflicting_allocator_ids": "The allocators that also match the item and come later in the order.",
        "own_group_id": "Of a balance, the cost group that has it, if it is not an account.",
        "moving_item_ids": "Of an unused savings item, the taken fee and account-usage items with lines of it: while one "
        "of them is distributed, the savings item is not.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The allocators whose window contains the month, in order."""
        live = matching.applying(workspace.configuration_of(month).allocators, month)
        return {"allocators": fingerprint({f"{i:06d}": a.version for i, a in enumerate(live)})}

    def changes(self, before: PartitionMetadata | None, after: PartitionMetadata | None) -> tuple[str, ...]:
        """The changed inputs; in place of ``allocators``, those that took something before or do now: ``allocators/ID``."""
        names = super().changes(before, after)
        if "allocators" not in names or before is None or after is None:
            return names
        pinned = [metadata.facts["allocators"].values() for metadata in (before, after)]
        documents = set(pinned[0]) ^ set(pinned[1])
        rules = sorted({f"allocators/{Allocator.from_document(document).id}" for document in documents})
        return tuple(name for name in names if name != "allocators" or not rules) + tuple(rules)

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Match the month's items, record what is due in each month, and prove that every line item counts once."""
        lake, allocators = workspace.lake, workspace.configuration_of(month).allocators
        with lake.connect() as connection:
            line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
            numbered = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS, row_number_as=matching.LINE_NUMBER)
            query = matching.matched_items_sql(connection, numbered, month, allocators)
            matched = create_temp_table(connection, "matched", query)
            due = matching.due_facts(connection, matched)
            # Balances are items of the month, too. What they are is known only when it is booked.
            balance_rules = [a for a in matching.applying(allocators, month) if a.category == "balance"]
            if balance_rules:
                due.setdefault(month, {}).update({a.version: a.version for a in balance_rules})
            versions = {version for digests in due.values() for version in digests}
            documents = {a.version: a.document for a in allocators if a.version in versions}
            facts = {"due": due, "allocators": documents, DELIVERIES: deliveries_digest(lake, month)}
            lake.copy(connection, f"FROM {matched}", staged, metadata, facts=facts)
            self.prove(connection, staged, line_items=line_items)


def deliveries_digest(lake: Lake, month: str) -> str:
    """A digest of what the month's line items were read from, without the version of the program that read them."""
    metadata = lake.metadata(LINE_ITEMS, month)
    return fingerprint({name: value for name, value in metadata.inputs.items() if name != "code"}) if metadata else ""
