"""Writes months of a legacy AWS Cost and Usage Report (CUR) that tell the story the shipped allocators use.

What belongs here: the synthetic organisation, its services and commitments, and the files and manifest as AWS
delivers them. What does not: reading a report (`octo_pipeline.vendors`) and any allocation rule.

The organisation is one payer with a platform (EKS) account, product teams, a data platform and a sandbox.
A month has, besides its usage lines:

- enterprise support on the payer (a tiered share of the month's usage) with its tax, and tax on the EC2 usage
  of each account;
- Reserved Instances and Savings Plans that the payer owns and the product teams use. For each reservation,
  Σ effective cost used + unused = RI fee + amortised upfront fee; for each plan, Σ effective cost used +
  unused = recurring fee. Each line that a plan covers has its negation;
- a programme credit, the enterprise discount of each account and a bundled discount;
- in the first month a yearly marketplace fee, the reservations' upfront fees and a domain renewal that no
  shipped allocator takes; in the last month a refund.

How it is made: DuckDB draws everything from hashes of (position, what is drawn, seed), so the same arguments
give the same rows, and streams it to the files. A resource is billed for a day's worth of hours on end, so
hourly lines fold into daily ones about as they do in a real report; a quarter of the resources is replaced
every month. Costs are whole numbers of 10⁻¹⁰ USD (quantity times rate) until they are written, so the sums
above hold to the last place.

Known drawbacks: rows depend on DuckDB's hash function, which a new DuckDB may change; below about 20,000
lines a covered line stands for several instance hours; of the prices only the order of size is real.
"""

import calendar
import gzip
import json
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, month_index, parse_month
from octo_pipeline.model.sql import identifier, literal

PAYER = "999988887777"  # the management account: owns the commitments, pays the shared fees
PLATFORM = "111122223333"  # runs the shared EKS clusters
DATA_PLATFORM = "222233334444"
SANDBOX = "333344445555"
_FIRST_TEAM = 400000000001  # product teams are numbered from here, so "4000…" is all of them

REPORT_NAME = "octo-sample"
_PREFIX = "cur"
_BUCKET = "octo-sample-cur"

Format = Literal["parquet", "csv.gz"]
_SUFFIXES: dict[str, str] = {"parquet": "snappy.parquet", "csv.gz": "csv.gz"}
_COMPRESSION: dict[str, str] = {"parquet": "Parquet", "csv.gz": "GZIP"}
_CONTENT_TYPES: dict[str, str] = {"parquet": "Parquet", "csv.gz": "text/csv"}

_MIN_ACCOUNTS = 3  # payer, platform, one product team
_MIN_LINES = 100
_LINES_PER_RESOURCE = 24
_COVERED_PERCENT = 15  # share of the usage lines that a reservation or a Savings Plan covers
_COVERED_INSTANCES = 25  # for each commitment
_SHORTEST_MONTH = 28 * 24
_HOUR = 10**4  # instance hours are counted in this part of an hour
_PARTS = 10**10  # a cost is a whole number of this part of a USD

# Names as in the CSV header; `_Column.athena_name` gives the Parquet spelling.
_LAYOUT: dict[str, str] = {
    "identity": "LineItemId TimeInterval",
    "bill": "InvoiceId BillingEntity BillType PayerAccountId BillingPeriodStartDate BillingPeriodEndDate",
    "lineItem": (
        "UsageAccountId LineItemType UsageStartDate UsageEndDate ProductCode UsageType Operation"
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


class _Column(NamedTuple):
    category: str
    name: str

    @property
    def header(self) -> str:
        return f"{self.category}/{self.name}"

    @property
    def athena_name(self) -> str:
        return _athena_name(self.category) + "_" + _athena_name(self.name)

    @property
    def manifest_type(self) -> str:
        if self.name.endswith("Date") and self.category in ("bill", "lineItem"):
            return "DateTime"
        return "OptionalBigDecimal" if _NUMBERS.search(self.name) else "OptionalString"

    @property
    def sql_type(self) -> str:
        return _SQL_TYPES[self.manifest_type]


def _athena_name(name: str) -> str:
    """AWS puts an underscore before every capital, hence reservation_a_r_n."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).replace(":", "_").lower()


_COLUMNS = tuple(_Column(category, name) for category, names in _LAYOUT.items() for name in names.split())

_MARKETPLACE_CODE = "octosampleobservability00"  # marketplace products have opaque codes
_PRODUCT_NAMES = {
    "AmazonEC2": "Amazon Elastic Compute Cloud",
    "AmazonRDS": "Amazon Relational Database Service",
    "AmazonS3": "Amazon Simple Storage Service",
    "AmazonEKS": "Amazon Elastic Container Service for Kubernetes",
    "AmazonECS": "Amazon Elastic Container Service",
    "AmazonECR": "Amazon EC2 Container Registry (ECR)",
    "AWSLambda": "AWS Lambda",
    "AWSELB": "Elastic Load Balancing",
    "AmazonCloudFront": "Amazon CloudFront",
    "AmazonDynamoDB": "Amazon DynamoDB",
    "AmazonElastiCache": "Amazon ElastiCache",
    "AmazonRedshift": "Amazon Redshift",
    "AWSGlue": "AWS Glue",
    "AmazonAthena": "Amazon Athena",
    "ElasticMapReduce": "Amazon Elastic MapReduce",
    "AmazonKinesis": "Amazon Kinesis",
    "AmazonMSK": "Amazon Managed Streaming for Apache Kafka",
    "AmazonES": "Amazon OpenSearch Service",
    "AmazonSageMaker": "Amazon SageMaker",
    "AmazonCloudWatch": "AmazonCloudWatch",
    "AWSQueueService": "Amazon Simple Queue Service",
    "AmazonSNS": "Amazon Simple Notification Service",
    "AmazonApiGateway": "Amazon API Gateway",
    "AmazonRoute53": "Amazon Route 53",
    "AmazonEFS": "Amazon Elastic File System",
    "awskms": "AWS Key Management Service",
    "AWSSecretsManager": "AWS Secrets Manager",
    "AWSCloudTrail": "AWS CloudTrail",
    "AWSConfig": "AWS Config",
    "AmazonGuardDuty": "Amazon GuardDuty",
    "AWSSupportEnterprise": "AWS Support (Enterprise)",
    "AmazonRegistrar": "Amazon Registrar",
    _MARKETPLACE_CODE: "Observability suite",
}


class _Charge(NamedTuple):
    """One priced usage of a service. Kinds and operations are words; a kind with {type} is priced by size."""

    code: str
    weight: int
    unit: str
    decimals: int  # of the amount; the rate has the others of ten, so that amount times rate has ten
    low_rate: str
    high_rate: str
    low_amount: int
    high_amount: int
    kinds: str
    operations: str


# fmt: off
_CHARGES = (
    _Charge("AmazonEC2", 44, "Hrs", 4, "0.06", "0.22", 1, 1,
            "BoxUsage:{type}", "RunInstances RunInstances:0002"),
    _Charge("AmazonEC2", 14, "GB-Mo", 4, "0.08", "0.149", 1, 40,
            "EBS:VolumeUsage.gp2 EBS:VolumeUsage.gp3 EBS:SnapshotUsage", "CreateVolume-Gp3 CreateSnapshot"),
    _Charge("AmazonEC2", 10, "GB", 4, "0.01", "0.09", 1, 400,
            "DataTransfer-Out-Bytes DataTransfer-Regional-Bytes", "RunInstances InterZone-Out"),
    _Charge("AmazonEC2", 5, "Hrs", 4, "0.045", "0.062", 1, 1,
            "NatGateway-Hours VpcEndpoint-Hours", "NatGateway VpcEndpoint"),
    _Charge("AmazonRDS", 16, "Hrs", 4, "0.09", "0.29", 1, 1,
            "InstanceUsage:db.{type} Multi-AZUsage:db.{type}", "CreateDBInstance:0014 CreateDBInstance:0002"),
    _Charge("AmazonRDS", 5, "GB-Mo", 4, "0.1", "0.25", 1, 60,
            "RDS:GP3-Storage Aurora:StorageUsage", "CreateDBInstance"),
    _Charge("AmazonS3", 16, "GB-Mo", 4, "0.004", "0.025", 5, 900,
            "TimedStorage-ByteHrs TimedStorage-INT-FA-ByteHrs TimedStorage-GlacierStaging",
            "StandardStorage IntelligentTieringFAStorage GlacierStagingStorage"),
    _Charge("AmazonS3", 12, "Requests", 0, "0.0000004", "0.0000055", 50, 2_000_000,
            "Requests-Tier1 Requests-Tier2", "PutObject GetObject ListBucket HeadObject"),
    _Charge("AmazonEKS", 10, "hours", 4, "0.1", "0.1", 1, 1, "AmazonEKS-Hours:perCluster", "CreateOperation"),
    _Charge("AmazonEKS", 12, "vCPU-Hours", 4, "0.04", "0.06", 2, 64,
            "Fargate-vCPU-Hours:perCPU Fargate-GB-Hours", "FargatePod"),
    _Charge("AmazonECS", 6, "hours", 4, "0.04", "0.06", 1, 96,
            "Fargate-vCPU-Hours:perCPU Fargate-GB-Hours", "FargateTask"),
    _Charge("AmazonECR", 2, "GB-Mo", 4, "0.1", "0.1", 1, 20, "TimedStorage-ByteHrs", "CreateRepository"),
    _Charge("AWSLambda", 8, "Lambda-GB-Second", 0, "0.0000133334", "0.0000166667", 1000, 900_000,
            "Lambda-GB-Second Lambda-GB-Second-ARM", "Invoke"),
    _Charge("AWSELB", 8, "Hrs", 4, "0.0225", "0.028", 1, 1,
            "LoadBalancerUsage LCUUsage", "LoadBalancing:Application LoadBalancing:Network"),
    _Charge("AmazonCloudFront", 5, "GB", 4, "0.06", "0.12", 1, 300,
            "DataTransfer-Out-Bytes Requests-HTTPS-Proxy", "GET HEAD"),
    _Charge("AmazonDynamoDB", 6, "ReadRequestUnits", 0, "0.00000025", "0.00000125", 1000, 9_000_000,
            "ReadRequestUnits WriteRequestUnits", "PayPerRequestThroughput CommittedThroughput"),
    _Charge("AmazonElastiCache", 6, "Hrs", 4, "0.07", "0.16", 1, 1,
            "NodeUsage:cache.{type}", "CreateCacheCluster:0002 CreateCacheCluster:0001"),
    _Charge("AmazonRedshift", 3, "Hrs", 4, "1.086", "3.26", 1, 4,
            "Node:ra3.xlplus Node:ra3.4xlarge", "RunComputeNode:0001"),
    _Charge("AWSGlue", 4, "DPU-Hour", 4, "0.29", "0.44", 1, 40,
            "ETL-DPU-Hour ETL-Flex-DPU-Hour Crawler-DPU-Hour", "Jobrun CrawlerRun"),
    _Charge("AmazonAthena", 3, "Terabytes", 4, "5", "5", 1, 4, "DataScannedInTB", "PRESTO_QUERY"),
    _Charge("ElasticMapReduce", 3, "Hrs", 4, "0.02", "0.05", 1, 1, "BoxUsage:{type}", "RunInstances"),
    _Charge("AmazonKinesis", 3, "ShardHour", 4, "0.015", "0.0195", 1, 60,
            "Storage-ShardHour Extended-ShardHour", "shardHourStorage"),
    _Charge("AmazonMSK", 2, "hours", 4, "0.1", "0.24", 1, 1, "Kafka.{type}", "RunBroker"),
    _Charge("AmazonES", 4, "Hrs", 4, "0.08", "0.19", 1, 1, "ESInstance:{type}", "ESDomain"),
    _Charge("AmazonSageMaker", 3, "Hrs", 4, "0.11", "0.27", 1, 1,
            "Train:ml.{type} Host:ml.{type} Notebk:ml.{type}", "RunInstance"),
    _Charge("AmazonCloudWatch", 8, "GB", 4, "0.5", "0.76", 1, 12,
            "DataProcessing-Bytes VendedLog-Bytes", "PutLogEvents HourlyStorageMetering"),
    _Charge("AWSQueueService", 4, "Requests", 0, "0.0000004", "0.0000005", 100, 3_000_000,
            "Requests-RBP Requests-FIFO-RBP", "SendMessage ReceiveMessage"),
    _Charge("AmazonSNS", 2, "Requests", 0, "0.0000005", "0.0000006", 100, 900_000,
            "Requests-Tier1 DeliveryAttempts-HTTP", "Publish"),
    _Charge("AmazonApiGateway", 3, "Requests", 0, "0.000001", "0.0000035", 100, 900_000,
            "ApiGatewayRequest ApiGatewayHttpRequest", "ApiGatewayRequest"),
    _Charge("AmazonRoute53", 2, "Queries", 0, "0.0000004", "0.0000007", 100, 2_000_000,
            "DNS-Queries Intra-AWS-DNS-Queries", "A CNAME"),
    _Charge("AmazonEFS", 3, "GB-Mo", 4, "0.16", "0.33", 1, 30,
            "TimedStorage-ByteHrs IATimedStorage-ByteHrs", ""),
    _Charge("awskms", 3, "Requests", 0, "0.000003", "0.000003", 10, 200_000,
            "KMS-Requests", "Decrypt GenerateDataKey"),
    _Charge("AWSSecretsManager", 2, "Secrets", 4, "0.4", "0.4", 1, 8, "AWSSecretsManager-Secrets", ""),
    _Charge("AWSCloudTrail", 1, "Events", 0, "0.000001", "0.00002", 1000, 900_000,
            "PaidEventsRecorded DataEventsRecorded", "None"),
    _Charge("AWSConfig", 1, "ConfigurationItemRecorded", 0, "0.003", "0.003", 10, 900,
            "ConfigurationItemRecorded", "None"),
    _Charge("AmazonGuardDuty", 1, "Events", 0, "0.000004", "0.000007", 1000, 900_000,
            "PaidEventsAnalyzed", "None"),
)
# fmt: on

_CONTAINER_CODES = ("AmazonEC2", "AmazonEKS", "AmazonECR", "AWSELB")
_DATA_CODES = ("AmazonS3", "AmazonRedshift", "AWSGlue", "AmazonAthena", "ElasticMapReduce", "AmazonEC2")
_GOVERNANCE_CODES = ("AWSCloudTrail", "AWSConfig", "AmazonGuardDuty")
_CODES_OF_ROLE = {PLATFORM: _CONTAINER_CODES, DATA_PLATFORM: _DATA_CODES, PAYER: _GOVERNANCE_CODES}

# Parts of 10,000 resources; the product teams have the rest.
_SHARE_OF_ROLE = {PAYER: 300, PLATFORM: 1400, DATA_PLATFORM: 1200, SANDBOX: 200}

_REGIONS = (
    ("us-east-1", "USE1-", "US East (N. Virginia)", 8),
    ("us-west-2", "USW2-", "US West (Oregon)", 4),
    ("eu-west-1", "EUW1-", "EU (Ireland)", 3),
    ("eu-central-1", "EUC1-", "EU (Frankfurt)", 2),
    ("ap-northeast-1", "APN1-", "Asia Pacific (Tokyo)", 2),
    ("ap-southeast-1", "APS1-", "Asia Pacific (Singapore)", 1),
    ("ap-southeast-2", "APS2-", "Asia Pacific (Sydney)", 1),
    ("sa-east-1", "SAE1-", "South America (Sao Paulo)", 1),
)
_FAMILIES = (
    "m5", "m5a", "m5d", "m6i", "m6a", "m6g", "m7i", "m7g", "c5", "c5a", "c5n", "c6i", "c6a", "c6g", "c7i",
    "c7g", "r5", "r5a", "r5d", "r6i", "r6a", "r6g", "r7i", "r7g", "i3en", "i4i", "x2idn", "g5", "p3", "inf2",
)  # fmt: skip
_SIZES = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge", "24xlarge")
_SIZE_FACTORS = (1, 2, 4, 8, 16, 24, 32, 48)
_TEAMS = (
    "payments", "search", "checkout", "identity", "mobile", "catalogue", "fulfilment", "growth", "messaging",
    "pricing", "support", "reporting",
)  # fmt: skip
_ENVIRONMENTS = ("prod", "prod", "prod", "staging", "dev")

# Type, on-demand rate in 10⁻⁶ USD an hour, normalisation factor. The discounts below leave whole numbers.
_COMMITTED_TYPES = (
    ("m5.2xlarge", 384_000, 16),
    ("c5.4xlarge", 680_000, 32),
    ("r5.2xlarge", 504_000, 16),
    ("m6i.4xlarge", 768_000, 32),
    ("c6g.4xlarge", 544_000, 32),
    ("r6g.2xlarge", 403_200, 16),
)
_RESERVED_PERCENT = 30  # of the on-demand rate: this much by the hour, as much again upfront
_SAVINGS_PLAN_PERCENT = 72
_TERM_YEARS = 1

# Usage above, up to (both in cents), percent.
_SUPPORT_TIERS = (
    (0, 15_000_000, 10),
    (15_000_000, 50_000_000, 7),
    (50_000_000, 100_000_000, 5),
    (100_000_000, 10**15, 3),
)
_CREDIT_PERCENT = 2
_TAX_PERCENT = 10
_DISCOUNT_PERCENT = 3
_YEARLY_FEE_CENTS = 1_200_000
_RENEWAL_CENTS = 1_300
_BUNDLED_DISCOUNT_CENTS = -4_250
_REFUND_CENTS = -34_815


@dataclass(frozen=True)
class _Sample:
    """The arguments, checked, and what follows from them."""

    first: str
    last: str
    accounts: int
    lines: int
    seed: int
    format: Format
    files: int

    @property
    def teams(self) -> int:
        return self.accounts - 1 - len(self.roles)

    @property
    def roles(self) -> tuple[str, ...]:
        """The linked accounts with a role, as far as the number of accounts allows beside one team."""
        return (PLATFORM, DATA_PLATFORM, SANDBOX)[: self.accounts - 2]

    @property
    def covered(self) -> int:
        return self.lines * _COVERED_PERCENT // 100

    @property
    def reservations(self) -> int:
        """How many reservations there are, and how many Savings Plans."""
        return 2 + self.lines // 400_000

    @property
    def commitments(self) -> int:
        return 2 * self.reservations

    @property
    def on_demand(self) -> int:
        return self.lines - self.covered

    @property
    def lines_of_commitment(self) -> int:
        """At most so many lines share what a commitment promises."""
        return -(-self.covered // self.commitments)

    @property
    def instances_of_commitment(self) -> int:
        """Enough that even in the shortest month there is at most a line an hour for each of them."""
        return max(4, -(-self.lines_of_commitment // _SHORTEST_MONTH))

    @property
    def resources(self) -> int:
        return max(1, self.on_demand // _LINES_PER_RESOURCE)

    def assembly_id(self, month: str) -> str:
        """The same for the same rows: two different samples of a month are two deliveries."""
        story = (self.first, month == self.last)
        size = (self.accounts, self.lines, self.seed, self.format, self.files)
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{REPORT_NAME}/{month}/{story}/{size}"))


def write_cur(
    folder: Path,
    *,
    months: Sequence[str],
    accounts: int = 12,
    lines: int = 20_000,
    seed: int = 7,
    format: Format = "parquet",
    files: int = 1,
) -> list[Path]:
    """Write sample reports, laid out as AWS does with OVERWRITE_REPORT, and their manifests.

    A month goes to ``<folder>/aws/cur/octo-sample/YYYYMMDD-YYYYMMDD/``. Its manifest is removed first and
    written last, so a killed run leaves no delivery. The same arguments give the same assemblyId and in each
    file the same rows; their order may change where several threads write (some 3 million lines and more).

    Args:
        folder: Where the tree begins; made if missing.
        months: The months as YYYY-MM. The earliest has the yearly and upfront fees, the latest the refund.
        accounts: How many accounts there are, the payer included; at least 3.
        lines: Usage lines a month (Usage, DiscountedUsage and SavingsPlanCoveredUsage together); negations,
            fees, taxes and credits come on top.
        seed: Another seed gives another organisation of the same shape.
        format: ``parquet`` (snappy, Athena column names) or ``csv.gz`` (``lineItem/UnblendedCost`` headers).
        files: How many data files a month has.

    Returns:
        Every file written, by month: the data files in the manifest's order, then the manifest.

    Raises:
        OctoError: an argument is out of range, or the folder cannot be written.
    """
    sample = _checked(months, accounts, lines, seed, format, files)
    written: list[Path] = []
    with duckdb.connect() as con:
        _create_organisation(con, sample)
        for month in sorted(months):
            try:
                written += _write_month(con, sample, month, folder)
            except (OSError, duckdb.IOException) as error:
                raise OctoError(
                    f"The sample of {month} cannot be written to {folder}: {error}", code="sample-not-writable"
                ) from error
    return written


def _checked(months: Sequence[str], accounts: int, lines: int, seed: int, format: Format, files: int) -> _Sample:
    if not months:
        raise OctoError(
            "A sample needs at least one month; give it as YYYY-MM, for example 2024-01.", code="sample-settings-wrong"
        )
    for month in months:
        parse_month(month)
    if len(set(months)) != len(months):
        raise OctoError(
            f"A sample writes each month once; the months are {', '.join(months)}: remove the repeated one.",
            code="sample-settings-wrong",
        )
    if accounts < _MIN_ACCOUNTS:
        raise OctoError(
            f"A sample of {accounts} accounts is too small; give at least {_MIN_ACCOUNTS}:"
            " the payer, the platform account and one product team.",
            code="sample-settings-wrong",
        )
    if lines < _MIN_LINES:
        raise OctoError(
            f"A sample of {lines} usage lines a month is too small; give at least {_MIN_LINES}.",
            code="sample-settings-wrong",
        )
    if not 1 <= files <= lines:
        raise OctoError(
            f"A month cannot be written to {files} files; give 1 up to the number of lines, {lines}.",
            code="sample-settings-wrong",
        )
    if format not in _SUFFIXES:
        raise OctoError(
            f"{format!r} is not a format of the sample; give one of {', '.join(_SUFFIXES)}.",
            code="sample-settings-wrong",
        )
    return _Sample(min(months), max(months), accounts, lines, seed, format, files)


# ----------------------------------------------------------------------------------------------------
# The organisation: tables that hold for every month
# ----------------------------------------------------------------------------------------------------


def _create_organisation(con: duckdb.DuckDBPyConnection, sample: _Sample) -> None:
    # hash() joins its arguments by XOR: draws of one key would move together without a second round.
    con.execute(f"CREATE TEMP MACRO draw(key, what) AS (hash(hash(key, what, '{sample.seed}')) >> 1)::BIGINT")
    con.execute("CREATE TEMP MACRO pick(list, key, what) AS list[1 + draw(key, what) % len(list)]")
    con.execute("CREATE TEMP MACRO unit(key, what) AS (draw(key, what) % 1000000) / 1e6")
    con.execute("CREATE TEMP MACRO money(parts) AS parts / 1e10")
    con.execute("CREATE TEMP MACRO rate_text(micros) AS printf('%d.%06d0000', micros // 1000000, micros % 1000000)")
    con.execute(_products_sql())
    con.execute(_charges_sql())
    con.execute(_regions_sql())
    con.execute(_commitments_sql(sample))
    con.execute(_instances_sql(sample))


def _list(values: Sequence[str] | Sequence[int]) -> str:
    return "[" + ", ".join(literal(v) if isinstance(v, str) else str(v) for v in values) + "]"


def _products_sql() -> str:
    rows = ", ".join(f"({literal(code)}, {literal(name)})" for code, name in _PRODUCT_NAMES.items())
    return f"CREATE TEMP TABLE products AS SELECT * FROM (VALUES {rows}) t(code, name)"


def _charges_sql() -> str:
    rows = ", ".join(_charge_row(index, charge) for index, charge in enumerate(_CHARGES))
    columns = "charge, code, unit, units, low_rate, high_rate, low_amount, high_amount, kinds, operations"
    return f"CREATE TEMP TABLE charges AS SELECT * FROM (VALUES {rows}) t({columns})"


def _charge_row(index: int, charge: _Charge) -> str:
    """Rates and amounts as whole numbers whose product is in 10⁻¹⁰ USD."""
    units = 10**charge.decimals
    texts = [literal(charge.code), literal(charge.unit)]
    rates = [f"({rate} * {_PARTS // units})::BIGINT" for rate in (charge.low_rate, charge.high_rate)]
    amounts = [f"{amount * units}" for amount in (charge.low_amount, charge.high_amount)]
    lists = [_list(words.split(" ")) for words in (charge.kinds, charge.operations)]
    return f"({', '.join([str(index), *texts, str(units), *rates, *amounts, *lists])})"


def _regions_sql() -> str:
    rows = ", ".join(
        f"({index}, {literal(region)}, {literal(prefix)}, {literal(location)})"
        for index, (region, prefix, location, _) in enumerate(_REGIONS)
    )
    return f"CREATE TEMP TABLE regions AS SELECT * FROM (VALUES {rows}) t(place, region, prefix, location)"


def _wheel(weights: Sequence[int]) -> str:
    """A list in which each index stands as often as it weighs."""
    return _list([index for index, weight in enumerate(weights) for _ in range(weight)])


def _team_account(sample: _Sample, key: str) -> str:
    """The square makes a few big teams and many small ones."""
    place = f"unit({key}, 'team')"
    return f"({_FIRST_TEAM} + floor({sample.teams} * {place} * {place})::BIGINT)::VARCHAR"


def _account(sample: _Sample, key: str) -> str:
    cases, below = [], 0
    for role in (PAYER, *sample.roles):
        below += _SHARE_OF_ROLE[role]
        cases.append(f"WHEN draw({key}, 'account') % 10000 < {below} THEN '{role}'")
    return f"CASE {' '.join(cases)} ELSE {_team_account(sample, key)} END"


def _charge_of_account(key: str) -> str:
    def pick(codes: Sequence[str]) -> str:
        return f"pick({_wheel([c.weight if c.code in codes else 0 for c in _CHARGES])}, {key}, 'charge')"

    cases = [f"WHEN '{role}' THEN {pick(codes)}" for role, codes in _CODES_OF_ROLE.items()]
    # Kubernetes runs on the platform account only: that is what its users share.
    everyone = [code for code in _PRODUCT_NAMES if code != "AmazonEKS"]
    return f"CASE account_id {' '.join(cases)} ELSE {pick(everyone)} END"


def _tags(sample: _Sample, key: str) -> str:
    """Product teams tag their own name, shared accounts the user's; one resource in eight has no tags."""
    teams = _list(_TEAMS[: sample.teams])
    own = f"{teams}[1 + (account_id::BIGINT - {_FIRST_TEAM}) % len({teams})]"
    return f"""
        draw({key}, 'tagged') % 8 > 0 AS is_tagged,
        CASE WHEN is_tagged THEN pick({_list(_ENVIRONMENTS)}, {key}, 'environment') END AS environment,
        CASE WHEN is_tagged AND account_id::BIGINT >= {_FIRST_TEAM} AND account_id <> '{PAYER}' THEN {own}
            WHEN is_tagged THEN pick({teams}, {key}, 'user') END AS team,
        CASE WHEN is_tagged THEN 'CC-' || (1000 + account_id::BIGINT % 97) END AS cost_center,
        lower(hex(draw({key}, 'serial'))) AS serial,
        team || '-' || environment || '-' || substr(serial, 1, 6) AS tag_name"""


def _resources_sql(sample: _Sample, month: str) -> str:
    """What is billed on demand; a quarter of it is replaced every month, so shares of usage move."""
    key = "resource_key"
    return f"""
    CREATE OR REPLACE TEMP TABLE resources AS
    WITH placed AS (
        SELECT
            range AS resource,
            CASE WHEN resource % 4 = 0 THEN resource + {month_index(month) * 10**9} ELSE resource END
                AS resource_key,
            {_account(sample, key)} AS account_id
        FROM range({sample.resources})
    ),
    drawn AS (
        SELECT
            *,
            {_charge_of_account(key)} AS charge,
            pick({_wheel([weight for *_, weight in _REGIONS])}, {key}, 'region') AS place,
            pick({_list(_FAMILIES)}, {key}, 'family') AS family,
            1 + draw({key}, 'size') % {len(_SIZES)} AS size,
            {_tags(sample, key)}
        FROM placed
    ),
    typed AS (
        SELECT
            *,
            pick(kinds, {key}, 'kind') AS kind,
            contains(kind, '{{type}}') AS is_sized,
            CASE WHEN is_sized THEN family || '.' || {_list(_SIZES)}[size] END AS instance_type,
            prefix || replace(kind, '{{type}}', coalesce(instance_type, '')) AS usage_type,
            CASE WHEN is_sized THEN {_list(_SIZE_FACTORS)}[size] ELSE 1 END AS factor
        FROM drawn JOIN charges USING (charge) JOIN products USING (code) JOIN regions USING (place)
    ),
    priced AS (
        SELECT
            *,
            unit(code || prefix || kind || CASE WHEN is_sized THEN family ELSE '' END, 'rate') AS level,
            factor * (low_rate + floor((high_rate - low_rate) * level)::BIGINT) AS rate,
            unit({key}, 'amount') AS size_of_use,
            low_amount + floor((high_amount - low_amount) * size_of_use * size_of_use)::BIGINT AS amount,
            rate * units AS rate_parts
        FROM typed
    )
    SELECT
        resource, account_id, code, name, unit, units, region, location, usage_type, instance_type, rate,
        amount,
        low_amount = high_amount AS is_by_the_hour,
        nullif(pick(operations, {key}, 'operation'), '') AS operation,
        printf('%d.%010d', rate_parts // {_PARTS}, rate_parts % {_PARTS}) AS rate_text,
        '$' || rtrim(rtrim(rate_text, '0'), '.') || ' per ' || unit || ' - ' || usage_type || ' in '
            || location AS description,
        upper(substr(md5(usage_type || code), 1, 16)) AS sku,
        CASE WHEN code = 'AmazonEC2' AND is_sized THEN 'i-0' || serial
            ELSE concat_ws(':', 'arn:aws', lower(code), region, account_id, serial) END AS resource_id,
        environment, team, cost_center, tag_name,
        draw({key}, 'first hour') % 1000 AS first_hour
    FROM priced
    """


def _commitments_sql(sample: _Sample) -> str:
    """The payer's reservations and Savings Plans; rates are in 10⁻⁶ USD an hour."""
    types, rates, factors = zip(*_COMMITTED_TYPES, strict=True)
    return f"""
    CREATE TEMP TABLE commitments AS
    SELECT
        range AS commitment,
        commitment < {sample.reservations} AS is_reserved,
        1 + commitment % {len(_COMMITTED_TYPES)} AS kind,
        {_list(types)}[kind] AS instance_type,
        {_list(factors)}[kind] AS factor,
        {_list(rates)}[kind]::BIGINT AS demand_rate,
        demand_rate * {_RESERVED_PERCENT} // 100 AS recurring_rate,
        demand_rate * {_RESERVED_PERCENT} // 100 AS upfront_rate,
        demand_rate * {_SAVINGS_PLAN_PERCENT} // 100 AS plan_rate,
        CASE WHEN commitment % 2 = 0 THEN 'standard' ELSE 'convertible' END AS offering_class,
        CASE WHEN is_reserved THEN 'arn:aws:ec2:us-east-1:{PAYER}:reserved-instances/'
            ELSE 'arn:aws:savingsplans::{PAYER}:savingsplan/' END
            || md5('{sample.seed}-' || commitment)::UUID AS arn,
        'USE1-BoxUsage:' || instance_type AS usage_type,
        upper(substr(md5(usage_type), 1, 16)) AS sku,
        {sample.instances_of_commitment} AS reservations,
        '{sample.first}-01T00:00:00.000Z' AS term_start,
        '{add_months(sample.first, 12 * _TERM_YEARS)}-01T00:00:00.000Z' AS term_end
    FROM range({sample.commitments})
    """


def _instances_sql(sample: _Sample) -> str:
    """The product teams' instances that the commitments cover."""
    return f"""
    CREATE TEMP TABLE instances AS
    SELECT
        instance,
        commitments.*,
        {_team_account(sample, "instance")} AS account_id,
        {_tags(sample, "instance")},
        'i-0' || serial AS resource_id
    FROM range({sample.commitments * _COVERED_INSTANCES}) instances(instance)
    JOIN commitments ON commitment = instance % {sample.commitments}
    """


# ----------------------------------------------------------------------------------------------------
# One month
# ----------------------------------------------------------------------------------------------------


def _write_month(con: duckdb.DuckDBPyConnection, sample: _Sample, month: str, folder: Path) -> list[Path]:
    target = folder / "aws" / _PREFIX / REPORT_NAME / _period(month)
    target.mkdir(parents=True, exist_ok=True)
    manifest = target / f"{REPORT_NAME}-Manifest.json"
    manifest.unlink(missing_ok=True)
    for former in target.glob(f"{REPORT_NAME}-[0-9]*"):
        former.unlink()
    _create_month(con, sample, month)
    data_files = [target / f"{REPORT_NAME}-{n:05d}.{_SUFFIXES[sample.format]}" for n in range(1, sample.files + 1)]
    for index, path in enumerate(data_files):
        _write_file(con, _rows_of_file(sample, month, index), path, sample.format)
    unfinished = target / f"{REPORT_NAME}-0-Manifest.json"
    unfinished.write_text(json.dumps(_manifest(sample, month, data_files), indent=2) + "\n", encoding="utf-8")
    unfinished.replace(manifest)
    return [*data_files, manifest]


def _period(month: str) -> str:
    return "-".join(f"{m.replace('-', '')}01" for m in (month, add_months(month, 1)))


def _create_month(con: duckdb.DuckDBPyConnection, sample: _Sample, month: str) -> None:
    con.execute(_hours_sql(month))
    con.execute(_resources_sql(sample, month))
    con.execute(_fulfilled_sql(sample, month))
    con.execute(_fees_sql(sample, month))


def _hours(month: str) -> int:
    return 24 * calendar.monthrange(int(month[:4]), int(month[5:]))[1]


def _hours_sql(month: str) -> str:
    stamp = "'%Y-%m-%dT%H:%M:%SZ'"
    return f"""
    CREATE OR REPLACE TEMP TABLE hours AS
    SELECT
        range AS hour,
        TIMESTAMP '{month}-01' + to_hours(range) AS start_time,
        start_time + to_hours(1) AS end_time,
        strftime(start_time, {stamp}) || '/' || strftime(end_time, {stamp}) AS time_interval
    FROM range({_hours(month)})
    """


def _usage_lines(sample: _Sample, month: str, start: int, stop: int) -> str:
    """The lines on demand of the resources from `start` to before `stop`, hour after hour for each.

    A cross join and not a range joined with resources: it runs on all threads and leaves the strings where
    they are (5 million lines to Parquet: 9 s instead of 17 s on two cores, and half the size), but it does
    not promise an order.
    """
    return f"""(
        SELECT
            run * {sample.resources} + resource AS i,
            resources.* EXCLUDE (amount),
            hours.*,
            CASE WHEN is_by_the_hour THEN amount
                ELSE amount * (7500 + draw(i, 'amount {month}') % 5000) // 10000 END AS quantity,
            quantity * rate AS cost
        FROM resources
        CROSS JOIN range({-(-sample.on_demand // sample.resources)}) runs(run)
        JOIN hours ON hour = (first_hour + run) % {_hours(month)}
        WHERE resource >= {start} AND resource < {stop} AND i < {sample.on_demand}
    )"""


def _covered_lines(sample: _Sample, month: str, start: int, stop: int) -> str:
    """Lines that a commitment covers, each with at most its part of what the commitment promises."""
    turn = f"(i // {sample.commitments} // {_LINES_PER_RESOURCE}) % {_COVERED_INSTANCES}"
    share = _promised(sample, month) // sample.lines_of_commitment
    return f"""(
        SELECT
            i,
            instances.*,
            hours.*,
            {share} * (7500 + draw(i, 'covered {month}') % 2500) // 10000 AS quantity
        FROM range({start}, {stop}) lines(i)
        JOIN instances ON instance = i % {sample.commitments} + {sample.commitments} * {turn}
        JOIN hours ON hour = i // {sample.commitments} % {_hours(month)}
    )"""


def _promised(sample: _Sample, month: str) -> int:
    """Instance hours of a commitment in the month, in parts of an hour."""
    return sample.instances_of_commitment * _hours(month) * _HOUR


def _fulfilled_sql(sample: _Sample, month: str) -> str:
    """What each commitment promised and what was used of it."""
    return f"""
    CREATE OR REPLACE TEMP TABLE fulfilled AS
    SELECT commitments.*, {_promised(sample, month)}::BIGINT AS promised, coalesce(used, 0)::BIGINT AS used
    FROM commitments
    LEFT JOIN (
        SELECT commitment, sum(quantity) AS used
        FROM {_covered_lines(sample, month, 0, sample.covered)}
        GROUP BY commitment
    ) USING (commitment)
    """


def _fees_sql(sample: _Sample, month: str) -> str:
    """Charges of the month that are neither usage nor a commitment's recurring fee, in cents."""
    upfront_hours = sample.instances_of_commitment * _TERM_YEARS * 365 * 24
    return f"""
    CREATE OR REPLACE TEMP TABLE fees AS
    WITH used AS (
        SELECT
            account_id,
            coalesce(sum(cost) FILTER (code = 'AmazonEC2'), 0) // {_PARTS // 100} AS compute_cents,
            sum(cost) // {_PARTS // 100} AS all_cents
        FROM {_usage_lines(sample, month, 0, sample.resources)}
        GROUP BY account_id
    ),
    total AS (SELECT sum(all_cents) AS total_cents, {_support_cents()} AS support_cents FROM used),
    charged(line_type, account_id, code, description, cents, arn) AS (
        SELECT 'Fee', '{PAYER}', 'AWSSupportEnterprise', 'AWS Enterprise Support Fee', support_cents, NULL
        FROM total
        UNION ALL
        SELECT 'Tax', '{PAYER}', 'AWSSupportEnterprise', 'Tax for product code AWSSupportEnterprise',
            support_cents * {_TAX_PERCENT} // 100, NULL
        FROM total
        UNION ALL
        SELECT 'Tax', account_id, 'AmazonEC2', 'Tax for product code AmazonEC2',
            compute_cents * {_TAX_PERCENT} // 100, NULL
        FROM used WHERE compute_cents > 0
        UNION ALL
        SELECT 'EdpDiscount', account_id, 'AmazonEC2', 'Enterprise discount program',
            -(compute_cents * {_DISCOUNT_PERCENT} // 100), NULL
        FROM used WHERE compute_cents > 0
        UNION ALL
        SELECT 'Credit', '{PAYER}', 'AmazonRedshift', 'PROMO: data migration programme credit',
            -(total_cents * {_CREDIT_PERCENT} // 100), NULL
        FROM total
        UNION ALL
        SELECT 'BundledDiscount', '{PLATFORM}', 'AmazonCloudFront', 'Bundled discount for CloudFront and WAF',
            {_BUNDLED_DISCOUNT_CENTS}, NULL
        UNION ALL
        SELECT 'Fee', '{PAYER}', '{_MARKETPLACE_CODE}', 'Observability suite, annual contract',
            {_YEARLY_FEE_CENTS}, NULL
        WHERE {month == sample.first}
        UNION ALL
        SELECT 'Fee', '{_FIRST_TEAM}', 'AmazonRegistrar', 'Renewal of example.com', {_RENEWAL_CENTS}, NULL
        WHERE {month == sample.first}
        UNION ALL
        SELECT 'Fee', '{PAYER}', 'AmazonEC2', 'Sign up charge for reserved instances',
            {upfront_hours} * upfront_rate // 10000, arn
        FROM commitments WHERE is_reserved AND {month == sample.first}
        UNION ALL
        SELECT 'Refund', '{_FIRST_TEAM}', 'AmazonS3',
            'Refund for AmazonS3 requests billed twice in {add_months(month, -1)}', {_REFUND_CENTS}, NULL
        WHERE {month == sample.last}
    )
    SELECT *, row_number() OVER (ORDER BY line_type, code, account_id, arn) AS position
    FROM charged JOIN products USING (code)
    """


def _support_cents() -> str:
    """The vendor's tiers, without its minimum, so that a small sample keeps the proportion."""
    tiers = [
        f"least(greatest(total_cents - {above}, 0), {upto - above}) * {percent}"
        for above, upto, percent in _SUPPORT_TIERS
    ]
    return f"({' + '.join(tiers)}) // 100"


# ----------------------------------------------------------------------------------------------------
# Rows as AWS writes them
# ----------------------------------------------------------------------------------------------------


_LINE = {
    "identity_time_interval": "time_interval",
    "line_item_usage_account_id": "account_id",
    "line_item_usage_start_date": "start_time",
    "line_item_usage_end_date": "end_time",
    "line_item_usage_type": "usage_type",
    "line_item_resource_id": "resource_id",
    "product_instance_type": "instance_type",
    "product_sku": "sku",
    "product_usagetype": "usage_type",
    "resource_tags_user_cost_center": "cost_center",
    "resource_tags_user_environment": "environment",
    "resource_tags_user_name": "tag_name",
    "resource_tags_user_team": "team",
}

_USAGE = _LINE | {
    "line_item_line_item_type": "'Usage'",
    "line_item_product_code": "code",
    "line_item_operation": "operation",
    "line_item_availability_zone": "CASE WHEN instance_type IS NOT NULL THEN region || 'a' END",
    "line_item_usage_amount": "quantity / units",
    "line_item_unblended_rate": "rate_text",
    "line_item_unblended_cost": "money(cost)",
    "line_item_blended_rate": "rate_text",
    "line_item_blended_cost": "money(cost)",
    "line_item_line_item_description": "description",
    "product_product_name": "name",
    "product_location": "location",
    "product_operating_system": "CASE WHEN starts_with(resource_id, 'i-') THEN 'Linux' END",
    "product_region": "region",
    "product_servicecode": "code",
    "pricing_public_on_demand_cost": "money(cost)",
    "pricing_public_on_demand_rate": "rate_text",
    "pricing_term": "'OnDemand'",
    "pricing_unit": "unit",
}

_COMMITTED = {
    "line_item_product_code": "'AmazonEC2'",
    "line_item_operation": "'RunInstances'",
    "line_item_normalization_factor": "factor",
    "product_product_name": "'Amazon Elastic Compute Cloud'",
    "product_location": "'US East (N. Virginia)'",
    "product_region": "'us-east-1'",
    "product_servicecode": "'AmazonEC2'",
    "pricing_unit": "'Hrs'",
}

_COVERED = (
    _LINE
    | _COMMITTED
    | {
        "line_item_availability_zone": "'us-east-1a'",
        "line_item_usage_amount": f"quantity / {_HOUR}",
        "line_item_normalized_usage_amount": f"quantity * factor / {_HOUR}",
        "product_operating_system": "'Linux'",
        "pricing_public_on_demand_cost": "money(quantity * demand_rate)",
        "pricing_public_on_demand_rate": "rate_text(demand_rate)",
    }
)

_DISCOUNTED_USAGE = _COVERED | {
    "line_item_line_item_type": "'DiscountedUsage'",
    "line_item_unblended_rate": "rate_text(0)",
    "line_item_unblended_cost": "0",
    "line_item_blended_rate": "rate_text(0)",
    "line_item_blended_cost": "0",
    "line_item_line_item_description": "'Linux/UNIX (Amazon VPC), ' || instance_type || ' reserved instance applied'",
    "pricing_lease_contract_length": f"'{_TERM_YEARS}yr'",
    "pricing_offering_class": "offering_class",
    "pricing_purchase_option": "'Partial Upfront'",
    "pricing_term": "'Reserved'",
    "reservation_amortized_upfront_cost_for_usage": "money(quantity * upfront_rate)",
    "reservation_effective_cost": "money(quantity * (recurring_rate + upfront_rate))",
    "reservation_recurring_fee_for_usage": "money(quantity * recurring_rate)",
    "reservation_reservation_a_r_n": "arn",
}

_PLAN_USAGE = _COVERED | {
    "line_item_line_item_type": "'SavingsPlanCoveredUsage'",
    "line_item_unblended_rate": "rate_text(demand_rate)",
    "line_item_unblended_cost": "money(quantity * demand_rate)",
    "line_item_blended_rate": "rate_text(demand_rate)",
    "line_item_blended_cost": "money(quantity * demand_rate)",
    "line_item_line_item_description": "'$' || rtrim(rate_text(demand_rate), '0')"
    " || ' per On Demand Linux ' || instance_type || ' Instance Hour'",
    "pricing_term": "'OnDemand'",
    "savings_plan_savings_plan_a_r_n": "arn",
    "savings_plan_savings_plan_rate": "plan_rate / 1000000",
    "savings_plan_savings_plan_effective_cost": "money(quantity * plan_rate)",
    "savings_plan_offering_type": "'ComputeSavingsPlans'",
    "savings_plan_payment_option": "'No Upfront'",
    "savings_plan_purchase_term": f"'{_TERM_YEARS}yr'",
}

_PLAN_NEGATION = _PLAN_USAGE | {
    "line_item_line_item_type": "'SavingsPlanNegation'",
    "line_item_unblended_cost": "money(-quantity * demand_rate)",
    "line_item_blended_cost": "money(-quantity * demand_rate)",
    "line_item_line_item_description": "'SavingsPlanNegation used by AccountId : ' || account_id"
    " || ' and UsageSku : ' || sku",
    "pricing_public_on_demand_cost": "0",
    "savings_plan_savings_plan_effective_cost": "0",
}

# AWS often leaves the offering class empty on the fee: readers must take it from the covered lines.
_RESERVATION_FEE = _COMMITTED | {
    "line_item_line_item_type": "'RIFee'",
    "line_item_usage_account_id": f"'{PAYER}'",
    "line_item_usage_type": "'USE1-HeavyUsage:' || instance_type",
    "line_item_usage_amount": f"promised / {_HOUR}",
    "line_item_normalized_usage_amount": f"promised * factor / {_HOUR}",
    "line_item_unblended_rate": "rate_text(recurring_rate)",
    "line_item_unblended_cost": "money(promised * recurring_rate)",
    "line_item_blended_rate": "rate_text(recurring_rate)",
    "line_item_blended_cost": "money(promised * recurring_rate)",
    "line_item_line_item_description": "'USD ' || rtrim(rate_text(recurring_rate), '0')"
    " || ' hourly fee per Linux/UNIX (Amazon VPC), ' || instance_type || ' instance'",
    "reservation_amortized_upfront_fee_for_billing_period": "money(promised * upfront_rate)",
    "reservation_end_time": "term_end",
    "reservation_number_of_reservations": "reservations",
    "reservation_reservation_a_r_n": "arn",
    "reservation_start_time": "term_start",
    "reservation_total_reserved_units": f"promised // {_HOUR}",
    "reservation_units_per_reservation": f"promised // {_HOUR} // reservations",
    "reservation_unused_amortized_upfront_fee_for_billing_period": "money((promised - used) * upfront_rate)",
    "reservation_unused_quantity": f"(promised - used) / {_HOUR}",
    "reservation_unused_recurring_fee": "money((promised - used) * recurring_rate)",
}

_PLAN_FEE = {
    "line_item_line_item_type": "'SavingsPlanRecurringFee'",
    "line_item_usage_account_id": f"'{PAYER}'",
    "line_item_product_code": "'ComputeSavingsPlans'",
    "line_item_usage_type": f"'ComputeSP:{_TERM_YEARS}yrNoUpfront'",
    "line_item_usage_amount": f"promised / {_HOUR}",
    "line_item_unblended_cost": "money(promised * plan_rate)",
    "line_item_blended_cost": "money(promised * plan_rate)",
    "line_item_line_item_description": f"'{_TERM_YEARS} year No Upfront Compute Savings Plan'",
    "product_product_name": "'Savings Plans for AWS Compute usage'",
    "savings_plan_total_commitment_to_date": "money(promised * plan_rate)",
    "savings_plan_savings_plan_a_r_n": "arn",
    "savings_plan_used_commitment": "money(used * plan_rate)",
    "savings_plan_amortized_upfront_commitment_for_billing_period": "0",
    "savings_plan_recurring_commitment_for_billing_period": "money(promised * plan_rate)",
    "savings_plan_start_time": "term_start",
    "savings_plan_end_time": "term_end",
    "savings_plan_offering_type": "'ComputeSavingsPlans'",
    "savings_plan_payment_option": "'No Upfront'",
    "savings_plan_purchase_term": f"'{_TERM_YEARS}yr'",
}

_FEE = {
    "bill_billing_entity": f"CASE WHEN code = '{_MARKETPLACE_CODE}' THEN 'AWS Marketplace' ELSE 'AWS' END",
    "bill_bill_type": "CASE line_type WHEN 'Fee' THEN 'Purchase' WHEN 'Refund' THEN 'Refund' ELSE 'Anniversary' END",
    "line_item_line_item_type": "line_type",
    "line_item_usage_account_id": "account_id",
    "line_item_product_code": "code",
    "line_item_usage_amount": "1",
    "line_item_unblended_cost": "cents / 100",
    "line_item_blended_cost": "cents / 100",
    "line_item_line_item_description": "description",
    "line_item_tax_type": "CASE WHEN line_type = 'Tax' THEN 'USSalesTax' END",
    "product_product_name": "name",
    "reservation_reservation_a_r_n": "arn",
}


def _rows_of_file(sample: _Sample, month: str, index: int) -> str:
    """The file's slice of the usage lines; the last file has the fees too."""
    usage = _usage_lines(sample, month, *_slice(sample.resources, sample.files, index))
    covered = _covered_lines(sample, month, *_slice(sample.covered, sample.files, index))
    branches = [
        _rows("usage", "i", month, _USAGE, usage),
        _rows("reserved", "i", month, _DISCOUNTED_USAGE, f"{covered} WHERE is_reserved"),
        _rows("covered", "i", month, _PLAN_USAGE, f"{covered} WHERE NOT is_reserved"),
        _rows("negation", "i", month, _PLAN_NEGATION, f"{covered} WHERE NOT is_reserved"),
    ]
    if index == sample.files - 1:
        fulfilled = "(FROM fulfilled ORDER BY commitment)"
        branches += [
            _rows("rifee", "commitment", month, _RESERVATION_FEE, f"{fulfilled} WHERE is_reserved"),
            _rows("spfee", "commitment", month, _PLAN_FEE, f"{fulfilled} WHERE NOT is_reserved"),
            _rows("fee", "position", month, _FEE, "(FROM fees ORDER BY position)"),
        ]
    return " UNION ALL ".join(branches)


def _slice(count: int, parts: int, index: int) -> tuple[int, int]:
    return count * index // parts, count * (index + 1) // parts


def _rows(kind: str, position: str, month: str, values: dict[str, str], source: str) -> str:
    """A SELECT of every column of the report; a column without a value is null."""
    filled = dict.fromkeys((c.athena_name for c in _COLUMNS), "NULL") | _month_values(month) | values
    filled["identity_line_item_id"] = f"'{month}-{kind}-' || {position}"
    columns = (f"CAST({filled[c.athena_name]} AS {c.sql_type}) AS {c.athena_name}" for c in _COLUMNS)
    return f"SELECT {', '.join(columns)} FROM {source}"


def _month_values(month: str) -> dict[str, str]:
    start, end = f"TIMESTAMP '{month}-01'", f"TIMESTAMP '{add_months(month, 1)}-01'"
    return {
        "identity_time_interval": f"'{month}-01T00:00:00Z/{add_months(month, 1)}-01T00:00:00Z'",
        "bill_invoice_id": f"'{1_000_000_000 + month_index(month)}'",
        "bill_billing_entity": "'AWS'",
        "bill_bill_type": "'Anniversary'",
        "bill_payer_account_id": f"'{PAYER}'",
        "bill_billing_period_start_date": start,
        "bill_billing_period_end_date": end,
        "line_item_usage_start_date": start,
        "line_item_usage_end_date": f"{end} - INTERVAL 1 SECOND",
        "line_item_currency_code": "'USD'",
        "line_item_legal_entity": "'Amazon Web Services, Inc.'",
    }


# ----------------------------------------------------------------------------------------------------
# Files
# ----------------------------------------------------------------------------------------------------


def _write_file(con: duckdb.DuckDBPyConnection, rows: str, path: Path, format: Format) -> None:
    if format == "parquet":
        con.execute(f"COPY ({rows}) TO $path (FORMAT parquet, COMPRESSION snappy)", {"path": str(path)})
        return
    columns = ", ".join(f"{_csv_value(column)} AS {identifier(column.header)}" for column in _COLUMNS)
    plain = path.with_suffix("")
    try:
        con.execute(
            f"COPY (SELECT {columns} FROM ({rows})) TO $path"
            " (FORMAT csv, HEADER, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%SZ')",
            {"path": str(plain)},
        )
        _compress(plain, path)
    finally:
        plain.unlink(missing_ok=True)


def _csv_value(column: _Column) -> str:
    """AWS writes numbers out in full; a double would come with an exponent."""
    return f"{column.athena_name}::DECIMAL(18, 10)" if column.sql_type == "DOUBLE" else column.athena_name


def _compress(plain: Path, path: Path) -> None:
    """Compress without a time stamp; DuckDB's own gzip took more than twice as long (1.7 million lines)."""
    with (
        plain.open("rb") as source,
        path.open("wb") as target,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=target, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed, length=1 << 20)


def _manifest(sample: _Sample, month: str, data_files: Sequence[Path]) -> dict[str, object]:
    folder = f"{_PREFIX}/{REPORT_NAME}/{_period(month)}"
    return {
        "assemblyId": sample.assembly_id(month),
        "account": PAYER,
        "columns": [{"category": c.category, "name": c.name, "type": c.manifest_type} for c in _COLUMNS],
        "charset": "UTF-8",
        "compression": _COMPRESSION[sample.format],
        "contentType": _CONTENT_TYPES[sample.format],
        "reportId": uuid.uuid5(uuid.NAMESPACE_URL, REPORT_NAME).hex,
        "reportName": REPORT_NAME,
        "billingPeriod": {
            "start": f"{month.replace('-', '')}01T000000.000Z",
            "end": f"{add_months(month, 1).replace('-', '')}01T000000.000Z",
        },
        "bucket": _BUCKET,
        "reportKeys": [f"{folder}/{path.name}" for path in data_files],
        "additionalArtifactKeys": [],
    }
