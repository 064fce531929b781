"""``corrections``: what changed in closed months since they were closed, booked in the first open month (periods.md)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import duckdb

from octo_pipeline.allocation import corrections
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.allocation.temp_tables import create_temp_table
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

# The fact with the states of the closed months that were compared: month -> state, and why.
COMPARED, CAUSES = "compared", "causes"
_BILLED_COLUMNS = {
    "owner_type": "VARCHAR",
    "owner_id": "VARCHAR",
    "currency": "VARCHAR",
    "billed": MONEY,
    "effective": MONEY,
}


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
    proofs = (
        Proof(
            "as_known",
            "what is booked for each closed month, with its corrections, is what is known of it, in both measures",
            "tables/proof_corrections_known",
        ),
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
            months = [_ClosedMonth(connection, workspace, known, closed) for closed in changed]
            parts = [part for closed_month in months for part in closed_month.corrections(connection)]
            rows = render("tables/corrections", parts=parts, nothing=rows_sql(self.columns, []), types=self.columns)
            lake.copy(connection, rows, staged, metadata, facts=facts)
            if months:
                self.prove(connection, staged, closed_months=[closed_month.pieces() for closed_month in months])


class _ClosedMonth:
    """A closed month as it is known and as it is booked, as relations.

    Args:
        connection: where they can be read; temporary tables of what changed are made in it.
        workspace: the lake.
        known: the workspace in which the month was made as it would be now.
        month: the month.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, workspace: Workspace, known: Workspace, month: str
    ) -> None:
        lake = workspace.lake
        self._month = month
        self._allocations = lake.scan(Allocations.name, [month], Allocations.columns, month_as="booking_month")
        self._known_allocations = known.lake.scan(
            Allocations.name, [month], Allocations.columns, month_as="booking_month"
        )
        self._line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
        self._account_costs = lake.scan("account_costs", [month], _BILLED_COLUMNS)
        corrected = lake.scan(Corrections.name, workspace.closed_months, Corrections.columns)
        self._corrected = Relation(f"({render('tables/corrections_of_month', corrections=corrected, month=month)})")
        items = scan_items(known.lake, origins_read(known.lake, month))
        kept_items = closed_items(workspace, [month])
        changed = corrections.create_changed_items(
            connection,
            month,
            known_allocations=self._known_allocations,
            allocations=self._allocations,
            known=items,
            booked=kept_items,
            corrected=self._corrected,
        )
        no_shares = lake.scan(UsageShares.name, [], UsageShares.columns, month_as="booking_month")
        known_rows, booked_rows = (
            corrections.rows_of_items(rows, changed) for rows in (self._known_allocations, self._allocations)
        )
        # Few rows of wide items, which several queries read.
        self._known, self._booked = (
            create_temp_table(connection, f"{name}_{month.replace('-', '_')}", corrections.rows_to_compare_sql(query))
            for name, query in {
                "known": explained_sql(known_rows, items, no_shares, is_compared=True),
                "booked": explained_sql(booked_rows, kept_items, no_shares, is_kept=True, is_compared=True),
            }.items()
        )
        usage = corrections.untouched_usage_sql(self._line_items, items, month)
        self._known_usage = Relation(f"({usage})")
        self._booked_usage = closed_usage(workspace, month)

    def corrections(self, connection: duckdb.DuckDBPyConnection) -> list[Sql]:
        """SQL of the corrections of its items and bookings, and of its usage."""
        of_usage, of_items = (
            Relation(f"({render('tables/corrections_of_usage', corrections=self._corrected, is_usage=is_usage)})")
            for is_usage in (True, False)
        )
        return [
            corrections.corrections_sql(connection, self._known, self._booked, of_items, self._month),
            corrections.usage_corrections_sql(self._known_usage, self._booked_usage, of_usage, self._month),
        ]

    def drift(self) -> Sql:
        """SQL of what it costs each owner as it is known and as it is booked; see `drift_of`."""
        return render(
            "tables/drift",
            known=self._known,
            booked=self._booked,
            known_usage=self._known_usage,
            booked_usage=self._booked_usage,
            corrected=self._corrected,
        )

    def pieces(self) -> dict[str, str]:
        """The relations that the proofs read."""
        return {
            "month": self._month,
            "known_allocations": self._known_allocations,
            "allocations": self._allocations,
            "corrected": self._corrected,
            "line_items": self._line_items,
            "account_costs": self._account_costs,
        }


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
        return Rows.fetched(connection, _ClosedMonth(connection, workspace, known, month).drift())


def corrected_in(lake: Lake, month: str) -> list[str]:
    """The closed months that are corrected in a month, as its corrections say."""
    metadata = lake.metadata(Corrections.name, month)
    return sorted(metadata.facts.get(COMPARED, {})) if metadata else []


def causes_in(lake: Lake, month: str) -> dict[str, str]:
    """The closed months that are corrected in a month, and why each is known otherwise: delivery, decision or code."""
    metadata = lake.metadata(Corrections.name, month)
    return dict(metadata.facts.get(CAUSES, {})) if metadata else {}
