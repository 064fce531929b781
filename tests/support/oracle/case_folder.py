"""A case folder (allocation.md §13) as the oracle's world."""

import json
from decimal import Decimal
from pathlib import Path

from tests.support.case import Case, read_rows
from tests.support.oracle.documents import Documents, Quantity, read_group, read_rule
from tests.support.oracle.lines import read_line
from tests.support.oracle.months import Result, World, allocate


def read_documents(folder: Path, base_currency: str = "USD") -> Documents:
    """The documents of a configuration folder, which must all be valid."""
    rules = [read_rule(_document(path), path.stem) for path in sorted(folder.glob("allocators/*.json"))]
    groups = [read_group(_document(path), path.stem) for path in sorted(folder.glob("cost_groups/*.json"))]
    metrics = {path.stem: _metric(path) for path in sorted(folder.glob("metrics/*.csv"))}
    rates = [(r["month"], r["currency"], Decimal(r["rate"])) for r in read_rows(folder / "exchange_rates.csv")]
    return Documents(rules, {group.id: group for group in groups}, metrics, rates, base_currency)


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


def read_world(case: Case) -> World:
    """The world of a case."""
    documents = read_documents(case.folder, case.document.get("base_currency", "USD"))
    registered = frozenset((row["payer"], row["account"]) for row in case.rows("registered_accounts.csv"))
    return World([read_line(row) for row in case.rows("line_items.csv")], documents, case.months, registered)


def run_case(case: Case) -> Result:
    """The end of a case: its items that stay restored are restored from the beginning, which is the same."""
    world = read_world(case)
    for row in case.rows("restores.csv"):
        if not row.get("reapplied_after_run"):
            world.restored |= {
                item.key for items in allocate(world).items.values() for item in items if _is_named(row, item)
            }
    return allocate(world)


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
