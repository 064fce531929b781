"""Small AWS Cost and Usage Reports as they lie in S3, written by the tests themselves."""

import csv
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months
from octo_pipeline.vendors.downloads import SourceFile

PAYER = "111111111111"
ACCOUNT = "222222222222"
NOW = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)

# What a legacy CSV row has at least; tests add to it.
ROW = {
    "identity/LineItemId": "line-1",
    "bill/PayerAccountId": PAYER,
    "bill/BillingPeriodStartDate": "2024-01-01T00:00:00Z",
    "lineItem/UsageAccountId": ACCOUNT,
    "lineItem/LineItemType": "Usage",
    "lineItem/UsageStartDate": "2024-01-15T13:00:00Z",
    "lineItem/ProductCode": "AmazonEC2",
    "lineItem/CurrencyCode": "USD",
    "lineItem/UnblendedCost": "1.5000000000",
    "lineItem/LineItemDescription": "$0.10 per hour, or part of it",
    "resourceTags/user:Team": "",
}

# The same in the names and types of a CUR 2.0 Parquet file; values are SQL.
PARQUET_ROW = {
    "bill_payer_account_id": f"'{PAYER}'",
    "bill_billing_period_start_date": "TIMESTAMP '2024-01-01'",
    "line_item_usage_account_id": f"'{ACCOUNT}'",
    "line_item_line_item_type": "'Usage'",
    "line_item_usage_start_date": "TIMESTAMP '2024-01-15 13:00:00'",
    "line_item_product_code": "'AmazonEC2'",
    "line_item_currency_code": "'USD'",
    "line_item_unblended_cost": "1.5::DOUBLE",
}


def row(**changes: str) -> dict[str, str]:
    """A row of another cost, account and so on, by the last part of the column's name."""
    names = {name.replace("/", "_"): name for name in ROW}
    return ROW | {names.get(key, key): value for key, value in changes.items()}


def cost(amount: str) -> dict[str, str]:
    return ROW | {"lineItem/UnblendedCost": amount}


def csv_text(rows: Sequence[Mapping[str, str]], header: Sequence[str] | None = None) -> str:
    out = io.StringIO()
    names = list(header or (rows[0] if rows else ROW))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_csv(path: Path, text: str | bytes) -> Path:
    """Write CSV text plain, gzipped or zipped by the file's name."""
    data = text.encode() if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.name.removesuffix(".zip").removesuffix(".csv") + ".csv", data)
    else:
        path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, str]], options: str = "") -> Path:
    """Write rows whose values are SQL; no rows make an empty file with the columns of `PARQUET_ROW`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    selects = [
        "SELECT " + ", ".join(f'{value} AS "{name}"' for name, value in one.items()) for one in rows or [PARQUET_ROW]
    ]
    where = "" if rows else " WHERE false"
    with duckdb.connect() as con:
        con.execute(f"COPY ({' UNION ALL '.join(selects)}{where}) TO '{path}' (FORMAT parquet{options})")
    return path


def write_rows(path: Path, costs: Sequence[str]) -> Path:
    """Write rows of these costs in the format that the file's name says."""
    if path.name.endswith(".parquet"):
        rows = [PARQUET_ROW | {"line_item_unblended_cost": f"{one}::DOUBLE"} for one in costs]
        return write_parquet(path, rows)
    return write_csv(path, csv_text([cost(one) for one in costs]))


def legacy_manifest(keys: Sequence[str], month: str = "2024-01", **changes: object) -> dict[str, object]:
    end = add_months(month, 1)
    return {
        "assemblyId": "a1b2c3",
        "account": PAYER,
        "columns": [{"category": "lineItem", "name": "UnblendedCost"}],
        "charset": "UTF-8",
        "compression": "GZIP",
        "contentType": "text/csv",
        "reportName": "octo",
        "billingPeriod": {
            "start": f"{month.replace('-', '')}01T000000.000Z",
            "end": f"{end.replace('-', '')}01T000000.000Z",
        },
        "bucket": "some-bucket",
        "reportKeys": list(keys),
    } | changes


def period(month: str) -> str:
    return f"{month.replace('-', '')}01-{add_months(month, 1).replace('-', '')}01"


def write_json(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2))
    return path


def legacy_report(root: Path, costs: Sequence[str] = ("1.5",), *, suffix: str = "csv.gz", **changes: object) -> Path:
    """A legacy report of 2024-01 in the OVERWRITE layout, one file a cost; returns its manifest."""
    keys = [f"cur/octo/20240101-20240201/octo-{number}.{suffix}" for number in range(1, len(costs) + 1)]
    for key, one in zip(keys, costs, strict=True):
        write_rows(root / key, [one])
    return write_json(root / "cur/octo/20240101-20240201/octo-Manifest.json", legacy_manifest(keys, **changes))


def source_file(name: str, data: bytes, **announced: object) -> SourceFile:
    return SourceFile(name, lambda: io.BytesIO(data), **announced)  # type: ignore[arg-type]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def refused(*parts: str) -> Iterator[None]:
    """Expect an error whose sentence has all these parts."""
    with pytest.raises(OctoError) as caught:
        yield
    for part in parts:
        assert part in sentence(caught.value)
