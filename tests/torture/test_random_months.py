"""Random months through the tables, held against the oracle to the last digit."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from octo_pipeline.model.sql import identifier
from octo_pipeline.registry.records import NewAccount
from octo_pipeline.settings import Settings
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.oracle.amounts import units
from tests.support.oracle.case_folder import read_documents
from tests.support.oracle.items import Item
from tests.support.oracle.months import Result, World, allocate
from tests.support.oracle.results import ACCOUNT_COST_MEASURES, account_costs, cost_group_costs
from tests.support.workspaces import write_lines
from tests.torture.chance import Dice, rounds
from tests.torture.drawn_months import Drawn, draw

# What the tables have; the oracle has all of it.
FEATURES: frozenset[str] = frozenset()

# What identifies a row, beside the item's grain.
ROW_KEY = (
    "booking_month", "origin_month", "category", "status", "kind", "reason", "allocator_id", "source_account",
    "source_group", "target_account", "target_group", "entry_index", "step",
)  # fmt: skip
GRAIN_KEY = (
    "vendor", "payer", "line_type", "service_code", "charge_description", "operation", "usage_type", "region_id",
    "currency", "commitment_discount_type", "commitment_discount_id", "offer_class", "savings_kind", "publisher_name",
    "tags", "project_labels", "usage_date", "service_name",
)  # fmt: skip
NAMES = {"payer": "billing_account_id", "currency": "billing_currency"}

# The columns that a table has of its key and of its measures.
Names = tuple[list[str], list[str]]
Amounts = dict[tuple[object, ...], tuple[int, ...]]


@rounds(2, 300)
def test_random_months_are_what_the_text_says(dice: Dice, tmp_path: Path) -> None:
    drawn = draw(dice, FEATURES)
    # Each month of a mart is a run of dbt, which takes as long as all tables before it.
    assert not (lines := differences(drawn, tmp_path, mart_months=[dice.choice(drawn.months)])), "\n".join(lines)


def differences(drawn: Drawn, folder: Path, mart_months: list[str]) -> list[str]:
    """What the tables and the oracle say differently."""
    workspace = made(drawn, folder)
    result = allocate(world_of(drawn, workspace))
    lines = []
    names, actual = allocation_rows(workspace, drawn.months)
    lines += compare("allocations", names, actual, oracle_rows(result, names))
    for table, key, measures, of_oracle in TABLES_COMPARED:
        names, actual = table_rows(workspace, table, mart_months, key, measures)
        expected: Amounts = {}
        for full_key, amounts in of_oracle(result).items():
            named = dict(zip(key, full_key, strict=False)) | dict(zip(measures, amounts, strict=True))
            if named["month"] in mart_months:
                _add(expected, names, named)
        lines += compare(table, names, actual, expected)
    return lines


def _add(sums: Amounts, names: Names, row: Mapping[str, Any]) -> None:
    """Add a row's amounts to those of its key; what it does not have is empty."""
    key = tuple("" if (v := row.get(name)) is None else _text(v) for name in names[0])
    amounts = [row[name] for name in names[1]]
    sums[key] = tuple(a + b for a, b in zip(sums.get(key, [0] * len(amounts)), amounts, strict=True))


TABLES_COMPARED = (
    ("account_costs", ("month", "owner_type", "owner_id", "currency"), ACCOUNT_COST_MEASURES, account_costs),
    (
        "cost_group_costs",
        ("month", "cost_group_id", "section", "account", "service_code", "currency"),
        ("cost", "effective_cost"),
        cost_group_costs,
    ),
)


def made(drawn: Drawn, folder: Path) -> Workspace:
    """The world, run."""
    config = folder / "config"
    (config / "allocators").mkdir(parents=True)
    drawn.write(config)
    workspace = Workspace(Settings(lake=folder / "lake", config=config))
    assert [str(problem) for problem in workspace.configuration.problems] == []
    write_lines(workspace, folder, drawn.lines)
    workspace.registry.accounts.add([NewAccount("aws", a, payer_id=p) for p, a in drawn.registered], "test")
    return run(workspace, drawn.months)


def world_of(drawn: Drawn, workspace: Workspace) -> World:
    return World(drawn.lines, read_documents(workspace.settings.config), drawn.months, drawn.registered)


def allocation_rows(workspace: Workspace, months: list[str]) -> tuple[Names, Amounts]:
    """The explained rows by all that identifies them; the columns that there are, and the amounts."""
    relation = f"({explained_allocations(workspace.lake, months)})"
    return _rows(relation, (*ROW_KEY, *GRAIN_KEY), ("cost", "effective_cost"))


def table_rows(
    workspace: Workspace, name: str, months: list[str], key: tuple[str, ...], measures: tuple[str, ...]
) -> tuple[Names, Amounts]:
    table = next(table for table in TABLES if table.name == name)
    make(workspace, table, months)
    return _rows(workspace.lake.scan(name, months, table.columns, month_as="month"), key, measures)


def _rows(relation: str, key: tuple[str, ...], measures: tuple[str, ...]) -> tuple[Names, Amounts]:
    with duckdb.connect() as connection:
        columns = connection.sql(f"FROM {relation}").columns
        keys, amounts = [n for n in key if n in columns], [n for n in measures if n in columns]
        selected = ", ".join(f"coalesce({identifier(n)}::VARCHAR, '')" for n in keys)
        sums = ", ".join(f"sum({identifier(n)})" for n in amounts)
        rows = connection.execute(f"SELECT {selected}, {sums} FROM {relation} GROUP BY ALL").fetchall()
    return (keys, amounts), {r[: len(keys)]: tuple(units(a) for a in r[len(keys) :]) for r in rows}


def oracle_rows(result: Result, names: Names) -> Amounts:
    sums: Amounts = {}
    for rows in result.rows.values():
        for row in rows:
            values = {
                "booking_month": row.month,
                "origin_month": row.item.month,
                "category": row.item.category,
                "status": row.status,
                "kind": row.kind,
                "reason": row.reason,
                "allocator_id": row.allocator_id,
                "entry_index": row.entry_index,
                "step": row.item.step,
                f"source_{row.item.owner[0]}": row.item.owner[1],
                "cost": row.cost,
                "effective_cost": row.effective_cost,
            } | _columns(row.item)
            if row.target:
                values[f"target_{row.target[0]}"] = row.target[1]
            _add(sums, names, values)
    return sums


def _columns(item: Item) -> dict[str, object]:
    return {name: item.columns[NAMES.get(name, name)] for name in GRAIN_KEY}


def _text(value: object) -> str:
    """As DuckDB writes it."""
    return _map_text(tuple(sorted(value.items()))) if isinstance(value, Mapping) else str(value)


@cache
def _map_text(entries: tuple[tuple[str, str], ...]) -> str:
    with duckdb.connect() as connection:
        written = connection.execute(
            "SELECT map($1::VARCHAR[], $2::VARCHAR[])::VARCHAR", [[k for k, _ in entries], [v for _, v in entries]]
        ).fetchone()
    assert written
    return written[0]


def compare(table: str, names: Names, actual: Amounts, expected: Amounts) -> list[str]:
    lines = []
    zero = (0,) * len(names[1])
    for key in sorted(actual.keys() | expected.keys(), key=str):
        amounts, due = actual.get(key, zero), expected.get(key, zero)
        if amounts != due:
            described = ", ".join(f"{n}={v}" for n, v in zip(names[0], key, strict=True) if v)
            lines.append(f"{table}: {described}: {'/'.join(names[1])} is {amounts}, the oracle says {due}")
    return lines
