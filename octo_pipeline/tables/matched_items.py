"""``matched_items``: the items of the month and the allocators that take them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import duckdb

from octo_pipeline.allocation import matching
from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.engine.engine import Payload
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint, part_ranges
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.sql import Relation
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.tables.kept_parts import (
    KeptPart,
    made_parts,
    names_kept,
    part_identity,
    part_to_keep,
    used_parts,
)
from octo_pipeline.tables.table import Lineage, Reads, Table, code_version
from octo_pipeline.workspace import Workspace

# Fewer lines than this are matched together with those of other payers.
LINES_PER_PART = 50_000

# The fact of a part that says how many line items it was matched from.
_LINES = "line_items"
# The fact that says which deliveries the items are of, whatever version of the program read them.
DELIVERIES = "deliveries"


class MatchedItems(Table):
    """The month's fee and savings items and the taken account-usage items, each with its pinned allocator."""

    name = "matched_items"
    group = "allocation"
    grain = "One row per item: every fee and savings item, and the account-usage items that an allocator takes."
    key = ("item_id",)
    columns = matching.MATCHED_ITEM_COLUMNS
    has_parts = True
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
        Proof(
            "parts",
            "the parts that a large month is matched in have each line item once",
            "tables/proof_matched_items_parts",
        ),
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
            ranges = line_ranges(lake.metadata(LINE_ITEMS, month), LINES_PER_PART)
            if len(ranges) > 1:
                payloads = _payloads(lake, metadata, month, ranges, matching.applying(allocators, month))
                used_parts(
                    lake,
                    self.name,
                    month,
                    make=lambda: made_parts(workspace, self.name, month, match_part, payloads),
                    use=lambda parts: self._join(
                        connection, lake, staged, metadata, parts, allocators, balance_rules, more_facts
                    ),
                    names_kept=names_kept,
                )
                return
            line_items = _numbered_lines(lake, month)
            self.write(connection, lake, line_items, staged, metadata, allocators, balance_rules, more_facts)

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
        self.prove(connection, staged, line_items=line_items, line_count=0, lines_in_parts=0)

    def _join(
        self,
        connection: duckdb.DuckDBPyConnection,
        lake: Lake,
        staged: Staged,
        metadata: PartitionMetadata,
        parts: Sequence[KeptPart],
        allocators: Sequence[Allocator],
        balance_rules: Sequence[Allocator],
        more_facts: Mapping[str, object],
    ) -> None:
        """Join the parts.

        What is proved of line items is proved in their part; what is left is that each line item is in one part, and that each
        item is listed once.
        """
        due = matching.merged_due(part.metadata.facts["due"] for part in parts)
        facts = {**_facts(due, staged.month, allocators, balance_rules), **more_facts}
        lake.join([part.file for part in parts], staged, metadata, facts=facts)
        prove(
            connection,
            self.name,
            staged.month,
            [proof for proof in self.proofs if proof.name in ("items_once", "parts")],
            staged=staged.relation,
            line_count=lake.rows(LINE_ITEMS, staged.month),
            lines_in_parts=sum(part.metadata.facts[_LINES] for part in parts),
        )


def _payloads(
    lake: Lake, metadata: PartitionMetadata, month: str, ranges: "Sequence[LineRange]", live: Sequence[Allocator]
) -> dict[str, Payload]:
    """What `match_part` needs for each part, by the part's name."""
    common = {name: metadata.inputs[name] for name in ("code", "allocators")}
    common |= {"month": month, "made_by": code_version("tables/matched_items.py")}
    return {
        fingerprint(common | {f"line_items/{i}": name for i, name in enumerate(part.names)}): {
            "line_items": _numbered_lines(lake, month, (part.first, part.end)),
            "allocators": [allocator.document for allocator in live],
        }
        for part in ranges
    }


def match_part(payload: Payload) -> Payload:
    """Match, prove and keep the items of one part: a task."""
    allocators = [Allocator.from_document(document) for document in payload["allocators"]]
    with part_to_keep(payload) as (lake, connection, staged):
        line_items = Relation(payload["line_items"])
        facts = {_LINES: connection.sql(f"FROM {line_items}").aggregate("count(*)").fetchall()[0][0]}
        metadata = PartitionMetadata({}, payload["run"], facts)
        MatchedItems().write(connection, lake, line_items, staged, metadata, allocators)
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


class LineRange(NamedTuple):
    """The line items of some payers: their rows, and the names of the parts that they were made as."""

    first: int
    end: int
    names: tuple[str, ...]


def line_ranges(metadata: PartitionMetadata | None, enough: int) -> list[LineRange]:
    """The payers whose line items are read together: small neighbours, or a larger one alone.

    Args:
        metadata: of the month's ``cost_line_items``; None if there are none.
        enough: how many rows are a range of their own.

    Returns:
        The ranges in their order; none of a month that is too small to be cut.
    """
    if metadata is None or metadata.rows <= 2 * enough:
        return []
    ranges: list[LineRange] = []
    is_open = False
    for part, first, end in part_ranges(metadata):
        name = part_identity(part, metadata)
        is_small = end - first < enough
        if is_small and is_open:
            last = ranges.pop()
            ranges.append(LineRange(last.first, end, (*last.names, name)))
        else:
            ranges.append(LineRange(first, end, (name,)))
        # A range that is enough is never put together with others, so one that grows moves no borders but those of small ones.
        is_open = is_small and ranges[-1].end - ranges[-1].first < enough
    return ranges


def deliveries_digest(lake: Lake, month: str) -> str:
    """A digest of what the month's line items were read from, without the version of the program that read them."""
    metadata = lake.metadata(LINE_ITEMS, month)
    return fingerprint({name: value for name, value in metadata.inputs.items() if name != "code"}) if metadata else ""
