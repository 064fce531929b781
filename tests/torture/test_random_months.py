"""Random months through the tables, held against the oracle to the last digit."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

import duckdb
import pytest

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.model.sql import identifier
from octo_pipeline.outputs.focus.export import export_focus
from octo_pipeline.registry.records import Actor, Decision
from octo_pipeline.tables import item_parts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.oracle.items import Item
from tests.support.oracle.months import Result, allocate
from tests.torture.chance import Dice, rounds
from tests.torture.compared_tables import GRAIN_KEY, compare_allocations, compare_marts, item_values, text_of
from tests.torture.drawn_months import Drawn, draw
from tests.torture.random_worlds import FEATURES, made, world_of


class Law(NamedTuple):
    """Something that holds of the tables: a query of what violates it, and the tables and columns that it needs."""

    name: str
    needs: set[str]
    violations: str


LAWS = (
    Law(
        "the rows of each item and month are its tranche, in both measures",
        {"tranche_effective_cost"},
        """
        SELECT booking_month, item_id, tranche_cost, sum(cost), tranche_effective_cost, sum(effective_cost)
        FROM explained WHERE kind <> 'item'
        GROUP BY booking_month, item_id, tranche_cost, tranche_effective_cost
        HAVING sum(cost) <> tranche_cost OR sum(effective_cost) <> tranche_effective_cost
        """,
    ),
    Law(
        "an item that is booked in all of its months is booked whole",
        {"effective_cost"},
        """
        WITH items AS (
            SELECT item_id, cost, effective_cost FROM explained WHERE status = 'checked_allocated'
        ), booked AS (
            SELECT item_id, sum(cost) AS cost, sum(effective_cost) AS effective_cost,
                max(tranche_count) = count(DISTINCT booking_month) AS is_whole
            FROM explained WHERE kind <> 'item' GROUP BY item_id
        )
        SELECT * FROM items JOIN booked USING (item_id)
        WHERE is_whole AND (items.cost <> booked.cost OR items.effective_cost <> booked.effective_cost)
        """,
    ),
    Law(
        "steps add up to 0",
        {"step"},
        """
        SELECT month, currency, sum(step_in - step_out), sum(step_effective_in - step_effective_out)
        FROM account_costs GROUP BY ALL
        HAVING sum(step_in) <> sum(step_out) OR sum(step_effective_in) <> sum(step_effective_out)
        """,
    ),
    Law(
        "all owners together pay the bill, less what is prepaid",
        {"prepayments"},
        """
        WITH amounts AS (
            SELECT month, currency, final_cost - billed AS cost, effective_in - effective_out AS effective
            FROM account_costs
            UNION ALL
            SELECT month, currency, closing - opening, effective_closing - effective_opening FROM prepayments
        )
        SELECT month, currency, sum(cost), sum(effective) FROM amounts GROUP BY ALL
        HAVING sum(cost) <> 0 OR sum(effective) <> 0
        """,
    ),
    Law(
        "amortised costs are the amortised bill, less what is prepaid and the savings that moved",
        {"prepayments"},
        """
        WITH amounts AS (
            SELECT month, currency, amortised_final_cost - effective - savings_out + savings_in AS cost
            FROM account_costs
            UNION ALL
            SELECT month, currency, effective_closing - effective_opening FROM prepayments
        )
        SELECT month, currency, sum(cost) FROM amounts GROUP BY ALL HAVING sum(cost) <> 0
        """,
    ),
    Law(
        "prepayments roll forward",
        {"prepayments"},
        """
        SELECT * FROM prepayments
        WHERE opening + billed - booked <> closing
            OR effective_opening + effective_billed - effective_booked <> effective_closing
        """,
    ),
    Law(
        "a month's closing prepayments are the next month's opening ones",
        {"prepayments"},
        """
        WITH ends AS (
            SELECT strftime(strptime(month, '%Y-%m') + INTERVAL 1 MONTH, '%Y-%m') AS month, currency, category,
                sum(closing) AS closing, sum(effective_closing) AS effective_closing
            FROM prepayments GROUP BY ALL
        ), starts AS (
            SELECT month, currency, category, sum(opening) AS opening, sum(effective_opening) AS effective_opening
            FROM prepayments GROUP BY ALL
        )
        SELECT * FROM ends JOIN starts USING (month, currency, category)
        WHERE closing <> opening OR effective_closing <> effective_opening
        """,
    ),
    Law(
        "the groups of a family of everything add up to what accounts and its own groups pay",
        {"families"},
        """
        WITH amounts AS (
            SELECT month, currency, cost, effective_cost AS effective
            FROM cost_group_costs
            WHERE cost_group_id LIKE 'teams/%' AND section IN ('direct', 'account', 'fee', 'balance')
            UNION ALL
            SELECT month, currency, -final_cost, -(amortised_final_cost - savings_out + savings_in)
            FROM account_costs
            WHERE (owner_type = 'account' OR owner_id LIKE 'teams/%')
                AND EXISTS (SELECT 1 FROM cost_group_costs WHERE cost_group_id LIKE 'teams/%')
        )
        SELECT month, currency, sum(cost), sum(effective) FROM amounts GROUP BY ALL
        HAVING sum(cost) <> 0 OR sum(effective) <> 0
        """,
    ),
)


@rounds(2, 300)
def test_random_months_are_what_the_text_says(dice: Dice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As one part, as months of this size are, or as many.
    monkeypatch.setattr(item_parts, "SPLITS_PER_PART", [3, item_parts.SPLITS_PER_PART, 1][dice.number % 3])
    drawn = draw(dice, FEATURES)
    # The marts take as long as all tables before them.
    first = dice.randrange(len(drawn.months))
    mart_months = drawn.months[first : first + dice.choice([1, 1, 1, 2])]
    lines = differences(drawn, tmp_path, mart_months, dice if dice.random() < 0.3 else None)
    assert not lines, "\n".join(lines)


def differences(drawn: Drawn, folder: Path, mart_months: list[str], restoring: Random | None = None) -> list[str]:
    """What the tables say other than the oracle, and what does not hold of them whatever the oracle says.

    Args:
        drawn: the world.
        folder: where it is run.
        mart_months: the months of which the marts are made, one after the other.
        restoring: the dice that choose items to restore before the marts are made; None restores nothing.
    """
    workspace = made(drawn, folder)
    world = world_of(drawn, folder)
    result = allocate(world)
    lines = compare_allocations(workspace, result)
    if restoring and not drawn.edited_files and not lines:
        world.restored |= restore_some(workspace, drawn, result, restoring)
        workspace = run(workspace, drawn.months)
        result = allocate(world)
        lines = compare_allocations(workspace, result)
    lines += compare_marts(workspace, result, mart_months)
    # It proves itself.
    export_focus(Workspace(workspace.settings), mart_months, folder / "focus.parquet", "1.4")
    return lines + identities(workspace, drawn, mart_months)


def restore_some(workspace: Workspace, drawn: Drawn, result: Result, dice: Random) -> set[tuple[object, ...]]:
    """Restore up to three items that are distributed; their keys in the oracle."""
    key = ("origin_month", "category", "source_account", "source_group", "step", *GRAIN_KEY)
    relation = f"(FROM ({explained_allocations(workspace, drawn.months)}) WHERE status = 'checked_allocated')"
    with duckdb.connect() as connection:
        columns = connection.sql(f"FROM {relation}").columns
        names = [name for name in key if name in columns]
        selected = ", ".join(f"coalesce({identifier(name)}::VARCHAR, '')" for name in names)
        rows = connection.execute(f"SELECT item_id, {selected} FROM {relation} ORDER BY ALL").fetchall()
    chosen = {tuple(row[1:]): row[0] for row in dice.sample(rows, min(len(rows), 3))}
    now = datetime.now(UTC)
    decisions = [
        Decision("restore", item_id, k[0], k[1], Actor("tester"), "a test", now) for k, item_id in chosen.items()
    ]
    workspace.registry.record_decisions(decisions)
    # A decision on an item without a seller holds for those of its grain that have one; names are no part of a grain.
    grain = [name for name in names if name != "service_name"]
    decided = {tuple(value for name, value in zip(names, k, strict=True) if name in grain) for k in chosen}

    def keys_of(item: Item) -> set[tuple[str, ...]]:
        values = item_values(item)
        return {tuple(text_of((values | more).get(name)) for name in grain) for more in ({}, {"publisher_name": None})}

    items = [item for items in result.items.values() for item in items]
    return {item.key for item in items if keys_of(item) & decided}


def identities(workspace: Workspace, drawn: Drawn, mart_months: list[str]) -> list[str]:
    """What holds of any tables (allocation.md §8 and §12), in sums of the tables themselves: each line is a violation."""
    tables = {table.name: table for table in TABLES}
    lake = workspace.lake
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW explained AS {explained_allocations(workspace, drawn.months)}")
        line_items = lake.scan("cost_line_items", drawn.months, LINE_ITEM_COLUMNS)
        connection.execute(f"CREATE VIEW line_items AS FROM {line_items}")
        for name in ("account_costs", "cost_group_costs", "prepayments"):
            if name in tables:
                rows = lake.scan(name, mart_months, tables[name].columns, month_as="month")
                connection.execute(f"CREATE VIEW {name} AS FROM {rows}")
        columns = set(connection.sql("FROM explained").columns)
        laws = [law for law in LAWS if law.needs <= columns | tables.keys() | drawn.features]
        return [f"{law.name}: {row}" for law in laws for row in connection.execute(law.violations).fetchall()]
