"""The columns of FOCUS: one spelling and type for what versions 1.0-preview to 1.4 and their providers spell differently.

This module holds which columns a FOCUS export has, how a canonical column is made of a file's own columns, as SQL text,
and what in a value makes that fail. It is shared: Azure exports FOCUS with manifests of its own, others in plain files.
Where files are found belongs in the vendors' folders, and what the columns mean for an allocation in dbt.

Names are compared without case, separators and underscores. Text is trimmed; '' is null, and so are the words NULL and
None, which some converters write for it.
"""

import re
from collections.abc import Mapping, Sequence

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import trimmed
from octo_pipeline.vendors.data_columns import Check, Expression, SourceColumn, amount_of_text, folded

# A JSON object with sorted keys, as text.
TAGS = "TAGS"

COLUMNS: Mapping[str, str] = {
    "billing_account_id": "VARCHAR",
    "billing_period_start": "DATE",
    "sub_account_id": "VARCHAR",
    "sub_account_name": "VARCHAR",
    "charge_period_start": "DATE",
    "charge_category": "VARCHAR",
    "charge_subcategory": "VARCHAR",
    "charge_class": "VARCHAR",
    "charge_description": "VARCHAR",
    "provider_name": "VARCHAR",
    "publisher_name": "VARCHAR",
    "invoice_id": "VARCHAR",
    "invoice_issuer_name": "VARCHAR",
    "service_name": "VARCHAR",
    "x_service_code": "VARCHAR",
    "x_sku_meter_category": "VARCHAR",
    "x_sku_meter_subcategory": "VARCHAR",
    "x_sku_meter_name": "VARCHAR",
    "x_usage_type": "VARCHAR",
    "x_operation": "VARCHAR",
    "sku_meter": "VARCHAR",
    "sku_id": "VARCHAR",
    "resource_type": "VARCHAR",
    "region_id": "VARCHAR",
    "billing_currency": "VARCHAR",
    "commitment_discount_id": "VARCHAR",
    "commitment_discount_type": "VARCHAR",
    "commitment_discount_category": "VARCHAR",
    "commitment_discount_status": "VARCHAR",
    "consumed_quantity": MONEY,
    "billed_cost": MONEY,
    "effective_cost": MONEY,
    "list_cost": MONEY,
    "tags": TAGS,
}
# Without these, and without their values, nobody could tell whose cost a row is.
REQUIRED = ("billing_account_id", "charge_period_start", "charge_category", "billed_cost", "billing_currency")
# Other names of a column, the best first; the first that has a value counts.
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    # 1.0-preview
    "region_id": ("region", "region_name"),
    "consumed_quantity": ("usage_quantity",),
    # 1.3 renames the provider and 1.4 has the new name alone.
    "provider_name": ("service_provider_name", "provider"),
    "publisher_name": ("publisher",),
    "invoice_issuer_name": ("invoice_issuer",),
    "sku_meter": ("x_sku_meter",),
    "x_service_code": ("x_service_id",),
}
# What tells FOCUS from other exports.
_TELLING = {"billedcost", "effectivecost", "chargecategory"}

_NULLS = "('NULL', 'null', 'None', '\\N')"
_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)")
_ID_COLUMNS = ("billing_account_id", "sub_account_id")
# A date with or without a time of day, which may lack seconds or minutes, and without an offset other than zero.
_PLAIN_DAY = r"^\d{4}-\d{2}-\d{2}([Tt ][0-2]\d(:[0-5]\d(:\d{2}([.,]\d+)?)?)?)? ?([Zz]|UTC|[+-]00(:?00)?)?$"
# The forms that most files have, of which a pattern is slower to match.
_USUAL_FORMS = ("____-__-__T__:__:__Z", "____-__-__ __:__:__")
# The same in any other form of ISO 8601: basic, or with an offset.
_ANY_INSTANT = (
    r"^(\d{4})-?(\d{2})-?(\d{2})(?:[Tt ](\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,]\d+)?)?)?)?"
    r" ?(?:[Zz]|UTC|([+-]\d{2}):?(\d{2})?)?$"
)


def is_focus(names: Sequence[str]) -> bool:
    """Whether these are the columns of a FOCUS export of charges."""
    return {folded(name) for name in names} >= _TELLING


def column_names(column: str) -> tuple[str, ...]:
    """What a canonical column may be called in a file, folded."""
    return tuple(folded(name) for name in (column, *SPELLINGS.get(column, ())))


def expressions(columns: Sequence[SourceColumn], origin: str) -> list[Expression]:
    """The canonical columns of a file, in the order of `COLUMNS`; what the file lacks is a typed NULL.

    Args:
        columns: all columns of the file.
        origin: what to call the file in sentences.

    Raises:
        OctoError: a required column is missing, or one is of a type that cannot be it.
    """
    by_name: dict[str, list[SourceColumn]] = {}
    for column in columns:
        by_name.setdefault(folded(column.name), []).append(column)
    sources = {
        name: [column for spelling in column_names(name) for column in by_name.get(spelling, [])] for name in COLUMNS
    }
    missing = [name for name in REQUIRED if not sources[name]]
    if missing:
        raise OctoError(
            f"{origin} has no column {', '.join(missing)}, without which no cost can be allocated. Export all columns of "
            "FOCUS, or point to the right file.",
            code="column-missing",
            place=origin,
        )
    return [_expression(name, kind, sources[name], origin) for name, kind in COLUMNS.items()]


def _expression(name: str, kind: str, sources: Sequence[SourceColumn], origin: str) -> Expression:
    made = [_MAKERS[kind](name, source, origin) for source in sources]
    empty = "'{}'" if kind == TAGS else f"CAST(NULL AS {kind})"
    value = f"coalesce({', '.join([*(expression.value for expression in made), empty])})"
    checks = [check for expression in made for check in expression.checks]
    if name in REQUIRED:
        text = f"coalesce({', '.join([*map(_text_of, sources), 'NULL'])})"
        checks.append(Check(sources[0].name, text, f"{text} IS NULL", "no row can do without it"))
    return Expression(name, value, tuple(checks))


def _text_of(source: SourceColumn) -> str:
    text = source.sql if source.type == "VARCHAR" else f"CAST({source.sql} AS VARCHAR)"
    value = trimmed(text)
    return f"CASE WHEN ({value}) NOT IN {_NULLS} THEN {value} END"


def _text(name: str, source: SourceColumn, _origin: str) -> Expression:
    text = _text_of(source)
    if name not in _ID_COLUMNS:
        return Expression(name, text)
    check = Check(
        source.name,
        text,
        rf"regexp_matches({text}, '^\d\.\d+[eE]\+\d+$')",
        "to which a spreadsheet shortened an account id",
        "Take the file as it was exported.",
    )
    return Expression(name, text, (check,))


def _amount(name: str, source: SourceColumn, origin: str) -> Expression:
    if source.type != "VARCHAR":
        if not _NUMBER.fullmatch(source.type):
            raise OctoError(
                f"{origin}: {source.name} is of type {source.type}, which holds no amounts.", code="column-type-wrong"
            )
        is_bad = f"{source.sql} IS NOT NULL AND TRY_CAST({source.sql} AS {MONEY}) IS NULL"
        amount = f"CAST({source.sql} AS {MONEY})"
    else:
        text = _text_of(source)
        is_bad = f"{text} IS NOT NULL AND TRY_CAST({text} AS {MONEY}) IS NULL"
        amount = amount_of_text(source.sql, text)
    reason = "which is not an amount with at most 28 digits before the decimal point"
    return Expression(name, amount, (Check(source.name, _text_of(source), is_bad, reason),))


def _day(name: str, source: SourceColumn, origin: str) -> Expression:
    if source.type.startswith("TIMESTAMP") or source.type == "DATE":
        zoned = " AT TIME ZONE 'UTC'" if source.type == "TIMESTAMP WITH TIME ZONE" else ""
        return Expression(name, f"CAST(({source.sql}{zoned}) AS DATE)")
    if source.type != "VARCHAR":
        raise OctoError(
            f"{origin}: {source.name} is of type {source.type}, which holds no dates.", code="column-type-wrong"
        )
    text = _text_of(source)
    is_bad = f"{text} IS NOT NULL AND ({iso_day(text, 'TRY_CAST')}) IS NULL"
    reason = "which is not a date such as 2024-01-31 or 2024-01-31T00:00:00Z"
    return Expression(name, iso_day(text, "CAST"), (Check(source.name, text, is_bad, reason),))


def iso_day(text: str, cast: str) -> str:
    """SQL of the day in UTC of a date and time in any form of ISO 8601.

    Args:
        text: SQL of the text, trimmed.
        cast: ``CAST``, or ``TRY_CAST`` for null where the text is not a date.
    """
    parts = [f"nullif(regexp_extract(octo_day, '{_ANY_INSTANT}', {number}), '')" for number in range(1, 9)]
    year, month, day, hour, minute, second, offset, offset_minute = parts
    instant = (
        f"{year} || '-' || {month} || '-' || {day} || ' ' || coalesce({hour}, '00') || ':' || coalesce({minute}, '00') "
        f"|| ':' || coalesce({second}, '00') || coalesce({offset}, '+00') || ':' || coalesce({offset_minute}, '00')"
    )
    # Bound to a name, since the parts would spell the text out again each.
    other = (
        f"list_transform([{text}], lambda octo_day: "
        f"CAST(({cast}(coalesce({instant}, octo_day) AS TIMESTAMPTZ) AT TIME ZONE 'UTC') AS DATE))[1]"
    )
    usual = " OR ".join(f"{text} LIKE '{form}'" for form in _USUAL_FORMS)
    plain = f"({usual} OR regexp_matches({text}, '{_PLAIN_DAY}'))"
    return f"CASE WHEN {plain} THEN {cast}(left({text}, 10) AS DATE) ELSE {other} END"


def _tags(name: str, source: SourceColumn, _origin: str) -> Expression:
    """The tags with a value as a JSON object with sorted keys; of a repeated key the first value.

    They come as the text of a JSON object, as a map or structure of Parquet, or as a list of pairs of key and value.
    """
    if source.type.startswith(("MAP(", "STRUCT(")):
        is_list = source.type.endswith("[]")
        value = f"map_from_entries({source.sql})" if is_list else source.sql
        return Expression(name, _sorted_object(f"to_json({value})"))
    text = _text_of(source)
    # Asking malformed JSON for its type is an error.
    is_bad = f"{text} IS NOT NULL AND CASE WHEN json_valid({text}) THEN json_type({text}) <> 'OBJECT' ELSE true END"
    check = Check(source.name, text, is_bad, "which is not a JSON object")
    return Expression(name, _sorted_object(f"CAST({text} AS JSON)"), (check,))


def _sorted_object(json: str) -> str:
    # Bound to a name first: a lambda that spells the object out makes it again for every key.
    value = "json_extract_string(octo_tags, '/' || replace(replace(octo_key, '~', '~0'), '/', '~1'))"
    keys = f"list_filter(list_sort(list_distinct(json_keys(octo_tags))), lambda octo_key: {value} <> '')"
    members = f"list_transform({keys}, lambda octo_key: to_json(octo_key) || ':' || to_json({value}))"
    text = f"'{{' || array_to_string({members}, ',') || '}}'"
    return f"list_transform([{json}], lambda octo_tags: {text})[1]"


_MAKERS = {"VARCHAR": _text, "DATE": _day, MONEY: _amount, TAGS: _tags}
