"""The columns of FOCUS's data sets, and which column of our queries each one is."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

Version = Literal["1.4", "1.2"]

# What the standard adds after 1.2; who reads 1.2 finds the allocations under names of our own.
_ALLOCATED = (
    "AllocatedMethodDetails", "AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags",
)  # fmt: skip
_SINCE_1_2 = (
    *_ALLOCATED, "CommitmentProgramEligibilityDetails", "ContractApplied", "HostProviderName", "InvoiceDetailId",
    "ServiceProviderName",
)  # fmt: skip
_UNTIL_1_3 = ("ProviderName", "PublisherName")

_STANDARD = (
    *_ALLOCATED, "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType",
    "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "CapacityReservationId", "CapacityReservationStatus",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit",
    "CommitmentProgramEligibilityDetails", "ConsumedQuantity", "ConsumedUnit", "ContractApplied", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "HostProviderName", "InvoiceDetailId", "InvoiceId", "InvoiceIssuerName",
    "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName",
    "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory",
    "ServiceName", "ServiceProviderName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId",
    "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
)  # fmt: skip
BILLING_PERIOD = (
    "BillingPeriodCreated", "BillingPeriodEnd", "BillingPeriodLastUpdated", "BillingPeriodStart", "BillingPeriodStatus",
    "InvoiceIssuerName",
)  # fmt: skip
INVOICE_DETAIL = (
    "BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "InvoiceDetailCreated", "InvoiceDetailDescription", "InvoiceDetailGrain", "InvoiceDetailId",
    "InvoiceDetailLastUpdated", "InvoiceId", "InvoiceIssueDate", "InvoiceIssueStatus", "InvoiceIssuerName",
    "PaymentCurrency", "PaymentCurrencyBilledCost", "PaymentCurrencyInvoiceDetailId", "PaymentDueDate", "PaymentTerms",
    "PurchaseOrderNumber", "ReferenceInvoiceId",
)  # fmt: skip
# What the proofs read of a written file.
PROVED = (
    "BilledCost", "BillingCurrency", "ChargeClass", "EffectiveCost", "x_BookingMonth", "x_FinalSubAccountId", "x_ItemId",
    "x_Kind", "x_OriginChargeId", "x_Step", "x_TargetGroupId",
)  # fmt: skip
OWN = (
    "x_BookingMonth", "x_CorrectedMonth", "x_EffectiveRatio", "x_FinalSubAccountId", "x_ItemId", "x_Kind", "x_LineType",
    "x_Operation", "x_OriginChargeId", "x_OriginMonth", "x_ProjectLabels", "x_Reason", "x_ServiceCode", "x_Step",
    "x_TargetAccountId", "x_TargetGroupId", "x_TrancheCount", "x_TrancheIndex", "x_UsageType",
)  # fmt: skip


def standard_columns(version: Version) -> tuple[str, ...]:
    """The columns that the standard has in a version, in its order."""
    without = _UNTIL_1_3 if version == "1.4" else _SINCE_1_2
    return tuple(name for name in _STANDARD if name not in without)


def written_columns(version: Version) -> Mapping[str, str]:
    """The columns of an export, in order -> the column of ``cost_and_usage`` that each one is."""
    own = in_words_of_the_lake(OWN)
    if version == "1.2":
        own |= {f"x_{name}": column for name, column in in_words_of_the_lake(_ALLOCATED).items()}
        # What the export says in InvoiceIssuerName is the provider.
        own |= in_words_of_the_lake(["x_InvoiceIssuerName"])
    else:
        # The standard no longer has who sells a charge.
        own |= {"x_PublisherName": "publisher_name"}
    return in_words_of_the_lake(standard_columns(version)) | dict(sorted(own.items()))


def in_words_of_the_lake(names: Iterable[str]) -> dict[str, str]:
    """Each column -> the same in snake_case."""
    return {name: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in names}
