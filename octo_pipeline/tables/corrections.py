"""``corrections``: what changed in closed months since they were closed, booked in the first open month (periods.md).

The items of a big closed month are compared in parts by their ids: `correct_part` makes and proves one of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import duckdb

from octo_pipeline.allocation import corrections
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.engine.engine import Payload
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS, MONEY
from octo_pipeline.model.months import origin_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.closings import closed_items, closed_usage
from octo_pipeline.tables.dues import origins_read
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.kept_parts import (
    PARTS_KEPT,
    KeptPart,
    made_parts,
    names_kept,
    part_to_keep,
    used_parts,
    write_rows,
)
from octo_pipeline.tables.known import (
    PREVIEW,
    as_known,
    cause_of,
    first_open_month,
    remove_overlay,
    state_of,
    with_rules_of_today,
)
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.table import Lineage, Reads, Table, materialise
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

# A closed month with more rows than this is compared in parts of about as many rows, in case that all of them changed. With a
# limit of one kilobyte for each row, hardly anything is spilled.
ROWS_PER_PART = 2_000_000

# The fact with the states of the closed months that were compared: month -> state, and why.
COMPARED, CAUSES = "compared", "causes"
_BILLED_COLUMNS = {
    "owner_type": "VARCHAR",
    "owner_id": "VARCHAR",
    "currency": "VARCHAR",
    "billed": MONEY,
    "effective": MONEY,
}


_AS_KNOWN = Proof(
    "as_known",
    "what is booked for each closed month, with its corrections, is what is known of it, in both measures",
    "tables/proof_corrections_known",
)


class Corrections(Table):
    """What the allocations of closed months would be now, less what is booked for them. In the first open month only."""

    name = "corrections"
    group = "allocation"
    grain = (
        "One row per closed month and row of its allocations that is known otherwise now; usage by account and service."
    )
    key = (
        "corrected_month", "category", "item_id", "origin_month", "status", "corrected_kind", "target_account",
        "target_group", "step", "allocator_version", "vendor", "payer", "source_account", "service_code", "currency",
    )  # fmt: skip
    columns = corrections.CORRECTION_COLUMNS
    reads = (
        Reads(LINE_ITEMS, months="closed"),
        Reads(MatchedItems.name, months="closed"),
        Reads("decisions"),
    )
    code = ("model", "rules", "allocation", "tables/corrections.py", "tables/known.py")
    has_parts = True
    proofs = (
        _AS_KNOWN,
        Proof(
            "source_costs",
            "the corrections of items and usage are what the bill of each account changed by, in both measures",
            "tables/proof_corrections_bill",
        ),
    )
    remedy = "A closed month changed in the meantime; run {month} again."
    made_from: ClassVar[Lineage] = {
        "cost": ((MatchedItems.name, "cost"), (LINE_ITEMS, "billed_cost")),
        "effective_cost": ((MatchedItems.name, "effective_cost"), (LINE_ITEMS, "effective_cost")),
        "item_id": ((MatchedItems.name, "item_id"),),
    }
    descriptions: ClassVar[dict[str, str]] = {
        "corrected_month": "The closed month that the row corrects, YYYY-MM.",
        "corrected_kind": "item, split or remainder: the kind of the row that it corrects.",
        "source_group": "Of a balance, the cost group that has it, if it is not an account.",
        "step": "Of a row of a balance, the step in which it is handed on, 1 to 9.",
    }

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The states of the closed months that are known otherwise than they are booked, if they are corrected here."""
        return {
            f"closed/{closed}": fingerprint({name: str(value) for name, value in state.items()} | {"cause": cause})
            for closed, (state, cause) in changed_months(workspace, month).items()
        }

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Compute the changed months as they are known now, and book the differences."""
        changed = changed_months(workspace, month)
        facts = {
            COMPARED: {closed: state for closed, (state, _) in changed.items()},
            CAUSES: {closed: cause for closed, (_, cause) in changed.items()},
        }
        known, lake = as_known(workspace), workspace.lake
        # Without them, as in a lake that was restored and not yet made, all that is booked would seem to be taken back.
        lake.require(list(changed), LINE_ITEMS, MatchedItems.name)
        for closed in changed:
            _make_known(known, closed)
        with lake.connect() as connection, known.lake.connect():
            months = [_ClosedMonth(workspace, known, closed) for closed in changed]
            payloads = {name: payload for m in months for name, payload in m.payloads(metadata.inputs["code"]).items()}
            if not payloads:
                self._write(connection, lake, months, staged, metadata, facts)
                if months:
                    self.prove(connection, staged, closed_months=[closed_month.pieces() for closed_month in months])
                return

            def join(parts: Sequence[KeptPart]) -> None:
                others = Staged(self.name, month, staged.folder / f"others-{metadata.fingerprint}")
                others.folder.mkdir(exist_ok=True)
                self._write(connection, lake, months, others, metadata, {})
                lake.join(
                    [*(part.file for part in parts), others.path],
                    staged,
                    metadata,
                    facts=facts | {PARTS_KEPT: [part.name for part in parts]},
                )
                self.prove(connection, staged, closed_months=[closed_month.pieces() for closed_month in months])

            used_parts(
                lake,
                self.name,
                month,
                make=lambda: made_parts(workspace, self.name, month, correct_part, payloads),
                use=join,
                names_kept=names_kept,
            )

    def _write(
        self,
        connection: duckdb.DuckDBPyConnection,
        lake: Lake,
        months: "Sequence[_ClosedMonth]",
        staged: Staged,
        metadata: PartitionMetadata,
        facts: Mapping[str, object],
    ) -> None:
        """Write the corrections of closed months that are not those of parts."""
        queries = [query for closed_month in months for query in closed_month.corrections(connection)]
        lake.copy(connection, _rows_sql(queries), staged, metadata, facts=facts)


def correct_part(payload: Payload) -> Payload:
    """Make, prove and keep the corrections of the items of one part of a closed month: a task."""
    rows = _ItemRows(**payload["rows"])
    with part_to_keep(payload) as (lake, connection, staged):
        query = rows.corrections(
            connection, lambda name, query: write_rows(connection, query, staged.folder / f"{name}.parquet")
        )
        lake.copy(connection, _rows_sql([query]), staged, PartitionMetadata({}, payload["run"]))
        prove(
            connection,
            Corrections.name,
            payload["month"],
            [_AS_KNOWN],
            remedy=Corrections.remedy.format(month=payload["month"]),
            staged=staged.relation,
            closed_months=[rows.pieces()],
        )
    return {}


def _rows_sql(queries: Sequence[Sql]) -> Sql:
    columns = Corrections.columns
    return render("tables/corrections", parts=queries, nothing=rows_sql(columns, []), types=columns)


@dataclass(frozen=True)
class _ItemRows:
    """The items of a closed month, or of a part of it, and their rows as they are known and as they are booked.

    Attributes:
        month: the closed month.
        known_allocations: relation with `splits.ALLOCATION_COLUMNS` and ``booking_month``: as they would be now.
        allocations: the same as they are booked.
        known_items: relation with `balances.TAKEN_ITEM_COLUMNS`: the items as they are now.
        kept_items: the items as the closing kept them, with ``booking_month``.
        corrected: relation with `corrections.CORRECTION_COLUMNS`: what closed months have booked for it since.
        no_shares: relation with the columns of ``usage_shares``, of which corrections have none.
    """

    month: str
    known_allocations: Relation
    allocations: Relation
    known_items: Relation
    kept_items: Relation
    corrected: Relation
    no_shares: Relation

    def part(self, number: int, count: int) -> "_ItemRows":
        """Those of one of several parts, from 0."""
        names = ("known_allocations", "allocations", "known_items", "kept_items", "corrected")
        parts = {
            name: render("tables/rows_by_item", rows=getattr(self, name), part_number=number, part_count=count)
            for name in names
        }
        return replace(self, **{name: Relation(f"({query})") for name, query in parts.items()})

    def compared(
        self, connection: duckdb.DuckDBPyConnection, keep: Callable[[str, Sql], Relation]
    ) -> tuple[Relation, Relation]:
        """The rows of the items that can be known otherwise, as they are known and as they are booked.

        Args:
            connection: where the relations can be read; temporary tables are made in it.
            keep: keeps the rows of a query under a name, because several queries read them.
        """
        changed = corrections.create_changed_items(
            connection,
            self.month,
            known_allocations=self.known_allocations,
            allocations=self.allocations,
            known=self.known_items,
            booked=self.kept_items,
            corrected=self.corrected,
        )
        known_rows, booked_rows = (
            corrections.rows_of_items(rows, changed) for rows in (self.known_allocations, self.allocations)
        )
        queries = {
            "known": explained_sql(known_rows, self.known_items, self.no_shares, is_compared=True),
            "booked": explained_sql(booked_rows, self.kept_items, self.no_shares, is_kept=True, is_compared=True),
        }
        suffix = self.month.replace("-", "_")
        known, booked = (
            keep(f"{name}_{suffix}", corrections.rows_to_compare_sql(query)) for name, query in queries.items()
        )
        return known, booked

    def corrections(self, connection: duckdb.DuckDBPyConnection, keep: Callable[[str, Sql], Relation]) -> Sql:
        """SQL of `corrections.CORRECTION_COLUMNS`; the arguments are those of `compared`."""
        known, booked = self.compared(connection, keep)
        corrected = Relation(f"({render('tables/corrections_of_usage', corrections=self.corrected, is_usage=False)})")
        return corrections.corrections_sql(connection, known, booked, corrected, self.month)

    def pieces(self) -> dict[str, Any]:
        """The relations that the proof by item reads."""
        return {
            "month": self.month,
            "known_allocations": self.known_allocations,
            "allocations": self.allocations,
            "corrected": self.corrected,
            "is_in_parts": False,
        }


class _ClosedMonth:
    """A closed month as it is known and as it is booked, as relations.

    Args:
        workspace: the lake.
        known: the workspace in which the month was made as it would be now.
        month: the month.
    """

    def __init__(self, workspace: Workspace, known: Workspace, month: str) -> None:
        lake = workspace.lake
        self._month = month
        self._line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
        self._account_costs = lake.scan("account_costs", [month], _BILLED_COLUMNS)
        corrected = lake.scan(Corrections.name, workspace.closed_months, Corrections.columns)
        items = scan_items(known.lake, origins_read(known.lake, month))
        self._rows = _ItemRows(
            month,
            known_allocations=known.lake.scan(Allocations.name, [month], Allocations.columns, month_as="booking_month"),
            allocations=lake.scan(Allocations.name, [month], Allocations.columns, month_as="booking_month"),
            known_items=items,
            kept_items=closed_items(workspace, [month]),
            corrected=Relation(f"({render('tables/corrections_of_month', corrections=corrected, month=month)})"),
            no_shares=lake.scan(UsageShares.name, [], UsageShares.columns, month_as="booking_month"),
        )
        usage = corrections.untouched_usage_sql(self._line_items, items, month)
        self._known_usage = Relation(f"({usage})")
        self._booked_usage = closed_usage(workspace, month)
        rows = max(known.lake.rows(Allocations.name, month), lake.rows(Allocations.name, month))
        self._part_count = max(-(-rows // ROWS_PER_PART), 1)
        self._made_from = {
            "month": month,
            "known": known.lake.fingerprint(Allocations.name, month) or "",
            "booked": lake.fingerprint(Allocations.name, month) or "",
            "closing": "/".join(workspace.closing(month).folder),
            "items": fingerprint(_fingerprints(known.lake, MatchedItems.name, origins_read(known.lake, month))),
            "corrected": fingerprint(_fingerprints(lake, Corrections.name, workspace.closed_months)),
        }

    def payloads(self, code: str) -> dict[str, Payload]:
        """What `correct_part` needs for each part of a big month, by the part's name; nothing for a usual one."""
        if self._part_count == 1:
            return {}
        made_from = self._made_from | {"code": code, "parts": str(self._part_count)}
        return {
            fingerprint(made_from | {"number": str(number)}): {
                "rows": asdict(self._rows.part(number, self._part_count))
            }
            for number in range(self._part_count)
        }

    def corrections(self, connection: duckdb.DuckDBPyConnection) -> list[Sql]:
        """SQL of the corrections of its usage and, unless parts are made of them, of its items and bookings."""
        of_usage = Relation(
            f"({render('tables/corrections_of_usage', corrections=self._rows.corrected, is_usage=True)})"
        )
        queries = [
            corrections.usage_corrections_sql(self._known_usage, self._booked_usage, of_usage, self._month),
        ]
        if self._part_count == 1:
            queries.append(self._rows.corrections(connection, _in_memory(connection)))
        return queries

    def drift(self, connection: duckdb.DuckDBPyConnection) -> Sql:
        """SQL of what it costs each owner as it is known and as it is booked; see `drift_of`."""
        known, booked = self._rows.compared(connection, _in_memory(connection))
        return render(
            "tables/drift",
            known=known,
            booked=booked,
            known_usage=self._known_usage,
            booked_usage=self._booked_usage,
            corrected=self._rows.corrected,
        )

    def pieces(self) -> dict[str, Any]:
        """The relations that the proofs read, and whether the month is proved by item in its parts."""
        return self._rows.pieces() | {
            "is_in_parts": self._part_count > 1,
            "line_items": self._line_items,
            "account_costs": self._account_costs,
        }


def _in_memory(connection: duckdb.DuckDBPyConnection) -> Callable[[str, Sql], Relation]:
    """Few rows of wide items, which several queries read."""
    return lambda name, query: create_temp_table(connection, name, query)


def _fingerprints(lake: Lake, table: str, months: Sequence[str]) -> dict[str, str]:
    return {month: metadata.fingerprint for month, metadata in lake.metadata_of(table, months).items()}


def changed_months(workspace: Workspace, month: str) -> dict[str, tuple[dict[str, Any], str]]:
    """The closed months that are corrected in a month: those known otherwise than they are booked.

    A new version of the program alone corrects nothing before somebody accepts it.

    Returns:
        closed month -> its state now, and why it changed: delivery, decision or code, or several of them.
    """
    if workspace.overlay is not None or month != first_open_month(workspace):
        return {}
    changed = {}
    for closed, period in workspace.periods.items():
        if not period.is_closed:
            continue
        state, cause = state_of(workspace, closed), why_changed(workspace, closed)
        if cause and (cause != "code" or state["code"] in period.accepted_code):
            changed[closed] = (state, cause)
    return changed


def why_changed(workspace: Workspace, month: str) -> str:
    """Why a closed month is known otherwise than it is booked: delivery, decision or code, or several; empty if it is not."""
    return cause_of(_booked_state(workspace, month), state_of(workspace, month))


def _booked_state(workspace: Workspace, month: str) -> Mapping[str, Any]:
    """The state of a closed month that everything booked for it so far stands for, corrections of closed months included."""
    later = [closed for closed in workspace.closed_months if closed > month]
    partitions = workspace.lake.metadata_of("corrections", later)
    for closed in reversed(later):
        compared = partitions[closed].facts.get(COMPARED, {}) if closed in partitions else {}
        if month in compared:
            return dict(compared[month])
    return workspace.closing(month).state


def _make_known(known: Workspace, month: str) -> None:
    for table in (ResolvedAccounts(), UsageShares(), Allocations()):
        materialise(known, table, month)


def drift_of(workspace: Workspace, month: str, *, with_current_rules: bool = False) -> Rows:
    """What a closed month costs each owner as it is known now, against what is booked of it so far.

    Args:
        workspace: the lake.
        month: the closed month.
        with_current_rules: as it would be with today's rules; computed aside and thrown away.

    Returns:
        currency, owner_type, owner, allocator (null for what was billed), booked, known, difference and
        effective_difference, the largest difference first.
    """
    if not with_current_rules:
        return _drift(workspace, as_known(workspace), month)
    preview = with_rules_of_today(workspace)
    with workspace.lake.lease(PREVIEW):
        try:
            for origin in origin_months(month):
                if origin in workspace.lake.months(MatchedItems.name):
                    materialise(preview, MatchedItems(), origin)
            return _drift(workspace, preview, month)
        finally:
            remove_overlay(preview)


def _drift(workspace: Workspace, known: Workspace, month: str) -> Rows:
    _make_known(known, month)
    with workspace.lake.connect() as connection, known.lake.connect():
        return Rows.fetched(connection, _ClosedMonth(workspace, known, month).drift(connection))


def corrected_in(lake: Lake, month: str) -> list[str]:
    """The closed months that are corrected in a month, as its corrections say."""
    metadata = lake.metadata(Corrections.name, month)
    return sorted(metadata.facts.get(COMPARED, {})) if metadata else []


def causes_in(lake: Lake, month: str) -> dict[str, str]:
    """The closed months that are corrected in a month, and why each is known otherwise: delivery, decision or code."""
    metadata = lake.metadata(Corrections.name, month)
    return dict(metadata.facts.get(CAUSES, {})) if metadata else {}
