"""AWS's rows in `cost_line_items` and `invoice_costs`: what each kind of row means there (allocation.md §3)."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from octo_pipeline.allocation.items import item_id_sql
from octo_pipeline.model.columns import ACCOUNT_GRAIN, FEE_GRAIN, LINE_ITEM_GRAIN
from octo_pipeline.services.views import views
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.workspace import Workspace
from tests.support.reports import NOW, ROW, csv_text, write_csv

MONTH = "2024-01"


@pytest.fixture
def made(workspace: Workspace, tmp_path: Path):
    """Lands rows of a legacy report and returns the rows of both tables."""

    def make(rows: Sequence[Mapping[str, str]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        names = list(dict.fromkeys(name for row in rows for name in row))
        path = write_csv(tmp_path / "cur.csv", csv_text([dict.fromkeys(names, "") | row for row in rows]))
        land_cur(workspace.lake.root, path, fetched_at=NOW)
        return [read(workspace, table) for table in (CostLineItems(), InvoiceCosts())]

    return make


def read(workspace, table):
    materialise(workspace, table, MONTH)
    with workspace.lake.connect() as con:
        rows = con.execute(f"FROM {workspace.lake.scan(table.name, [MONTH], table.columns)} ORDER BY ALL")
        names = [column[0] for column in rows.description]
        return [dict(zip(names, values, strict=True)) for values in rows.fetchall()]


def test_a_line_item_says_its_invoice_and_its_seller(made):
    row = ROW | {
        "bill/InvoiceId": "17",
        "bill/BillingEntity": "AWS Marketplace",
        "bill/InvoicingEntity": "AWS EMEA SARL",
    }
    (item,), _ = made([row | {"lineItem/LegalEntity": "A seller"}])
    assert (item["invoice_id"], item["invoice_issuer_name"]) == ("17", "AWS EMEA SARL")
    assert item["publisher_name"] == "A seller"


def test_without_a_seller_the_billing_entity_sells_and_amazon_invoices(made):
    (item,), _ = made([ROW | {"bill/BillingEntity": "AWS"}])
    assert (item["publisher_name"], item["invoice_issuer_name"], item["invoice_id"]) == (
        "AWS",
        "Amazon Web Services",
        None,
    )


def test_lines_of_two_invoices_are_one_line_item_and_two_invoices(made):
    rows = [
        ROW | {"bill/InvoiceId": one, "lineItem/UnblendedCost": cost}
        for one, cost in (("1", "2.5"), ("2", "4"), ("", "8"))
    ]
    (item,), invoices = made(rows)
    assert (item["invoice_id"], item["billed_cost"]) == ("2", Decimal("14.5"))
    assert [(one["invoice_id"], one["billed_cost"]) for one in invoices] == [
        ("1", Decimal("2.5")),
        ("2", Decimal(4)),
        (None, Decimal(8)),
    ]
    assert {(one["invoice_issuer_name"], one["currency"], one["billing_month"]) for one in invoices} == {
        ("Amazon Web Services", "USD", MONTH)
    }


def test_text_is_trimmed_of_all_white_space(made):
    (item,), _ = made([ROW | {"lineItem/ProductCode": "\u00a0AmazonEC2\t", "lineItem/Operation": "\u3000\u2009"}])
    assert (item["service_code"], item["operation"]) == ("AmazonEC2", None)


@pytest.mark.parametrize(("category", "grain"), [("fee", FEE_GRAIN), ("account", ACCOUNT_GRAIN)])
def test_an_item_without_a_seller_keeps_its_id(workspace, category, grain):
    def value(name: str, kind: str) -> str:
        return (
            f"MAP {{'k': 'v'}}::{kind}"
            if kind.startswith("MAP")
            else f"{'NULL' if name == 'publisher_name' else 1}::{kind}"
        )

    values = {n: value(n, k) if k != "DATE" else "DATE '2024-01-01'" for n, k in LINE_ITEM_GRAIN.items() if n in grain}
    row = ", ".join(f"{sql} AS {name}" for name, sql in values.items())
    with workspace.lake.connect() as con:
        query = f"SELECT {item_id_sql(category)}, {item_id_sql(category, with_publisher=False)} FROM"
        now, former = con.execute(f"{query} (SELECT {row})").fetchone()
        other, _ = con.execute(
            f"{query} (SELECT * REPLACE ('a seller' AS publisher_name) FROM (SELECT {row}))"
        ).fetchone()
    assert now == former != other


def test_a_partition_of_an_earlier_edition_has_nulls_for_columns_that_came_later(made, workspace):
    made([ROW | {"bill/BillingEntity": "AWS"}])
    lake = workspace.lake
    with lake.connect() as con, lake.stage("cost_line_items", "2024-02") as staged:
        rows = f"FROM {lake.scan('cost_line_items', [MONTH], CostLineItems.columns)}"
        older = f"SELECT * EXCLUDE (publisher_name, invoice_id) REPLACE ('2024-02' AS billing_month) {rows}"
        lake.copy(con, older, staged, lake.metadata("cost_line_items", MONTH))
        staged.path.replace(
            lake.path("cost_line_items", "2024-02").parent.mkdir() or lake.path("cost_line_items", "2024-02")
        )
    with lake.connect() as con:
        query = "SELECT billing_month, publisher_name, invoice_id, billed_cost FROM"
        old = con.execute(f"{query} {lake.scan('cost_line_items', ['2024-02'], CostLineItems.columns)}").fetchall()
        both = con.execute(f"{query} {lake.scan('cost_line_items', None, CostLineItems.columns)} ORDER BY 1").fetchall()
    assert old == [("2024-02", None, None, Decimal("1.5"))]
    assert both == [(MONTH, "AWS", None, Decimal("1.5")), *old]
    # The views of SQL and of catalogues outlive the months that they were made with.
    with lake.connect() as con:
        con.execute(f"CREATE VIEW line_items AS {views(workspace)['cost_line_items']}")
        assert con.execute(f"{query} line_items ORDER BY 1").fetchall() == both


def test_covered_usage_without_a_list_price_saves_nothing_that_is_known(made):
    """Regression: a price of 0, which AWS writes where it has none, made what the reservation cost a negative saving."""
    reserved = ROW | {
        "lineItem/LineItemType": "DiscountedUsage",
        "lineItem/UnblendedCost": "0",
        "reservation/ReservationARN": "arn:aws:ec2:us-east-1:1:reserved-instances/r",
        "reservation/EffectiveCost": "4",
        "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "",
        "reservation/UnusedRecurringFee": "",
    }
    prices = {"a": "0", "b": "10", "c": ""}
    rows = [
        reserved | {"lineItem/UsageType": kind, "pricing/publicOnDemandCost": price} for kind, price in prices.items()
    ]
    usage = ROW | {"lineItem/UsageType": "d", "lineItem/UnblendedCost": "3", "pricing/publicOnDemandCost": "0"}
    items, _ = made([*rows, usage])
    columns = ("usage_type", "savings_kind", "effective_cost", "list_cost")
    assert sorted(tuple(item[column] for column in columns) for item in items) == [
        ("a", None, 4, 4),
        ("b", "used", 4, 10),
        ("c", None, 4, 4),
        ("d", None, 3, 3),
    ]
