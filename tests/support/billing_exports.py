"""Small Google Cloud billing exports: the table's schema, its rows, and Parquet files of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
from google.cloud.bigquery import SchemaField

ACCOUNT = "0D1DR5-ADE21G-RF09W1"
STANDARD = "gcp_billing_export_v1_0D1DR5_ADE21G_RF09W1"
DETAILED = "gcp_billing_export_resource_v1_0D1DR5_ADE21G_RF09W1"

_LABEL = (SchemaField("key", "STRING"), SchemaField("value", "STRING"))
SCHEMA = (
    SchemaField("billing_account_id", "STRING"),
    SchemaField("service", "RECORD", fields=(SchemaField("id", "STRING"), SchemaField("description", "STRING"))),
    SchemaField("sku", "RECORD", fields=(SchemaField("id", "STRING"), SchemaField("description", "STRING"))),
    SchemaField("usage_start_time", "TIMESTAMP"),
    SchemaField("usage_end_time", "TIMESTAMP"),
    SchemaField(
        "project",
        "RECORD",
        fields=(
            SchemaField("id", "STRING"),
            SchemaField("name", "STRING"),
            SchemaField("labels", "RECORD", "REPEATED", fields=_LABEL),
        ),
    ),
    SchemaField("labels", "RECORD", "REPEATED", fields=_LABEL),
    SchemaField("location", "RECORD", fields=(SchemaField("region", "STRING"),)),
    SchemaField("export_time", "TIMESTAMP"),
    SchemaField("cost", "FLOAT"),
    SchemaField("currency", "STRING"),
    SchemaField("usage", "RECORD", fields=(SchemaField("amount", "FLOAT"), SchemaField("unit", "STRING"))),
    SchemaField(
        "credits",
        "RECORD",
        "REPEATED",
        fields=(
            SchemaField("name", "STRING"),
            SchemaField("amount", "FLOAT"),
            SchemaField("full_name", "STRING"),
            SchemaField("id", "STRING"),
            SchemaField("type", "STRING"),
        ),
    ),
    SchemaField("invoice", "RECORD", fields=(SchemaField("month", "STRING"),)),
    SchemaField("cost_type", "STRING"),
    SchemaField("cost_at_list", "FLOAT"),
)

# The fields of the commitments' new model.
SCHEMA_2026 = (
    *SCHEMA,
    SchemaField("cost_at_effective_price_default", "NUMERIC"),
    SchemaField("cost_at_list_consumption_model", "NUMERIC"),
    SchemaField(
        "consumption_model", "RECORD", fields=(SchemaField("id", "STRING"), SchemaField("description", "STRING"))
    ),
    SchemaField("subscription", "RECORD", fields=(SchemaField("instance_id", "STRING"),)),
)


def without(*names: str) -> list[SchemaField]:
    return [field for field in SCHEMA if field.name not in names]


def credit(amount: float, type: str = "COMMITTED_USAGE_DISCOUNT", name: str = "CUD: CPU", **more: Any) -> dict:
    return {"name": name, "amount": amount, "full_name": None, "id": None, "type": type} | more


def row(day: int = 1, *, cost: float = 1.5, month: str = "2024-01", **changes: Any) -> dict[str, Any]:
    """A row used on that day and exported in its evening."""
    return {
        "billing_account_id": ACCOUNT,
        "service": {"id": "6F81-5844-456A", "description": "Compute Engine"},
        "sku": {"id": "AAAA-0001", "description": "N2 Instance Core running in Belgium"},
        "usage_start_time": f"{month}-{day:02d}T13:00:00Z",
        "usage_end_time": f"{month}-{day:02d}T14:00:00Z",
        "project": {"id": "shop-prod", "name": "Shop", "labels": [{"key": "team", "value": "shop"}]},
        "labels": [],
        "location": {"region": "europe-west1"},
        "export_time": f"{month}-{day:02d}T22:00:00Z",
        "cost": cost,
        "currency": "EUR",
        "usage": {"amount": 3600.0, "unit": "seconds"},
        "credits": [],
        "invoice": {"month": month.replace("-", "")},
        "cost_type": "regular",
        "cost_at_list": cost,
    } | changes


_TYPES = {"STRING": "VARCHAR", "FLOAT": "DOUBLE", "NUMERIC": "DECIMAL(38, 9)", "TIMESTAMP": "TIMESTAMPTZ"}


def write_export(path: Path, rows: Sequence[Mapping[str, Any]], schema: Sequence[SchemaField] = SCHEMA) -> Path:
    """Rows as BigQuery writes a table to Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.with_suffix(".json")
    lines.write_text("\n".join(json.dumps({field.name: one.get(field.name) for field in schema}) for one in rows))
    columns = ", ".join(f"\"{field.name}\": '{_duckdb_type(field)}'" for field in schema)
    with duckdb.connect() as con:
        read = f"read_json('{lines}', format = 'newline_delimited', columns = {{{columns}}})"
        con.execute(f"COPY (FROM {read}) TO '{path}' (FORMAT parquet)")
    lines.unlink()
    return path


def _duckdb_type(field: SchemaField) -> str:
    if field.fields:
        inner = ", ".join(f'"{one.name}" {_duckdb_type(one)}' for one in field.fields)
        return f"STRUCT({inner})" + ("[]" if field.mode == "REPEATED" else "")
    return _TYPES[field.field_type]
