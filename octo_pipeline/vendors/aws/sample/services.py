"""The services that the sample's accounts use: names, prices, regions and instance sizes.

Of the prices only the order of magnitude is real.
"""

from typing import NamedTuple

import duckdb

from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.sample.draws import value_list

COST_PARTS = 10**10  # a cost is a whole number of this part of a USD

MARKETPLACE_CODE = "octosampleobservability00"  # marketplace products have opaque codes
PRODUCT_NAMES = {
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
    MARKETPLACE_CODE: "Observability suite",
}


class Charge(NamedTuple):
    """A priced usage of a service. Kinds and operations are separated by spaces; a kind with {type} is priced by size."""

    code: str
    weight: int
    unit: str
    decimals: int  # of the amount; the rate has the rest of ten decimals, so amount times rate has ten
    low_rate: str
    high_rate: str
    low_amount: int
    high_amount: int
    kinds: str
    operations: str


# fmt: off
CHARGES = (
    Charge("AmazonEC2", 44, "Hrs", 4, "0.06", "0.22", 1, 1,
            "BoxUsage:{type}", "RunInstances RunInstances:0002"),
    Charge("AmazonEC2", 14, "GB-Mo", 4, "0.08", "0.149", 1, 40,
            "EBS:VolumeUsage.gp2 EBS:VolumeUsage.gp3 EBS:SnapshotUsage", "CreateVolume-Gp3 CreateSnapshot"),
    Charge("AmazonEC2", 10, "GB", 4, "0.01", "0.09", 1, 400,
            "DataTransfer-Out-Bytes DataTransfer-Regional-Bytes", "RunInstances InterZone-Out"),
    Charge("AmazonEC2", 5, "Hrs", 4, "0.045", "0.062", 1, 1,
            "NatGateway-Hours VpcEndpoint-Hours", "NatGateway VpcEndpoint"),
    Charge("AmazonRDS", 16, "Hrs", 4, "0.09", "0.29", 1, 1,
            "InstanceUsage:db.{type} Multi-AZUsage:db.{type}", "CreateDBInstance:0014 CreateDBInstance:0002"),
    Charge("AmazonRDS", 5, "GB-Mo", 4, "0.1", "0.25", 1, 60,
            "RDS:GP3-Storage Aurora:StorageUsage", "CreateDBInstance"),
    Charge("AmazonS3", 16, "GB-Mo", 4, "0.004", "0.025", 5, 900,
            "TimedStorage-ByteHrs TimedStorage-INT-FA-ByteHrs TimedStorage-GlacierStaging",
            "StandardStorage IntelligentTieringFAStorage GlacierStagingStorage"),
    Charge("AmazonS3", 12, "Requests", 0, "0.0000004", "0.0000055", 50, 2_000_000,
            "Requests-Tier1 Requests-Tier2", "PutObject GetObject ListBucket HeadObject"),
    Charge("AmazonEKS", 10, "hours", 4, "0.1", "0.1", 1, 1, "AmazonEKS-Hours:perCluster", "CreateOperation"),
    Charge("AmazonEKS", 12, "vCPU-Hours", 4, "0.04", "0.06", 2, 64,
            "Fargate-vCPU-Hours:perCPU Fargate-GB-Hours", "FargatePod"),
    Charge("AmazonECS", 6, "hours", 4, "0.04", "0.06", 1, 96,
            "Fargate-vCPU-Hours:perCPU Fargate-GB-Hours", "FargateTask"),
    Charge("AmazonECR", 2, "GB-Mo", 4, "0.1", "0.1", 1, 20, "TimedStorage-ByteHrs", "CreateRepository"),
    Charge("AWSLambda", 8, "Lambda-GB-Second", 0, "0.0000133334", "0.0000166667", 1000, 900_000,
            "Lambda-GB-Second Lambda-GB-Second-ARM", "Invoke"),
    Charge("AWSELB", 8, "Hrs", 4, "0.0225", "0.028", 1, 1,
            "LoadBalancerUsage LCUUsage", "LoadBalancing:Application LoadBalancing:Network"),
    Charge("AmazonCloudFront", 5, "GB", 4, "0.06", "0.12", 1, 300,
            "DataTransfer-Out-Bytes Requests-HTTPS-Proxy", "GET HEAD"),
    Charge("AmazonDynamoDB", 6, "ReadRequestUnits", 0, "0.00000025", "0.00000125", 1000, 9_000_000,
            "ReadRequestUnits WriteRequestUnits", "PayPerRequestThroughput CommittedThroughput"),
    Charge("AmazonElastiCache", 6, "Hrs", 4, "0.07", "0.16", 1, 1,
            "NodeUsage:cache.{type}", "CreateCacheCluster:0002 CreateCacheCluster:0001"),
    Charge("AmazonRedshift", 3, "Hrs", 4, "1.086", "3.26", 1, 4,
            "Node:ra3.xlplus Node:ra3.4xlarge", "RunComputeNode:0001"),
    Charge("AWSGlue", 4, "DPU-Hour", 4, "0.29", "0.44", 1, 40,
            "ETL-DPU-Hour ETL-Flex-DPU-Hour Crawler-DPU-Hour", "Jobrun CrawlerRun"),
    Charge("AmazonAthena", 3, "Terabytes", 4, "5", "5", 1, 4, "DataScannedInTB", "PRESTO_QUERY"),
    Charge("ElasticMapReduce", 3, "Hrs", 4, "0.02", "0.05", 1, 1, "BoxUsage:{type}", "RunInstances"),
    Charge("AmazonKinesis", 3, "ShardHour", 4, "0.015", "0.0195", 1, 60,
            "Storage-ShardHour Extended-ShardHour", "shardHourStorage"),
    Charge("AmazonMSK", 2, "hours", 4, "0.1", "0.24", 1, 1, "Kafka.{type}", "RunBroker"),
    Charge("AmazonES", 4, "Hrs", 4, "0.08", "0.19", 1, 1, "ESInstance:{type}", "ESDomain"),
    Charge("AmazonSageMaker", 3, "Hrs", 4, "0.11", "0.27", 1, 1,
            "Train:ml.{type} Host:ml.{type} Notebk:ml.{type}", "RunInstance"),
    Charge("AmazonCloudWatch", 8, "GB", 4, "0.5", "0.76", 1, 12,
            "DataProcessing-Bytes VendedLog-Bytes", "PutLogEvents HourlyStorageMetering"),
    Charge("AWSQueueService", 4, "Requests", 0, "0.0000004", "0.0000005", 100, 3_000_000,
            "Requests-RBP Requests-FIFO-RBP", "SendMessage ReceiveMessage"),
    Charge("AmazonSNS", 2, "Requests", 0, "0.0000005", "0.0000006", 100, 900_000,
            "Requests-Tier1 DeliveryAttempts-HTTP", "Publish"),
    Charge("AmazonApiGateway", 3, "Requests", 0, "0.000001", "0.0000035", 100, 900_000,
            "ApiGatewayRequest ApiGatewayHttpRequest", "ApiGatewayRequest"),
    Charge("AmazonRoute53", 2, "Queries", 0, "0.0000004", "0.0000007", 100, 2_000_000,
            "DNS-Queries Intra-AWS-DNS-Queries", "A CNAME"),
    Charge("AmazonEFS", 3, "GB-Mo", 4, "0.16", "0.33", 1, 30,
            "TimedStorage-ByteHrs IATimedStorage-ByteHrs", ""),
    Charge("awskms", 3, "Requests", 0, "0.000003", "0.000003", 10, 200_000,
            "KMS-Requests", "Decrypt GenerateDataKey"),
    Charge("AWSSecretsManager", 2, "Secrets", 4, "0.4", "0.4", 1, 8, "AWSSecretsManager-Secrets", ""),
    Charge("AWSCloudTrail", 1, "Events", 0, "0.000001", "0.00002", 1000, 900_000,
            "PaidEventsRecorded DataEventsRecorded", "None"),
    Charge("AWSConfig", 1, "ConfigurationItemRecorded", 0, "0.003", "0.003", 10, 900,
            "ConfigurationItemRecorded", "None"),
    Charge("AmazonGuardDuty", 1, "Events", 0, "0.000004", "0.000007", 1000, 900_000,
            "PaidEventsAnalyzed", "None"),
)
# fmt: on

REGIONS = (
    ("us-east-1", "USE1-", "US East (N. Virginia)", 8),
    ("us-west-2", "USW2-", "US West (Oregon)", 4),
    ("eu-west-1", "EUW1-", "EU (Ireland)", 3),
    ("eu-central-1", "EUC1-", "EU (Frankfurt)", 2),
    ("ap-northeast-1", "APN1-", "Asia Pacific (Tokyo)", 2),
    ("ap-southeast-1", "APS1-", "Asia Pacific (Singapore)", 1),
    ("ap-southeast-2", "APS2-", "Asia Pacific (Sydney)", 1),
    ("sa-east-1", "SAE1-", "South America (Sao Paulo)", 1),
)
FAMILIES = (
    "m5", "m5a", "m5d", "m6i", "m6a", "m6g", "m7i", "m7g", "c5", "c5a", "c5n", "c6i", "c6a", "c6g", "c7i",
    "c7g", "r5", "r5a", "r5d", "r6i", "r6a", "r6g", "r7i", "r7g", "i3en", "i4i", "x2idn", "g5", "p3", "inf2",
)  # fmt: skip
SIZES = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge", "24xlarge")
SIZE_FACTORS = (1, 2, 4, 8, 16, 24, 32, 48)


def create_services(con: duckdb.DuckDBPyConnection) -> None:
    """Create the tables products, charges and regions."""
    products = ", ".join(f"({literal(code)}, {literal(name)})" for code, name in PRODUCT_NAMES.items())
    _create_table(con, "products", "code, name", products)
    columns = "charge, code, unit, units, low_rate, high_rate, low_amount, high_amount, kinds, operations"
    _create_table(con, "charges", columns, ", ".join(_charge_row(*charge) for charge in enumerate(CHARGES)))
    regions = ", ".join(
        f"({index}, {literal(region)}, {literal(prefix)}, {literal(location)})"
        for index, (region, prefix, location, _) in enumerate(REGIONS)
    )
    _create_table(con, "regions", "region_index, region, prefix, location", regions)


def _create_table(con: duckdb.DuckDBPyConnection, table: str, columns: str, rows: str) -> None:
    con.execute(render("vendors/aws/sample/value_table", table=table, column_names=columns, value_rows=rows))


def _charge_row(index: int, charge: Charge) -> str:
    """Rates and amounts as whole numbers whose product is in 10⁻¹⁰ USD."""
    units = 10**charge.decimals
    texts = [literal(charge.code), literal(charge.unit)]
    rates = [f"({rate} * {COST_PARTS // units})::BIGINT" for rate in (charge.low_rate, charge.high_rate)]
    amounts = [f"{amount * units}" for amount in (charge.low_amount, charge.high_amount)]
    lists = [value_list(words.split(" ")) for words in (charge.kinds, charge.operations)]
    return f"({', '.join([str(index), *texts, str(units), *rates, *amounts, *lists])})"
