"""The columns of an AWS Cost and Usage Report: one spelling and type for what reports spell in many ways.

Here belongs how a canonical column is made of a file's own columns, as SQL text, and what in a value makes
that fail. Reading files and deciding what a missing value means do not.

Column names are compared without case, separators and underscores, so ``lineItem/UnblendedCost``,
``line_item_unblended_cost`` and ``savings_plan_savings_plan_a_r_n`` are found. Text is trimmed and '' is
null. Some producers write the word None for a missing value: it is null where it cannot be a value (amounts,
dates, ids, ARNs and the like) and stays where it can (operation, description, names, tags).
"""

import json
import re
from collections.abc import Sequence

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.vendors.data_columns import Check, Expression, SourceColumn, folded

COLUMNS: dict[str, str] = {
    "bill_billing_period_start_date": "TIMESTAMP",
    "bill_payer_account_id": "VARCHAR",
    "bill_invoice_id": "VARCHAR",
    "bill_billing_entity": "VARCHAR",
    "line_item_usage_account_id": "VARCHAR",
    "line_item_usage_account_name": "VARCHAR",
    "line_item_line_item_type": "VARCHAR",
    "line_item_usage_start_date": "TIMESTAMP",
    "line_item_product_code": "VARCHAR",
    "line_item_usage_type": "VARCHAR",
    "line_item_operation": "VARCHAR",
    "line_item_line_item_description": "VARCHAR",
    "line_item_currency_code": "VARCHAR",
    "line_item_usage_amount": MONEY,
    "line_item_unblended_cost": MONEY,
    "product_product_name": "VARCHAR",
    "product_region": "VARCHAR",
    "pricing_public_on_demand_cost": MONEY,
    "pricing_offering_class": "VARCHAR",
    "reservation_reservation_arn": "VARCHAR",
    "reservation_effective_cost": MONEY,
    "reservation_unused_amortized_upfront_fee_for_billing_period": MONEY,
    "reservation_unused_recurring_fee": MONEY,
    "savings_plan_savings_plan_arn": "VARCHAR",
    "savings_plan_savings_plan_effective_cost": MONEY,
    "savings_plan_total_commitment_to_date": MONEY,
    "savings_plan_used_commitment": MONEY,
    "savings_plan_offering_type": "VARCHAR",
    "tags_json": "VARCHAR",
}

# Without these columns a file is refused: nobody could tell whose cost a row is, when, in what or how much.
REQUIRED = (
    "bill_payer_account_id",
    "line_item_usage_account_id",
    "line_item_line_item_type",
    "line_item_usage_start_date",
    "line_item_unblended_cost",
    "line_item_currency_code",
)
# A row without a usage account is the payer's own (allocation.md §3).
REQUIRED_VALUES = tuple(name for name in REQUIRED if name != "line_item_usage_account_id")

_ACCOUNTS = ("bill_payer_account_id", "line_item_usage_account_id")
_NONE_CAN_BE_A_VALUE = (
    "bill_billing_entity",
    "line_item_usage_account_name",
    "line_item_line_item_type",
    "line_item_product_code",
    "line_item_usage_type",
    "line_item_operation",
    "line_item_line_item_description",
    "product_product_name",
)
# What CUR 2.0 calls otherwise, or keeps in its map `product`.
_OTHER_NAMES = {"product_region": ("product_region_code",)}
_PRODUCT_KEYS = {"product_product_name": ("product_name",), "product_region": ("region", "region_code")}

_TAG_COLUMN = re.compile(r"resource_?tags[/_](.+)", re.IGNORECASE | re.DOTALL)
_USER_PREFIX = re.compile(r"user[:_](?=.)", re.DOTALL)
_INTEGER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_NUMBER = re.compile(rf"{_INTEGER.pattern}|FLOAT|DOUBLE|DECIMAL\(.*\)")


def expressions(columns: Sequence[SourceColumn], place: str) -> list[Expression]:
    """The canonical columns of a file, in the order of `COLUMNS`; what the file lacks is a typed NULL.

    Args:
        columns: all columns of the file.
        place: what to call the file in sentences.

    Raises:
        OctoError: a required column is missing, or one is there twice or of a type that cannot be it.
    """
    found: dict[str, list[SourceColumn]] = {}
    for column in columns:
        found.setdefault(folded(column.name), []).append(column)
    missing = [name for name in REQUIRED if not _named(found, name)]
    if missing:
        raise OctoError(
            f"{place} has no column {', '.join(missing)}, without which no cost can be allocated. Add it to "
            "the report or export in AWS, or point to the right file.",
            code="column-missing",
        )
    return [_expression(name, found, columns, place) for name in COLUMNS]


def _named(found: dict[str, list[SourceColumn]], name: str) -> list[SourceColumn]:
    names = (name, *_OTHER_NAMES.get(name, ()))
    return [column for one in names for column in found.get(folded(one), [])]


def _expression(
    name: str, found: dict[str, list[SourceColumn]], columns: Sequence[SourceColumn], place: str
) -> Expression:
    if name == "tags_json":
        return _tags(found.get("resourcetags", []), columns)
    sources = _named(found, name)
    match COLUMNS[name]:
        case "VARCHAR":
            return _text(name, sources, found.get("product", []))
        case kind if not sources:
            return Expression(name, f"CAST(NULL AS {kind})")
        case kind if len(sources) > 1:
            twice = " and ".join(source.name for source in sources)
            raise OctoError(
                f"{place} has {name} twice, as {twice}. Keep one of them in the report.", code="column-repeated"
            )
        case "TIMESTAMP":
            return _instant(name, sources[0], place)
        case _:
            return _amount(name, sources[0], place)


def _text(name: str, sources: Sequence[SourceColumn], products: Sequence[SourceColumn]) -> Expression:
    values = [_clean(source, name) for source in sources]
    checks: list[Check] = []
    if keys := _PRODUCT_KEYS.get(name):
        for product in products:
            values += [f"nullif(trim({_map_value(product, key)}), '')" for key in keys]
            checks += _map_checks(product)
    return Expression(name, _coalesced(values), tuple(checks))


def _coalesced(values: Sequence[str]) -> str:
    # A coalesce of one value is not optimised away: it copies the column, a fifth of the time of normalisation.
    match values:
        case []:
            return "CAST(NULL AS VARCHAR)"
        case [value]:
            return value
        case _:
            return f"coalesce({', '.join(values)})"


def _amount(name: str, source: SourceColumn, place: str) -> Expression:
    if not (_NUMBER.fullmatch(source.type) or source.type == "VARCHAR"):
        raise OctoError(
            f"{place}: {source.name} is of type {source.type}, which holds no amounts.", code="column-type-wrong"
        )
    text = _clean(source, name) if source.type == "VARCHAR" else source.sql
    is_bad = f"{text} IS NOT NULL AND TRY_CAST({text} AS {MONEY}) IS NULL"
    reason = "which is no amount of at most 28 digits before the decimal point"
    return Expression(name, f"CAST({text} AS {MONEY})", (Check(source.name, source.sql, is_bad, reason),))


def _instant(name: str, source: SourceColumn, place: str) -> Expression:
    if source.type == "TIMESTAMP WITH TIME ZONE":
        return Expression(name, f"({source.sql} AT TIME ZONE 'UTC')")
    if source.type.startswith("TIMESTAMP") or source.type == "DATE":
        return Expression(name, f"CAST({source.sql} AS TIMESTAMP)")
    if source.type != "VARCHAR":
        raise OctoError(
            f"{place}: {source.name} is of type {source.type}, which holds no dates.", code="column-type-wrong"
        )
    text = _clean(source, name)
    # A cast to TIMESTAMP ignores an offset; one to TIMESTAMPTZ takes the session's zone where there is none.
    has_offset = (
        f"NOT ends_with({text}, 'Z') AND NOT ends_with({text}, '+00:00') "
        f"AND regexp_matches({text}, ':\\d\\d(\\.\\d+)?[+-]\\d\\d')"
    )
    value = (
        f"CASE WHEN {has_offset} THEN CAST({text} AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST({text} AS TIMESTAMP) END"
    )
    is_bad = f"{text} IS NOT NULL AND TRY_CAST({text} AS TIMESTAMP) IS NULL"
    reason = "which is no date and time such as 2024-01-31T00:00:00Z"
    return Expression(name, value, (Check(source.name, source.sql, is_bad, reason),))


def _clean(source: SourceColumn, name: str) -> str:
    text = f"nullif(trim({_as_text(source, name)}), '')"
    return text if name in _NONE_CAN_BE_A_VALUE else f"nullif({text}, 'None')"


def _as_text(source: SourceColumn, name: str) -> str:
    if source.type == "VARCHAR":
        return source.sql
    if name in _ACCOUNTS and _NUMBER.fullmatch(source.type):
        # An account id that was stored as a number has lost its leading zeros.
        return f"lpad(CAST(CAST({source.sql} AS BIGINT) AS VARCHAR), 12, '0')"
    return f"CAST({source.sql} AS VARCHAR)"


def _tags(maps: Sequence[SourceColumn], columns: Sequence[SourceColumn]) -> Expression:
    """The non-empty tags as a JSON object with sorted keys; of one key, the last non-empty value.

    Known drawback: where a file has both a map and columns of tags, only the map is taken.
    """
    if maps:
        return Expression("tags_json", _tags_of_map(_as_map(maps[-1])), _map_checks(maps[-1]))
    values: dict[str, list[str]] = {}
    for column in columns:
        if match := _TAG_COLUMN.fullmatch(column.name):
            text = f"nullif(trim({_as_text(column, 'tags_json')}), '')"
            values.setdefault(_USER_PREFIX.sub("", match[1], count=1), []).append(text)
    members = [
        f"{literal(json.dumps(key, ensure_ascii=False) + ':')} || to_json({_coalesced(texts[::-1])})"
        for key, texts in sorted(values.items())
    ]
    return Expression("tags_json", f"'{{' || concat_ws(',', {', '.join(['NULL', *members])}) || '}}'")


def _tags_of_map(tags: str) -> str:
    """The same object from a map, whose keys differ from row to row.

    Repeated keys stand side by side once sorted, so dropping them comes after that. The sorted list is bound
    to a name first: a lambda that spells it out makes it again for every member (five times slower).
    """
    key = (
        "CASE WHEN starts_with(octo_tag.key, 'user_') OR starts_with(octo_tag.key, 'user:') "
        "THEN substr(octo_tag.key, 6) ELSE octo_tag.key END"
    )
    filled = f"list_filter(map_entries({tags}), lambda octo_tag: trim(octo_tag.value) <> '')"
    members = (
        f"list_sort(list_transform({filled}, lambda octo_tag, octo_at: "
        f"{{'key': {key}, 'at': octo_at, 'value': trim(octo_tag.value)}}))"
    )
    last = "list_filter(octo_tags, lambda octo_tag, octo_at: octo_tags[octo_at + 1].key IS DISTINCT FROM octo_tag.key)"
    text = f"list_transform({last}, lambda octo_tag: to_json(octo_tag.key) || ':' || to_json(octo_tag.value))"
    bound = f"list_transform([{members}], lambda octo_tags: array_to_string({text}, ','))[1]"
    return f"CASE WHEN cardinality({tags}) > 0 THEN '{{' || {bound} || '}}' ELSE '{{}}' END"


def _is_map(source: SourceColumn) -> bool:
    return source.type.startswith("MAP(")


def _is_struct(source: SourceColumn) -> bool:
    return source.type.startswith("STRUCT(")


def _json(source: SourceColumn) -> str:
    """A map that CSV holds as JSON text, or that a rewritten Parquet file holds as a STRUCT."""
    return f"to_json({source.sql})" if _is_struct(source) else f"CAST({_clean(source, '')} AS JSON)"


def _as_map(source: SourceColumn) -> str:
    return f"CAST({source.sql if _is_map(source) else _json(source)} AS MAP(VARCHAR, VARCHAR))"


def _map_value(source: SourceColumn, key: str) -> str:
    if _is_map(source):
        return f"CAST(map_extract_value({source.sql}, {literal(key)}) AS VARCHAR)"
    return f"json_extract_string({_json(source)}, {literal(f'$.{key}')})"


def _map_checks(source: SourceColumn) -> tuple[Check, ...]:
    if _is_map(source) or _is_struct(source):
        return ()
    text = _clean(source, "")
    is_bad = f"{text} IS NOT NULL AND TRY_CAST(TRY_CAST({text} AS JSON) AS MAP(VARCHAR, VARCHAR)) IS NULL"
    return (Check(source.name, source.sql, is_bad, "which is no JSON object"),)
