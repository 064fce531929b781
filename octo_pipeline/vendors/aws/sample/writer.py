"""Writes a month of the sample: its data files and manifest, as AWS delivers them."""

import gzip
import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import duckdb

from octo_pipeline.model.months import add_months
from octo_pipeline.model.sql import Relation, Sql
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.sample.accounts import PAYER
from octo_pipeline.vendors.aws.sample.columns import COLUMNS, Column
from octo_pipeline.vendors.aws.sample.commitments import create_fulfilled
from octo_pipeline.vendors.aws.sample.fees import create_fees
from octo_pipeline.vendors.aws.sample.hours import create_hours
from octo_pipeline.vendors.aws.sample.lines import rows_of_file
from octo_pipeline.vendors.aws.sample.settings import REPORT_NAME, Format, SampleSettings
from octo_pipeline.vendors.aws.sample.usage import create_resources

_PREFIX = "cur"
_BUCKET = "octo-sample-cur"
_SUFFIXES: dict[Format, str] = {"parquet": "snappy.parquet", "csv.gz": "csv.gz"}
_COMPRESSION: dict[Format, str] = {"parquet": "Parquet", "csv.gz": "GZIP"}
_CONTENT_TYPES: dict[Format, str] = {"parquet": "Parquet", "csv.gz": "text/csv"}


def write_month(con: duckdb.DuckDBPyConnection, settings: SampleSettings, month: str, folder: Path) -> list[Path]:
    """Write the files of a month below the folder.

    Args:
        con: has the macros and the tables that hold for every month.
        settings: of the sample.
        month: YYYY-MM.
        folder: the root of the tree.

    Returns:
        The data files, then the manifest.
    """
    target = folder / "aws" / _PREFIX / REPORT_NAME / _period(month)
    target.mkdir(parents=True, exist_ok=True)
    manifest = target / f"{REPORT_NAME}-Manifest.json"
    manifest.unlink(missing_ok=True)
    for former in target.glob(f"{REPORT_NAME}-[0-9]*"):
        former.unlink()
    create_hours(con, month)
    create_resources(con, settings, month)
    create_fulfilled(con, settings, month)
    create_fees(con, settings, month)
    suffix = _SUFFIXES[settings.format]
    data_files = [target / f"{REPORT_NAME}-{number:05d}.{suffix}" for number in range(1, settings.files + 1)]
    for index, path in enumerate(data_files):
        _write_file(con, rows_of_file(settings, month, index), path, settings.format)
    unfinished = target / f"{REPORT_NAME}-0-Manifest.json"
    unfinished.write_text(json.dumps(_manifest(settings, month, data_files), indent=2) + "\n", encoding="utf-8")
    unfinished.replace(manifest)
    return [*data_files, manifest]


def _period(month: str) -> str:
    return "-".join(f"{start.replace('-', '')}01" for start in (month, add_months(month, 1)))


def _write_file(con: duckdb.DuckDBPyConnection, rows: Sql, path: Path, format: Format) -> None:
    if format == "parquet":
        con.execute(f"COPY ({rows}) TO $path (FORMAT parquet, COMPRESSION snappy)", {"path": str(path)})
        return
    columns = [{"header": column.header, "value": _csv_value(column)} for column in COLUMNS]
    query = render("vendors/aws/sample/csv_rows", csv_columns=columns, lines=Relation(f"({rows})"))
    plain = path.with_suffix("")
    try:
        con.execute(
            f"COPY ({query}) TO $path (FORMAT csv, HEADER, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%SZ')", {"path": str(plain)}
        )
        _compress(plain, path)
    finally:
        plain.unlink(missing_ok=True)


def _csv_value(column: Column) -> str:
    """AWS writes all digits of a number; a double would be written with an exponent."""
    return f"{column.athena_name}::DECIMAL(18, 10)" if column.sql_type == "DOUBLE" else column.athena_name


def _compress(plain: Path, path: Path) -> None:
    """Compress without a time stamp; DuckDB's own gzip takes more than twice as long (1.7 million lines)."""
    with (
        plain.open("rb") as source,
        path.open("wb") as target,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=target, mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed, length=1 << 20)


def _manifest(settings: SampleSettings, month: str, data_files: Sequence[Path]) -> dict[str, object]:
    folder = f"{_PREFIX}/{REPORT_NAME}/{_period(month)}"
    return {
        "assemblyId": settings.assembly_id(month),
        "account": PAYER,
        "columns": [
            {"category": column.category, "name": column.name, "type": column.manifest_type} for column in COLUMNS
        ],
        "charset": "UTF-8",
        "compression": _COMPRESSION[settings.format],
        "contentType": _CONTENT_TYPES[settings.format],
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
