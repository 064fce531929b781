"""Google Cloud's commitments in `cost_line_items`: the model of 2026 and the one before, amortised as AWS's are."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource
from octo_pipeline.workspace import Workspace
from tests.support.billing_exports import ACCOUNT, DETAILED, SCHEMA, SCHEMA_2026, STANDARD, credit, row, write_export

MONTH = "2024-01"
NOW = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
SPEND = "COMMITTED_USAGE_DISCOUNT_DOLLAR_BASE"
SPEND_FEE = "Commitment - dollar based v1: GCE for 1 year"
RESOURCE_FEE = "Commitment v1: Cpu in Belgium for 1 Year"
FLEXIBLE = {"id": "D97B-0795-975B", "description": "Compute Flexible CUDs 1 Year"}
DEFAULT = {"id": "7754-699E-0EBF", "description": "Default"}


@pytest.fixture
def made(workspace: Workspace, tmp_path: Path):
    """Lands rows and returns the line items made of them."""

    def make(
        rows: Sequence[Mapping[str, Any]], schema: Sequence[Any] = SCHEMA_2026, table: str = DETAILED
    ) -> list[dict[str, Any]]:
        write_export(tmp_path / "exports" / ACCOUNT / table / "000000000000.parquet", rows, schema)
        GcpFolderSource(tmp_path / "exports").land(workspace.lake.root, MONTH, NOW)
        materialise(workspace, CostLineItems(), MONTH)
        with workspace.lake.connect() as con:
            items = con.execute(f"FROM {workspace.lake.scan('cost_line_items', [MONTH], CostLineItems.columns)}")
            names = [column[0] for column in items.description]
            return [dict(zip(names, values, strict=True)) for values in items.fetchall()]

    return make


def usage(cost: float, default: float | None, model: Mapping[str, str] | None, subscription: str | None = None, **more):
    prices = {"cost": cost, "cost_at_list": default, "cost_at_effective_price_default": default}
    return row(**prices | {"consumption_model": model, "subscription": {"instance_id": subscription}} | more)


def fee(cost: float, *, sku: str = SPEND_FEE, offset: float | None = None, origin: str | None = None, **more):
    return row(
        **{
            "cost": cost,
            "sku": {"id": "FEE", "description": sku},
            "project": {"id": "buyer", "name": "Buyer", "labels": []},
            "labels": [{"key": "goog-originating-sku-id", "value": origin}] if origin else [],
            "credits": [] if offset is None else [credit(offset, "FEE_UTILIZATION_OFFSET", name="CUD")],
            "cost_at_list": cost,
        }
        | more
    )


def total(items: Sequence[Mapping[str, Any]], column: str, **values: Any) -> Decimal:
    return sum((i[column] for i in items if all(i[name] == value for name, value in values.items())), Decimal(0))


def savings(items: Sequence[Mapping[str, Any]], **values: Any) -> tuple[Decimal, Decimal]:
    """What commitments saved by usage, and what their unused part cost."""
    used = total(items, "list_cost", savings_kind="used", **values) - total(
        items, "effective_cost", savings_kind="used", **values
    )
    return used, total(items, "effective_cost", savings_kind="unused", **values)


def test_usage_at_a_commitments_price_is_used_and_what_is_left_of_the_fee_unused(made):
    items = made(
        [
            usage(7.2, 10.0, FLEXIBLE),
            usage(3.0, 3.0, DEFAULT),
            fee(9.0, offset=-7.2, consumption_model=DEFAULT, subscription={"instance_id": "subscriptions/1"}),
        ]
    )

    assert total(items, "billed_cost") == total(items, "effective_cost") == 12
    assert savings(items) == (Decimal("2.8"), Decimal("1.8"))
    kinds = {(i["commitment_discount_type"], i["savings_kind"], i["commitment_discount_id"]) for i in items}
    assert kinds == {
        ("CUD", "used", "Compute Flexible CUDs 1 Year"),
        ("CUD", "unused", "subscriptions/1"),
        (None, None, None),
    }


def test_what_is_unused_is_what_remains_per_commitment(made):
    """Google's own example of an underused commitment: fee and offset of a row do not cancel exactly."""
    commitment = {"consumption_model": DEFAULT, "subscription": {"instance_id": "subscriptions/1"}}
    items = made(
        [
            fee(0.022994, sku="Flexible fee", **commitment),
            fee(0.125637, sku="Flexible fee", offset=-0.1256348, origin="RAM", **commitment),
            fee(0.067369, sku="Flexible fee", offset=-0.0673581, origin="CPU", **commitment),
            usage(0.125637, 0.174496, FLEXIBLE, "subscriptions/1"),
            usage(0.067369, 0.093568, FLEXIBLE, "subscriptions/1"),
        ]
    )

    used, unused = savings(items, commitment_discount_id="subscriptions/1")
    assert unused == Decimal("0.216") - Decimal("0.1929929")
    assert used == Decimal("0.268064") - Decimal("0.193006")
    assert total(items, "effective_cost") == total(items, "billed_cost")


def test_in_the_standard_export_fees_are_told_by_their_sku(made):
    rows = [
        fee(2.0, sku="Flexible fee", consumption_model=DEFAULT),
        fee(5.0, sku="Flexible fee", offset=-5.0, origin="RAM", consumption_model=DEFAULT),
        usage(5.0, 8.0, FLEXIBLE),
    ]
    items = made(rows, [field for field in SCHEMA_2026 if field.name != "subscription"], STANDARD)

    assert savings(items) == (3, 2)
    assert {i["commitment_discount_id"] for i in items if i["savings_kind"] == "unused"} == {"Flexible fee"}


def test_a_commitment_of_the_new_model_that_nobody_used_is_unused(made):
    items = made([fee(4.0, consumption_model=DEFAULT, subscription={"instance_id": "subscriptions/1"})])

    assert savings(items) == (0, 4)


def test_a_covered_row_without_a_default_price_saves_against_its_list_cost(made):
    items = made([usage(6.0, 0.0, FLEXIBLE, "c", cost_at_list=8.0), usage(6.0, None, FLEXIBLE, "d")])

    assert savings(items, commitment_discount_id="c") == (2, 0)
    assert savings(items, commitment_discount_id="d") == (0, 0)


def test_the_fee_of_the_old_model_is_shared_over_what_its_credits_cover(made):
    items = made(
        [
            row(cost=10.0, credits=[credit(-10.0, SPEND, id="c1")]),
            row(cost=3.0, project={"id": "other", "name": "Other", "labels": []}),
            fee(9.0),
        ],
        SCHEMA,
    )

    assert total(items, "billed_cost") == total(items, "effective_cost") == 12
    assert total(items, "effective_cost", sub_account_id="buyer") == 0
    assert total(items, "billed_cost", sub_account_id="buyer") == 9
    assert savings(items) == (1, 0)


def test_google_s_example_of_an_underused_commitment_before_the_migration(made):
    """Labels and subscriptions were there before the new model."""
    commitment = {"sku": "Flexible fee", "subscription": {"instance_id": "subscriptions/0"}}
    items = made(
        [
            fee(0.022994, **commitment),
            fee(0.125637, origin="RAM", **commitment),
            fee(0.067369, origin="CPU", **commitment),
            row(cost=0.174496, credits=[credit(-0.174496, SPEND)], project={"id": "ram"}),
            row(cost=0.093568, credits=[credit(-0.093568, SPEND)], project={"id": "cpu"}),
        ]
    )

    assert total(items, "billed_cost") == total(items, "effective_cost") == Decimal("0.216")
    ram = Decimal("0.216") * Decimal("0.174496") / Decimal("0.268064")
    assert abs(total(items, "effective_cost", sub_account_id="ram") - ram) <= Decimal("1e-10")
    assert savings(items) == (Decimal("0.268064") - Decimal("0.216"), 0)


def test_fees_are_shared_by_kind_of_commitment_and_currency(made):
    items = made(
        [
            row(cost=10.0, credits=[credit(-6.0), credit(-4.0, SPEND)], project={"id": "both"}),
            row(cost=2.0, credits=[credit(-2.0)], project={"id": "resources"}),
            row(cost=5.0, credits=[credit(-5.0, SPEND)], project={"id": "dollars"}, currency="USD"),
            fee(4.0, sku=RESOURCE_FEE),
            fee(3.0),
            fee(1.0, currency="USD"),
        ],
        SCHEMA,
    )

    effective = {
        (i["sub_account_id"], i["billing_currency"]): i["effective_cost"] for i in items if i["savings_kind"] == "used"
    }
    assert effective == {("both", "EUR"): 6, ("resources", "EUR"): 1, ("dollars", "USD"): 1}
    assert total(items, "effective_cost", sub_account_id="buyer") == 0


def test_a_fee_of_the_old_model_without_covered_rows_stays_where_it_is(made):
    items = made([row(cost=3.0, credits=[credit(-3.0)]), fee(9.0)], SCHEMA)

    assert total(items, "effective_cost", sub_account_id="buyer") == 9
    assert savings(items) == (3, 0)


@pytest.mark.parametrize("fee_cost", [0.01, 1 / 3, 1234567.891234567, -0.07])
def test_what_rounding_leaves_of_a_fee_is_placed_exactly(made, fee_cost):
    rows = [
        row(1 + n % 28, cost=1 + n / 7, credits=[credit(-(1 + n / 7), SPEND)], project={"id": f"p{n % 11}"})
        for n in range(300)
    ]
    # Two rows that are alike in all are both the largest.
    largest = row(5, cost=99.0, credits=[credit(-99.0, SPEND)])
    items = made([*rows, largest, largest, fee(fee_cost)], SCHEMA)

    assert total(items, "effective_cost") == total(items, "billed_cost")
    assert total(items, "effective_cost", sub_account_id="buyer") == 0


def test_in_the_month_of_the_migration_each_commitment_has_its_own_model(made):
    items = made(
        [
            row(cost=10.0, credits=[credit(-10.0, SPEND)], project={"id": "before"}, consumption_model=DEFAULT),
            fee(8.0, subscription={"instance_id": "old"}, consumption_model=DEFAULT, origin="CPU"),
            usage(7.0, 10.0, FLEXIBLE, "new", project={"id": "after"}),
            fee(7.5, offset=-7.0, subscription={"instance_id": "new"}, consumption_model=DEFAULT, sku="Fee"),
            fee(1.0, subscription={"instance_id": "new"}, consumption_model=DEFAULT, sku="Fee"),
        ]
    )

    assert {i["sub_account_id"]: i["effective_cost"] for i in items if i["savings_kind"] == "used"} == {
        "before": 8,
        "after": 7,
    }
    assert savings(items) == (2 + 3, Decimal("1.5"))
    assert total(items, "effective_cost") == total(items, "billed_cost") == Decimal("16.5")


def test_commitments_to_resources_stay_credits_in_the_new_model(made):
    items = made(
        [
            usage(5.0, 5.0, DEFAULT, credits=[credit(-5.0, id="resources")]),
            fee(3.0, sku=RESOURCE_FEE, consumption_model=DEFAULT),
        ]
    )

    assert savings(items) == (2, 0)
    assert total(items, "effective_cost", sub_account_id="buyer") == 0


def test_promotions_are_no_part_of_what_a_commitment_saves(made):
    promotion = credit(-7.0, "PROMOTION", name="Programme")
    unused_fee = fee(2.0, credits=[credit(-2.0, "PROMOTION")], consumption_model=DEFAULT)
    items = made([usage(7.0, 10.0, FLEXIBLE, "c", credits=[promotion]), unused_fee])

    assert savings(items) == (3, 2)
    assert total(items, "billed_cost", line_type="credit") == -9
    assert total(items, "billed_cost") == total(items, "effective_cost") == 0
