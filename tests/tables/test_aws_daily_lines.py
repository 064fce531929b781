"""AWS's Parquet files are summed up by day before their texts are made canonical: the line items are those of each line."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from octo_pipeline.services.months import Failed, Landing, make_months
from octo_pipeline.settings import Settings
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.workspace import Workspace
from tests.support.reports import csv_text, write_csv, write_parquet

MONTH = "2024-03"
PAYER = "111122223333"
RESERVATION = "arn:aws:ec2:us-east-1:111122223333:reserved-instances/r1"
PLAN = "arn:aws:savingsplans::111122223333:savingsplan/s1"

LINE = {
    "bill_payer_account_id": PAYER,
    "bill_invoice_id": "I1",
    "bill_billing_period_start_date": "2024-03-01 00:00:00",
    "line_item_usage_account_id": "222233334444",
    "line_item_line_item_type": "Usage",
    "line_item_usage_start_date": "2024-03-03 07:00:00",
    "line_item_product_code": "AmazonEC2",
    "line_item_operation": "RunInstances",
    "line_item_currency_code": "USD",
    "line_item_usage_amount": "1",
    "line_item_unblended_cost": "1.5",
    "pricing_public_on_demand_cost": "2",
    "pricing_offering_class": "",
    "reservation_reservation_arn": "",
    "reservation_effective_cost": "",
    "reservation_unused_amortized_upfront_fee_for_billing_period": "",
    "reservation_unused_recurring_fee": "",
    "savings_plan_savings_plan_arn": "",
    "savings_plan_savings_plan_effective_cost": "",
    "savings_plan_total_commitment_to_date": "",
    "savings_plan_used_commitment": "",
    "resource_tags_user_team": "a",
    "resource_tags_user_name": "",
}
AMOUNTS = [name for name in LINE if "cost" in name or "amount" in name or "commitment" in name or "fee" in name]


def line(day: int = 3, hour: int = 7, **changes: str) -> dict[str, str]:
    start = f"2024-03-{day:02d} {hour:02d}:00:00"
    names = {name.rpartition("line_item_")[2]: name for name in LINE}
    return LINE | {"line_item_usage_start_date": start} | {names.get(key, key): value for key, value in changes.items()}


def covered(**changes: str) -> dict[str, str]:
    return line(
        type="DiscountedUsage",
        unblended_cost="0",
        reservation_reservation_arn=RESERVATION,
        reservation_effective_cost="0.7",
        **changes,
    )


SHAPES: dict[str, list[dict[str, str]]] = {
    "the hours of a day": [line(hour=hour, unblended_cost=f"0.{hour:02d}1") for hour in range(24)],
    "days": [line(day=day) for day in (3, 4, 31)],
    "texts that are the same once trimmed": [
        line(),
        line(operation=" RunInstances\u00a0"),
        line(operation="RunInstances"),
    ],
    "missing texts in two forms": [line(operation=""), line(operation="  "), line(operation="None")],
    "tags with values": [line(), line(resource_tags_user_team=" a "), line(resource_tags_user_name='q"{}')],
    "no tags": [line(resource_tags_user_team=""), line(resource_tags_user_team="")],
    "list costs of 0 beside known ones": [
        line(pricing_public_on_demand_cost=cost) for cost in ("0", "", "2", "-2", "0.00000000001")
    ],
    "list costs that cancel out": [line(pricing_public_on_demand_cost=cost) for cost in ("5", "-5", "3")],
    "covered usage with and without a list cost": [
        covered(pricing_public_on_demand_cost=cost) for cost in ("0", "", "3", "-3", "1.25")
    ],
    "an offering class on one line of a reservation": [
        covered(pricing_offering_class="convertible"),
        covered(),
        line(
            type="RIFee",
            reservation_reservation_arn=RESERVATION,
            reservation_unused_recurring_fee="0.25",
        ),
        line(
            type="RIFee",
            reservation_reservation_arn=RESERVATION,
            reservation_unused_amortized_upfront_fee_for_billing_period="0.5",
        ),
    ],
    "recurring fees of which a part is missing": [
        line(
            type="SavingsPlanRecurringFee",
            savings_plan_savings_plan_arn=PLAN,
            savings_plan_total_commitment_to_date=total,
            savings_plan_used_commitment=used,
        )
        for total, used in (("10", "4"), ("10", ""), ("", "3"), ("", ""), ("8", "1"))
    ],
    "costs that cancel out": [line(unblended_cost=cost) for cost in ("1.5", "-1.5", "0")],
    "two invoices": [line(), line(bill_invoice_id="I2"), line(bill_invoice_id="")],
    "an account that lost its zeros": [line(usage_account_id="22233334444"), line(usage_account_id="022233334444")],
    "split lines": [line(), line(operation="EKSPod-EC2"), line(operation=" ECSTask-EC2")],
}


def parquet_value(name: str, value: str) -> str:
    if name in AMOUNTS:
        return f"'{value}'::double" if value else "null::double"
    return f"timestamp '{value}'" if name.endswith("_start_date") else f"'{value.replace(chr(39), chr(39) * 2)}'"


def line_items(folder: Path, path: Path) -> list[Mapping]:
    workspace = Workspace(Settings(lake=folder / "lake", config=folder / "config"))
    for event in make_months(workspace, [MONTH], (Landing("aws", path), CostLineItems())):
        if isinstance(event, Failed):
            raise event.error
    with workspace.lake.connect() as connection:
        query = f"from {workspace.lake.scan('cost_line_items', [MONTH], CostLineItems.columns)} order by all"
        items = connection.execute(query)
        names = [column[0] for column in items.description]
        return [dict(zip(names, values, strict=True)) for values in items.fetchall()]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """All shapes in one month, so that one run makes them; each has a usage type of its own."""
    return [row | {"line_item_usage_type": shape} for shape, rows in SHAPES.items() for row in rows]


def test_the_lines_of_parquet_and_csv_become_the_same_line_items(tmp_path, rows):
    from_csv = line_items(tmp_path / "c", write_csv(tmp_path / "cur.csv", csv_text(rows)))
    parquet_rows = [{name: parquet_value(name, value) for name, value in row.items()} for row in rows]
    from_parquet = line_items(tmp_path / "p", write_parquet(tmp_path / "cur.parquet", parquet_rows))
    for shape in SHAPES:
        in_csv, in_parquet = (
            [item for item in items if item["usage_type"] == shape] for items in (from_csv, from_parquet)
        )
        assert in_parquet == in_csv, shape
    assert sum(item["line_count"] for item in from_parquet) == len(rows) - 2


def test_a_sum_is_missing_only_where_every_line_is(tmp_path, rows):
    """Regression: known and unknown list costs must not be added up, nor prices that cancel out be taken for none."""
    parquet_rows = [{name: parquet_value(name, value) for name, value in row.items()} for row in rows]
    items = line_items(tmp_path, write_parquet(tmp_path / "cur.parquet", parquet_rows))

    def of(shape: str, column: str) -> Decimal:
        return sum((item[column] for item in items if item["usage_type"] == shape), Decimal(0))

    assert of("list costs of 0 beside known ones", "list_cost") == Decimal("4.5")
    assert of("list costs that cancel out", "list_cost") == Decimal(3)
    assert of("recurring fees of which a part is missing", "effective_cost") == Decimal(13)
    assert of("covered usage with and without a list cost", "list_cost") == Decimal("2.65")
