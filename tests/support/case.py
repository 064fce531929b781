"""Runs one golden case folder (allocation.md §13) through the tables, as the assets do."""

import csv
import io
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

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
from octo_pipeline.model.sql import identifier, rows_sql, trimmed
from octo_pipeline.registry.records import Actor, Decision, NewAccount
from octo_pipeline.settings import Settings
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.table import Table, materialise
from octo_pipeline.workspace import Workspace
from tests.support.closing import close_months, reopen_months
from tests.support.tables import ALLOCATION_TABLES

# The key of a row and its amounts.
Sums = dict[tuple[str, ...], tuple[Decimal, ...]]


@dataclass(frozen=True)
class Expectation:
    """A file of expected rows, and the table or view that it is compared with.

    Attributes:
        table: a table of the lake, or ``allocations``, which stands for the view that explains them.
        key: the columns that a row may be keyed by; a case has all or some of them.
        measures: the amounts that are summed and compared; a case has all or some of them.
        month: the name of the column with the partition's month.
    """

    file: str
    table: str
    month: str
    key: tuple[str, ...]
    measures: tuple[str, ...]

    def columns(self, header: list[str]) -> tuple[list[str], list[str]]:
        """The key and the measures of a case's file.

        Raises:
            ValueError: the file has a column that is not compared.
        """
        unknown = [name for name in header if name not in (*self.key, *self.measures)]
        if unknown:
            raise ValueError(
                f"{self.file}: column {', '.join(unknown)} is unknown; allowed: {self.key + self.measures}"
            )
        return [n for n in self.key if n in header], [n for n in self.measures if n in header]


EXPECTATIONS = (
    Expectation(
        "expected_allocations.csv",
        "allocations",
        "booking_month",
        (
            "booking_month",
            "origin_month",
            "category",
            "status",
            "kind",
            "allocator_id",
            "source_account",
            "source_group",
            "target_account",
            "target_group",
            "service_code",
            "charge_description",
            "currency",
            "step",
            "corrected_month",
        ),
        ("cost", "effective_cost"),
    ),
    Expectation(
        "expected_cost_groups.csv",
        "cost_group_costs",
        "month",
        ("month", "cost_group_id", "section", "account", "service_code", "currency", "corrected_month"),
        ("cost", "effective_cost"),
    ),
    Expectation(
        "expected_account_costs.csv",
        "account_costs",
        "month",
        ("month", "owner_type", "owner_id", "currency"),
        ("billed", "effective", "final_cost", "amortised_final_cost"),
    ),
    Expectation(
        "expected_prepayments.csv",
        "prepayments",
        "month",
        ("month", "category", "source_account", "service_code", "charge_description", "currency"),
        (
            "opening",
            "billed",
            "booked",
            "closing",
            "effective_opening",
            "effective_billed",
            "effective_booked",
            "effective_closing",
        ),
    ),
)


# What a later run replaces: line_items_2.csv, allocators_2 and so on.
_OF_A_RUN = re.compile(
    r"(line_items|exchange_rates|registered_accounts)_(\d+)\.csv|(allocators|cost_groups|metrics)_(\d+)"
)
DecisionAction = Literal["restore", "reapply"]


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

    def header(self, name: str) -> list[str]:
        """The columns of a file; none if there is no file."""
        path = self.folder / name
        return list(_reader(path).fieldnames or ()) if path.exists() else []

    def path(self, name: str, run_number: int) -> Path:
        """The newest edition of a file or folder that a run has: of run 3 ``allocators_3``, or else ``allocators_2``."""
        stem, dot, suffix = name.partition(".")
        editions = (self.folder / f"{stem}_{number}{dot}{suffix}" for number in range(run_number, 1, -1))
        return next((path for path in editions if path.exists()), self.folder / name)

    def is_replaced(self, name: str, run_number: int) -> bool:
        """Whether a run has an edition of its own."""
        return run_number > 1 and self.path(name, run_number) != self.path(name, run_number - 1)

    @property
    def run_count(self) -> int:
        """How often all months are run: until the last thing that is due has been run once.

        Raises:
            ValueError: a file has the number of no later run.
        """
        numbers = [1]
        for path in self.folder.iterdir():
            if edition := _OF_A_RUN.fullmatch(path.name):
                numbers.append(int(edition[2] or edition[4]))
                if numbers[-1] < 2:
                    raise ValueError(f"{path.name}: the files of the first run have no number; later ones begin at 2")
        numbers += [entry["after_run"] + 1 for entry in self.closings]
        numbers += [int(run_number) + 1 for row in self.rows("restores.csv") for _, run_number in _actions(row)]
        return max(numbers)

    @property
    def closings(self) -> list[dict]:
        """The entries of closings.json: after_run, and the months to close and to reopen.

        Raises:
            ValueError: an entry has something else.
        """
        path = self.folder / "closings.json"
        entries = json.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else []
        for entry in entries:
            if unknown := entry.keys() - {"after_run", "close", "reopen"}:
                raise ValueError(f"closings.json: {', '.join(sorted(unknown))} is unknown")
        return entries

    def closings_after(self, run_number: int) -> list[tuple[list[str], list[str]]]:
        """What is reopened and then closed after a run."""
        entries = [entry for entry in self.closings if entry["after_run"] == run_number]
        return [(entry.get("reopen", []), entry.get("close", [])) for entry in entries]

    def decisions_after(self, run_number: int) -> list[tuple[DecisionAction, dict[str, str]]]:
        """The rows of restores.csv that are due after a run, and what they do then."""
        return [
            (action, row)
            for row in self.rows("restores.csv")
            for action, number in _actions(row)
            if int(number) == run_number
        ]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if there is no file. A value that a row lacks is the empty text."""
    return list(_reader(path)) if path.exists() else []


def _reader(path: Path) -> csv.DictReader:
    # Line breaks in a value are the value's own.
    text = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    return csv.DictReader(text, restval="", skipinitialspace=True)


def prepare(case: Case, folder: Path) -> Workspace:
    """A workspace with what the first run of the case has."""
    config = folder / "config"
    config.mkdir(parents=True)
    workspace = Workspace(
        Settings(lake=folder / "lake", config=config, base_currency=case.document.get("base_currency", "USD"))
    )
    for name in ("allocators", "cost_groups", "metrics"):
        (config / name).mkdir()
    _bring(case, workspace, 1)
    return workspace


def _bring(case: Case, workspace: Workspace, run_number: int) -> None:
    """Bring configuration, line items and registered accounts to what a run of the case has."""
    config = workspace.settings.config

    def is_new(name: str) -> bool:
        return case.path(name, run_number).exists() and (run_number == 1 or case.is_replaced(name, run_number))

    for name in ("allocators", "cost_groups", "metrics"):
        if is_new(name):
            shutil.rmtree(config / name)
            shutil.copytree(case.path(name, run_number), config / name)
    if is_new("exchange_rates.csv"):
        shutil.copy(case.path("exchange_rates.csv", run_number), config / "exchange_rates.csv")
    if is_new("line_items.csv"):
        load_line_items(workspace.lake, case.path("line_items.csv", run_number))
    if is_new("registered_accounts.csv"):
        rows = read_rows(case.path("registered_accounts.csv", run_number))
        register(workspace, {(row["payer"], row["account"]) for row in rows})


def register(workspace: Workspace, accounts: Iterable[tuple[str, str]]) -> None:
    """Make these the registered accounts, each a payer and an account."""
    registry = workspace.registry.accounts
    due = set(accounts)
    for account in registry.all():
        if (account.payer_id, account.account_id) not in due:
            registry.remove(account, Actor("case"), [], keeps_data=True)
        due.discard((account.payer_id, account.account_id))
    registry.add([NewAccount("aws", account, payer_id=payer) for payer, account in sorted(due)], Actor("case"))


def load_line_items(lake: Lake, path: Path) -> None:
    """Publish a CSV of line items as partitions of cost_line_items, normalised as §3 says."""
    rows = [tuple(row.get(name) for name in LINE_ITEM_COLUMNS) for row in read_rows(path)]
    with duckdb.connect() as connection:
        columns = dict.fromkeys(LINE_ITEM_COLUMNS, "VARCHAR")
        connection.execute(f"CREATE TABLE source AS {rows_sql(columns, rows)}")
        text = {name: trimmed(name) for name in LINE_ITEM_COLUMNS}
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
    """Run the case's months until the last thing that is due has been run once."""
    workspace = prepare(case, folder)
    for run_number in range(1, case.run_count + 1):
        if run_number > 1:
            _bring(case, workspace, run_number)
        workspace = run(workspace, case.months)
        for reopened, closed in case.closings_after(run_number):
            if reopened:
                reopen_months(workspace, reopened)
            if closed:
                close_months(workspace, closed)
        decisions = {}
        for action, row in case.decisions_after(run_number):
            decisions |= {d.item_id: d for d in _decisions(workspace.lake, row, action)}
        workspace.registry.record_decisions(list(decisions.values()))
    return workspace


def _actions(row: dict[str, str]) -> list[tuple[DecisionAction, str]]:
    """What a row of restores.csv does after which run."""
    actions: list[tuple[DecisionAction, str]] = [("restore", row.get("after_run") or "1")]
    if row.get("reapplied_after_run"):
        actions.append(("reapply", row["reapplied_after_run"]))
    return actions


def _decisions(lake: Lake, row: dict[str, str], action: DecisionAction) -> list[Decision]:
    """A decision for each item that the row names: several account-usage or savings items can fit."""
    with duckdb.connect() as connection:
        owner = "own_group_id" if row.get("owner_type") == "group" else "sub_account_id"
        items = connection.execute(
            f"SELECT item_id FROM {scan_items(lake, [row['origin_month']])} "
            f"WHERE category = $1 AND {owner} = $2 AND coalesce(service_code, '') = $3 "
            "AND coalesce(charge_description, '') = $4 AND ($5 = '' OR step::VARCHAR = $5)",
            [
                row["category"],
                row["sub_account_id"],
                row["service_code"],
                row["charge_description"],
                row.get("step") or "",
            ],
        ).fetchall()
    assert items, f"{row} names no item"
    now = datetime.now(UTC)
    return [Decision(action, item, row["origin_month"], row["category"], "case", "case", now) for (item,) in items]


def comparison(case: Case, workspace: Workspace, expectation: Expectation) -> list[str]:
    """The differences between a file of the case and the tables; none where the case has no such file.

    A row whose amounts are all 0 equals an absent one. Text and amounts of the columns that the file has are compared.
    """
    header = case.header(expectation.file)
    if not header:
        return []
    key, measures = expectation.columns(header)
    table = next((table for table in TABLES if table.name == expectation.table), None)
    if table is None:
        return [f"{expectation.file}: there is no table {expectation.table}"]
    if expectation.table == "allocations":
        relation = f"({explained_allocations(workspace, case.months)})"
    else:
        make(workspace, table, case.months)
        relation = workspace.lake.scan(table.name, case.months, table.columns, month_as=expectation.month)
    with duckdb.connect() as connection:
        columns = connection.sql(f"FROM {relation}").columns
        lacking = [name for name in (*key, *measures) if name not in columns]
        if lacking:
            return [f"{expectation.file}: {expectation.table} has no column {', '.join(lacking)}"]
        selected = ", ".join(f"coalesce({identifier(name)}::VARCHAR, '') AS {identifier(name)}" for name in key)
        sums = ", ".join(f"coalesce(sum({identifier(name)}), 0)" for name in measures)
        rows = connection.execute(f"SELECT {selected}, {sums} FROM {relation} GROUP BY ALL").fetchall()
    actual = {row[: len(key)]: row[len(key) :] for row in rows}
    return differences(actual, expected(case.rows(expectation.file), key, measures))


def expected(rows: list[dict[str, str]], key: list[str], measures: list[str]) -> Sums:
    """The sums of a case's rows by key."""
    sums: dict[tuple[str, ...], list[Decimal]] = defaultdict(lambda: [Decimal(0)] * len(measures))
    for row in rows:
        amounts = [Decimal(row[name] or 0) for name in measures]
        k = tuple(row[name] for name in key)
        sums[k] = [a + b for a, b in zip(sums[k], amounts, strict=True)]
    return {k: tuple(amounts) for k, amounts in sums.items()}


def differences(actual: Sums, expected: Sums) -> list[str]:
    """One line per row that is missing, surplus or off by more than 10⁻⁹ + |cost|·10⁻¹² in any amount."""
    lines = []
    for key in sorted(actual.keys() | expected.keys()):
        zero = tuple(Decimal(0) for _ in actual.get(key) or expected[key])
        amounts, due = actual.get(key, zero), expected.get(key, zero)
        if any(abs(a - b) > Decimal("1e-9") + abs(b) * Decimal("1e-12") for a, b in zip(amounts, due, strict=True)):
            lines.append(f"{' | '.join(key)}: expected {_text(due)}, not {_text(amounts)}")
    return lines


def _text(amounts: tuple[Decimal, ...]) -> str:
    return " / ".join(map(str, amounts))
