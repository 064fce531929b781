"""Writes months of an Azure partner's billing exports, as downloaded, that tell a small and complete story.

What belongs here: the synthetic partner, its customers and what they use, and the files as Graph delivers them, in
the folder layout of `octo_pipeline.vendors.azure.csp`. What does not: reading them, and any allocation rule.

The partner sells to three customers with some subscriptions each, in GBP on prices in USD. A month has an invoice
with

- the daily usage of each subscription's resources, a part of whose virtual machines a reservation covers;
- the reconciliation: that usage again, summed by meter and rounded down to pence, a monthly savings plan fee, in
  the first month the reservation's purchase and licences, in the last month a credit.

How it is made: everything is drawn from one generator a month, seeded by seed and month, so the same arguments give
the same bytes. Costs are decimals of ten places and are written as such.

Known drawback: of the prices only the order of size is real.
"""

import calendar
import gzip
import hashlib
import json
import random
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import NamedTuple

from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.sample_months import require_months

CURRENCY = "GBP"

_NAMESPACE = uuid.UUID("6f2a9d52-6d51-4c2e-9b55-2f2f3c0f8a11")
_EXCHANGE_RATE = Decimal("0.789123")
_PLACES = Decimal("1e-10")
_MIN_LINES = 100
_COVERED = 0.1
_CUSTOMERS = ("Northwind Retail", "Fabled Foods", "Harbour Logistics")
_TEAMS = ("payments", "search", "warehouse", "web", "analytics", "identity")
_ENVIRONMENTS = ("prod", "prod", "staging", "dev")
_REGIONS = (("uksouth", "UK South"), ("ukwest", "UK West"), ("westeurope", "EU West"))


class _Meter(NamedTuple):
    category: str
    sub_category: str
    name: str
    product: str
    service: str
    unit: str
    price: str  # USD a unit
    most: int  # units a day


_METERS = (
    _Meter("Virtual Machines", "Dv5 Series", "D2 v5", "Virtual Machines Dv5 Series", "Microsoft.Compute", "1 Hour", "0.111", 24),
    _Meter("Virtual Machines", "Ev5 Series", "E4 v5", "Virtual Machines Ev5 Series", "Microsoft.Compute", "1 Hour", "0.304", 24),
    _Meter("Virtual Machines", "BS Series", "B2s", "Virtual Machines BS Series", "Microsoft.Compute", "1 Hour", "0.0472", 24),
    _Meter("Storage", "Premium SSD Managed Disks", "P10 LRS Disk", "Premium SSD Managed Disks", "Microsoft.Compute", "1/Month", "21.68", 1),
    _Meter("Storage", "Tiered Block Blob", "Hot LRS Data Stored", "Tiered Block Blob", "Microsoft.Storage", "1 GB/Month", "0.0191", 900),
    _Meter("Storage", "Tiered Block Blob", "Hot Read Operations", "Tiered Block Blob", "Microsoft.Storage", "10K", "0.0043", 500),
    _Meter("Bandwidth", "Inter-Region", "Inter Continent Data Transfer Out", "Bandwidth Inter-Region", "Microsoft.Network", "1 GB", "0.05", 120),
    _Meter("Virtual Network", "IP Addresses", "Standard IPv4 Static Public IP", "IP Addresses", "Microsoft.Network", "1 Hour", "0.005", 24),
    _Meter("Load Balancer", "Standard", "Standard Included LB Rules and Outbound Rules", "Load Balancer", "Microsoft.Network", "1 Hour", "0.025", 24),
    _Meter("SQL Database", "Single Standard", "S2 DTUs", "SQL Database Single Standard", "Microsoft.Sql", "1/Day", "2.4194", 1),
    _Meter("Azure Database for PostgreSQL", "Flexible Server", "vCore", "Azure Database for PostgreSQL", "Microsoft.DBforPostgreSQL", "1 Hour", "0.098", 96),
    _Meter("Azure Kubernetes Service", "Uptime SLA", "Standard Uptime SLA", "Azure Kubernetes Service", "Microsoft.ContainerService", "1 Hour", "0.1", 24),
    _Meter("Azure App Service", "Premium v3 Plan", "P1 v3 App", "Azure App Service Premium v3 Plan", "Microsoft.Web", "1 Hour", "0.146", 24),
    _Meter("Log Analytics", "Pay-as-you-go", "Data Ingestion", "Log Analytics", "Microsoft.OperationalInsights", "1 GB", "2.76", 6),
    _Meter("Key Vault", "Standard", "Operations", "Key Vault", "Microsoft.KeyVault", "10K", "0.03", 40),
)  # fmt: skip


@dataclass(frozen=True)
class _Subscription:
    id: str
    name: str
    customer: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class _Sample:
    """The arguments, checked, and what follows from them."""

    first: str
    last: str
    lines: int
    seed: int
    subscriptions: tuple[_Subscription, ...]

    @property
    def partner(self) -> str:
        return self.id("partner")

    def id(self, *parts: object) -> str:
        """An id that depends only on the seed and the parts."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.seed} {parts}"))


def partner_tenant(seed: int = 7) -> str:
    """The partner tenant of the sample with this seed."""
    return _Sample("", "", 0, seed, ()).partner


def write_csp(
    folder: Path, *, months: Sequence[str], subscriptions: int = 6, lines: int = 4_000, seed: int = 7
) -> list[Path]:
    """Write sample months of a partner's billed exports.

    A month goes to ``<folder>/azure/csp/<partner tenant>/<YYYY-MM>/``. Each export's manifest is removed first and
    written last, so a killed run leaves nothing that looks complete.

    Args:
        folder: the root of the tree; created if missing.
        months: the months as YYYY-MM. The earliest has the reservation's purchase, the latest the credit.
        subscriptions: the number of subscriptions of the three customers; at least 3.
        lines: daily usage lines per month.
        seed: another seed gives another partner of the same shape.

    Returns:
        Every file written, by month: the blob of each export, then its manifest.

    Raises:
        OctoError: an argument is out of range, or the folder cannot be written.
    """
    sample = _checked(months, subscriptions, lines, seed)
    written: list[Path] = []
    for month in sorted(months):
        try:
            written += _write_month(sample, month, folder / "azure" / "csp" / sample.partner / month)
        except OSError as error:
            raise OctoError(
                f"The sample of {month} cannot be written to {folder}: {error}", code="sample-not-writable"
            ) from error
    return written


def _checked(months: Sequence[str], subscriptions: int, lines: int, seed: int) -> _Sample:
    require_months(months)
    if subscriptions < len(_CUSTOMERS):
        raise OctoError(
            f"A sample of {subscriptions} subscriptions is too small; give at least {len(_CUSTOMERS)}.",
            code="sample-settings-wrong",
        )
    if lines < _MIN_LINES:
        raise OctoError(
            f"A sample of {lines} usage lines a month is too small; give at least {_MIN_LINES}.",
            code="sample-settings-wrong",
        )
    bare = _Sample(min(months), max(months), lines, seed, ())
    made = tuple(_subscription(bare, number) for number in range(subscriptions))
    return _Sample(bare.first, bare.last, lines, seed, made)


def _subscription(sample: _Sample, number: int) -> _Subscription:
    draw = random.Random(f"{sample.seed} subscription {number}")  # noqa: S311
    team, environment = _TEAMS[number % len(_TEAMS)], draw.choice(_ENVIRONMENTS)
    tags = {"team": team, "environment": environment, "cost-center": str(draw.randrange(1000, 9999))}
    return _Subscription(sample.id("subscription", number), f"{team}-{environment}", number % len(_CUSTOMERS), tags)


def _write_month(sample: _Sample, month: str, folder: Path) -> list[Path]:
    draw = random.Random(f"{sample.seed} {month}")  # noqa: S311
    invoice = f"G{int(hashlib.sha256(f'{sample.seed} {month}'.encode()).hexdigest()[:8], 16) % 10**9:09d}"
    usage = [_usage(sample, draw, month, invoice) for _ in range(sample.lines)]
    reconciliation = [*_repeated(usage), *_purchases(sample, month, invoice)]
    return [
        *_write_export(sample, folder / f"usage-billed-{invoice}", month, usage),
        *_write_export(sample, folder / f"reconciliation-billed-{invoice}", month, reconciliation),
    ]


def _customer(sample: _Sample, number: int) -> dict[str, object]:
    name = _CUSTOMERS[number]
    return {
        "PartnerId": sample.partner,
        "PartnerName": "Octo Sample Partner",
        "CustomerId": sample.id("customer", number),
        "CustomerName": name,
        "CustomerDomainName": f"{name.split()[0].lower()}.example",
        "CustomerCountry": "GB",
        "MpnId": "1234567",
    }


def _usage(sample: _Sample, draw: random.Random, month: str, invoice: str) -> dict[str, object]:
    subscription = draw.choice(sample.subscriptions)
    meter = draw.choice(_METERS)
    location, region = draw.choice(_REGIONS)
    days = calendar.monthrange(int(month[:4]), int(month[5:]))[1]
    day = f"{month}-{draw.randint(1, days):02d}T00:00:00Z"
    quantity = Decimal(draw.randint(1, meter.most * 10**6)).scaleb(-6)
    covered = meter.category == "Virtual Machines" and draw.random() < _COVERED
    price = Decimal(meter.price)
    effective = Decimal(0) if covered else price * Decimal("0.85")
    pricing = (quantity * effective).quantize(_PLACES, ROUND_HALF_EVEN)
    resource = f"{subscription.name}-{meter.service.split('.')[1].lower()}-{draw.randint(1, 9)}"
    group = f"rg-{subscription.tags['team']}"
    return {
        **_customer(sample, subscription.customer),
        "InvoiceNumber": invoice,
        "ProductId": "DZH318Z0BPS6",
        "SkuId": sample.id("sku", meter.name)[:4].upper(),
        "SkuName": f"{meter.product} - {meter.name} - {region}",
        "ProductName": meter.product,
        "PublisherName": "Microsoft",
        "SubscriptionDescription": "Azure plan",
        "SubscriptionId": sample.id("plan", subscription.customer),
        "ChargeStartDate": f"{month}-01T00:00:00Z",
        "ChargeEndDate": f"{month}-{days:02d}T00:00:00Z",
        "UsageDate": day,
        "MeterType": f"{meter.unit} - {meter.name}",
        "MeterCategory": meter.category,
        "MeterId": sample.id("meter", meter.name),
        "MeterSubCategory": meter.sub_category,
        "MeterName": meter.name,
        "MeterRegion": region,
        "Unit": meter.unit,
        "ResourceLocation": location,
        "ConsumedService": meter.service,
        "ResourceGroup": group,
        "ResourceURI": f"/subscriptions/{subscription.id}/resourceGroups/{group}/providers/{meter.service}/{resource}",
        "ChargeType": "New",
        "UnitPrice": price,
        "Quantity": quantity,
        "UnitType": meter.unit,
        "BillingPreTaxTotal": (pricing * _EXCHANGE_RATE).quantize(_PLACES, ROUND_HALF_EVEN),
        "BillingCurrency": CURRENCY,
        "PricingPreTaxTotal": pricing,
        "PricingCurrency": "USD",
        "Tags": json.dumps({**subscription.tags, "name": resource}, separators=(",", ":")),
        "AdditionalInfo": json.dumps({"UsageType": meter.name}) if draw.random() < 0.5 else "",
        "EffectiveUnitPrice": effective,
        "PCToBCExchangeRate": _EXCHANGE_RATE,
        "PCToBCExchangeRateDate": f"{month}-01T00:00:00Z",
        "EntitlementId": subscription.id,
        "EntitlementDescription": subscription.name,
        "PartnerEarnedCreditPercentage": 15,
        "BenefitOrderId": sample.id("reservation order") if covered else None,
        "BenefitId": sample.id("reservation") if covered else None,
        "BenefitType": "Reservation" if covered else None,
    }


def _repeated(usage: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
    """The usage as the reconciliation has it: summed by customer and meter, and rounded down."""
    kept = (
        "PartnerId", "CustomerId", "CustomerName", "CustomerDomainName", "CustomerCountry", "InvoiceNumber", "MpnId",
        "ProductId", "SkuId", "SkuName", "ProductName", "PublisherName", "SubscriptionDescription", "SubscriptionId",
        "ChargeType", "ChargeStartDate", "ChargeEndDate", "UnitType", "MeterType",
    )  # fmt: skip
    sums: dict[tuple[object, ...], Decimal] = defaultdict(Decimal)
    for line in usage:
        sums[tuple(line[name] for name in kept)] += Decimal(str(line["BillingPreTaxTotal"]))
    lines = []
    for values, total in sums.items():
        line = dict(zip(kept, values, strict=True))
        line["MeterDescription"] = line.pop("MeterType")
        lines.append(line | _amounts(total.quantize(Decimal("0.01"), ROUND_DOWN)))
    return lines


def _purchases(sample: _Sample, month: str, invoice: str) -> list[dict[str, object]]:
    plan = {"TermAndBillingCycle": "1 Year Commitment for monthly billing", "SubscriptionId": sample.id("savings plan")}
    lines = [_purchase(sample, month, invoice, 0, "Azure savings plan for compute", "cycleCharge", "412.50", plan)]
    if month == sample.first:
        order = {
            "TermAndBillingCycle": "1 Year Commitment for all upfront billing",
            "ReservationOrderId": sample.id("reservation order"),
        }
        lines.append(_purchase(sample, month, invoice, 1, "Reserved VM Instance", "New", "7321.48", order))
        licences = {"TermAndBillingCycle": "1 Year Commitment for yearly billing", "Quantity": 25}
        lines.append(_purchase(sample, month, invoice, 2, "Windows Server Remote Desktop", "New", "1875.00", licences))
    if month == sample.last:
        reason = {"CreditReasonCode": "Service credit"}
        lines.append(_purchase(sample, month, invoice, 0, "Azure plan", "customerCredit", "-118.27", reason))
    return lines


def _purchase(
    sample: _Sample,
    month: str,
    invoice: str,
    customer: int,
    product: str,
    charge_type: str,
    amount: str,
    more: Mapping[str, object],
) -> dict[str, object]:
    return {
        **_customer(sample, customer),
        "InvoiceNumber": invoice,
        "OrderDate": f"{month}-01T00:00:00Z",
        "ProductName": product,
        "SkuName": product,
        "ChargeType": charge_type,
        "SubscriptionDescription": product,
        "ChargeStartDate": f"{month}-01T00:00:00Z",
        "Quantity": 1,
        **_amounts(Decimal(amount)),
        **more,
    }


def _amounts(subtotal: Decimal) -> dict[str, object]:
    tax = (subtotal * Decimal("0.2")).quantize(Decimal("0.01"), ROUND_HALF_EVEN)
    return {"Subtotal": subtotal, "TaxTotal": tax, "Total": subtotal + tax, "Currency": CURRENCY}


def _write_export(sample: _Sample, folder: Path, month: str, lines: Sequence[Mapping[str, object]]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    path, blob = folder / "manifest.json", folder / "part-00000.json.gz"
    path.unlink(missing_ok=True)
    content = "".join(_line(line) for line in lines).encode()
    blob.write_bytes(gzip.compress(content, compresslevel=6, mtime=0))
    manifest = {
        "id": sample.id("manifest", month, folder.name),
        "schemaVersion": "2",
        "dataFormat": "compressedJSONLines",
        "createdDateTime": f"{month}-28T00:00:00Z",
        "eTag": hashlib.sha256(content).hexdigest()[:16],
        "partnerTenantId": sample.partner,
        "rootDirectory": "https://sample.invalid/billing",
        "partitionType": "default",
        "blobCount": 1,
        "blobs": [{"name": blob.name, "partitionValue": "default"}],
    }
    path.write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    return [blob, path]


def _line(line: Mapping[str, object]) -> str:
    """A line of JSON in which decimals are numbers with all of their digits."""
    marked = {name: f"\x00{value:f}\x00" if isinstance(value, Decimal) else value for name, value in line.items()}
    return re.sub(r'"\\u0000([-0-9.]+)\\u0000"', r"\1", json.dumps(marked)) + "\n"
