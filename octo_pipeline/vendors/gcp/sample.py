"""Writes months of a Google Cloud detailed billing export, as BigQuery writes the table to Parquet.

What belongs here: the synthetic organisation, what it uses, and the files in the folder layout of
`octo_pipeline.vendors.gcp.billing_folder`. What does not: reading them, and any allocation rule.

One billing account in EUR with a shared Kubernetes project, a data warehouse and product projects. A month has

- usage lines with labels of their own and of their project; lines of the shared clusters carry the namespace as
  GKE's cost allocation does; a few hours at the month's edges are used in the month before the invoice's;
- sustained use discounts, and committed use discounts that cover machine lines of the product projects, with the
  daily fee of each commitment on the shared project;
- enhanced support as a share of the month, the invoice's VAT and its rounding to cents, all on no project;
- in the last month a promotional credit and an adjustment.

How it is made: DuckDB draws everything from hashes of (line, what is drawn, seed), so the same arguments give the
same rows in the same order. Costs are whole numbers of 10⁻⁹ EUR until they are written; they are written as
FLOAT64, because that is how Google exports them.

Known drawbacks: rows depend on DuckDB's hash function, which a new DuckDB may change; of the prices only the order
of size is real; VAT is of the whole invoice, where Google's is of each project.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, parse_month
from octo_pipeline.model.sql import literal

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
_STORAGE_DISCOUNT_PERCENT = 20  # what the contract takes off the list price of storage
_SUPPORT_PERCENT = 3
_VAT_PERCENT = 20
_PROMOTION_CENTS = -15_000
_ADJUSTMENT_CENTS = -4_217
_LINES_PER_FEE_CENT = 40  # of a commitment's fee a day, so that a commitment saves more than it costs


class _Sku(NamedTuple):
    """One priced usage: its price in 10⁻⁹ EUR a unit, the most units a line has, and what takes it off."""

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
    """Write sample months of a detailed billing export, a file each.

    A month goes to ``<folder>/gcp/<billing account>/<table>/YYYYMM-000000000000.parquet``, in one rename.

    Args:
        folder: where the tree begins; made if missing.
        months: the invoice months as YYYY-MM. The latest has the promotional credit and the adjustment.
        projects: how many there are, the shared one and the warehouse included; at least 3.
        lines: usage lines a month; fees, credits of no usage, tax and rounding come on top.
        seed: another seed gives other usage of the same shape.

    Returns:
        The files written, by month.

    Raises:
        OctoError: an argument is out of range, or the folder cannot be written.
    """
    sample = _checked(months, projects, lines, seed)
    target = folder / "gcp" / BILLING_ACCOUNT / _TABLE
    written = []
    with duckdb.connect() as con:
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
    # hash() joins its arguments by XOR: draws of one key would move together without a second round.
    con.execute(f"CREATE TEMP MACRO draw(key, what) AS (hash(hash(key, what, '{sample.seed}')) >> 1)::BIGINT")
    con.execute("CREATE TEMP MACRO pick(list, key, what) AS list[1 + draw(key, what) % len(list)]")
    con.execute(f"CREATE TEMP MACRO money(parts) AS parts / {_PARTS}.0::DOUBLE")
    con.execute(
        "CREATE TEMP MACRO labels_of(names, texts) AS "
        "list_transform(list_zip(names, texts), lambda one: {'key': one[1], 'value': one[2]})"
    )
    columns = ", ".join(_Sku._fields)
    rows = ", ".join(f"({number}, {', '.join(map(_value, sku))})" for number, sku in enumerate(_SKUS))
    con.execute(f"CREATE TEMP TABLE skus AS SELECT * FROM (VALUES {rows}) t(number, {columns})")
    con.execute(f"CREATE TEMP TABLE projects AS {_projects_sql(sample)}")


def _value(value: object) -> str:
    return literal(value) if isinstance(value, str) else str(value)


def _list(values: Sequence[str] | Sequence[int]) -> str:
    return "[" + ", ".join(map(_value, values)) + "]"


def _projects_sql(sample: _Sample) -> str:
    """Project 0 is the shared one, 1 the warehouse; product projects are named by team and environment."""
    return f"""
    WITH named AS (
        SELECT
            range::INTEGER AS place,
            CASE place WHEN 0 THEN 'platform' WHEN 1 THEN 'data'
                ELSE {_list(_TEAMS)}[1 + (place - 2) % {len(_TEAMS)}] END AS team,
            CASE WHEN place < 2 THEN 'prod'
                ELSE {_list(_ENVIRONMENTS)}[1 + (place - 2) // {len(_TEAMS)} % {len(_ENVIRONMENTS)}] END AS environment,
            CASE place WHEN 0 THEN '{PLATFORM}' WHEN 1 THEN '{WAREHOUSE}'
                ELSE concat_ws('-', team, environment, place - 1) END AS id
        FROM range({sample.projects})
    )
    SELECT
        place,
        {{
            'id': id,
            'number': (100000000000 + draw(id, 'number') % 899999999999)::VARCHAR,
            'name': upper(left(id, 1)) || replace(substr(id, 2), '-', ' '),
            'labels': labels_of(
                ['team', 'environment', 'cost-center'],
                [team, environment, (1000 + draw(team, 'cost center') % 9000)::VARCHAR]
            ),
            'ancestry_numbers': '/10000001/20000002/'
        }} AS project
    FROM named
    """


def _write_month(con: duckdb.DuckDBPyConnection, sample: _Sample, month: str, path: Path) -> None:
    con.execute(f"CREATE OR REPLACE TEMP TABLE usage_lines AS {_usage_sql(sample, month)}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE lines AS {_fees_sql(sample, month)}")
    # The rounding is of what is billed, tax included, so it is drawn up last.
    con.execute(f"INSERT INTO lines {_tax_sql(month)}")
    con.execute(f"INSERT INTO lines {_rounding_sql(month)}")
    unfinished = path.with_suffix(".unfinished")
    con.execute(f"COPY ({_export_sql(month)}) TO {literal(str(unfinished))} (FORMAT parquet, COMPRESSION zstd)")
    os.replace(unfinished, path)


_NO_CREDITS = "[]::STRUCT(name VARCHAR, parts BIGINT, id VARCHAR, type VARCHAR)[]"
_NET = "sum(cost + coalesce(list_sum(list_transform(credits, lambda one: one.parts)), 0))::BIGINT"
_NO_LABELS = '[]::STRUCT("key" VARCHAR, "value" VARCHAR)[]'


def _usage_sql(sample: _Sample, month: str) -> str:
    """Usage lines; costs and credits are in 10⁻⁹ EUR."""
    key = f"'{month}' || line"
    wheel = _list([number for number, sku in enumerate(_SKUS) for _ in range(sku.weight)])
    shared = _list(
        [number for number, sku in enumerate(_SKUS) if sku.service in ("Compute Engine", "Kubernetes Engine")]
    )
    data = _list(
        [number for number, sku in enumerate(_SKUS) if sku.service in ("BigQuery", "Cloud Storage", "Cloud Pub/Sub")]
    )
    start = f"TIMESTAMPTZ '{month}-01 00:00:00+00'"
    hours = f"date_diff('hour', {start}, TIMESTAMPTZ '{add_months(month, 1)}-01 00:00:00+00')"
    return f"""
    WITH placed AS (
        SELECT
            range AS line,
            draw({key}, 'project') % 100 AS share,
            CASE WHEN share < {_SHARED_PERCENT} THEN 0 WHEN share < {_SHARED_PERCENT + _WAREHOUSE_PERCENT} THEN 1
                ELSE 2 + draw({key}, 'product') % {sample.projects - 2} END AS place,
            CASE place WHEN 0 THEN pick({shared}, {key}, 'sku') WHEN 1 THEN pick({data}, {key}, 'sku')
                ELSE pick({wheel}, {key}, 'sku') END AS number,
            -- Google bills in Pacific time: the first hours of an invoice are of the day before it begins.
            {start} + to_hours((draw({key}, 'hour') % {hours} - 8)::INTEGER) AS used_at
        FROM range({sample.lines})
    ),
    priced AS (
        SELECT
            *,
            1 + draw({key}, 'amount') % most AS amount,
            amount * price AS list_cost,
            CASE WHEN kind = 'storage' THEN list_cost * {100 - _STORAGE_DISCOUNT_PERCENT} // 100 ELSE list_cost END AS cost,
            kind = 'machine' AND place >= 2 AND draw({key}, 'covered') % 100 < {_COVERED_PERCENT} AS is_covered,
            draw({key}, 'commitment') % {_COMMITMENTS} AS commitment
        FROM placed JOIN skus USING (number)
    )
    SELECT
        line, project, service_id, service, sku_id, sku, unit, used_at,
        pick({_list(_REGIONS)}, {key}, 'region') AS region,
        CASE
            WHEN place = 0 THEN labels_of(
                ['goog-k8s-cluster-name', 'k8s-namespace'], ['shared-1', pick({_list(_NAMESPACES)}, {key}, 'namespace')]
            )
            WHEN draw({key}, 'labelled') % 4 > 0 THEN labels_of(
                ['app', 'env'], ['app-' || draw({key}, 'app') % 5, pick({_list(_ENVIRONMENTS)}, {key}, 'env')]
            )
            ELSE {_NO_LABELS}
        END AS labels,
        'resource-' || draw({key}, 'resource') % 500 AS resource,
        amount::DOUBLE AS amount,
        cost,
        list_cost,
        CASE
            WHEN is_covered THEN [{{
                'name': 'Committed Usage Discount: ' || sku, 'parts': -cost, 'id': 'commitment-' || (1 + commitment),
                'type': 'COMMITTED_USAGE_DISCOUNT'
            }}]
            WHEN kind = 'machine' THEN [{{
                'name': 'Sustained Usage Discount', 'parts': -(cost * {_SUSTAINED_PERCENT} // 100), 'id': '',
                'type': 'SUSTAINED_USAGE_DISCOUNT'
            }}]
            ELSE {_NO_CREDITS}
        END AS credits,
        'regular' AS cost_type,
        NULL::VARCHAR AS adjustment
    FROM priced JOIN projects USING (place)
    """


def _fees_sql(sample: _Sample, month: str) -> str:
    """The usage lines and what is billed beside them but for the tax."""
    cent = _PARTS // 100
    fee = sample.lines // _LINES_PER_FEE_CENT * cent
    parts = ["SELECT * FROM usage_lines"]
    days = f"generate_series(DATE '{month}-01', last_day(DATE '{month}-01'), INTERVAL 1 DAY)"
    parts.append(
        f"""
        SELECT
            1000000000 + day_number * {_COMMITMENTS} + commitment, project, '6F81-5844-456A', 'Compute Engine',
            '7F2B-1C5D-010' || commitment, 'Commitment v1: Cpu in Belgium for 1 Year', 'hour',
            timezone('UTC', day::TIMESTAMP), 'europe-west1', {_NO_LABELS}, 'commitment-' || (1 + commitment), 24.0,
            {fee}, {fee}, {_NO_CREDITS}, 'regular', NULL
        FROM (SELECT unnest({days}) AS day, generate_subscripts({days}, 1) AS day_number), range({_COMMITMENTS}) c(commitment),
            projects
        WHERE place = 0
        """
    )
    support = f"(SELECT {_NET} * {_SUPPORT_PERCENT} // 100 FROM usage_lines)"
    parts.append(_monthly(2, "2062-016F-44A2", "Support", "Enhanced Support", month, support))
    if month == sample.last:
        promotion = (
            f"[{{'name': 'Migration programme', 'parts': {_PROMOTION_CENTS * cent}, 'id': 'migration', "
            "'type': 'PROMOTION'}]"
        )
        parts.append(_monthly(3, "2062-016F-44A2", "Support", "Programme credit", month, "0", credits=promotion))
        parts.append(
            _monthly(
                4, "6F81-5844-456A", "Compute Engine", "N2 Instance Core running in Belgium", month,
                str(_ADJUSTMENT_CENTS * cent), cost_type="adjustment",
                adjustment="Correction of the usage of the month before",
            )
        )  # fmt: skip
    return " UNION ALL ".join(parts)


def _tax_sql(month: str) -> str:
    tax = f"(SELECT {_NET} * {_VAT_PERCENT} // 100 FROM lines)"
    return _monthly(5, "2062-016F-44A3", "Invoice", "Tax - VAT", month, tax, cost_type="tax")


def _rounding_sql(month: str) -> str:
    cent = _PARTS // 100
    rest = f"(SELECT ({_NET} + {cent // 2}) // {cent} * {cent} - {_NET} FROM lines)"
    return _monthly(6, "2062-016F-44A3", "Invoice", "Rounding", month, rest, cost_type="rounding_error")


def _monthly(
    place: int,
    service_id: str,
    service: str,
    sku: str,
    month: str,
    cost: str,
    *,
    credits: str = _NO_CREDITS,
    cost_type: str = "regular",
    adjustment: str | None = None,
) -> str:
    """A line that is billed once a month, on no project."""
    told = "NULL" if adjustment is None else literal(adjustment)
    texts = ", ".join(map(literal, (service_id, service, f"7F2B-1C5D-02{place:02d}", sku)))
    last_day = f"timezone('UTC', last_day(DATE '{month}-01')::TIMESTAMP)"
    return (
        f"SELECT {2 * 10**9 + place}, NULL, {texts}, 'month', {last_day}, NULL, {_NO_LABELS}, NULL, 1.0, {cost}, "
        f"{cost}, {credits}, {literal(cost_type)}, {told}"
    )


def _export_sql(month: str) -> str:
    """The lines with the nested columns of Google's detailed export."""
    return f"""
    SELECT
        '{BILLING_ACCOUNT}' AS billing_account_id,
        {{'id': service_id, 'description': service}} AS service,
        {{'id': sku_id, 'description': sku}} AS sku,
        used_at AS usage_start_time,
        used_at + INTERVAL 1 HOUR AS usage_end_time,
        project,
        labels,
        {_NO_LABELS} AS system_labels,
        {{'location': region, 'country': CASE WHEN region IS NOT NULL THEN 'BE' END, 'region': region, 'zone': NULL::VARCHAR}}
            AS location,
        {{'name': resource, 'global_name': CASE WHEN resource IS NOT NULL THEN '//compute.googleapis.com/' || resource END}}
            AS resource,
        'GOOGLE' AS transaction_type,
        'Google' AS seller_name,
        used_at + to_hours(3 + draw(line, 'export') % 20) AS export_time,
        money(cost) AS cost,
        '{CURRENCY}' AS currency,
        1.0::DOUBLE AS currency_conversion_rate,
        {{'amount': amount, 'unit': unit, 'amount_in_pricing_units': amount, 'pricing_unit': unit}} AS usage,
        list_transform(credits, lambda one: {{
            'name': one.name, 'amount': money(one.parts), 'full_name': one.name, 'id': one.id, 'type': one.type
        }}) AS credits,
        {{'month': '{month.replace("-", "")}', 'publisher_type': 'GOOGLE'}} AS invoice,
        cost_type,
        {{'id': NULL::VARCHAR, 'description': adjustment, 'mode': NULL::VARCHAR, 'type': NULL::VARCHAR}} AS adjustment_info,
        money(list_cost) AS cost_at_list
    FROM lines
    ORDER BY line
    """
