"""FOCUS files of a few rows, made by the tests themselves, and what a month of them comes to."""

import csv
import io
from pathlib import Path

from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace

MONTH = "2024-03"
ACCOUNT = "9911223"
SUBSCRIPTION = "aaaaaaaa-0000-0000-0000-000000000001"
RESERVATION = "/providers/Microsoft.Capacity/reservationOrders/o1/reservations/r1"
PLAN = "/providers/Microsoft.BillingBenefits/savingsPlanOrders/o1/savingsPlans/s1"

# A charge on demand as Microsoft's FOCUS 1.0 has it.
ROW = {
    "BilledCost": "10", "BillingAccountId": f"/providers/Microsoft.Billing/billingAccounts/{ACCOUNT}", "BillingCurrency": "EUR",
    "BillingPeriodEnd": "2024-04-01T00:00:00Z", "BillingPeriodStart": "2024-03-01T00:00:00Z", "ChargeCategory": "Usage",
    "ChargeClass": "", "ChargeDescription": "Virtual machine", "ChargePeriodEnd": "2024-03-06T00:00:00Z",
    "ChargePeriodStart": "2024-03-05T00:00:00Z", "CommitmentDiscountId": "", "CommitmentDiscountStatus": "",
    "CommitmentDiscountType": "", "ConsumedQuantity": "1", "EffectiveCost": "10", "ListCost": "10", "ProviderName": "Microsoft",
    "RegionId": "westeurope", "ServiceName": "Virtual Machines", "SubAccountId": f"/subscriptions/{SUBSCRIPTION}",
    "SubAccountName": "Sub", "Tags": "{}",
}  # fmt: skip
USED = ROW | {"BilledCost": "0", "EffectiveCost": "80", "ListCost": "120", "CommitmentDiscountStatus": "Used"}
PLAN_USED = USED | {"CommitmentDiscountId": PLAN, "CommitmentDiscountType": "Savings Plan"}
PLAN_UNUSED = PLAN_USED | {"EffectiveCost": "20", "ListCost": "0", "CommitmentDiscountStatus": "Unused"}
PLAN_BOUGHT = PLAN_USED | {
    "ChargeCategory": "Purchase", "CommitmentDiscountStatus": "", "BilledCost": "100", "EffectiveCost": "100",
    "ListCost": "100",
}  # fmt: skip
RESERVED = USED | {"CommitmentDiscountId": RESERVATION, "CommitmentDiscountType": "Reservation"}


def csv_text(*rows: dict[str, str]) -> str:
    """The rows under all columns that any of them has."""
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Path, *rows: dict[str, str]) -> Path:
    """A CSV file of these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(csv_text(*rows))
    return path


def line_items(workspace: Workspace, columns: str, month: str = MONTH) -> list[tuple]:
    """Columns of the month's line items, made from what is landed."""
    materialise(workspace, CostLineItems(), month)
    with workspace.lake.connect() as connection:
        table = workspace.lake.scan("cost_line_items", [month], CostLineItems.columns)
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()
