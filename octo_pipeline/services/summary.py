"""The summary of a month that a run prints: the allocations, the bill, and the proof of conservation."""

from dataclasses import dataclass

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.services.checks import CHECKS, Check, CheckResult
from octo_pipeline.services.figures import by_allocator
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.limited import LimitedWorkspace
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class Summary:
    """A month's result.

    Attributes:
        month: the booking month.
        distributed: what each allocator took and where it went.
        left: what stays where it was billed, per category, reason and description.
        accounts: what is booked on each account, with a column per category.
        bill: per currency, the bill and the number of its lines.
        proof: per category and currency, the instalments that are due in the month and what is booked of them; nothing for a
            limited reader, of whose part it does not hold.
        findings: the checks that fail, with their results; none for a limited reader, because they name everybody.
    """

    month: str
    distributed: Rows
    left: Rows
    accounts: Rows
    bill: Rows
    proof: Rows
    findings: tuple[tuple[Check, CheckResult], ...]


def summary_of(workspace: Workspace, month: str) -> Summary:
    """Summarise a month whose allocations are published."""
    lake = workspace.lake
    with lake.connect() as connection:
        # Each question reads what it needs from the lake: to keep millions of rows for all of them takes longer, and memory.
        rows = explained_allocations(workspace, [month], has_corrections=False, has_shares=False)
        explained = Relation(f"({rows})")

        def fetched(template: str) -> Rows:
            return Rows.fetched(connection, render(f"services/{template}", explained=explained))

        is_limited = isinstance(workspace, LimitedWorkspace)
        proof = fetched("summary_proof")
        bill = render("services/bill", line_items=lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS))
        return Summary(
            month=month,
            distributed=by_allocator(connection, explained),
            left=fetched("summary_left"),
            accounts=_without_empty(fetched("summary_accounts"), "balances", "effective_balances"),
            bill=Rows.fetched(connection, bill),
            proof=Rows(proof.columns, ()) if is_limited else proof,
            findings=()
            if is_limited
            else tuple((c, result) for c in CHECKS if not (result := c.run(workspace, month)).passed),
        )


def moved_by_rules(workspace: Workspace, month: str) -> Rows:
    """What each allocator took and where it went, of a month whose allocations are published."""
    explained = explained_allocations(workspace, [month], has_corrections=False, has_shares=False)
    with workspace.lake.connect() as connection:
        return by_allocator(connection, Relation(f"({explained})"))


def _without_empty(rows: Rows, *names: str) -> Rows:
    """Without those of the columns that have no value, which most months do not need."""
    empty = {name for name in names if all(value is None for value in rows.column(name))}
    return rows.picked([name for name in rows.columns if name not in empty])
