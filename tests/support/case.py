"""Runs one golden case folder (allocation.md §13) through the tables, as the assets do."""

import csv
import json
import shutil
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb

from octo_pipeline.lake.lake import Lake, PartitionMetadata
from octo_pipeline.model.columns import (
    LINE_ITEM_ATTRIBUTES,
    LINE_ITEM_COLUMNS,
    LINE_ITEM_GRAIN,
    LINE_ITEM_MEASURES,
    MONEY,
    TAGS,
)
from octo_pipeline.model.sql import literal, rows_sql
from octo_pipeline.registry.records import Decision, NewAccount
from octo_pipeline.settings import Settings
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.table import Table, materialise
from octo_pipeline.workspace import Workspace
from tests.support.tables import ALLOCATION_TABLES

ALLOCATION_KEY = (
    "booking_month",
    "origin_month",
    "category",
    "status",
    "kind",
    "allocator_id",
    "source_account",
    "target_account",
    "service_code",
    "charge_description",
    "currency",
)
COST_GROUP_KEY = ("month", "cost_group_id", "section", "account", "service_code", "currency")


@dataclass(frozen=True)
class Case:
    folder: Path

    @property
    def document(self) -> dict:
        return json.loads((self.folder / "case.json").read_text(encoding="utf-8-sig"))

    @property
    def months(self) -> list[str]:
        return self.document["months"]

    def rows(self, name: str) -> list[dict[str, str]]:
        return read_rows(self.folder / name)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if there is no file. A value that a row lacks is the empty text."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, restval="", skipinitialspace=True))


def prepare(case: Case, folder: Path) -> Workspace:
    """A workspace with the case's configuration, line items and registered accounts."""
    config = folder / "config"
    for name in ("allocators", "cost_groups"):
        (config / name).mkdir(parents=True)
        if (case.folder / name).is_dir():
            shutil.copytree(case.folder / name, config / name, dirs_exist_ok=True)
    if (case.folder / "exchange_rates.csv").exists():
        shutil.copy(case.folder / "exchange_rates.csv", config)
    workspace = Workspace(
        Settings(lake=folder / "lake", config=config, base_currency=case.document.get("base_currency", "USD"))
    )
    load_line_items(workspace.lake, case.folder / "line_items.csv")
    for payer, account in sorted({(row["payer"], row["account"]) for row in case.rows("registered_accounts.csv")}):
        workspace.registry.accounts.add([NewAccount("aws", account, payer_id=payer)], "case")
    return workspace


def load_line_items(lake: Lake, path: Path) -> None:
    """Publish a CSV of line items as partitions of cost_line_items, normalised as §3 says."""
    rows = [tuple(row.get(name) for name in LINE_ITEM_COLUMNS) for row in read_rows(path)]
    with duckdb.connect() as connection:
        columns = dict.fromkeys(LINE_ITEM_COLUMNS, "VARCHAR")
        connection.execute(f"CREATE TABLE source AS {rows_sql(columns, rows)}")
        text = {name: f"nullif(trim({name}), '')" for name in LINE_ITEM_COLUMNS}
        cost = f"coalesce({text['billed_cost']}::{MONEY}, 0)"
        # Where there is no other cost, the billed cost is all there is (§3).
        defaults = {"consumed_quantity": "0", "billed_cost": "0", "line_count": "1"}
        defaults |= {"effective_cost": cost, "list_cost": cost}
        selected = []
        for name, kind in LINE_ITEM_COLUMNS.items():
            if kind == TAGS:
                entries = f"map_entries(CAST(coalesce({text[name]}, '{{}}')::JSON AS {TAGS}))"
                selected.append(f"map_from_entries(list_sort({entries})) AS {name}")
            elif name == "sub_account_id":
                selected.append(f"coalesce({text[name]}, {text['billing_account_id']}) AS {name}")
            else:
                selected.append(f"coalesce({text[name]}::{kind}, {defaults.get(name, 'NULL')}) AS {name}")
        grain = ", ".join(LINE_ITEM_GRAIN)
        attributes = ", ".join(f"max({name}) AS {name}" for name in LINE_ITEM_ATTRIBUTES)
        measures = ", ".join(f"sum({name})::{kind} AS {name}" for name, kind in LINE_ITEM_MEASURES.items())
        connection.execute(
            f"CREATE TABLE items AS SELECT {grain}, {attributes}, "
            f"{measures} FROM (SELECT {', '.join(selected)} FROM source) GROUP BY {grain}"
        )
        months = [m for (m,) in connection.execute("SELECT DISTINCT billing_month FROM items").fetchall()]
        for month in months:
            publish(lake, connection, "cost_line_items", month, f"FROM items WHERE billing_month = '{month}'")


def publish(lake: Lake, connection, table: str, month: str, query: str) -> None:
    digest = connection.execute(f"SELECT md5(string_agg(t::VARCHAR, chr(10) ORDER BY t::VARCHAR)) FROM ({query}) AS t")
    inputs = {"content": digest.fetchone()[0] or ""}
    with lake.stage(table, month) as staged:
        lake.copy(connection, query, staged, PartitionMetadata(inputs, "test"))
        lake.publish(staged, still_current=lambda: inputs)


def run(workspace: Workspace, months: list[str]) -> Workspace:
    """Run all months in order, with the configuration as it is now on disk."""
    fresh = Workspace(workspace.settings)
    for month in months:
        for table in ALLOCATION_TABLES:
            materialise(fresh, table, month)
    return fresh


def make(workspace: Workspace, table: Table, months: list[str]) -> Workspace:
    """Make a table's partitions of months whose inputs are made; each proves itself."""
    fresh = Workspace(workspace.settings)
    for month in months:
        materialise(fresh, table, month)
    return fresh


def run_case(case: Case, folder: Path) -> Workspace:
    workspace = run(prepare(case, folder), case.months)
    restores = case.rows("restores.csv")
    if restores:
        decisions = {d.item_id: d for row in restores for d in _restores(workspace.lake, row)}
        workspace.registry.record_decisions(list(decisions.values()))
        workspace = run(workspace, case.months)
    return workspace


def _restores(lake: Lake, row: dict[str, str]) -> list[Decision]:
    """A decision for each item that the row names: several account-usage or savings items can fit."""
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT item_id FROM read_parquet({literal(str(lake.path('matched_items', row['origin_month'])))}) "
            "WHERE category = $1 AND sub_account_id = $2 AND coalesce(service_code, '') = $3 "
            "AND coalesce(charge_description, '') = $4",
            [row["category"], row["sub_account_id"], row["service_code"], row["charge_description"]],
        ).fetchall()
    assert found, f"{row} names no item"
    now = datetime.now(UTC)
    return [Decision("restore", item, row["origin_month"], row["category"], "case", "case", now) for (item,) in found]


def allocations(workspace: Workspace, months: list[str]) -> dict[tuple[str, ...], Decimal]:
    """The allocations summed by the columns of expected_allocations.csv; zero rows left out."""
    key = ", ".join(f"coalesce({name}, '') AS {name}" for name in ALLOCATION_KEY)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT {key}, sum(cost) FROM ({explained_allocations(workspace.lake, months)}) GROUP BY ALL"
        ).fetchall()
    return {tuple(row[:-1]): row[-1] for row in rows if row[-1] != 0}


def cost_groups(workspace: Workspace, months: list[str]) -> dict[tuple[str, ...], Decimal]:
    """The cost groups' costs summed by the columns of expected_cost_groups.csv; zero rows left out."""
    key = ", ".join(f"coalesce({name}, '') AS {name}" for name in COST_GROUP_KEY)
    table = workspace.lake.scan(CostGroupCosts.name, months, CostGroupCosts.columns, month_as="month")
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT {key}, sum(cost) FROM {table} GROUP BY ALL").fetchall()
    return {tuple(row[:-1]): row[-1] for row in rows if row[-1] != 0}


def expected(rows: list[dict[str, str]], key: tuple[str, ...]) -> dict[tuple[str, ...], Decimal]:
    sums: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for row in rows:
        sums[tuple(row[name] or "" for name in key)] += Decimal(row["cost"])
    return {k: v for k, v in sums.items() if v != 0}


def differences(found: dict, wanted: dict) -> list[str]:
    """One line a row that is missing, surplus or off by more than 10⁻⁹ + |cost|·10⁻¹²."""
    lines = []
    for key in sorted(found.keys() | wanted.keys()):
        have, want = found.get(key, Decimal(0)), wanted.get(key, Decimal(0))
        if abs(have - want) > Decimal("1e-9") + abs(want) * Decimal("1e-12"):
            lines.append(f"{' | '.join(key)}: expected {want}, found {have}")
    return lines
