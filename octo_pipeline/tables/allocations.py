"""``allocations``: the month's items with their status, and the splits and remainders booked in it.

A big month is made in parts (`octo_pipeline.tables.item_parts`): `split_part` makes and proves one of them, the balances
follow when all are there, and the files are joined.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import duckdb

from octo_pipeline.allocation import balances, splits
from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.engine.engine import Payload
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint, rows_of_files
from octo_pipeline.lake.store import Location
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.registry.records import RestoredItem
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.tables.dues import origins_read, pinned_allocators
from octo_pipeline.tables.item_parts import (
    PARTS_OF_ITEMS,
    Part,
    digests_of_items,
    digests_of_items_sql,
    inputs_of_parts,
    items_of,
    parts_fact,
    parts_of_month,
    summed_digests,
)
from octo_pipeline.tables.kept_parts import (
    PARTS_KEPT,
    KeptPart,
    kept_rows,
    made_parts,
    names_kept,
    part_to_keep,
    side_file,
    used_parts,
    write_rows,
)
from octo_pipeline.tables.known import as_known
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.restored_items import create_restored_items
from octo_pipeline.tables.table import Lineage, Reads, Table, code_version
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

_EACH_ITEM_ONCE = Proof(
    "parts",
    "the parts that the month is made in have each item once, and are joined as they were proved",
    "tables/proof_allocations_parts",
)


class Allocations(Table):
    """The month's items with their status, and the splits and remainders booked in the month. Conserved."""

    name = "allocations"
    group = "allocation"
    grain = "One row per item billed in the month, and one per split or remainder booked in it."
    key = ("item_id", "kind", "target_account_id", "target_group_id", "entry_index")
    columns = splits.ALLOCATION_COLUMNS
    has_parts = True
    reads = (
        Reads(UsageShares.name),
        Reads(MatchedItems.name, months="owing"),
        # A balance has what its owner was billed.
        Reads(LINE_ITEMS, months="named"),
        # They compute what is known of closed months.
        Reads("corrections", months="named"),
        Reads("decisions"),
    )
    code = ("model", "rules", "allocation", "tables/restored_items.py", "tables/item_parts.py")
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
        _EACH_ITEM_ONCE,
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
            failed_ids = [(item_id,) for ids in _failed_before(workspace, month).values() for item_id in ids]
            booking = _Booking(
                month,
                items=matched,
                usage_shares=lake.scan(UsageShares.name, [month], UsageShares.columns),
                restored_items=create_restored_items(connection, _decisions(workspace, month), matched),
                failed_before=Relation(f"({rows_sql({'item_id': 'VARCHAR'}, failed_ids)})"),
                allocators=tuple(a for a in pinned_allocators(lake, month) if a.category != "balance"),
            )
            line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
            rules = _balance_rules(lake, month)
            # Each part is a range of partitions that are looked at again and again, which takes a request in a bucket.
            with lake.one_look():
                parts = parts_of_month(connection, lake, month)
                payloads = (
                    _payloads(connection, lake, staged, metadata, booking, parts, has_balances=bool(rules))
                    if len(parts) > 1
                    else {}
                )
            if payloads:
                sides = [_PROVED, *(_SIDES if rules else ())]
                used_parts(
                    lake,
                    self.name,
                    month,
                    make=lambda: made_parts(workspace, self.name, month, split_part, payloads, sides),
                    use=lambda made: self._join(
                        connection, lake, staged, metadata, booking, line_items, rules, parts, made
                    ),
                    names_kept=names_kept,
                )
                return
            query, failed = booking.rows(connection)
            facts: dict[str, object] = {_FAILED: failed}
            steps = None
            if rules:
                # Written before the steps, which are made with the same temporary tables.
                booked = write_rows(connection, query, staged.folder / "before_steps.parquet")
                moved = Relation(f"({balances.booked_sql(booked, matched)})")
                steps = booking.steps(connection, moved, line_items, rules)
                query = Sql(f"FROM {booked}")
                facts[HAS_BALANCES] = True
            lake.copy(connection, _rows_sql(query, steps), staged, metadata, facts=facts)
            booking = booking.of(Relation(f"({balances.items_sql(matched, staged.relation if steps else None)})"))
            self._prove(connection, staged, booking, line_items, booking.before_steps(staged) if steps else None)

    def _join(
        self,
        connection: duckdb.DuckDBPyConnection,
        lake: Lake,
        staged: Staged,
        metadata: PartitionMetadata,
        booking: "_Booking",
        line_items: Relation,
        rules: Sequence[Allocator],
        parts: Sequence[Part],
        made: Sequence[KeptPart],
    ) -> None:
        """Make the steps from what all parts move, and join the files."""
        month = staged.month
        files: list[Location] = [part.file for part in made]
        booked_parts = [(part.metadata.rows, items) for part, items in zip(made, parts, strict=True)]
        facts: dict[str, object] = {
            _FAILED: sorted(item_id for part in made for item_id in part.metadata.facts[_FAILED]),
            PARTS_KEPT: [part.name for part in made],
        }
        if rules:
            moved, before_steps = (rows_of_files([part.sides[side] for part in made]) for side in _SIDES)
            of_steps = Staged(self.name, month, staged.folder / f"steps-{metadata.fingerprint}")
            of_steps.folder.mkdir(exist_ok=True)
            steps = booking.steps(connection, moved, line_items, rules)
            lake.copy(connection, _rows_sql(rows_sql(splits.BOOKED_COLUMNS, []), steps), of_steps, metadata)
            no_items = Relation(f"({rows_sql(MatchedItems.columns, [])})")
            balance_items = Relation(f"({balances.items_sql(no_items, of_steps.relation)})")
            self._prove(connection, of_steps, booking.of(balance_items), line_items, before_steps)
            facts[HAS_BALANCES] = True
            files.append(of_steps.path)
            booked_parts.append((of_steps.rows, ()))
        lake.join(files, staged, metadata, facts=facts | {PARTS_OF_ITEMS: parts_fact(booked_parts)})
        prove(
            connection,
            self.name,
            month,
            [_EACH_ITEM_ONCE],
            items=booking.items,
            item_digests=summed_digests([part.metadata.facts[_ITEMS] for part in made]),
            digests_query=digests_of_items_sql(booking.items),
            staged=staged.relation,
            proved_sums=rows_of_files([part.sides[_PROVED] for part in made]),
        )

    def _prove(
        self,
        connection: duckdb.DuckDBPyConnection,
        staged: Staged,
        booking: "_Booking",
        line_items: Relation,
        before_steps: Relation | None,
    ) -> None:
        """Prove what holds of each item of a file, and of the balances if they are in it."""
        self.prove(
            connection,
            staged,
            items=booking.items,
            restored_items=booking.restored_items,
            failed_before=booking.failed_before,
            line_items=line_items,
            before_steps=before_steps,
            item_digests=None,
        )


def _payloads(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    staged: Staged,
    metadata: PartitionMetadata,
    booking: "_Booking",
    parts: Sequence[Part],
    *,
    has_balances: bool,
) -> dict[str, Payload]:
    """What `split_part` needs for each part, by the part's name."""
    shared = booking.to_payload(connection, lake, staged) | {"has_balances": has_balances}
    failed = {name: value for name, value in metadata.inputs.items() if name.endswith("/failed")}
    common = failed | {
        "code": metadata.inputs["code"],
        "made_by": code_version("tables/allocations.py", "tables/item_parts.py"),
        "month": staged.month,
        "has_balances": str(has_balances),
    }
    inputs = inputs_of_parts(connection, lake, staged.month, parts, booking.restored_items)
    return {
        fingerprint(common | own): shared | {"items": items_of(lake, part)}
        for part, own in zip(parts, inputs, strict=True)
    }


# What a part leaves beside its rows for the steps: what it moves from owner to owner, and the same for the proof.
_SIDES = ("moved", "before_steps")
# The side with the sums of what was proved.
_PROVED = "proved"
# The fact of a part with digests of its items.
_ITEMS = "items"


@dataclass(frozen=True)
class _Booking:
    """What the rows of a month, or of a part of it, are made from.

    Attributes:
        items: relation with `octo_pipeline.allocation.matching.MATCHED_ITEM_COLUMNS`, or with
            `octo_pipeline.allocation.balances.TAKEN_ITEM_COLUMNS`.
        usage_shares: relation with `octo_pipeline.allocation.shares.USAGE_SHARE_COLUMNS` of the month.
        restored_items: relation with the ``item_id`` of the restored items.
        failed_before: relation with the ``item_id`` of what failed in earlier months.
        allocators: those with something due, without the rules for balances.
    """

    month: str
    items: Relation
    usage_shares: Relation
    restored_items: Relation
    failed_before: Relation
    allocators: tuple[Allocator, ...]

    def of(self, items: Relation) -> "_Booking":
        """The same of other items."""
        return replace(self, items=items)

    def rows(self, connection: duckdb.DuckDBPyConnection) -> tuple[Sql, list[str]]:
        """SQL of `splits.BOOKED_COLUMNS`, and the failed items that later months ask for."""
        query = splits.allocations_sql(
            connection,
            self.items,
            self.usage_shares,
            self.restored_items,
            self.month,
            self.allocators,
            self.failed_before,
        )
        return query, splits.failed_moving_items(connection, self.items, self.month)

    def steps(
        self, connection: duckdb.DuckDBPyConnection, moved: Relation, line_items: Relation, rules: Sequence[Allocator]
    ) -> Relation:
        """The rows of the balances; `moved` is what all other rows of the month move (`balances.booked_sql`)."""
        return balances.book_steps(
            connection, moved, line_items, self.usage_shares, self.restored_items, self.month, rules
        )

    def before_steps(self, staged: Staged) -> Relation:
        """What the rows of a file that are not of balances move from owner to owner, for the proof of the balances."""
        return Relation(f"({render('tables/booked_before_steps', staged=staged.relation, items=self.items)})")

    def to_payload(self, connection: duckdb.DuckDBPyConnection, lake: Lake, staged: Staged) -> Payload:
        """What `from_payload` reads of all parts; decisions can be a million, so they are in files."""
        relations = {}
        for name, rows in {"restored_items": self.restored_items, "failed_before": self.failed_before}.items():
            relations[name] = kept_rows(connection, lake, staged, name, Sql(f"FROM {rows} ORDER BY ALL"))
        return {
            **relations,
            "usage_shares": self.usage_shares,
            "allocators": [allocator.document for allocator in self.allocators],
        }

    @classmethod
    def from_payload(cls, payload: Payload) -> "_Booking":
        """The booking of a part."""
        return cls(
            payload["month"],
            items=Relation(payload["items"]),
            usage_shares=Relation(payload["usage_shares"]),
            restored_items=Relation(payload["restored_items"]),
            failed_before=Relation(payload["failed_before"]),
            allocators=tuple(Allocator.from_document(document) for document in payload["allocators"]),
        )


def split_part(payload: Payload) -> Payload:
    """Make, prove and keep the rows of one part: a task. What later parts ask for is in the metadata of its file."""
    booking = _Booking.from_payload(payload)
    with part_to_keep(payload) as (lake, connection, staged):
        query, failed = booking.rows(connection)
        facts = {_FAILED: failed, _ITEMS: digests_of_items(connection, booking.items)}
        lake.copy(connection, _rows_sql(query, None), staged, PartitionMetadata({}, payload["run"]), facts=facts)
        no_lines = Relation(f"({rows_sql(LINE_ITEM_COLUMNS, [])})")
        Allocations()._prove(connection, staged, booking, no_lines, None)
        write_rows(connection, render("tables/proved_sums", staged=staged.relation), side_file(staged, _PROVED))
        if payload["has_balances"]:
            moved, before_steps = (side_file(staged, side) for side in _SIDES)
            write_rows(connection, balances.booked_sql(staged.relation, booking.items), moved)
            write_rows(connection, Sql(f"FROM {booking.before_steps(staged)}"), before_steps)
    return {}


def _rows_sql(booked_rows: Sql, steps: Relation | None) -> Sql:
    """SQL of `splits.ALLOCATION_COLUMNS` of the rows of fees, usage and savings, and of the steps if there are any."""
    columns = Allocations.columns
    absent = ", ".join(f"null::{kind} as {name}" for name, kind in columns.items() if name not in splits.BOOKED_COLUMNS)
    return render("tables/allocations", columns=columns, booked_rows=booked_rows, steps=steps, absent_columns=absent)


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
