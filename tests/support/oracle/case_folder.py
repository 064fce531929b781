"""A case folder (allocation.md §13) as the oracle's world."""

import json
from decimal import Decimal
from pathlib import Path

from tests.support.case import Case, read_rows
from tests.support.oracle.closed_months import Lake
from tests.support.oracle.documents import Documents, Quantity, read_group, read_rule
from tests.support.oracle.lines import read_line


def read_documents(folder: Path, base_currency: str = "USD") -> Documents:
    """The documents of a configuration folder, which must all be valid."""
    names = ("allocators", "cost_groups", "metrics", "exchange_rates.csv")
    return _documents(*(folder / name for name in names), base_currency)


def _documents(rules: Path, groups: Path, metrics: Path, rates: Path, base_currency: str) -> Documents:
    read_groups = [read_group(_document(path), path.stem) for path in sorted(groups.glob("*.json"))]
    return Documents(
        [read_rule(_document(path), path.stem) for path in sorted(rules.glob("*.json"))],
        {group.id: group for group in read_groups},
        {path.stem: _metric(path) for path in sorted(metrics.glob("*.csv"))},
        [(row["month"], row["currency"], Decimal(row["rate"])) for row in read_rows(rates)],
        base_currency,
    )


def _document(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _metric(path: Path) -> list[Quantity]:
    return [
        Quantity(
            row["month"],
            ("group", row["group"]) if row.get("group") else ("account", row["account"]),
            Decimal(row["quantity"]),
        )
        for row in read_rows(path)
    ]


def run_case(case: Case) -> Lake:
    """The end of a case."""
    lake = Lake()
    for run_number in range(1, case.run_count + 1):
        _bring(case, lake, run_number)
        lake.run(case.months)
        for reopened, closed in case.closings_after(run_number):
            for month in reversed(reopened):
                lake.reopen(month)
            for month in closed:
                lake.close(month)
        for action, row in case.decisions_after(run_number):
            items = [item for items in lake.last_run.result.items.values() for item in items if _is_named(row, item)]
            decide = lake.restore if action == "restore" else lake.reapply
            decide(item.key for item in items)
    return lake


def _bring(case: Case, lake: Lake, run_number: int) -> None:
    """Bring documents, line items and registered accounts to what a run of the case has."""
    names = ("allocators", "cost_groups", "metrics", "exchange_rates.csv")
    paths = [case.path(name, run_number) for name in names]
    lake.edit(_documents(*paths, case.document.get("base_currency", "USD")))
    if run_number == 1 or case.is_replaced("line_items.csv", run_number):
        lake.deliver(read_line(row) for row in read_rows(case.path("line_items.csv", run_number)))
    rows = read_rows(case.path("registered_accounts.csv", run_number))
    lake.register(frozenset((row["payer"], row["account"]) for row in rows))


def _is_named(row: dict[str, str], item: object) -> bool:
    columns = item.columns
    kind, name = item.owner
    return (
        (item.month, item.category) == (row["origin_month"], row["category"])
        and (kind, name) == (row.get("owner_type") or "account", row["sub_account_id"])
        and (columns["service_code"] or "", columns["charge_description"] or "")
        == (row["service_code"], row["charge_description"])
        and (not row.get("step") or row["step"] == str(item.step))
    )
