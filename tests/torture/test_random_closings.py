"""Random lakes whose months close, through the tables, held against the oracle to the last digit."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.model.sql import identifier
from octo_pipeline.outputs.focus.export import export_focus
from octo_pipeline.outputs.journal import Journal, journal_of
from octo_pipeline.outputs.statements import statements_of
from octo_pipeline.registry.records import Actor, Decision
from octo_pipeline.settings import Settings
from octo_pipeline.tables import item_parts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.items import scan_items
from octo_pipeline.workspace import Workspace
from tests.support.case import make, register, run
from tests.support.closing import close_months, reopen_months
from tests.support.oracle.items import Item
from tests.support.oracle.lines import GRAIN, MAPS
from tests.support.small_month import invoiced
from tests.support.workspaces import write_lines
from tests.torture.chance import IS_LONG, Dice, rounds
from tests.torture.compared_tables import compare_allocations, compare_marts, text_of
from tests.torture.drawn_months import write_files
from tests.torture.random_closings import (
    Close,
    Deliver,
    Drawing,
    Edit,
    Reapply,
    Register,
    Reopen,
    Restore,
    Run,
    Step,
    draw_sequence,
    without_closings,
)
from tests.torture.random_worlds import FEATURES, write_containers
from tests.torture.wrong_causes import wrong_causes

# What an item is looked up by, in the lake and in the oracle.
ITEM_KEY = ("category", "step", "own_group_id", *GRAIN)


@rounds(20, 300)
def test_a_lake_that_closes_months_is_what_the_text_says(
    dice: Dice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In every fifth round in parts, as big months are.
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", 4 if dice.number % 5 == 1 else item_parts.SPLITS_PER_PART)
    driven, count = None, 0
    for drawing in draw_sequence(dice, FEATURES, tmp_path, edits=dice.random() < 0.7):
        # Posting takes as long as a table, so it is done in every fifth round of a short run.
        driven = driven or Driven(drawing, tmp_path, is_posted=IS_LONG or dice.number % 5 == 0)
        for step in drawing.steps[count:]:
            driven.apply(step)
        count = len(drawing.steps)
        lines = compare_allocations(driven.workspace, drawing.lake.last_run.result)
        assert not lines, "\n".join([*map(str, without_lines(drawing.steps)), *lines])
    lines = compare_marts(driven.workspace, drawing.lake.last_run.result, drawing.lake.months)
    lines += wrong_causes(driven.workspace, drawing.lake.months, dice)
    assert not lines, "\n".join([*map(str, without_lines(drawing.steps)), *lines])
    if driven.is_posted:
        driven.post_again(dice.choice(drawing.lake.months))
        # It proves itself, of closed and restated months too.
        export_focus(Workspace(driven.workspace.settings), drawing.lake.months, tmp_path / "focus.parquet", "1.4")


@rounds(2, 100)
def test_a_lake_that_closed_months_has_with_its_corrections_the_rows_of_one_that_never_did(
    dice: Dice, tmp_path: Path
) -> None:
    """Where only deliveries and decisions change. Both lakes are the product's; the oracle only draws what happens."""
    lakes, count = None, 0
    for drawing in draw_sequence(dice, FEATURES, tmp_path, edits=False):
        closing, never_closed = lakes = lakes or (
            Driven(drawing, tmp_path / "a", is_posted=False),
            Driven(drawing, tmp_path / "b", is_posted=False),
        )
        for step in drawing.steps[count:]:
            closing.apply(step)
        for step in without_closings(drawing.steps[count:]):
            never_closed.apply(step)
        count = len(drawing.steps)
        lines = other_sums(closing.workspace, never_closed.workspace, {"allocations": ALLOCATION_SUMS})
        assert not lines, "\n".join([*map(str, without_lines(drawing.steps)), *lines])
    lines = other_sums(closing.workspace, never_closed.workspace, MART_SUMS)
    assert not lines, "\n".join([*map(str, without_lines(drawing.steps)), *lines])


# What is the same in both lakes, with corrections in the months that they correct.
ALLOCATION_SUMS = """
    SELECT
        coalesce(corrected_month, booking_month) AS month, item_id, origin_month, category, step, status,
        coalesce(corrected_kind, kind::VARCHAR) AS row_kind, target_account, target_group, allocator_version, sum(cost),
        sum(effective_cost)
    FROM {rows} WHERE category <> 'usage' GROUP BY ALL HAVING sum(cost) <> 0 OR sum(effective_cost) <> 0
"""
MART_SUMS = {
    "allocations": ALLOCATION_SUMS,
    # Who pays how much is the same, and only when it is paid another matter.
    "account_costs": """
        SELECT owner_type, owner_id, currency, sum(final_cost), sum(amortised_final_cost)
        FROM {rows} GROUP BY ALL HAVING sum(final_cost) <> 0 OR sum(amortised_final_cost) <> 0
    """,
    "cost_group_costs": """
        SELECT
            coalesce(nullif(corrected_month, ''), month) AS of_month, cost_group_id, section IN ('savings', 'savings_correction')
            AS is_saving, account, service_code, currency, sum(cost), sum(effective_cost)
        FROM {rows} GROUP BY ALL HAVING sum(cost) <> 0 OR sum(effective_cost) <> 0
    """,
    "prepayments": """
        SELECT month, item_id, closing, effective_closing FROM {rows}
        WHERE month >= '{first_open}' AND (closing <> 0 OR effective_closing <> 0)
    """,
}


def other_sums(closing: Workspace, never_closed: Workspace, queries: Mapping[str, str]) -> list[str]:
    """The rows of the queries that only one of the lakes has; none as long as corrections wait for an open month."""
    months = closing.lake.months("allocations")
    first_open = next((month for month in months if not closing.is_closed(month)), None)
    if first_open is None:
        return []
    lines = []
    for name, query in queries.items():
        table = next(table for table in TABLES if table.name == name)
        rows = []
        for workspace in (closing, never_closed):
            if name == "allocations":
                relation = f"({explained_allocations(workspace, months)})"
            else:
                make(workspace, table, months)
                relation = workspace.lake.scan(name, months, table.columns, month_as="month")
            with duckdb.connect() as connection:
                rows.append(set(connection.execute(query.format(rows=relation, first_open=first_open)).fetchall()))
        sides = {"closed months": rows[0] - rows[1], "never did": rows[1] - rows[0]}
        lines += [
            f"{name} of the lake that {side}: {row}" for side, only in sides.items() for row in sorted(only, key=str)
        ]
    return lines


def without_lines(steps: list[Step]) -> list[object]:
    """The steps as a failure shows them: of a delivery its month."""
    return [f"Deliver({s.lines[0].billing_month})" if isinstance(s, Deliver) else s for s in steps]


class Driven:
    """A workspace to which happens what was drawn."""

    def __init__(self, drawing: Drawing, folder: Path, *, is_posted: bool) -> None:
        self._drawn = drawing.drawn
        self._folder = folder
        config = folder / "config"
        (config / "allocators").mkdir(parents=True)
        write_files(config, self._drawn.files)
        self.workspace = Workspace(Settings(lake=folder / "lake", config=config))
        self.is_posted = is_posted
        self._posted: dict[str, Journal] = {}

    def post_again(self, open_month: str) -> None:
        """Every closed month is posted as it was when it was closed; any other is posted and proved."""
        fresh = make(self.workspace, InvoiceCosts(), [open_month])
        if open_month not in self._posted:
            journal_of(fresh, open_month, "account")
            # Their amounts are proved against the journal.
            assert statements_of(fresh, open_month)
        for month, journal in self._posted.items():
            assert journal_of(fresh, month, "account").lines == journal.lines

    def apply(self, step: Step) -> None:
        match step:
            case Deliver():
                self._deliver(step)
            case Edit():
                self._edit(step)
            case Register():
                register(self.workspace, step.accounts)
            case Restore() | Reapply():
                action = "restore" if isinstance(step, Restore) else "reapply"
                now = datetime.now(UTC)
                decisions = [
                    Decision(action, self._item_id(i), i.month, i.category, Actor("tester"), "a test", now)
                    for i in step.items
                ]
                self.workspace.registry.record_decisions(decisions)
            case Run():
                self.workspace = run(self.workspace, list(step.months))
            case Close():
                close_months(self.workspace, [step.month])
                if self.is_posted:
                    self._posted[step.month] = journal_of(Workspace(self.workspace.settings), step.month, "account")
            case Reopen():
                reopen_months(self.workspace, [step.month])
                self._posted.pop(step.month, None)

    def _deliver(self, step: Deliver) -> None:
        month = step.lines[0].billing_month
        is_new = month not in self.workspace.lake.months("cost_line_items")
        # An invoice is an attribute, so the oracle need not know of it.
        lines = [invoiced(line, (None, "i1", "i2")[number % 3]) for number, line in enumerate(step.lines)]
        write_lines(self.workspace, self._folder, lines)
        if is_new and self._drawn.containers:
            write_containers(self.workspace, self._drawn, [month])

    def _edit(self, step: Edit) -> None:
        config = self.workspace.settings.config
        write_files(config, {name: text for name, text in step.files.items() if text is not None})
        for name, text in step.files.items():
            if text is None:
                (config / name).unlink()
        problems = [str(problem) for problem in Workspace(self.workspace.settings).configuration.problems]
        assert not problems, "\n".join([*problems, json.dumps(step.files)])

    def _item_id(self, item: Item) -> str:
        """The id of the item that has the category and grain of this one."""
        relation = scan_items(self.workspace.lake, [item.month])
        kind, owner = item.owner
        values = {name: item.columns[name] for name in GRAIN} | {"category": item.category, "step": item.step}
        values["sub_account_id"] = owner if kind == "account" else None
        values["own_group_id"] = owner if kind == "group" else None
        with duckdb.connect() as connection:
            columns = connection.sql(f"FROM {relation}").columns
            names = [name for name in ITEM_KEY if name in columns and not (item.category == "fee" and name in MAPS)]
            selected = ", ".join(f"coalesce({identifier(name)}::VARCHAR, '')" for name in names)
            rows = connection.execute(f"SELECT item_id, {selected} FROM {relation}").fetchall()
        ids = {row[0] for row in rows if row[1:] == tuple(text_of(values.get(name)) for name in names)}
        assert len(ids) == 1, f"{len(ids)} items are {values}"
        return ids.pop()
