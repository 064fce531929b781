"""Google Cloud's rows in `cost_line_items`: what each kind of row means there (allocation.md §3, §4 and §11)."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.cloud.bigquery import SchemaField

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import sources
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource
from octo_pipeline.vendors.landing import newest_deliveries
from octo_pipeline.workspace import Workspace
from tests.support.billing_exports import ACCOUNT, SCHEMA, STANDARD, credit, row, without, write_export

MONTH = "2024-01"
NOW = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture
def made(workspace: Workspace, tmp_path: Path):
    """Lands rows and returns the line items made of them."""

    def make(rows: Sequence[Mapping[str, Any]], schema: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        file = tmp_path / "exports" / ACCOUNT / STANDARD / "000000000000.parquet"
        write_export(file, rows, **({} if schema is None else {"schema": schema}))
        GcpFolderSource(tmp_path / "exports").land(workspace.lake.root, MONTH, NOW)
        materialise(workspace, CostLineItems(), MONTH)
        with workspace.lake.connect() as con:
            items = con.execute(f"FROM {workspace.lake.scan('cost_line_items', [MONTH], CostLineItems.columns)}")
            names = [column[0] for column in items.description]
            return [dict(zip(names, values, strict=True)) for values in items.fetchall()]

    return make


def test_a_usage_row_is_a_line_item_with_the_names_of_focus(made):
    labels = [{"key": "env", "value": "prod"}, {"key": "app", "value": " web "}, {"key": "empty", "value": ""}]
    (item,) = made([row(5, cost=1.25, labels=labels, cost_at_list=1.5)])

    assert item == {
        "billing_month": MONTH,
        "vendor": "gcp",
        "billing_account_id": ACCOUNT,
        "sub_account_id": "shop-prod",
        "usage_date": date(2024, 1, 5),
        "line_type": "regular",
        "charge_category": "Usage",
        "service_code": "6F81-5844-456A",
        "charge_description": "N2 Instance Core running in Belgium",
        "operation": None,
        "usage_type": "N2 Instance Core running in Belgium",
        "region_id": "europe-west1",
        "billing_currency": "EUR",
        "commitment_discount_type": None,
        "commitment_discount_id": None,
        "offer_class": None,
        "savings_kind": None,
        "tags": {"app": " web ", "env": "prod"},
        "project_labels": {"team": "shop"},
        "publisher_name": None,
        "sub_account_name": "Shop",
        "service_name": "Compute Engine",
        "invoice_id": None,
        "invoice_issuer_name": "Google Cloud",
        "consumed_quantity": Decimal(3600),
        "billed_cost": Decimal("1.25"),
        "effective_cost": Decimal("1.25"),
        "list_cost": Decimal("1.5"),
        "line_count": 1,
    }


def test_the_seller_is_the_publisher(made):
    schema = [*SCHEMA, SchemaField("seller_name", "STRING")]
    promoted = row(cost=2.0, credits=[credit(-0.5, "PROMOTION")], seller_name="MongoDB, Inc.")
    items = made([row(cost=1.0, seller_name="Google"), promoted, row(cost=3.0)], schema)

    assert {(item["publisher_name"], item["billed_cost"], item["invoice_issuer_name"]) for item in items} == {
        ("Google", Decimal(1), "Google Cloud"),
        ("MongoDB, Inc.", Decimal(2), "Google Cloud"),
        ("MongoDB, Inc.", Decimal("-0.5"), "Google Cloud"),
        (None, Decimal(3), "Google Cloud"),
    }
    assert {item["invoice_id"] for item in items} == {None}


def test_credits_are_added_once_to_the_cost_of_their_row(made):
    credits = [credit(-0.1, "FREE_TIER"), credit(-0.2, "SUSTAINED_USAGE_DISCOUNT"), credit(-0.3, "RESELLER_MARGIN")]
    (item,) = made([row(cost=2.0, credits=credits), row(cost=1.0)])

    assert (item["billed_cost"], item["line_count"]) == (Decimal("2.4"), 2)


def test_promotions_are_line_items_of_their_own(made):
    credits = [
        credit(-0.5, "SUSTAINED_USAGE_DISCOUNT"),
        credit(-0.25, "PROMOTION", name="trial", full_name="Free trial credit"),
        credit(-0.125, "PROMOTION", name="Migration programme"),
        credit(-0.0625, "SUBSCRIPTION_BENEFIT", name="Benefit"),
    ]
    items = made([row(3, cost=2.0, credits=credits, labels=[{"key": "env", "value": "prod"}])])

    seen = {item["charge_description"]: item for item in items}
    usage = seen.pop("N2 Instance Core running in Belgium")
    assert (usage["billed_cost"], usage["effective_cost"], usage["list_cost"]) == (Decimal("1.5"), Decimal("1.5"), 2)
    assert {name: item["billed_cost"] for name, item in seen.items()} == {
        "Free trial credit": Decimal("-0.25"),
        "Migration programme": Decimal("-0.125"),
        "Benefit": Decimal("-0.0625"),
    }
    for item in seen.values():
        assert (item["line_type"], item["charge_category"], item["line_count"]) == ("credit", "Credit", 1)
        assert item["effective_cost"] == item["list_cost"] == item["billed_cost"]
        assert (item["consumed_quantity"], item["savings_kind"]) == (0, None)
        same = ("sub_account_id", "usage_date", "service_code", "usage_type", "region_id", "tags", "project_labels")
        assert [item[name] for name in same] == [usage[name] for name in same]


def test_a_promotion_without_a_name_is_described_as_its_row(made):
    items = made([row(cost=1.0, credits=[credit(-1.0, "PROMOTION", name=None)])])

    assert {(item["line_type"], item["charge_description"], item["billed_cost"]) for item in items} == {
        ("regular", "N2 Instance Core running in Belgium", Decimal(1)),
        ("credit", "N2 Instance Core running in Belgium", Decimal(-1)),
    }


def test_a_row_with_a_commitment_credit_saves_what_it_does_not_bill(made):
    resource = [credit(-1.5, "COMMITTED_USAGE_DISCOUNT", id="c-1"), credit(-0.1, "PROMOTION", id="a-promotion")]
    spend = [credit(-1.0, "COMMITTED_USAGE_DISCOUNT_DOLLAR_BASE", id="c-2")]
    items = made([row(cost=2.0, credits=one, cost_at_list=2.5) for one in (resource, spend)])

    assert {item["commitment_discount_id"]: (item["list_cost"], item["effective_cost"]) for item in items} == {
        "c-1": (Decimal("2.5"), Decimal("0.5")),
        "c-2": (Decimal("2.5"), Decimal(1)),
        None: (Decimal("-0.1"), Decimal("-0.1")),
    }
    assert {(item["commitment_discount_type"], item["savings_kind"]) for item in items} == {
        ("CUD", "used"),
        (None, None),
    }


def test_a_commitment_without_an_id_is_called_by_the_name_of_its_credit(made):
    (item,) = made([row(credits=[credit(-1, id="", full_name="Committed Usage Discount: CPU")])])

    assert item["commitment_discount_id"] == "Committed Usage Discount: CPU"


def test_a_covered_row_without_a_list_cost_is_worth_its_cost_before_credits(made):
    rows = [row(cost=2.0, credits=[credit(-1.5)]), row(cost=3.0, credits=[credit(-1, "DISCOUNT")])]
    items = made(rows, without("cost_at_list"))

    by_kind = {item["savings_kind"]: (item["list_cost"], item["effective_cost"]) for item in items}
    assert by_kind == {"used": (Decimal(2), Decimal("0.5")), None: (Decimal(2), Decimal(2))}


def test_a_list_cost_of_0_is_none(made):
    rows = [row(cost=2.0, credits=[credit(-1.5)], cost_at_list=0.0), row(cost=3.0, cost_at_list=0.0)]
    items = made(rows)

    assert {item["savings_kind"]: item["list_cost"] for item in items} == {"used": Decimal(2), None: Decimal(3)}


def test_the_cost_type_says_the_charge_category(made):
    types = ["regular", "tax", "adjustment", "rounding_error", "something_new"]
    items = made([row(cost_type=cost_type) for cost_type in types])

    assert {item["line_type"]: item["charge_category"] for item in items} == {
        "regular": "Usage",
        "tax": "Tax",
        "adjustment": "Adjustment",
        "rounding_error": "Adjustment",
        "something_new": "Adjustment",
    }


def test_a_row_of_no_project_is_the_billing_accounts_own(made):
    (item,) = made([row(project=None, cost_type="tax", labels=None, location=None, usage=None)])

    assert (item["sub_account_id"], item["sub_account_name"]) == (ACCOUNT, None)
    assert (item["tags"], item["project_labels"], item["consumed_quantity"]) == ({}, {}, 0)


def test_the_billing_month_is_the_invoices_and_the_day_is_in_utc(made):
    late = row(1, usage_start_time="2023-12-31T23:30:00-08:00")
    early = row(1, usage_start_time="2023-12-31T23:30:00Z")
    other = row(1, invoice={"month": "202402"})
    items = made([late, early, other])

    assert sorted((item["billing_month"], item["usage_date"]) for item in items) == [
        (MONTH, date(2023, 12, 31)),
        (MONTH, date(2024, 1, 1)),
    ]


def test_every_amount_has_nine_places_before_it_is_added(made):
    (item,) = made([row(cost=0.00000000049), row(cost=0.0000000005), row(cost=1.1234567894, credits=[])])

    assert item["billed_cost"] == Decimal("1.123456790")


def test_labels_of_another_order_are_the_same_labels(made):
    one, other = {"key": "a", "value": "1"}, {"key": "b", "value": 'with "quotes"'}
    (item,) = made([row(labels=[one, other]), row(labels=[other, one])])

    assert item["tags"] == {"a": "1", "b": 'with "quotes"'}
    assert item["line_count"] == 2


def test_a_label_that_comes_twice_has_one_value(made):
    (item,) = made([row(labels=[{"key": "a", "value": "1"}, {"key": "a", "value": "2"}])])

    assert item["tags"] == {"a": "2"}


def test_a_month_of_a_table_without_the_optional_columns_is_made_all_the_same(made):
    optional = ("service", "sku", "labels", "location", "usage", "cost_at_list")
    (item,) = made([row()], without(*optional))

    assert item["billed_cost"] == Decimal("1.5")
    assert [item[name] for name in ("service_code", "usage_type", "region_id")] == [None, None, None]


def test_a_landed_file_that_was_damaged_later_is_named(workspace, made):
    made([row()])
    (delivery,) = newest_deliveries(workspace.lake.root, MONTH)
    description = json.loads((delivery.path / "_delivery.json").read_text())
    file = delivery.file_paths[0]
    file.write_bytes(b"x" * description["files"][0]["size"])
    workspace.lake.remove("cost_line_items", MONTH)

    with pytest.raises(OctoError, match=f"{file} cannot be read as Parquet"):
        materialise(Workspace(workspace.settings), CostLineItems(), MONTH)


def test_a_configured_export_is_a_source(workspace):
    folder = workspace.settings.config / "sources"
    folder.mkdir()
    document = {"vendor": "gcp", "billing_account_id": ACCOUNT, "project": "finance-1", "dataset": "billing"}
    (folder / "google.json").write_text(json.dumps(document))
    exports = Workspace(workspace.settings.model_copy(update={"gcp_exports": Path("exports")}))

    assert [one.name for one in sources(exports, "gcp")] == [f"gcp {ACCOUNT} at finance-1.billing", "gcp at exports"]
    (folder / "google.json").write_text(json.dumps(document | {"billing_account_id": "secret"}))
    with pytest.raises(OctoError, match=r"google.json: billing_account_id: String should match") as caught:
        sources(exports, "gcp")
    assert "secret" not in str(caught.value)
