"""Writes months of a Google Cloud detailed billing export, as BigQuery writes the table to Parquet.

This module makes the synthetic organisation, its usage, and the files in the folder layout of `billing_folder`. Reading
them, and allocation rules, belong elsewhere.

One billing account in EUR with a shared Kubernetes project, a data warehouse and product projects. A month has

- usage lines with labels of their own and of their project; lines of the shared clusters have the namespace, as with
  GKE's cost allocation; a few hours of usage are in the month before the invoice's;
- sustained use discounts, and committed use discounts that cover machine lines of the product projects, with the
  daily fee of each commitment on the shared project;
- enhanced support as a share of the month, the invoice's VAT and its rounding to cents, all on no project;
- in the last month a promotional credit and an adjustment.

How it is made: DuckDB draws all values from hashes of (line, purpose, seed), so the same arguments give the same rows in
the same order. Costs are whole numbers of 10⁻⁹ EUR until they are written; they are written as FLOAT64, as Google exports
them.

Known drawbacks: rows depend on DuckDB's hash function, which a new DuckDB may change; of the prices only the order of
magnitude is real; VAT is one line for the whole invoice, while Google writes one for each project.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months
from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.sample_months import require_months

BILLING_ACCOUNT = "0D1DR5-ADE21G-RF09W1"
PLATFORM = "platform-gke"  # runs the shared clusters and owns the commitments
WAREHOUSE = "data-warehouse"
CURRENCY = "EUR"

_TABLE = "gcp_billing_export_resource_v1_" + BILLING_ACCOUNT.replace("-", "_")
_PARTS = 10**9  # a cost is a whole number of this part of a EUR
_MIN_PROJECTS = 3
_MIN_LINES = 100
_SHARED_PERCENT = 30  # share of the lines that the shared clusters use
_WAREHOUSE_PERCENT = 12
_COMMITMENTS = 2
_COVERED_PERCENT = 35  # share of the product projects' machine lines that a commitment covers
_SUSTAINED_PERCENT = 10
_STORAGE_DISCOUNT_PERCENT = 20  # the contract's discount on the list price of storage
_SUPPORT_PERCENT = 3
_VAT_PERCENT = 20
_PROMOTION_CENTS = -15_000
_ADJUSTMENT_CENTS = -4_217
_LINES_PER_FEE_CENT = 40  # of a commitment's daily fee, so that a commitment saves more than it costs


class _Sku(NamedTuple):
    """A priced usage: its price in 10⁻⁹ EUR per unit, the most units of a line, and the kind that determines discounts."""

    service_id: str
    service: str
    sku_id: str
    sku: str
    unit: str
    price: int
    most: int
    kind: str  # machine, storage or other
    weight: int


# fmt: off
_SKUS = (
    _Sku("6F81-5844-456A", "Compute Engine", "2E27-4F75-95CD", "N2 Instance Core running in Belgium", "hour", 29_000_000, 32, "machine", 9),
    _Sku("6F81-5844-456A", "Compute Engine", "7F2B-1C5D-0001", "N2 Instance Ram running in Belgium", "gibibyte hour", 3_900_000, 128, "machine", 7),
    _Sku("6F81-5844-456A", "Compute Engine", "7F2B-1C5D-0002", "E2 Instance Core running in Frankfurt", "hour", 21_500_000, 16, "machine", 6),
    _Sku("6F81-5844-456A", "Compute Engine", "D973-5D65-BAB2", "Storage PD Capacity in Belgium", "gibibyte month", 37_000_000, 40, "storage", 6),
    _Sku("6F81-5844-456A", "Compute Engine", "7F2B-1C5D-0003", "Network Inter Zone Data Transfer Out", "gibibyte", 9_200_000, 300, "other", 5),
    _Sku("CCD8-9BF1-090E", "Kubernetes Engine", "7F2B-1C5D-0004", "Regional Kubernetes Clusters", "hour", 92_000_000, 1, "other", 2),
    _Sku("95FF-2EF5-5EA1", "Cloud Storage", "7F2B-1C5D-0005", "Standard Storage Belgium", "gibibyte month", 18_400_000, 200, "storage", 7),
    _Sku("95FF-2EF5-5EA1", "Cloud Storage", "7F2B-1C5D-0006", "Nearline Storage Belgium", "gibibyte month", 9_200_000, 400, "storage", 2),
    _Sku("95FF-2EF5-5EA1", "Cloud Storage", "7F2B-1C5D-0007", "Regional Standard Class A Operations", "count", 4_600, 90_000, "other", 4),
    _Sku("24E6-581D-38E5", "BigQuery", "7F2B-1C5D-0008", "Analysis (Belgium)", "tebibyte", 5_750_000_000, 3, "other", 4),
    _Sku("24E6-581D-38E5", "BigQuery", "7F2B-1C5D-0009", "Active Logical Storage (Belgium)", "gibibyte month", 18_400_000, 150, "storage", 3),
    _Sku("9662-B51E-5089", "Cloud SQL", "7F2B-1C5D-0010", "Cloud SQL for PostgreSQL: Zonal - vCPU in Belgium", "hour", 41_300_000, 8, "other", 5),
    _Sku("152E-C115-5142", "Cloud Run", "7F2B-1C5D-0011", "Services CPU (Request-based billing) in Belgium", "second", 22_080, 90_000, "other", 4),
    _Sku("A1E8-BE35-7EBC", "Cloud Pub/Sub", "7F2B-1C5D-0012", "Message Delivery Basic", "gibibyte", 36_000_000, 60, "other", 1),
    _Sku("5490-F7B7-8DF6", "Cloud Logging", "7F2B-1C5D-0013", "Log Storage cost", "gibibyte", 460_000_000, 6, "other", 3),
    _Sku("E505-1604-58F8", "Networking", "7F2B-1C5D-0014", "Cloud Load Balancer Forwarding Rule Minimum Belgium", "hour", 23_000_000, 1, "other", 3),
)
# fmt: on
_TEAMS = ("shop", "payments", "search", "identity", "mobile", "catalogue", "fulfilment", "pricing")
_ENVIRONMENTS = ("prod", "prod", "staging", "dev")
_REGIONS = ("europe-west1", "europe-west1", "europe-west1", "europe-west3", "europe-west4")
_NAMESPACES = (*_TEAMS[:5], "kube-system", "ingress")
_NO_CREDITS = "[]::STRUCT(name VARCHAR, parts BIGINT, id VARCHAR, type VARCHAR)[]"
_NO_LABELS = '[]::STRUCT("key" VARCHAR, "value" VARCHAR)[]'


class _Sample(NamedTuple):
    """The arguments, checked."""

    first: str
    last: str
    projects: int
    lines: int
    seed: int


def write_billing_export(
    folder: Path, *, months: Sequence[str], projects: int = 8, lines: int = 6_000, seed: int = 7
) -> list[Path]:
    """Write sample months of a detailed billing export, one file each.

    A month goes to ``<folder>/gcp/<billing account>/<table>/YYYYMM-000000000000.parquet``, in one rename.

    Args:
        folder: the root of the tree; created if missing.
        months: the invoice months as YYYY-MM. The latest has the promotional credit and the adjustment.
        projects: the number of projects including the shared one and the warehouse; at least 3.
        lines: usage lines per month, not counting fees, credits without usage, tax and rounding.
        seed: another seed gives other usage of the same shape.

    Returns:
        The files written, by month.

    Raises:
        OctoError: an argument is out of range, or the folder cannot be written.
    """
    sample = _checked(months, projects, lines, seed)
    target = folder / "gcp" / BILLING_ACCOUNT / _TABLE
    written = []
    with shared_connection({}) as con:
        _create_organisation(con, sample)
        for month in sorted(months):
            path = target / f"{month.replace('-', '')}-000000000000.parquet"
            try:
                target.mkdir(parents=True, exist_ok=True)
                _write_month(con, sample, month, path)
            except (OSError, duckdb.IOException) as error:
                raise OctoError(
                    f"The sample of {month} cannot be written to {folder}: {error}", code="sample-not-writable"
                ) from error
            written.append(path)
    return written


def _checked(months: Sequence[str], projects: int, lines: int, seed: int) -> _Sample:
    require_months(months)
    if projects < _MIN_PROJECTS:
        raise OctoError(
            f"A sample of {projects} projects is too small; give at least {_MIN_PROJECTS}: the shared one, the "
            "data warehouse and one product project.",
            code="sample-settings-wrong",
        )
    if lines < _MIN_LINES:
        raise OctoError(
            f"A sample of {lines} usage lines a month is too small; give at least {_MIN_LINES}.",
            code="sample-settings-wrong",
        )
    return _Sample(min(months), max(months), projects, lines, seed)


def _create_organisation(con: duckdb.DuckDBPyConnection, sample: _Sample) -> None:
    # hash() joins its arguments by XOR, so without a second round the draws of one key would be correlated.
    con.execute(f"CREATE TEMP MACRO draw(key, purpose) AS (hash(hash(key, purpose, '{sample.seed}')) >> 1)::BIGINT")
    con.execute("CREATE TEMP MACRO pick(list, key, purpose) AS list[1 + draw(key, purpose) % len(list)]")
    con.execute(f"CREATE TEMP MACRO money(parts) AS parts / {_PARTS}.0::DOUBLE")
    con.execute(
        "CREATE TEMP MACRO labels_of(names, texts) AS "
        "list_transform(list_zip(names, texts), lambda pair: {'key': pair[1], 'value': pair[2]})"
    )
    rows = ", ".join(f"({number}, {', '.join(map(_value, sku))})" for number, sku in enumerate(_SKUS))
    con.execute(render("vendors/gcp/sample_skus", column_names=", ".join(("number", *_Sku._fields)), value_rows=rows))
    query = render(
        "vendors/gcp/sample_projects",
        project_count=sample.projects,
        platform=PLATFORM,
        warehouse=WAREHOUSE,
        teams=_list(_TEAMS),
        environments=_list(_ENVIRONMENTS),
    )
    con.execute(query)


def _value(value: object) -> str:
    return literal(value) if isinstance(value, str) else str(value)


def _list(values: Sequence[str] | Sequence[int]) -> str:
    return "[" + ", ".join(map(_value, values)) + "]"


def _write_month(con: duckdb.DuckDBPyConnection, sample: _Sample, month: str, path: Path) -> None:
    _create_usage_lines(con, sample, month)
    _create_lines(con, sample, month)
    query = render(
        "vendors/gcp/sample_export",
        billing_account=BILLING_ACCOUNT,
        currency=CURRENCY,
        invoice_month=month.replace("-", ""),
        no_labels=_NO_LABELS,
    )
    unfinished = path.with_suffix(".unfinished")
    con.execute(f"COPY ({query}) TO {literal(str(unfinished))} (FORMAT parquet, COMPRESSION zstd)")
    os.replace(unfinished, path)


def _create_usage_lines(con: duckdb.DuckDBPyConnection, sample: _Sample, month: str) -> None:
    """Create the table of a month's usage; costs and credits are in 10⁻⁹ EUR."""
    compute = ("Compute Engine", "Kubernetes Engine")
    data = ("BigQuery", "Cloud Storage", "Cloud Pub/Sub")
    query = render(
        "vendors/gcp/sample_usage",
        month=month,
        next_month=add_months(month, 1),
        line_count=sample.lines,
        product_count=sample.projects - 2,
        shared_percent=_SHARED_PERCENT,
        warehouse_percent=_WAREHOUSE_PERCENT,
        covered_percent=_COVERED_PERCENT,
        sustained_percent=_SUSTAINED_PERCENT,
        storage_percent=100 - _STORAGE_DISCOUNT_PERCENT,
        commitment_count=_COMMITMENTS,
        compute_skus=_list([number for number, sku in enumerate(_SKUS) if sku.service in compute]),
        data_skus=_list([number for number, sku in enumerate(_SKUS) if sku.service in data]),
        weighted_skus=_list([number for number, sku in enumerate(_SKUS) for _ in range(sku.weight)]),
        regions=_list(_REGIONS),
        namespaces=_list(_NAMESPACES),
        environments=_list(_ENVIRONMENTS),
        no_credits=_NO_CREDITS,
        no_labels=_NO_LABELS,
    )
    con.execute(query)


def _create_lines(con: duckdb.DuckDBPyConnection, sample: _Sample, month: str) -> None:
    """Create the table of all lines of a month."""
    cent = _PARTS // 100
    query = render(
        "vendors/gcp/sample_lines",
        month=month,
        is_last=month == sample.last,
        commitment_count=_COMMITMENTS,
        commitment_fee=sample.lines // _LINES_PER_FEE_CENT * cent,
        support_percent=_SUPPORT_PERCENT,
        tax_percent=_VAT_PERCENT,
        promotion=_PROMOTION_CENTS * cent,
        adjustment=_ADJUSTMENT_CENTS * cent,
        cent=cent,
        no_credits=_NO_CREDITS,
        no_labels=_NO_LABELS,
    )
    con.execute(query)
