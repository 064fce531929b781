"""The columns of an AWS Cost and Usage Report: one spelling and type for the many spellings of reports.

This module makes the SQL text of each canonical column from a file's own columns, and the checks of the values that it
cannot convert. Reading files and deciding what a missing value means belong elsewhere.

Column names are compared without case, separators and underscores, so ``lineItem/UnblendedCost``,
``line_item_unblended_cost`` and ``savings_plan_savings_plan_a_r_n`` all match. Text is trimmed and '' is null. Some
producers write the word None for a missing value. It is read as null where it cannot be a value (amounts, dates, ids,
ARNs and the like) and kept where it can (operation, description, names, tags).
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal, trimmed
from octo_pipeline.model.templates import macro
from octo_pipeline.vendors.data_columns import Check, Expression, SourceColumn, amount_of_text, folded

COLUMNS: dict[str, str] = {
    "bill_billing_period_start_date": "TIMESTAMP",
    "bill_payer_account_id": "VARCHAR",
    "bill_invoice_id": "VARCHAR",
    "bill_billing_entity": "VARCHAR",
    "bill_invoicing_entity": "VARCHAR",
    "line_item_usage_account_id": "VARCHAR",
    "line_item_usage_account_name": "VARCHAR",
    "line_item_line_item_type": "VARCHAR",
    "line_item_usage_start_date": "TIMESTAMP",
    "line_item_product_code": "VARCHAR",
    "line_item_usage_type": "VARCHAR",
    "line_item_operation": "VARCHAR",
    "line_item_line_item_description": "VARCHAR",
    "line_item_legal_entity": "VARCHAR",
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
    "split_line_item_parent_resource_id": "VARCHAR",
    "split_line_item_split_cost": MONEY,
    "split_line_item_unused_cost": MONEY,
    "tags_json": "VARCHAR",
}

# Of rows that split the cost of others, or in no table: the models do not read them.
NOT_IN_MODELS = (
    "savings_plan_offering_type",
    "split_line_item_parent_resource_id",
    "split_line_item_split_cost",
    "split_line_item_unused_cost",
)
COST = "line_item_unblended_cost"
# What `source_costs` reads: one amount, and texts of which a month has few.
BILLED = (
    "bill_payer_account_id",
    "bill_invoice_id",
    "bill_invoicing_entity",
    "line_item_operation",
    "line_item_currency_code",
    COST,
)
# AWS writes 0 where it has no price, so such lines are told from others by the sign.
LIST_COST = "pricing_public_on_demand_cost"

# A file without these columns is refused: they say whose cost a row is, when, in which currency and how much.
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

# Operations of rows that repeat the cost of other rows, split by container.
SPLIT_OPERATIONS = ("EKSPod-EC2", "ECSTask-EC2")

ACCOUNTS = ("bill_payer_account_id", "line_item_usage_account_id")
_NONE_CAN_BE_A_VALUE = (
    "bill_billing_entity",
    "bill_invoicing_entity",
    "line_item_legal_entity",
    "line_item_usage_account_name",
    "line_item_line_item_type",
    "line_item_product_code",
    "line_item_usage_type",
    "line_item_operation",
    "line_item_line_item_description",
    "product_product_name",
)
# CUR 2.0 has other names for these, or keeps them in its map `product`.
_OTHER_NAMES = {"product_region": ("product_region_code",)}
_PRODUCT_KEYS = {"product_product_name": ("product_name",), "product_region": ("region", "region_code")}

# The amortised cost of these line types differs from the billed cost, so a report that has them must have the column.
AMORTISED = {
    "reservation_reservation_arn": ("DiscountedUsage", "RIFee"),
    "reservation_effective_cost": ("DiscountedUsage",),
    "reservation_unused_amortized_upfront_fee_for_billing_period": ("RIFee",),
    "reservation_unused_recurring_fee": ("RIFee",),
    "savings_plan_savings_plan_arn": ("SavingsPlanCoveredUsage", "SavingsPlanRecurringFee"),
    "savings_plan_savings_plan_effective_cost": ("SavingsPlanCoveredUsage",),
    "savings_plan_total_commitment_to_date": ("SavingsPlanRecurringFee",),
    "savings_plan_used_commitment": ("SavingsPlanRecurringFee",),
}
_LINE_TYPE = "line_item_line_item_type"

Costs = Literal["unblended", "net"]

# The columns of the same costs after discounts.
_NET = {
    "line_item_unblended_cost": "line_item_net_unblended_cost",
    "reservation_effective_cost": "reservation_net_effective_cost",
    "reservation_unused_amortized_upfront_fee_for_billing_period": "reservation_net_unused_amortized_upfront_fee_for_billing_period",
    "reservation_unused_recurring_fee": "reservation_net_unused_recurring_fee",
    "savings_plan_savings_plan_effective_cost": "savings_plan_net_savings_plan_effective_cost",
}

# The same of split rows, which are weights: without net ones the costs before discounts weigh.
_NET_WEIGHTS = {
    "split_line_item_split_cost": "split_line_item_net_split_cost",
    "split_line_item_unused_cost": "split_line_item_net_unused_cost",
}

_TAG_COLUMN = re.compile(r"resource_?tags[/_](.+)", re.IGNORECASE | re.DOTALL)
# Tags of accounts, principals and users keep their prefix, which tells them from tags of resources.
_OTHER_TAG_COLUMN = re.compile(r"(accountTag|iamPrincipal|userAttribute)/.+", re.IGNORECASE | re.DOTALL)
_RESOURCE_PREFIX = "resourceTags/"
_USER_PREFIX = re.compile(r"user[:_](?=.)", re.DOTALL)
_INTEGER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
# Tools without a map type write a map as a list of pairs.
_PAIRS = re.compile(r'STRUCT\(("?(?:key|name|k)"?) \w+, ("?(?:value|v)"?) [^,]+\)\[\]', re.IGNORECASE)
_ENTRIES = "STRUCT(key VARCHAR, value VARCHAR)[]"
_NUMBER = re.compile(rf"{_INTEGER.pattern}|FLOAT|DOUBLE|DECIMAL\(.*\)")


def export_kind(names: Iterable[str]) -> Literal["cur", "focus", "other"]:
    """The kind of an export by its columns: a Cost and Usage Report, FOCUS, or another one such as recommendations."""
    known = {folded(name) for name in names}
    if any(folded(name) in known for name in REQUIRED):
        return "cur"
    return "focus" if {"billedcost", "billingaccountid"} <= known else "other"


def expressions(columns: Sequence[SourceColumn], origin: str, costs: Costs = "unblended") -> list[Expression]:
    """The canonical columns of a file, in the order of `COLUMNS`; a column that the file lacks is a typed NULL.

    Args:
        columns: all columns of the file.
        origin: what to call the file in messages.
        costs: ``net`` takes each cost after discounts.

    Raises:
        OctoError: a required column is missing, or a column is repeated or has a type that cannot be converted.
    """
    by_name: dict[str, list[SourceColumn]] = {}
    for column in columns:
        by_name.setdefault(folded(column.name), []).append(column)
    net_cost = _take_net_costs(by_name, origin) if costs == "net" else None
    missing = [name for name in REQUIRED if not _named(by_name, name)]
    if missing:
        raise OctoError(
            f"{origin} has no column {', '.join(missing)}, without which no cost can be allocated. Add it to "
            "the report or export in AWS, or point to the right file.",
            code="column-missing",
        )
    canonical = [_expression(name, by_name, columns, origin) for name in COLUMNS]
    return [net_cost if net_cost and expression.name == net_cost.name else expression for expression in canonical]


def _take_net_costs(by_name: dict[str, list[SourceColumn]], origin: str) -> Expression:
    """Replace the columns of costs before discounts in `by_name` by those of net costs.

    Returns:
        The expression of a row's cost: its net cost. If a row has no net cost, it is its cost before discounts, or 0 for
        a line of a discount, which the net costs of the other lines already contain.
    """
    cost = "line_item_unblended_cost"
    before, net = _named(by_name, cost), _named(by_name, _NET[cost])
    if len(net) != 1 or len(before) != 1:
        raise OctoError(
            f"{origin} has no column {_NET[cost]}, so it has no net costs. Add the net columns to the report or export in "
            "AWS, or remove costs from the source's document.",
            code="column-missing",
            place=origin,
        )
    for name, net_name in _NET.items():
        by_name[folded(name)] = _named(by_name, net_name)
    for name, net_name in _NET_WEIGHTS.items():
        by_name[folded(name)] = _named(by_name, net_name) or _named(by_name, name)
    line_type = _coalesced([_clean(source, _LINE_TYPE) for source in _named(by_name, _LINE_TYPE)])
    after, gross = _amount(cost, net[0], origin), _amount(cost, before[0], origin)
    without = f"CASE WHEN ends_with({line_type}, 'Discount') THEN 0 ELSE {gross.value} END"
    return Expression(cost, f"CAST(coalesce({after.value}, {without}) AS {MONEY})", after.checks + gross.checks)


def _named(by_name: dict[str, list[SourceColumn]], name: str) -> list[SourceColumn]:
    names = (name, *_OTHER_NAMES.get(name, ()))
    return [column for spelling in names for column in by_name.get(folded(spelling), [])]


def _expression(
    name: str, by_name: dict[str, list[SourceColumn]], columns: Sequence[SourceColumn], origin: str
) -> Expression:
    if name == "tags_json":
        return _tags([*by_name.get("resourcetags", [])[-1:], *by_name.get("tags", [])[-1:]], columns, origin)
    sources = _named(by_name, name)
    if not sources and name in AMORTISED:
        return _left_out(
            name, [other for other in AMORTISED if not _named(by_name, other)], _named(by_name, _LINE_TYPE)
        )
    match COLUMNS[name]:
        case "VARCHAR":
            return _text(name, sources, by_name.get("product", []), origin)
        case kind if not sources:
            return Expression(name, f"CAST(NULL AS {kind})")
        case kind if len(sources) > 1:
            twice = " and ".join(source.name for source in sources)
            raise OctoError(
                f"{origin} has {name} twice, as {twice}. Keep one of them in the report.", code="column-repeated"
            )
        case "TIMESTAMP":
            return _instant(name, sources[0], origin)
        case _:
            return _amount(name, sources[0], origin)


def _left_out(name: str, missing: Sequence[str], line_types: Sequence[SourceColumn]) -> Expression:
    """A column of commitments that a report lacks; it is null, and rows that need it are refused."""
    line_type = _coalesced([_clean(source, _LINE_TYPE) for source in line_types])
    is_bad = f"{line_type} IN ({', '.join(map(literal, AMORTISED[name]))})"
    needed = [other for other in missing if set(AMORTISED[other]) & set(AMORTISED[name])]
    reason = f"but the file has no column {', '.join(needed)}, so its amortised cost is unknown"
    remedy = "Add what is missing to the report or export in AWS."
    unknown = f"CASE WHEN {is_bad} THEN CAST(error({literal(f'no column {name}')}) AS {COLUMNS[name]}) END"
    check = Check(line_types[0].name, line_type, is_bad, reason, remedy)
    return Expression(name, unknown, (check,), _names(line_types))


def _text(name: str, sources: Sequence[SourceColumn], products: Sequence[SourceColumn], origin: str) -> Expression:
    if name in ACCOUNTS:
        values = [_account_or_error(source) for source in sources]
        checks = [_account_check(source) for source in sources]
        return Expression(name, _coalesced(values), tuple(checks), _names(sources))
    values = [_clean(source, name) for source in sources]
    checks = []
    if keys := _PRODUCT_KEYS.get(name):
        for product in products:
            _require_map(product, origin)
            values += [trimmed(_map_value(product, key)) for key in keys]
            checks += _map_checks(product)
        sources = [*sources, *products]
    return Expression(name, _coalesced(values), tuple(checks), _names(sources))


def _names(sources: Iterable[SourceColumn]) -> tuple[str, ...]:
    return tuple(source.sql for source in sources)


def _account(source: SourceColumn) -> str:
    if _NUMBER.fullmatch(source.type):
        return macro("vendors/aws/accounts", "account_id_of_number", source.sql)
    return macro("vendors/aws/accounts", "account_id", _clean(source, ""))


def _account_or_error(source: SourceColumn) -> str:
    # With null, the row would count as the payer's own.
    refused = f"CASE WHEN {_given_account(source)} IS NOT NULL THEN error('not an account id') END"
    return f"coalesce({_account(source)}, {refused})"


def _given_account(source: SourceColumn) -> str:
    return source.sql if _NUMBER.fullmatch(source.type) else _clean(source, "")


def _account_check(source: SourceColumn) -> Check:
    reason = "which is not an account id: it must have 12 digits"
    is_bad = f"{_given_account(source)} IS NOT NULL AND ({_account(source)}) IS NULL"
    return Check(source.name, source.sql, is_bad, reason)


def _coalesced(values: Sequence[str]) -> str:
    # DuckDB does not optimise away a coalesce of one value; copying the column takes a fifth of normalisation.
    match values:
        case []:
            return "CAST(NULL AS VARCHAR)"
        case [value]:
            return value
        case _:
            return f"coalesce({', '.join(values)})"


def _amount(name: str, source: SourceColumn, origin: str) -> Expression:
    if not (_NUMBER.fullmatch(source.type) or source.type == "VARCHAR"):
        raise OctoError(
            f"{origin}: {source.name} is of type {source.type}, which holds no amounts.", code="column-type-wrong"
        )
    is_text = source.type == "VARCHAR"
    text = _clean(source, name) if is_text else source.sql
    value = amount_of_text(source.sql, text) if is_text else f"CAST({text} AS {MONEY})"
    is_bad = f"{text} IS NOT NULL AND TRY_CAST({text} AS {MONEY}) IS NULL"
    reason = "which is not an amount with at most 28 digits before the decimal point"
    return Expression(name, value, (Check(source.name, source.sql, is_bad, reason),))


def _instant(name: str, source: SourceColumn, origin: str) -> Expression:
    if source.type == "TIMESTAMP WITH TIME ZONE":
        return Expression(name, f"({source.sql} AT TIME ZONE 'UTC')")
    if source.type.startswith("TIMESTAMP") or source.type == "DATE":
        return Expression(name, f"CAST({source.sql} AS TIMESTAMP)")
    if source.type != "VARCHAR":
        raise OctoError(
            f"{origin}: {source.name} is of type {source.type}, which holds no dates.", code="column-type-wrong"
        )
    text = _clean(source, name)
    # A cast to TIMESTAMP ignores an offset; one to TIMESTAMPTZ assumes the session's zone if there is no offset.
    has_offset = (
        f"NOT ends_with({text}, 'Z') AND NOT ends_with({text}, '+00:00') "
        f"AND regexp_matches({text}, ':\\d\\d(\\.\\d+)?[+-]\\d\\d')"
    )
    value = (
        f"CASE WHEN {has_offset} THEN CAST({text} AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST({text} AS TIMESTAMP) END"
    )
    is_bad = f"{text} IS NOT NULL AND TRY_CAST({text} AS TIMESTAMP) IS NULL"
    reason = "which is not a date and time such as 2024-01-31T00:00:00Z"
    return Expression(name, value, (Check(source.name, source.sql, is_bad, reason),))


def _clean(source: SourceColumn, name: str) -> str:
    text = trimmed(source.sql) if source.type == "VARCHAR" else f"CAST({source.sql} AS VARCHAR)"
    return text if name in _NONE_CAN_BE_A_VALUE else f"nullif({text}, 'None')"


def _tags(maps: Sequence[SourceColumn], columns: Sequence[SourceColumn], origin: str) -> Expression:
    """The non-empty tags as a JSON object with sorted keys; the last non-empty value of a repeated key counts.

    CUR 2.0 has the tags of resources in `resource_tags`, and those of accounts and principals also in `tags`.

    Known drawback: if a file has both a map and columns of tags, only the map is read.
    """
    if maps:
        for source in maps:
            _require_map(source, origin)
        lists = [f"coalesce({_entries(source)}, [])" for source in maps]
        entries = lists[0] if len(lists) == 1 else f"list_concat({', '.join(lists)})"
        checks = tuple(check for source in maps for check in _map_checks(source))
        return Expression("tags_json", _tags_of_entries(entries), checks, _names(maps))
    values: dict[str, list[str]] = {}
    sources = []
    for column in columns:
        key = None
        if match := _TAG_COLUMN.fullmatch(column.name):
            key = _USER_PREFIX.sub("", match[1], count=1)
        elif _OTHER_TAG_COLUMN.fullmatch(column.name):
            key = column.name
        if key is not None:
            text = column.sql if column.type == "VARCHAR" else f"CAST({column.sql} AS VARCHAR)"
            values.setdefault(key, []).append(f"nullif({text}, '')")
            sources.append(column)
    members = [
        f"{literal(json.dumps(key, ensure_ascii=False) + ':')} || to_json({_coalesced(texts[::-1])})"
        for key, texts in sorted(values.items())
    ]
    text = f"'{{' || concat_ws(',', {', '.join(['NULL', *members])}) || '}}'"
    return Expression("tags_json", text, sources=_names(sources))


def _tags_of_entries(entries: str) -> str:
    """The same object from a list of pairs, whose keys differ from row to row.

    Sorting puts repeated keys next to each other, so they are dropped after it. The sorted list is bound to a name
    first: a lambda that repeats the expression evaluates it again for every member (five times slower).
    """
    bare = (
        f"CASE WHEN starts_with(octo_tag.key, {literal(_RESOURCE_PREFIX)}) "
        f"THEN substr(octo_tag.key, {len(_RESOURCE_PREFIX) + 1}) ELSE octo_tag.key END"
    )
    key = f"regexp_replace({bare}, '^user[:_]', '')"
    filled = f"list_filter({entries}, lambda octo_tag: octo_tag.key IS NOT NULL AND octo_tag.value <> '')"
    members = (
        f"list_sort(list_transform({filled}, lambda octo_tag, octo_at: "
        f"{{'key': {key}, 'at': octo_at, 'value': octo_tag.value}}))"
    )
    last = "list_filter(octo_tags, lambda octo_tag, octo_at: octo_tags[octo_at + 1].key IS DISTINCT FROM octo_tag.key)"
    text = f"list_transform({last}, lambda octo_tag: to_json(octo_tag.key) || ':' || to_json(octo_tag.value))"
    bound = f"list_transform([{members}], lambda octo_tags: array_to_string({text}, ','))[1]"
    return f"CASE WHEN len({entries}) > 0 THEN '{{' || {bound} || '}}' ELSE '{{}}' END"


def _require_map(source: SourceColumn, origin: str) -> None:
    if _form(source) is None:
        raise OctoError(
            f"{origin}: {source.name} is of type {source.type}, which does not hold keys with values. Deliver it as a "
            "map or as JSON text.",
            code="column-type-wrong",
            place=origin,
        )


def _form(source: SourceColumn) -> str | None:
    """How a column stores keys with values: ``map``, ``struct``, ``pairs`` (a list of pairs) or ``json``; else None."""
    if source.type.startswith("MAP("):
        return "map"
    if _PAIRS.fullmatch(source.type):
        return "pairs"
    if source.type.startswith("STRUCT(") and not source.type.endswith("[]"):
        return "struct"
    # A Parquet file without any value in the column may have the type NULL.
    return "json" if source.type in ("VARCHAR", "JSON", '"NULL"') else None


def _json(source: SourceColumn) -> str:
    """A map as JSON; CSV stores it as JSON text, and a rewritten Parquet file as a STRUCT."""
    if _form(source) == "struct":
        return f"to_json({source.sql})"
    text = _known(trimmed(f"CAST({source.sql} AS VARCHAR)" if source.type != "VARCHAR" else source.sql))
    return f"CAST({text} AS JSON)"


def _known(text: str) -> str:
    """The text, or null for the word None, which some producers write for a missing value."""
    return f"nullif({text}, 'None')"


def _entries(source: SourceColumn) -> str:
    """The pairs of a map as a list of structs with key and value, both as text."""
    match _form(source):
        case "map":
            return f"map_entries(CAST({source.sql} AS MAP(VARCHAR, VARCHAR)))"
        case "pairs":
            return f"CAST({_renamed_pairs(source)} AS {_ENTRIES})"
        case "struct":
            return f"map_entries(CAST({_json(source)} AS MAP(VARCHAR, VARCHAR)))"
        case _:
            document = _json(source)
            return (
                f"CASE WHEN json_type({document}) = 'ARRAY' THEN CAST({document} AS {_ENTRIES}) "
                f"ELSE map_entries(CAST({document} AS MAP(VARCHAR, VARCHAR))) END"
            )


def _renamed_pairs(source: SourceColumn) -> str:
    match = _PAIRS.fullmatch(source.type)
    names = [name.strip('"') for name in match.groups()] if match else []
    if [name.lower() for name in names] == ["key", "value"]:
        return source.sql
    key, value = (f'octo_pair."{name}"' for name in names)
    return f"list_transform({source.sql}, lambda octo_pair: {{'key': {key}, 'value': {value}}})"


def _map_value(source: SourceColumn, key: str) -> str:
    match _form(source):
        case "map":
            return f"CAST(map_extract_value({source.sql}, {literal(key)}) AS VARCHAR)"
        case "struct":
            return f"json_extract_string({_json(source)}, {literal(f'$.{key}')})"
        case _:
            of_key = f"list_filter({_entries(source)}, lambda octo_pair: octo_pair.key = {literal(key)})"
            return f"{of_key}[1].value"


def _map_checks(source: SourceColumn) -> tuple[Check, ...]:
    if _form(source) != "json":
        return ()
    text = _known(trimmed(source.sql if source.type == "VARCHAR" else f"CAST({source.sql} AS VARCHAR)"))
    document = f"TRY_CAST({text} AS JSON)"
    is_map = f"TRY_CAST({document} AS MAP(VARCHAR, VARCHAR)) IS NOT NULL"
    is_list = f"TRY_CAST({document} AS {_ENTRIES}) IS NOT NULL"
    is_read = f"CASE WHEN json_type({document}) = 'ARRAY' THEN {is_list} ELSE {is_map} END"
    is_bad = f"{text} IS NOT NULL AND NOT coalesce({is_read}, false)"
    return (Check(source.name, source.sql, is_bad, "which is not a JSON object"),)
