"""The tables of a lake beside what the oracle says of them, to the last digit."""

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import duckdb

from octo_pipeline.model.sql import identifier
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.workspace import Workspace
from tests.support.case import EXPECTATIONS, make
from tests.support.oracle.amounts import converted, units
from tests.support.oracle.items import Item
from tests.support.oracle.months import Result
from tests.support.oracle.results import ACCOUNT_COST_MEASURES, account_costs, cost_group_costs, prepayments

# What identifies a row, beside the item's grain.
ROW_KEY = (
    "booking_month", "origin_month", "category", "status", "kind", "reason", "allocator_id", "source_account",
    "source_group", "target_account", "target_group", "entry_index", "step", "corrected_month", "corrected_kind",
)  # fmt: skip
GRAIN_KEY = (
    "vendor", "payer", "line_type", "service_code", "charge_description", "operation", "usage_type", "region_id",
    "currency", "commitment_discount_type", "commitment_discount_id", "offer_class", "savings_kind", "publisher_name",
    "tags", "project_labels", "usage_date", "service_name",
)  # fmt: skip
NAMES = {"payer": "billing_account_id", "currency": "billing_currency"}

# Rows are counted beside their amounts, so that a row of 0 that should not be there is seen.
ONE_ROW = units(Decimal(1))

# The columns that a table has of its key and of its measures.
Names = tuple[list[str], list[str]]
Amounts = dict[tuple[object, ...], tuple[int, ...]]


TABLES_COMPARED = (
    ("account_costs", ("month", "owner_type", "owner_id", "currency"), ACCOUNT_COST_MEASURES, account_costs),
    (
        "cost_group_costs",
        EXPECTATIONS[1].key,
        ("cost", "effective_cost"),
        cost_group_costs,
    ),
    ("prepayments", EXPECTATIONS[3].key, EXPECTATIONS[3].measures, prepayments),
)


def compare_allocations(workspace: Workspace, result: Result) -> list[str]:
    """What the explained rows of the oracle's months say other than the oracle."""
    names, actual = allocation_rows(workspace, list(result.months))
    return compare("allocations", names, actual, oracle_rows(result, names))


def compare_marts(workspace: Workspace, result: Result, months: list[str]) -> list[str]:
    """What the marts of some months say other than the oracle; they are made first."""
    lines = []
    for table, key, measures, of_oracle in TABLES_COMPARED:
        if table not in {t.name for t in TABLES}:
            continue
        names, actual = table_rows(workspace, table, months, key, measures)
        expected: Amounts = {}
        for full_key, amounts in of_oracle(result).items():
            named = dict(zip(key, full_key, strict=False)) | dict(zip(measures, amounts, strict=True))
            if named["month"] in months:
                add_row(expected, names, named)
        lines += compare(table, names, actual, expected)
        lines += wrong_base_amounts(workspace, table, result, months)
    return lines


def allocation_rows(workspace: Workspace, months: list[str]) -> tuple[Names, Amounts]:
    """The explained rows by all that identifies them; the columns that there are, and the amounts."""
    relation = f"({explained_allocations(workspace, months)})"
    # Of a correction only what it is taken by is compared: the attribute and the reason can be those of either side.
    names = "* REPLACE (CASE WHEN kind <> 'correction' THEN {0} END AS {0})"
    for attribute in ("service_name", "reason"):
        relation = f"(SELECT {names.format(attribute)} FROM {relation})"
    counted = f"(SELECT *, 1 AS rows FROM {relation})"
    return _rows(counted, (*ROW_KEY, *GRAIN_KEY), ("cost", "effective_cost", "rows"))


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
    return (keys, amounts), {r[: len(keys)]: tuple(units(Decimal(a)) for a in r[len(keys) :]) for r in rows}


def oracle_rows(result: Result, names: Names) -> Amounts:
    sums: Amounts = {}
    for rows in result.rows.values():
        for row in rows:
            values = item_values(row.item) | {
                "booking_month": row.month,
                "status": row.status,
                "kind": row.kind,
                "reason": row.reason,
                "allocator_id": row.allocator_id,
                "entry_index": row.entry_index,
                "cost": row.cost,
                "effective_cost": row.effective_cost,
                "rows": ONE_ROW,
                "corrected_month": row.corrected_month,
                "corrected_kind": row.corrected_kind,
            }
            if row.kind == "correction":
                values["service_name"] = None
            if row.target:
                values[f"target_{row.target[0]}"] = row.target[1]
            add_row(sums, names, values)
    return sums


def item_values(item: Item) -> dict[str, object]:
    """The columns of an item, by the names of explained rows."""
    columns = {name: item.columns[NAMES.get(name, name)] for name in GRAIN_KEY}
    kind, name = item.owner
    return columns | {
        "origin_month": item.month,
        "category": item.category,
        "step": item.step,
        f"source_{kind}": name,
    }


def text_of(value: object) -> str:
    """As DuckDB writes it; null is empty."""
    if isinstance(value, Mapping):
        return _map_text(tuple(sorted(value.items())))
    return "" if value is None else str(value)


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


def wrong_base_amounts(workspace: Workspace, name: str, result: Result, months: list[str]) -> list[str]:
    """Amounts beside which is not their value in the base currency; it is null for a currency without any rate."""
    table = next(table for table in TABLES if table.name == name)
    based = [column for column in table.columns if f"base_{column}" in table.columns]
    lines = []
    with duckdb.connect() as connection:
        relation = workspace.lake.scan(name, months, table.columns, month_as="month")
        selected = ", ".join(f"{column}, base_{column}" for column in based if column != "currency")
        if not selected:
            return []
        for month, currency, *amounts in connection.execute(
            f"SELECT month, currency, {selected} FROM {relation}"
        ).fetchall():
            try:
                rate = result.months[month].rate(currency)
            except KeyError:
                rate = None
            for amount, base in zip(amounts[::2], amounts[1::2], strict=True):
                expected = None if rate is None else converted(units(amount), rate)
                if (None if base is None else units(base)) != expected:
                    lines.append(f"{name}: {month} {currency} {amount} is {base}, not {expected} in the base currency")
    return lines


def add_row(sums: Amounts, names: Names, row: Mapping[str, Any]) -> None:
    """Add a row's amounts to those of its key; what it does not have is empty."""
    key = tuple(text_of(row.get(name)) for name in names[0])
    amounts = [row[name] for name in names[1]]
    sums[key] = tuple(a + b for a, b in zip(sums.get(key, [0] * len(amounts)), amounts, strict=True))
