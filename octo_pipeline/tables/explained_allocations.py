"""The explained allocations of published months, which people and the marts read.

They are a view over allocations, matched items and usage shares, not a table; `octo_pipeline.allocation.explained` has
its SQL.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import duckdb

from octo_pipeline.allocation.balances import items_sql
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.engine.engine import Payload, Task
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint, rows_of_files
from octo_pipeline.model.months import origin_months
from octo_pipeline.model.sql import Relation, Sql
from octo_pipeline.model.templates import render
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.closings import closed_items
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.dues import origins_read
from octo_pipeline.tables.item_parts import booked_parts, items_of
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.kept_parts import (
    PARTS_KEPT,
    KeptPart,
    made_parts,
    names_kept,
    side_file,
    used_parts,
    write_rows,
)
from octo_pipeline.tables.limited import LimitedWorkspace
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

# The first proof of a mart: the join drops rows whose items are gone.
EVERY_ROW_HAS_ITS_ITEM = Proof("items", "every allocation has an item", "tables/proof_marts_items")
INPUTS_CHANGED = "Its inputs changed in the meantime; run {month} again, allocations first."

# Columns that only the view has.
EXPLAINED_DESCRIPTIONS = {
    "booking_month": "Month in which the row is booked, YYYY-MM.",
    "payer": "The billing account that the item was billed under.",
    "source_account": "The account that the item was billed on.",
    "source_account_name": "Name of the source account, if the vendor gives one.",
    "source_group": "Of a balance, the cost group that has it, if it is not an account.",
    "target_account": "The account that the split or remainder is booked on; null: the row is the item itself.",
    "target_group": "The cost group that the split or remainder is booked on, if it is not an account.",
    "currency": "Currency of the amounts: the item's billing currency.",
    "item_cost": "Cost of the whole item.",
    "item_effective_cost": "Amortised cost of the whole item; 0 for savings.",
    "tranche_cost": "The part of the item's cost that is due in the booking month.",
    "tranche_effective_cost": "The part of the item's amortised cost that is due in the booking month.",
}


def explained_allocations(
    workspace: Workspace, months: Sequence[str] | None, *, has_corrections: bool = True, has_shares: bool = True
) -> Sql:
    """SQL of the explained allocations of booking months; of what a limited reader may see, if the workspace is limited.

    The items of a closed month are those that its closing kept.

    Args:
        workspace: the lake.
        months: the booking months; None means all of the lake.
        has_corrections: with what the months correct of closed ones, as rows of kind ``correction``; else only what is
            their own.
        has_shares: False if nobody reads what a split says of its share: looking for the shares of millions of splits takes
            longer than all else, so these columns are null then.
    """
    booked = workspace.lake.months(Allocations.name) if months is None else months
    if isinstance(workspace, LimitedWorkspace):
        with workspace.lake.everything():
            explained = _explained_of(workspace, booked, has_corrections=has_corrections, has_shares=has_shares)
        return workspace.lake.seen_allocations(explained, booked)
    return _explained_of(workspace, booked, has_corrections=has_corrections, has_shares=has_shares)


def _explained_of(workspace: Workspace, booked: Sequence[str], *, has_corrections: bool, has_shares: bool) -> Sql:
    lake = workspace.lake
    closed = [month for month in booked if workspace.is_closed(month)]
    current = [month for month in booked if month not in closed]
    origins = sorted({origin for month in current for origin in origin_months(month)})
    return render(
        "tables/explained_allocations",
        parts=[
            _explained(lake, current, origins, current if has_shares else []),
            *([_explained_as_closed(workspace, closed, closed if has_shares else [])] if closed else []),
        ],
        corrections=lake.scan(
            Corrections.name, booked if has_corrections else [], Corrections.columns, month_as="booking_month"
        ),
    )


@dataclass(frozen=True)
class BookedRows:
    """The explained allocations of a month, as a mart and its proofs read them.

    Attributes:
        explained: the rows, or sums of them by the columns that the mart reads, which it sums in any case.
        counts: relation with ``rows``, to be added up: how many rows there are.
        tranches: relation of (currency, cost, effective_cost), to be added up: the tranches of the items that something is
            booked of.
    """

    explained: Relation
    counts: Relation
    tranches: Relation

    @classmethod
    def of_rows(cls, explained: Relation) -> "BookedRows":
        """All rows of a month."""
        return cls(
            explained,
            Relation(f"({render('tables/counted_rows', rows=explained)})"),
            Relation(f"({render('tables/booked_tranches', explained=explained)})"),
        )

    @classmethod
    def of_parts(cls, parts: Sequence[KeptPart]) -> "BookedRows":
        """The sums that `write_sums` wrote of each part."""
        sums = rows_of_files([part.file for part in parts])
        return cls(sums, sums, rows_of_files([part.sides[TRANCHES] for part in parts]))

    def pieces(self) -> dict[str, Relation]:
        """What the proofs of marts name."""
        return {"explained": self.explained, "explained_counts": self.counts, "tranches": self.tranches}


# The side of a mart's part that `write_sums` writes.
TRANCHES = "tranches"


def write_sums(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    staged: Staged,
    explained: Relation,
    columns: Sequence[str],
    metadata: PartitionMetadata,
) -> None:
    """Write what `BookedRows.of_parts` reads of a part: its sums by the columns, and its tranches beside them."""
    lake.copy(connection, render("tables/explained_sums", explained=explained, columns=columns), staged, metadata)
    write_rows(connection, render("tables/booked_tranches", explained=explained), side_file(staged, TRANCHES))


def write_mart(
    workspace: Workspace,
    connection: duckdb.DuckDBPyConnection,
    staged: Staged,
    metadata: PartitionMetadata,
    columns: Sequence[str],
    write: Callable[[BookedRows, Sequence[KeptPart], PartitionMetadata], None],
    *,
    task: Task,
    sides: Sequence[str] = (),
    made_from: Mapping[str, str],
    shared: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write and prove a mart, from the parts that the month's allocations were made in, if there are several.

    Args:
        workspace: the lake and the engine.
        connection: one of the lake.
        staged: the month of the mart.
        metadata: recorded in the file.
        columns: the columns of explained rows that the mart reads.
        write: writes and proves the file, with the booked rows, the parts (none of a month that was made as one), and what
            is recorded.
        task: sums up a part by `explained_part` and `write_sums`.
        sides: what it leaves beside a part, besides its tranches.
        made_from: what the parts are made from beside the allocations.
        shared: what the task needs more.

    Raises:
        OctoError: the month has no allocations, or what the mart's `make` raises.
    """
    lake, month = workspace.lake, staged.month
    lake.require([month], Allocations.name)
    made_from = {**made_from, "code": metadata.inputs["code"]}
    with lake.one_look():
        payloads = {
            name: {**shared, "query": query}
            for name, query in _queries_of_parts(lake, month, columns, made_from).items()
        }
    if not payloads:
        write(BookedRows.of_rows(keep_explained_allocations(connection, lake, staged, columns)), (), metadata)
        return
    with_parts = replace(metadata, facts={**metadata.facts, PARTS_KEPT: list(payloads)})
    used_parts(
        lake,
        staged.table,
        month,
        make=lambda: made_parts(workspace, staged.table, month, task, payloads, [TRANCHES, *sides]),
        use=lambda parts: write(BookedRows.of_parts(parts), parts, with_parts),
        names_kept=names_kept,
    )


def _queries_of_parts(lake: Lake, month: str, columns: Sequence[str], made_from: Mapping[str, str]) -> dict[str, Sql]:
    """What `explained_part` reads, by the name of the mart's part of each part that the month's allocations were made in."""
    queries = {}
    for booked_part in booked_parts(lake.metadata(Allocations.name, month)):
        rows = (booked_part.first, booked_part.end)
        booked = lake.scan(Allocations.name, [month], Allocations.columns, month_as="booking_month", rows=rows)
        items = items_sql(items_of(lake, booked_part.items), None if booked_part.items else booked)
        no_shares = lake.scan(UsageShares.name, [], UsageShares.columns, month_as="booking_month")
        queries[fingerprint({**made_from, "allocations": booked_part.name})] = render(
            "tables/explained_columns",
            explained_allocations=explained_sql(booked, Relation(f"({items})"), no_shares),
            columns=columns,
        )
    return queries


def explained_part(connection: duckdb.DuckDBPyConnection, staged: Staged, payload: Payload) -> Relation:
    """The explained rows of a part, joined once and written next to the staged file."""
    return write_rows(connection, Sql(payload["query"]), staged.folder / "explained.parquet")


def keep_explained_allocations(
    connection: duckdb.DuckDBPyConnection, lake: Lake, staged: Staged, columns: Sequence[str]
) -> Relation:
    """Join the staged month's explained allocations once and write them next to the staged file.

    A mart's model and its proofs read them several times. No mart has the shares, so they are left out.

    Returns:
        A relation with the columns.

    Raises:
        OctoError: the month has no allocations.
    """
    month = staged.month
    explained = _explained(lake, [month], origins_read(lake, month), [])
    query = render("tables/explained_columns", explained_allocations=explained, columns=columns)
    return write_rows(connection, query, staged.folder / "explained.parquet")


def _explained_as_closed(workspace: Workspace, months: Sequence[str], shared: Sequence[str]) -> Sql:
    lake = workspace.lake
    return explained_sql(
        lake.scan(Allocations.name, months, Allocations.columns, month_as="booking_month"),
        closed_items(workspace, months),
        lake.scan(UsageShares.name, shared, UsageShares.columns, month_as="booking_month"),
        is_kept=True,
    )


def _explained(lake: Lake, booked: Sequence[str], origins: Sequence[str], shared: Sequence[str]) -> Sql:
    return explained_sql(
        lake.scan(Allocations.name, booked, Allocations.columns, month_as="booking_month"),
        scan_items(lake, origins),
        lake.scan(UsageShares.name, shared, UsageShares.columns, month_as="booking_month"),
    )
