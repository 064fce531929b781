"""Rows of an Azure partner's exports, as Graph delivers them."""

from tests.emulators.azure import TENANT

# A line of the daily usage.
PARTNER_USAGE = {
    "PartnerId": TENANT, "CustomerName": "One", "EntitlementId": "AAAA-1", "EntitlementDescription": "one-prod",
    "UsageDate": "2024-05-03T00:00:00Z", "ChargeType": "New", "MeterCategory": "Storage", "MeterSubCategory": "Blob",
    "MeterName": "Reads", "ProductName": "Tiered Block Blob", "SkuName": "Blob - Reads", "ConsumedService": "Microsoft.Storage",
    "ResourceLocation": "uksouth", "Quantity": 2.0, "UnitPrice": 1.0, "PCToBCExchangeRate": 0.5,
    "BillingPreTaxTotal": 1.5, "BillingCurrency": "GBP", "Tags": '{"team":"web"}',
}  # fmt: skip
# A line of the reconciliation.
PARTNER_PURCHASE = {
    "PartnerId": TENANT, "ChargeStartDate": "2024-05-01T00:00:00Z", "ChargeType": "New", "ProductName": "Reserved VM Instance",
    "SkuName": "Reserved VM Instance, D2", "ReservationOrderId": "order-1", "Subtotal": 100.0, "Currency": "GBP",
    "TermAndBillingCycle": "1 Year", "Quantity": 1,
}  # fmt: skip
