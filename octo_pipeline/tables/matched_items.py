"""``matched_items``: the items of the month and the allocators that take them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import duckdb

from octo_pipeline.allocation import matching
from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.engine.engine import Payload
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.sql import Relation
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.tables.kept_parts import (
    PARTS_KEPT,
    drop_other_parts,
    made_again_if_damaged,
    made_parts,
    part_identity,
    part_to_keep,
)
from octo_pipeline.tables.table import Lineage, Reads, Table
from octo_pipeline.workspace import Workspace

# Fewer lines than this are matched together with those of other payers.
LINES_PER_PART = 50_000

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
        # Balances are items of the month, too. What they are is known only when it is booked.
        balance_rules = [a for a in matching.applying(allocators, month) if a.category == "balance"]
        more_facts = {DELIVERIES: deliveries_digest(lake, month)}
        with lake.connect() as connection:
            ranges = _ranges(lake.metadata(LINE_ITEMS, month))
            if len(ranges) > 1:
                made_again_if_damaged(
                    lake,
                    self.name,
                    month,
                    lambda: self._make_in_parts(connection, workspace, staged, metadata, ranges, more_facts),
                )
                return
            line_items = _numbered_lines(lake, month)
            self.write(connection, lake, line_items, staged, metadata, allocators, balance_rules, more_facts)

    def after_publishing(self, workspace: Workspace, month: str) -> None:
        """Remove the parts that the month is not made of any more."""
        drop_other_parts(workspace.lake, self.name, month)

    def write(
        self,
        connection: duckdb.DuckDBPyConnection,
        lake: Lake,
        line_items: Relation,
        staged: Staged,
        metadata: PartitionMetadata,
        allocators: Sequence[Allocator],
        balance_rules: Sequence[Allocator] = (),
        more_facts: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Match the items of line items, and prove that every line item counts once.

        Args:
            connection: where `line_items` can be read.
            lake: the lake.
            line_items: relation with the columns of ``cost_line_items`` and `matching.LINE_NUMBER`: all of some payers in the
                month.
            staged: the file to write.
            metadata: recorded in the file.
            allocators: all valid allocators, in order.
            balance_rules: the rules for balances that apply in the month.
            more_facts: what is recorded beside what is due.
        """
        query = matching.matched_items_sql(connection, line_items, staged.month, allocators)
        matched = create_temp_table(connection, "matched", matching.without_documents_sql(query))
        facts = _facts(matching.due_facts(connection, matched), staged.month, allocators, balance_rules)
        lake.copy(connection, matching.with_documents_sql(matched), staged, metadata, facts={**facts, **more_facts})
        self.prove(connection, staged, line_items=line_items)

    def _make_in_parts(
        self,
        connection: duckdb.DuckDBPyConnection,
        workspace: Workspace,
        staged: Staged,
        metadata: PartitionMetadata,
        ranges: "Sequence[_LineRange]",
        more_facts: Mapping[str, object],
    ) -> None:
        """Match and prove the payers that are not kept, and join the files.

        What is proved of line items is proved in their part. What is left is that each item is listed once.
        """
        lake, month = workspace.lake, staged.month
        allocators = workspace.configuration_of(month).allocators
        live = matching.applying(allocators, month)
        common = {name: metadata.inputs[name] for name in ("code", "allocators")} | {"month": month}
        payloads = {
            fingerprint(common | {f"line_items/{i}": name for i, name in enumerate(part.names)}): {
                "line_items": _numbered_lines(lake, month, (part.first, part.end)),
                "allocators": [allocator.document for allocator in live],
            }
            for part in ranges
        }
        made = made_parts(workspace, self.name, month, match_part, payloads)
        due = matching.merged_due(part.metadata.facts["due"] for part in made)
        balance_rules = [a for a in live if a.category == "balance"]
        facts = {**_facts(due, month, allocators, balance_rules), **more_facts, PARTS_KEPT: list(payloads)}
        lake.join([part.file for part in made], staged, metadata, facts=facts)
        once = [proof for proof in self.proofs if proof.name == "items_once"]
        prove(connection, self.name, month, once, staged=staged.relation)


def match_part(payload: Payload) -> Payload:
    """Match, prove and keep the items of one part: a task."""
    allocators = [Allocator.from_document(document) for document in payload["allocators"]]
    with part_to_keep(payload) as (lake, connection, staged):
        metadata = PartitionMetadata({}, payload["run"])
        MatchedItems().write(connection, lake, Relation(payload["line_items"]), staged, metadata, allocators)
    return {}


def _facts(
    due: dict[str, dict[str, str]], month: str, allocators: Sequence[Allocator], balance_rules: Sequence[Allocator]
) -> dict[str, object]:
    """What later months ask for: what is due in them, and the allocators that took it."""
    if balance_rules:
        due.setdefault(month, {}).update({a.version: a.version for a in balance_rules})
    versions = {version for digests in due.values() for version in digests}
    return {"due": due, "allocators": {a.version: a.document for a in allocators if a.version in versions}}


def _numbered_lines(lake: Lake, month: str, rows: tuple[int, int] | None = None) -> Relation:
    return lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS, row_number_as=matching.LINE_NUMBER, rows=rows)


class _LineRange(NamedTuple):
    """The line items of some payers: their rows, and the names of the parts that they were made as."""

    first: int
    end: int
    names: tuple[str, ...]


def _ranges(metadata: PartitionMetadata | None) -> list[_LineRange]:
    """The payers whose items are matched together: small neighbours, or a larger one alone; one range of a small month."""
    parts = metadata.facts.get("parts", []) if metadata else []
    if metadata is None or metadata.rows <= 2 * LINES_PER_PART:
        return []
    ranges: list[_LineRange] = []
    is_open = False
    first = 0
    for part, rows in parts:
        name = part_identity(part, metadata)
        is_small = rows < LINES_PER_PART
        if is_small and is_open:
            last = ranges.pop()
            ranges.append(_LineRange(last.first, first + rows, (*last.names, name)))
        else:
            ranges.append(_LineRange(first, first + rows, (name,)))
        # A range that is enough is never put together with others, so one that grows moves no borders but those of small ones.
        is_open = is_small and ranges[-1].end - ranges[-1].first < LINES_PER_PART
        first += rows
    return ranges


def deliveries_digest(lake: Lake, month: str) -> str:
    """A digest of what the month's line items were read from, without the version of the program that read them."""
    metadata = lake.metadata(LINE_ITEMS, month)
    return fingerprint({name: value for name, value in metadata.inputs.items() if name != "code"}) if metadata else ""
