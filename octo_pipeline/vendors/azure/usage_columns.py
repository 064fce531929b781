"""The columns of Azure's billing data: one spelling and type for what its exports spell in many ways.

Here belongs which columns each kind of export has (a `Shape`), how a canonical column is made of a file's own
columns, as SQL text, and what in a value makes that fail. Reading files and what the columns mean for an
allocation do not.

Names are compared without case, separators and underscores, so PascalCase, camelCase and snake_case are one.
Text is trimmed and '' is null. Amounts in JSON are taken from the text of the line: DuckDB reads a JSON number
as a double, which has not the ten places that money has here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import identifier, literal
from octo_pipeline.vendors import focus_columns
from octo_pipeline.vendors.data_columns import Check, Expression, SourceColumn, folded

# Prices have more places than costs; nine digits before the point leave room to multiply them by a quantity.
RATE = "DECIMAL(24,15)"
TAGS = focus_columns.TAGS
# How the values of JSON lines are given: as text, and numbers in a column of their own as they stand there.
JSON_TEXT = "JSON"
JSON_NUMBER = "JSON NUMBER"

_TEXTS = ("VARCHAR", JSON_TEXT, JSON_NUMBER)
_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)")


@dataclass(frozen=True)
class Shape:
    """A kind of export.

    Attributes:
        name: the relation's name as a dbt source.
        columns: canonical name -> DuckDB type; tags are JSON objects with sorted keys.
        required: columns without which, and without whose value, nobody could tell whose cost a row is.
        account: the column that says who is billed.
        spellings: other names a column goes by, the best first; the first that has a value counts.
    """

    name: str
    columns: Mapping[str, str]
    required: tuple[str, ...]
    account: str
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def names(self, column: str) -> tuple[str, ...]:
        """What a column may be called in a file, folded."""
        return tuple(folded(name) for name in (column, *self.spellings.get(column, ())))


CSP_USAGE = Shape(
    name="azure_csp_usage",
    columns={
        "partner_id": "VARCHAR",
        "customer_name": "VARCHAR",
        "entitlement_id": "VARCHAR",
        "entitlement_description": "VARCHAR",
        "usage_date": "DATE",
        "charge_type": "VARCHAR",
        "meter_category": "VARCHAR",
        "meter_sub_category": "VARCHAR",
        "meter_name": "VARCHAR",
        "product_name": "VARCHAR",
        "sku_name": "VARCHAR",
        "consumed_service": "VARCHAR",
        "resource_location": "VARCHAR",
        "quantity": MONEY,
        "unit_price": RATE,
        "pc_to_bc_exchange_rate": RATE,
        "billing_pre_tax_total": MONEY,
        "billing_currency": "VARCHAR",
        "benefit_id": "VARCHAR",
        "benefit_type": "VARCHAR",
        "tags": TAGS,
    },
    required=("partner_id", "usage_date", "billing_pre_tax_total", "billing_currency"),
    account="partner_id",
    spellings={"usage_date": ("charge_start_date",), "meter_sub_category": ("meter_subcategory",)},
)

CSP_RECONCILIATION = Shape(
    name="azure_csp_reconciliation",
    columns={
        "partner_id": "VARCHAR",
        "customer_name": "VARCHAR",
        "charge_start_date": "DATE",
        "charge_type": "VARCHAR",
        "product_name": "VARCHAR",
        "sku_name": "VARCHAR",
        "subscription_id": "VARCHAR",
        "subscription_description": "VARCHAR",
        "term_and_billing_cycle": "VARCHAR",
        "meter_description": "VARCHAR",
        "reservation_order_id": "VARCHAR",
        "credit_reason_code": "VARCHAR",
        "billable_quantity": MONEY,
        "subtotal": MONEY,
        "currency": "VARCHAR",
    },
    required=("partner_id", "charge_start_date", "subtotal", "currency"),
    account="partner_id",
    spellings={
        "charge_start_date": ("order_date",),
        "billable_quantity": ("quantity",),
        "subtotal": ("sub_total",),
        "currency": ("billing_currency",),
    },
)

COST_DETAILS = Shape(
    name="azure_cost_details",
    columns={
        "billing_account_id": "VARCHAR",
        "billing_period_start_date": "DATE",
        "subscription_id": "VARCHAR",
        "subscription_name": "VARCHAR",
        "usage_date": "DATE",
        "charge_type": "VARCHAR",
        "product": "VARCHAR",
        "product_order_name": "VARCHAR",
        "meter_category": "VARCHAR",
        "meter_sub_category": "VARCHAR",
        "meter_name": "VARCHAR",
        "consumed_service": "VARCHAR",
        "resource_location": "VARCHAR",
        "quantity": MONEY,
        "pay_g_price": RATE,
        "pay_g_cost": MONEY,
        "exchange_rate": RATE,
        "cost": MONEY,
        "billing_currency": "VARCHAR",
        "pricing_model": "VARCHAR",
        "reservation_id": "VARCHAR",
        "benefit_id": "VARCHAR",
        "tags": TAGS,
    },
    required=("billing_account_id", "usage_date", "cost", "billing_currency"),
    account="billing_account_id",
    spellings={
        "usage_date": ("date", "usage_date_time"),
        "billing_period_start_date": ("date",),
        "subscription_id": ("subscription_guid",),
        "product": ("product_name",),
        "pay_g_cost": ("payg_cost_in_billing_currency",),
        "exchange_rate": ("exchange_rate_pricing_to_billing",),
        "cost": ("cost_in_billing_currency", "pre_tax_cost"),
        "billing_currency": ("billing_currency_code", "currency"),
    },
)

FOCUS = Shape(
    name="azure_focus",
    columns=focus_columns.COLUMNS,
    required=focus_columns.REQUIRED,
    account="billing_account_id",
    spellings=focus_columns.SPELLINGS,
)

SHAPES = {shape.name: shape for shape in (CSP_USAGE, CSP_RECONCILIATION, COST_DETAILS, FOCUS)}


def last_segment(path: str) -> str:
    """SQL of the last segment of a resource path, in which some exports write ids; an id alone stays as it is.

    The macro azure_last_segment does the same for dbt: the proof compares the two, so they share nothing.
    """
    return f"regexp_extract({path}, '[^/]+$')"


def expressions(shape: Shape, columns: Sequence[SourceColumn], place: str) -> list[Expression]:
    """The canonical columns of a file, in the order of the shape; what the file lacks is a typed NULL.

    Args:
        shape: the kind of export.
        columns: all columns of the file that matter.
        place: what to call the file in sentences.

    Raises:
        OctoError: a required column is missing, or one is of a type that cannot be it.
    """
    if shape is FOCUS:
        return focus_columns.expressions(columns, place)
    by_name: dict[str, list[SourceColumn]] = {}
    for column in columns:
        by_name.setdefault(folded(column.name), []).append(column)
    found = {name: [c for one in shape.names(name) for c in by_name.get(one, [])] for name in shape.columns}
    missing = [name for name in shape.required if not found[name]]
    if missing:
        raise OctoError(
            f"{place} has no column {', '.join(missing)}, without which no cost can be allocated. Export all "
            "attributes, or point to the right file.",
            code="column-missing",
        )
    return [
        _expression(name, kind, found[name], place, is_required=name in shape.required)
        for name, kind in shape.columns.items()
    ]


def _expression(name: str, kind: str, sources: Sequence[SourceColumn], place: str, *, is_required: bool) -> Expression:
    made = [_MAKERS.get(kind, _amount)(name, kind, source, place) for source in sources]
    empty = "'{}'" if kind == TAGS else f"CAST(NULL AS {kind})"
    value = f"coalesce({', '.join([*(one.value for one in made), empty])})"
    checks = [check for one in made for check in one.checks]
    if is_required:
        text = f"coalesce({', '.join([*map(_clean, sources), 'NULL'])})"
        checks.append(Check(sources[0].name, text, f"{text} IS NULL", "no row can do without it"))
    return Expression(name, value, tuple(checks))


def _text(name: str, _kind: str, source: SourceColumn, _place: str) -> Expression:
    return Expression(name, _clean(source))


def _clean(source: SourceColumn) -> str:
    text = source.sql if source.type in _TEXTS else f"CAST({source.sql} AS VARCHAR)"
    return f"nullif(trim({text}), '')"


def _amount(name: str, kind: str, source: SourceColumn, place: str) -> Expression:
    text, stands_for = _clean(source), "false"
    if source.type == JSON_NUMBER:
        text = digits_name(source)
        # A key of the same name in an object within the line could be found instead of this one.
        stands_for = f"TRY_CAST({text} AS DOUBLE) IS DISTINCT FROM TRY_CAST({_clean(source)} AS DOUBLE)"
    elif source.type != "VARCHAR":
        if not _NUMBER.fullmatch(source.type):
            raise OctoError(
                f"{place}: {source.name} is of type {source.type}, which holds no amounts.", code="column-type-wrong"
            )
        text = source.sql
    digits = "28 digits" if kind == MONEY else "9 digits"
    check = Check(
        source.name,
        _clean(source),
        f"{_clean(source)} IS NOT NULL AND (TRY_CAST({text} AS {kind}) IS NULL OR {stands_for})",
        f"which is no amount of at most {digits} before the decimal point",
    )
    return Expression(name, f"CAST({text} AS {kind})", (check,))


def digits_name(source: SourceColumn) -> str:
    """What the column is called that has a number of JSON lines as it stands there."""
    return identifier(f"octo_digits_{source.name}")


def digits_sql(source: SourceColumn, line: str) -> str:
    """SQL of a number as it stands in a line of JSON."""
    pattern = f'"{re.escape(source.name)}"\\s*:\\s*"?\\s*([-+0-9.eE]+)'
    return f"nullif(regexp_extract({line}, {literal(pattern)}, 1), '')"


def _day(name: str, _kind: str, source: SourceColumn, place: str) -> Expression:
    """A date as ISO 8601 or as Azure's CSV has it, month first."""
    if source.type.startswith("TIMESTAMP") or source.type == "DATE":
        zoned = " AT TIME ZONE 'UTC'" if source.type == "TIMESTAMP WITH TIME ZONE" else ""
        return Expression(name, f"CAST(({source.sql}{zoned}) AS DATE)")
    if source.type not in _TEXTS:
        raise OctoError(
            f"{place}: {source.name} is of type {source.type}, which holds no dates.", code="column-type-wrong"
        )
    text = _clean(source)
    is_bad = f"{text} IS NOT NULL AND ({_day_of(text, 'try_')}) IS NULL"
    reason = "which is no date such as 2024-01-31 or 01/31/2024"
    return Expression(name, _day_of(text, ""), (Check(source.name, text, is_bad, reason),))


def _day_of(text: str, attempt: str) -> str:
    """SQL of the date that a text is; with ``try_`` for the attempt, null where it is none."""
    american = f"regexp_extract({text}, '^[0-9]+/[0-9]+/[0-9]+')"
    return (
        f"CASE WHEN {american} <> '' THEN CAST({attempt}strptime({american}, '%m/%d/%Y') AS DATE) "
        f"ELSE CAST({attempt}CAST({text} AS TIMESTAMP) AS DATE) END"
    )


def _tags(name: str, _kind: str, source: SourceColumn, _place: str) -> Expression:
    """The non-empty tags as a JSON object with sorted keys; of a repeated key the first value.

    EA exports leave the braces of the object away.
    """
    if source.type.startswith(("MAP(", "STRUCT(")):
        return Expression(name, _sorted_object(f"to_json({source.sql})"))
    text = _clean(source)
    whole = f"CASE WHEN starts_with({text}, '{{') THEN {text} ELSE '{{' || {text} || '}}' END"
    # Asking malformed JSON for its type is an error.
    is_bad = f"{text} IS NOT NULL AND CASE WHEN json_valid({whole}) THEN json_type({whole}) <> 'OBJECT' ELSE true END"
    check = Check(source.name, text, is_bad, "which is no JSON object")
    return Expression(name, _sorted_object(f"CAST({whole} AS JSON)"), (check,))


def _sorted_object(json: str) -> str:
    # Bound to a name first: a lambda that spells the object out makes it again for every key.
    value = "trim(json_extract_string(octo_tags, '/' || replace(replace(octo_key, '~', '~0'), '/', '~1')))"
    keys = f"list_filter(list_sort(list_distinct(json_keys(octo_tags))), lambda octo_key: {value} <> '')"
    members = f"list_transform({keys}, lambda octo_key: to_json(octo_key) || ':' || to_json({value}))"
    text = f"'{{' || array_to_string({members}, ',') || '}}'"
    return f"list_transform([{json}], lambda octo_tags: {text})[1]"


_MAKERS = {"VARCHAR": _text, "DATE": _day, TAGS: _tags}
