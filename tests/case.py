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

from octo_pipeline.allocation.columns import (
    LINE_ITEM_COLUMNS,
    LINE_ITEM_GRAIN,
    LINE_ITEM_MEASURES,
    MONEY,
    TAGS,
)
from octo_pipeline.allocation.sql import literal
from octo_pipeline.registry.registry import Decision
from octo_pipeline.resources.lake import Lake, PartitionMetadata
from octo_pipeline.settings import Settings
from octo_pipeline.tables.allocation import ALLOCATION_TABLES, explained_allocations
from octo_pipeline.tables.marts import CostGroupCosts
from octo_pipeline.tables.table import Table, materialise
from octo_pipeline.tables.workspace import Workspace

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
        return json.loads((self.folder / "case.json").read_text())

    @property
    def months(self) -> list[str]:
        return self.document["months"]

    def rows(self, name: str) -> list[dict[str, str]]:
        path = self.folder / name
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))


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
    for row in case.rows("registered_accounts.csv"):
        workspace.registry.register_account("aws", row["account"], row["payer"], None, actor="case")
    return workspace


def load_line_items(lake: Lake, path: Path) -> None:
    """Publish a CSV of line items as partitions of cost_line_items, normalised as §3 says."""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE source AS FROM read_csv({literal(str(path))}, all_varchar = true)")
        present = {row[0] for row in connection.execute("DESCRIBE source").fetchall()}
        selected = []
        for name, kind in LINE_ITEM_COLUMNS.items():
            value = f"nullif(trim({name}), '')" if name in present else "NULL"
            if kind == TAGS:
                entries = f"map_entries(CAST(coalesce({value}, '{{}}')::JSON AS {TAGS}))"
                selected.append(f"map_from_entries(list_sort({entries})) AS {name}")
            elif name == "sub_account_id":
                selected.append(
                    "coalesce(nullif(trim(sub_account_id), ''), trim(billing_account_id)) AS sub_account_id"
                )
            else:
                default = "0" if kind == MONEY else "1" if name == "line_count" else "NULL"
                selected.append(f"coalesce({value}::{kind}, {default}) AS {name}")
        grain = ", ".join(LINE_ITEM_GRAIN)
        measures = ", ".join(f"sum({name})::{kind} AS {name}" for name, kind in LINE_ITEM_MEASURES.items())
        connection.execute(
            f"CREATE TABLE items AS SELECT {grain}, max(sub_account_name) AS sub_account_name, "
            f"max(service_name) AS service_name, {measures} FROM (SELECT {', '.join(selected)} FROM source) GROUP BY {grain}"
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
        workspace.registry.record_decisions([_restore(workspace.lake, row) for row in restores])
        workspace = run(workspace, case.months)
    return workspace


def _restore(lake: Lake, row: dict[str, str]) -> Decision:
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT item_id FROM read_parquet({literal(str(lake.path('matched_items', row['origin_month'])))}) "
            "WHERE category = $1 AND sub_account_id = $2 AND coalesce(service_code, '') = $3 "
            "AND coalesce(charge_description, '') = $4",
            [row["category"], row["sub_account_id"], row["service_code"], row["charge_description"]],
        ).fetchall()
    assert len(found) == 1, f"{row} names {len(found)} items"
    return Decision("restore", found[0][0], row["origin_month"], row["category"], "case", "case", datetime.now(UTC))


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
