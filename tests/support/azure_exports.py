"""Cost Management exports as Azure writes them, made by the tests themselves."""

import csv
import io
import json

from octo_pipeline.vendors.azure.blobs import FolderListing
from octo_pipeline.vendors.azure.exports import AzureExportSource

MONTH = "2024-05"
SCOPE = "/providers/Microsoft.Billing/billingAccounts/1234"
RUN = "exports/daily/20240501-20240531/0c0c0c0c-0000-4000-8000-000000000001"

USAGE = {
    "BillingAccountId": "1234", "BillingPeriodStartDate": "05/01/2024", "SubscriptionId": "AAAA-1", "SubscriptionName": "one",
    "Date": "05/03/2024", "ChargeType": "Usage", "Product": "Blob - Reads", "MeterCategory": "Storage",
    "MeterSubCategory": "Blob", "MeterName": "Reads", "ConsumedService": "Microsoft.Storage", "ResourceLocation": "uksouth",
    "Quantity": "2", "PayGPrice": "1", "Cost": "1.5", "BillingCurrency": "USD", "PricingModel": "OnDemand",
    "ReservationId": "", "benefitId": "", "Tags": '"team": "web","env": ""',
}  # fmt: skip
COVERED = USAGE | {"PricingModel": "Reservation", "ReservationId": "r-1", "Cost": "0", "PayGPrice": "5", "Tags": ""}
BOUGHT = COVERED | {"ChargeType": "Purchase", "Cost": "90", "PayGPrice": "0", "SubscriptionId": "bbbb-2"}
AMORTISED = COVERED | {"Cost": "6"}
UNUSED = BOUGHT | {"ChargeType": "UnusedReservation", "Cost": "3"}
FOCUS = {
    "BillingAccountId": SCOPE, "BillingPeriodStart": "2024-05-01T00:00:00Z", "SubAccountId": "/subscriptions/AAAA-1",
    "SubAccountName": "one", "ChargePeriodStart": "2024-05-03T00:00:00Z", "ChargeCategory": "Usage",
    "ChargeDescription": "Blob - Reads", "ServiceName": "Storage Accounts", "RegionId": "uksouth", "BillingCurrency": "USD",
    "CommitmentDiscountId": "", "CommitmentDiscountType": "", "CommitmentDiscountStatus": "", "ConsumedQuantity": "2",
    "BilledCost": "1.5", "EffectiveCost": "1.25", "ListCost": "2", "Tags": '{"team":"web"}',
}  # fmt: skip


def csv_bytes(*rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def manifest(
    listed, kind="ActualCost", *, submitted="2024-06-01T01:00:00Z", scope=SCOPE, start="2024-05-01T00:00:00", **changes
):
    document = {
        "manifestVersion": "2024-04-01",
        "blobCount": len(listed),
        "exportConfig": {"type": kind, "resourceId": f"{scope}/providers/Microsoft.CostManagement/exports/daily"},
        "runInfo": {"runId": "1", "submittedTime": submitted, "startDate": start, "endDate": "2024-05-31T00:00:00"},
        "blobs": [
            {"blobName": name, "byteCount": len(content), "dataRowCount": rows} for name, content, rows in listed
        ],
    }
    return json.dumps(document | changes).encode()


def export(*rows, kind="ActualCost", run=RUN, **changes):
    """The blobs of an export with a manifest, by name."""
    content = csv_bytes(*rows)
    name = f"{run}/part_0_0001.csv"
    return {name: content, f"{run}/manifest.json": manifest([(name, content, len(rows))], kind, **changes)}


def write(folder, blobs):
    for name, content in blobs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return AzureExportSource(FolderListing(folder))


def day(number, **changes):
    """Usage of 1.00 on a day of the month."""
    return USAGE | {"Date": f"05/{number:02d}/2024", "Cost": "1.00"} | changes


def run(first, last, *, submitted, name="daily", rows=None, **changes):
    """The blobs of a run of some days of the month, 1.00 each."""
    folder = f"{name}/202405{first:02d}-202405{last:02d}/{submitted.replace(':', '')}"
    rows = rows if rows is not None else [day(number) for number in range(first, last + 1)]
    asked = {
        "runInfo": {
            "runId": submitted,
            "submittedTime": submitted,
            "startDate": f"2024-05-{first:02d}T00:00:00",
            "endDate": f"2024-05-{last:02d}T00:00:00",
        }
    }
    return export(*rows, run=folder, **{**asked, **changes})
