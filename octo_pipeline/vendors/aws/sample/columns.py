"""The columns of the report, in AWS's order, with their names in CSV and Parquet and their types."""

import re
from typing import NamedTuple

# Names as in the CSV header; `Column.athena_name` gives the Parquet spelling.
_LAYOUT: dict[str, str] = {
    "identity": "LineItemId TimeInterval",
    "bill": "InvoiceId BillingEntity BillType PayerAccountId BillingPeriodStartDate BillingPeriodEndDate",
    # AWS names accounts since CUR 2.0; in the older report that the sample is otherwise, they would have no names at all.
    "lineItem": (
        "UsageAccountId UsageAccountName LineItemType UsageStartDate UsageEndDate ProductCode UsageType Operation"
        " AvailabilityZone ResourceId UsageAmount NormalizationFactor NormalizedUsageAmount CurrencyCode"
        " UnblendedRate UnblendedCost BlendedRate BlendedCost LineItemDescription TaxType LegalEntity"
    ),
    "product": "ProductName instanceType location operatingSystem region servicecode sku usagetype",
    "pricing": ("LeaseContractLength OfferingClass PurchaseOption publicOnDemandCost publicOnDemandRate term unit"),
    "reservation": (
        "AmortizedUpfrontCostForUsage AmortizedUpfrontFeeForBillingPeriod EffectiveCost EndTime"
        " NumberOfReservations RecurringFeeForUsage ReservationARN StartTime TotalReservedUnits"
        " UnitsPerReservation UnusedAmortizedUpfrontFeeForBillingPeriod UnusedQuantity UnusedRecurringFee"
    ),
    "savingsPlan": (
        "TotalCommitmentToDate SavingsPlanARN SavingsPlanRate UsedCommitment SavingsPlanEffectiveCost"
        " AmortizedUpfrontCommitmentForBillingPeriod RecurringCommitmentForBillingPeriod StartTime EndTime"
        " OfferingType PaymentOption PurchaseTerm"
    ),
    "resourceTags": "user:cost_center user:environment user:name user:team",
}
_NUMBERS = re.compile(r"(Cost|Amount|Factor|Fee|Quantity|ToDate|Commitment|SavingsPlanRate|ForUsage|ForBillingPeriod)$")
_SQL_TYPES = {"DateTime": "TIMESTAMP", "OptionalBigDecimal": "DOUBLE", "OptionalString": "VARCHAR"}


class Column(NamedTuple):
    """A column of the report."""

    category: str
    name: str

    @property
    def header(self) -> str:
        """Its name in CSV."""
        return f"{self.category}/{self.name}"

    @property
    def athena_name(self) -> str:
        """Its name in Parquet."""
        return _athena_name(self.category) + "_" + _athena_name(self.name)

    @property
    def manifest_type(self) -> str:
        """Its type as the manifest names it."""
        if self.name.endswith("Date") and self.category in ("bill", "lineItem"):
            return "DateTime"
        return "OptionalBigDecimal" if _NUMBERS.search(self.name) else "OptionalString"

    @property
    def sql_type(self) -> str:
        """Its DuckDB type."""
        return _SQL_TYPES[self.manifest_type]


def _athena_name(name: str) -> str:
    """AWS puts an underscore before every capital, hence reservation_a_r_n."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).replace(":", "_").lower()


COLUMNS = tuple(Column(category, name) for category, names in _LAYOUT.items() for name in names.split())
