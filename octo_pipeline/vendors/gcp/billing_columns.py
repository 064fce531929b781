"""The columns of a Google Cloud billing export: which are read, and the SQL that reads them.

This module holds DuckDB's SQL expressions. BigQuery's queries are in `billing_queries`. Tables, landing and the meaning
of a line item belong elsewhere.

Amounts are NUMERIC with nine decimal places. Google exports them as FLOAT64, and BigQuery casts each of them in its
queries. So no float leaves it, and its own sum of a partition must equal that of the landed rows exactly. Files that
were exported in another way may hold FLOAT64, which DuckDB casts to the same nine places.

Credits are a list within a row and are summed within it: joining them would repeat the row's cost. Promotions become
line items of their own, so they are also listed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.sql import literal, trimmed

Kind = Literal["text", "amount", "time", "list", "struct", "other"]
# The columns of a table or file, nested ones by their path: "project.id" -> text.
Schema = Mapping[str, Kind]

# These say whose cost a row is, when, of what kind and how much.
REQUIRED: dict[str, Kind] = {
    "billing_account_id": "text",
    "project.id": "text",
    "usage_start_time": "time",
    "export_time": "time",
    "invoice.month": "text",
    "cost_type": "text",
    "currency": "text",
    "cost": "amount",
    "credits": "list",
    "credits.amount": "amount",
    "credits.type": "text",
}
# A row without a project is the billing account's own, and a row may have no credits (allocation.md §3).
REQUIRED_VALUES = ("billing_account_id", "usage_start_time", "invoice.month", "cost_type", "currency", "cost")

_OPTIONAL: dict[str, Kind] = {
    "service.id": "text",
    "service.description": "text",
    "sku.id": "text",
    "sku.description": "text",
    "project.name": "text",
    "project.labels": "list",
    "project.labels.key": "text",
    "project.labels.value": "text",
    "labels": "list",
    "labels.key": "text",
    "labels.value": "text",
    "location.region": "text",
    "usage.amount": "amount",
    "cost_at_list": "amount",
    "cost_at_effective_price_default": "amount",
    "consumption_model.description": "text",
    "subscription.instance_id": "text",
    "seller_name": "text",
    "credits.name": "text",
    "credits.full_name": "text",
    "credits.id": "text",
    "adjustment_info.description": "text",
}
_READ = REQUIRED | _OPTIONAL
# Columns that only serve to distinguish rows.
_DISTINGUISHING: dict[str, Kind] = {
    "usage_end_time": "time",
    "resource.name": "text",
    "resource.global_name": "text",
    "usage.unit": "text",
    "transaction_type": "text",
    "location.location": "text",
    "location.zone": "text",
    "project.number": "text",
    "adjustment_info.id": "text",
}
_KNOWN = _READ | _DISTINGUISHING
# The columns that BigQuery casts to NUMERIC.
MONEY_COLUMNS = ("cost", "cost_at_list", "cost_at_effective_price_default")
# These credits pay a part of the bill; all others lower the price of their row (allocation.md §3).
_PROMOTIONS = ("PROMOTION", "SUBSCRIPTION_BENEFIT")
# With this label, Google names the SKU for which a part of a commitment's fee was paid.
_FEE_LABEL = "goog-originating-sku-id"

# The columns of the relation over landed files.
COLUMNS: dict[str, str] = {
    "billing_account_id": "VARCHAR",
    "invoice_month": "VARCHAR",
    "project_id": "VARCHAR",
    "project_name": "VARCHAR",
    "usage_start_time": "TIMESTAMP",
    "cost_type": "VARCHAR",
    "service_id": "VARCHAR",
    "service_description": "VARCHAR",
    "sku_description": "VARCHAR",
    "adjustment_description": "VARCHAR",
    "region": "VARCHAR",
    "currency": "VARCHAR",
    "usage_amount": MONEY,
    "cost": MONEY,
    "cost_at_list": MONEY,
    "cost_at_default_price": MONEY,
    "credits_cost": MONEY,
    "promotions_cost": MONEY,
    "promotions": f"STRUCT(description VARCHAR, cost {MONEY})[]",
    "commitment_credit_count": "BIGINT",
    "commitment_credit_id": "VARCHAR",
    "resource_commitment_credits_cost": MONEY,
    "spend_commitment_credits_cost": MONEY,
    "has_fee_offset": "BOOLEAN",
    "consumption_model": "VARCHAR",
    "subscription_id": "VARCHAR",
    "originating_sku_id": "VARCHAR",
    "seller_name": "VARCHAR",
    "labels_json": "VARCHAR",
    "project_labels_json": "VARCHAR",
}
# The file and number of a row: two rows can be equal in all other columns.
PLACE_COLUMNS: dict[str, str] = {"file_name": "VARCHAR", "file_row": "BIGINT"}

_JSON_SCALARS: dict[Kind, str] = {"text": "VARCHAR", "amount": "DECIMAL(38, 9)", "time": "TIMESTAMPTZ"}


def _json_type(prefix: str) -> str:
    """The DuckDB type of the value at a path; '' is the whole row."""
    if prefix == "usage.amount":
        # A quantity has more decimal places than money.
        return "DOUBLE"
    if (scalar := _JSON_SCALARS.get(_KNOWN.get(prefix, "struct"))) is not None:
        return scalar
    start = f"{prefix}." if prefix else ""
    names = dict.fromkeys(path.removeprefix(start).split(".")[0] for path in _KNOWN if path.startswith(start))
    fields = ", ".join(f'"{name}" {_json_type(start + name)}' for name in names)
    return f"STRUCT({fields})" + ("[]" if _KNOWN.get(prefix) == "list" else "")


# The types of the values of JSON objects, by top-level name.
JSON_TYPES: dict[str, str] = {path.split(".")[0]: _json_type(path.split(".")[0]) for path in _KNOWN}

_TABLE_PREFIXES = {"detailed": "gcp_billing_export_resource_v1_", "standard": "gcp_billing_export_v1_"}


def table_names(billing_account_id: str) -> dict[str, str]:
    """Google's names of the tables of an account, by kind; the detailed one first."""
    account = billing_account_id.replace("-", "_")
    return {kind: prefix + account for kind, prefix in _TABLE_PREFIXES.items()}


def json_schema(names: Iterable[str]) -> dict[str, Kind]:
    """The known columns of a file of JSON objects, by their top-level names.

    JSON often omits null values, so all known columns within an object are assumed to exist.
    """
    tops = set(names)
    return {path: kind for path, kind in _KNOWN.items() if path.split(".")[0] in tops}


def comparable_values(schemas: Sequence[Schema]) -> list[str]:
    """DuckDB SQL of the values by which rows of files with these schemas can be compared, without labels.

    They are all columns that the files have in common with the same type.
    """
    common = {path: kind for path, kind in schemas[0].items() if all(schema.get(path) == kind for schema in schemas)}
    lists = tuple(f"{path}." for path, kind in common.items() if kind == "list")
    values = [
        _comparable(path, kind)
        for path, kind in sorted(common.items())
        if kind not in ("list", "struct") and not path.startswith(lists)
    ]
    parts = [part for part in ("type", "id", "name", "full_name") if f"credits.{part}" in common]
    texts = ", ".join(f"'{part}': {trimmed(f'octo_credit.{part}')}" for part in parts)
    credit = f"{{{texts}, 'amount': CAST(octo_credit.amount AS DECIMAL(38, 9))}}"
    return [*values, f"coalesce(list_sort(list_transform(credits, lambda octo_credit: {credit})), [])"]


def _comparable(path: str, kind: Kind) -> str:
    match kind:
        case "text":
            return trimmed(_path(path))
        case "amount":
            return f"TRY_CAST({_path(path)} AS DECIMAL(38, 9))"
        case "time":
            return f"epoch_us({_path(path)})"
        case _:
            return f"CAST({_path(path)} AS VARCHAR)"


def known(schema: Schema) -> list[str]:
    """The paths of a schema that are read, in order."""
    return sorted(path for path in schema if path in _READ)


def schema_problem(schema: Schema) -> str | None:
    """Why a table or file is not a billing export, as words that follow its name in a message; None if it is one."""
    if missing := [path for path in REQUIRED if path not in schema]:
        return f"has no column {', '.join(missing)}, without which no cost can be allocated"
    wrong = [f"{path} ({schema[path]}, not {kind})" for path, kind in _READ.items() if schema.get(path, kind) != kind]
    return f"has columns that are not of the type Google exports: {', '.join(wrong)}" if wrong else None


def expressions(schema: Schema) -> dict[str, str]:
    """The columns of `COLUMNS` as DuckDB SQL over a file of that schema; a column that it lacks is a typed NULL."""
    values = {
        "billing_account_id": _text(schema, "billing_account_id"),
        "invoice_month": _text(schema, "invoice.month"),
        "project_id": _text(schema, "project.id"),
        "project_name": _text(schema, "project.name"),
        # Not AT TIME ZONE: the value may have a zone or not, and is in UTC in both cases.
        "usage_start_time": "make_timestamp(epoch_us(usage_start_time))",
        "cost_type": _text(schema, "cost_type"),
        "service_id": _text(schema, "service.id"),
        "service_description": _text(schema, "service.description"),
        "sku_description": _text(schema, "sku.description"),
        "adjustment_description": _text(schema, "adjustment_info.description"),
        "region": _text(schema, "location.region"),
        "currency": _text(schema, "currency"),
        "usage_amount": f"CAST({_path('usage.amount')} AS {MONEY})" if "usage.amount" in schema else "NULL",
        "cost": _money("cost"),
        "cost_at_list": _money_or_null(schema, "cost_at_list"),
        "cost_at_default_price": _money_or_null(schema, "cost_at_effective_price_default"),
        "credits_cost": f"coalesce({credits_cost('credits')}, 0)",
        "promotions_cost": f"coalesce({credits_cost(_credits(_IS_PROMOTION))}, 0)",
        "promotions": _promotions(schema),
        "commitment_credit_count": f"coalesce(len({_credits(_IS_COMMITMENT)}), 0)",
        "commitment_credit_id": _commitment_credit_id(schema),
        "resource_commitment_credits_cost": f"coalesce({credits_cost(_credits(_IS_RESOURCE_COMMITMENT))}, 0)",
        "spend_commitment_credits_cost": f"coalesce({credits_cost(_credits(_IS_SPEND_COMMITMENT))}, 0)",
        "has_fee_offset": f"coalesce(len({_credits(_IS_FEE_OFFSET)}), 0) > 0",
        "consumption_model": _text(schema, "consumption_model.description"),
        "subscription_id": _text(schema, "subscription.instance_id"),
        "originating_sku_id": _label_value(schema, _FEE_LABEL),
        "seller_name": _text(schema, "seller_name"),
        "labels_json": _labels(schema, "labels"),
        "project_labels_json": _labels(schema, "project.labels"),
    }
    return {name: f"CAST({values[name]} AS {kind})" for name, kind in COLUMNS.items()}


def credits_cost(column: str) -> str:
    """DuckDB SQL of the sum of a row's credits, each as NUMERIC; null if there are none."""
    return f"list_sum(list_transform({column}, lambda octo_credit: {_money('octo_credit.amount')}))"


def _money(value: str) -> str:
    return f"CAST(CAST({value} AS DECIMAL(38, 9)) AS {MONEY})"


def _money_or_null(schema: Schema, path: str) -> str:
    return _money(path) if path in schema else "NULL"


def _path(path: str) -> str:
    return ".".join(f'"{part}"' for part in path.split("."))


def _text(schema: Schema, path: str) -> str:
    return trimmed(_path(path)) if path in schema else "NULL"


# The type of spend-based commitments has the same beginning.
_IS_COMMITMENT = "starts_with(octo_credit.type, 'COMMITTED_USAGE_DISCOUNT')"
_IS_SPEND_COMMITMENT = "starts_with(octo_credit.type, 'COMMITTED_USAGE_DISCOUNT_DOLLAR_BASE')"
_IS_RESOURCE_COMMITMENT = f"{_IS_COMMITMENT} AND NOT {_IS_SPEND_COMMITMENT}"
_IS_FEE_OFFSET = "octo_credit.type = 'FEE_UTILIZATION_OFFSET'"
_IS_PROMOTION = f"octo_credit.type IN ({', '.join(map(literal, _PROMOTIONS))})"


def _credits(condition: str) -> str:
    return f"list_filter(credits, lambda octo_credit: {condition})"


def _commitment_credit_id(schema: Schema) -> str:
    """The id of the commitment credit, or its name, because Google often leaves the id empty."""
    name = _credit_name(schema, ("id", "full_name", "name"))
    return f"list_min(list_transform({_credits(_IS_COMMITMENT)}, lambda octo_credit: {name}))"


def _promotions(schema: Schema) -> str:
    name = _credit_name(schema, ("full_name", "name", "id"))
    promotion = f"{{'description': {name}, 'cost': {_money('octo_credit.amount')}}}"
    promotions = _credits(f"{_IS_PROMOTION} AND octo_credit.amount IS NOT NULL")
    return f"list_transform({promotions}, lambda octo_credit: {promotion})"


def _credit_name(schema: Schema, parts: Iterable[str]) -> str:
    names = [trimmed(f"octo_credit.{part}") for part in parts if f"credits.{part}" in schema]
    return f"coalesce({', '.join([*names, 'NULL::VARCHAR', 'NULL'])})"


def _label_value(schema: Schema, key: str) -> str:
    """The value of a label that Google sets."""
    if not {"labels.key", "labels.value"} <= set(schema):
        return "NULL"
    labels = f"list_filter(labels, lambda octo_label: octo_label.key = {literal(key)})"
    return f"list_min(list_transform({labels}, lambda octo_label: {trimmed('octo_label.value')}))"


def _labels(schema: Schema, path: str) -> str:
    """The non-empty labels as a JSON object with sorted keys; the greatest value of a repeated key counts.

    The sorted list is bound to a name first: a lambda that repeats the expression evaluates it for every member.
    """
    if not {f"{path}.key", f"{path}.value"} <= set(schema):
        return "'{}'"
    pairs = f"list_transform({_path(path)}, lambda octo_label: {{'key': octo_label.key, 'value': octo_label.value}})"
    filled = f"list_filter({pairs}, lambda octo_label: octo_label.key <> '' AND octo_label.value <> '')"
    # array_to_string omits the nulls of repeated keys.
    text = (
        "list_transform(octo_labels, lambda octo_label, octo_at: "
        "CASE WHEN octo_labels[octo_at + 1].key IS DISTINCT FROM octo_label.key "
        "THEN to_json(octo_label.key) || ':' || to_json(octo_label.value) END)"
    )
    bound = f"list_transform([list_sort({filled})], lambda octo_labels: array_to_string({text}, ','))[1]"
    return f"'{{' || coalesce({bound}, '') || '}}'"


def lost(before: Iterable[str], schema: Schema) -> list[str]:
    """The columns that were read before and no longer exist."""
    return sorted(set(before) - set(schema))
