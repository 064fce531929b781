"""The columns of Azure's billing data: one spelling and type for the many spellings of its exports.

This module defines the columns of each kind of export (a `Shape`), the SQL text that makes a canonical column from a
file's own columns, and the checks of the values that it cannot convert. Reading files, and the meaning of columns for an
allocation, belong elsewhere.

Names are compared without case, separators and underscores, so PascalCase, camelCase and snake_case are equal. If a
localised name has the English one in brackets behind it, such as "Abonnement-GUID (SubscriptionGuid)", the name in
brackets counts. Text is trimmed and '' is null. Amounts in JSON are read from the text of the line, because DuckDB reads
a JSON number as a double, which does not keep the ten decimal places of money.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import identifier, literal, trimmed
from octo_pipeline.vendors import focus_columns
from octo_pipeline.vendors.data_columns import Check, Expression, SourceColumn, folded

# Prices have more decimal places than costs.
RATE = "DECIMAL(38,15)"
TAGS = focus_columns.TAGS
# The values of JSON lines are read as text; numbers also have a column with their digits as written.
JSON_TEXT = "JSON"
JSON_NUMBER = "JSON NUMBER"

# The types of columns whose values are text.
TEXT_TYPES = ("VARCHAR", JSON_TEXT, JSON_NUMBER)
# Arguments: a canonical column's name and type, a file's column, and what messages call the file.
_Maker = Callable[[str, str, SourceColumn, str], Expression]

_NAME_IN_BRACKETS = re.compile(r"[(（]([^()（）]+)[)）]\s*")
_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)")


@dataclass(frozen=True)
class Shape:
    """A kind of export.

    Attributes:
        name: the relation's name as a dbt source.
        columns: canonical name -> DuckDB type; tags are JSON objects with sorted keys.
        required: columns that must exist and have a value in each row; they say whose cost a row is.
        account: the column that says who is billed; not all exports have it.
        spellings: other names of a column, the best first; the first one with a value counts.
        only_for_list_cost: columns whose values must not stop a bill. A value that cannot be read is 0, which Azure
            writes if there is no price.
        usage_day: the column with the day of a charge.
        period_start: the column with the first day of its billing period, None if rows do not have it.
        period_end: the column with the last day of its billing period, None if rows do not have it.
    """

    name: str
    columns: Mapping[str, str]
    required: tuple[str, ...]
    account: str
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_for_list_cost: frozenset[str] = frozenset()
    usage_day: str = "usage_date"
    period_start: str | None = None
    period_end: str | None = None

    def names(self, column: str) -> tuple[str, ...]:
        """The folded names that a column may have in a file."""
        return tuple(folded(name) for name in (column, *self.spellings.get(column, ())))


CSP_USAGE = Shape(
    name="azure_csp_usage",
    columns={
        "partner_id": "VARCHAR",
        "customer_name": "VARCHAR",
        "invoice_number": "VARCHAR",
        "publisher_name": "VARCHAR",
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
    only_for_list_cost=frozenset({"unit_price", "pc_to_bc_exchange_rate"}),
)

CSP_RECONCILIATION = Shape(
    name="azure_csp_reconciliation",
    columns={
        "partner_id": "VARCHAR",
        "customer_name": "VARCHAR",
        "invoice_number": "VARCHAR",
        "publisher_name": "VARCHAR",
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
    usage_day="charge_start_date",
)

COST_DETAILS = Shape(
    name="azure_cost_details",
    columns={
        "billing_account_id": "VARCHAR",
        "billing_period_start_date": "DATE",
        "billing_period_end_date": "DATE",
        "invoice_id": "VARCHAR",
        "publisher_name": "VARCHAR",
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
    required=("usage_date", "cost", "billing_currency"),
    account="billing_account_id",
    spellings={
        "usage_date": ("date", "usage_date_time"),
        "billing_period_start_date": ("date", "usage_date_time"),
        "subscription_id": ("subscription_guid",),
        "invoice_id": ("invoice_number",),
        "product": ("product_name",),
        "quantity": ("usage_quantity",),
        "pay_g_cost": ("payg_cost_in_billing_currency",),
        "exchange_rate": ("exchange_rate_pricing_to_billing",),
        "cost": ("cost_in_billing_currency", "pre_tax_cost"),
        "billing_currency": ("billing_currency_code", "currency"),
    },
    only_for_list_cost=frozenset({"pay_g_price", "pay_g_cost", "exchange_rate"}),
    period_start="billing_period_start_date",
    period_end="billing_period_end_date",
)

FOCUS = Shape(
    name="azure_focus",
    columns=focus_columns.COLUMNS,
    required=focus_columns.REQUIRED,
    account="billing_account_id",
    spellings=focus_columns.SPELLINGS,
    usage_day="charge_period_start",
    period_start="billing_period_start",
)

# The English names of further columns of Azure's cost exports, which are not read.
_OTHER_NAMES = """
AccountId AccountName AccountOwnerId AdditionalInfo AvailabilityZone BenefitName BillingAccountName BillingPeriod
BillingProfileId BillingProfileName CostAllocationRuleName CostCenter CostInPricingCurrency CostInUsd CustomerName
CustomerTenantId DepartmentId DepartmentName EffectivePrice EffectiveUnitPrice ExchangeRate ExchangeRateDate Frequency
InstanceId InstanceName InvoiceId InvoiceSection InvoiceSectionId InvoiceSectionName IsAzureCreditEligible Location
MeterId MeterRegion OfferId PartNumber PartnerEarnedCreditApplied PartnerEarnedCreditRate PartnerName PartnerTenantId
PaygCostInUsd PlanName PreviousInvoiceId PricingCurrency PricingCurrencyCode ProductId ProductOrderId Provider
PublisherId PublisherName PublisherType ReservationName ResellerMpnId ResellerName ResourceGroup ResourceGroupName
ResourceId ResourceLocationNormalized ResourceName ResourceRate ResourceType RoundingAdjustment ServiceFamily
ServiceInfo1 ServiceInfo2 ServiceName ServicePeriodEndDate ServicePeriodStartDate ServiceTier SubscriptionGuid Term
Unit UnitOfMeasure UnitPrice
"""

SHAPES = {shape.name: shape for shape in (CSP_USAGE, CSP_RECONCILIATION, COST_DETAILS, FOCUS)}


_ENGLISH_NAMES = {folded(name) for name in _OTHER_NAMES.split()} | {
    name for shape in SHAPES.values() for column in shape.columns for name in shape.names(column)
}


def sources(shape: Shape, columns: Sequence[SourceColumn]) -> dict[str, list[SourceColumn]]:
    """The columns of a file from which each canonical column is made, the best first."""
    spellings = {spelled for name in shape.columns for spelled in shape.names(name)}
    by_name: dict[str, list[SourceColumn]] = {}
    for column in columns:
        by_name.setdefault(_known_name(column.name, spellings), []).append(column)
    return {name: [c for spelling in shape.names(name) for c in by_name.get(spelling, [])] for name in shape.columns}


def expressions(
    shape: Shape, columns: Sequence[SourceColumn], origin: str, payer: str | None = None
) -> list[Expression]:
    """The canonical columns of a file, in the order of the shape; a column that the file lacks is a typed NULL.

    Args:
        shape: the kind of export.
        columns: all columns of the file that may be used.
        origin: what to call the file in messages.
        payer: who is billed if no row names the payer.

    Raises:
        OctoError: a required column is missing, or a column has a type that cannot be converted.
    """
    if shape is FOCUS:
        return focus_columns.expressions(columns, origin)
    columns_by_name = sources(shape, columns)
    missing = [name for name in shape.required if not columns_by_name[name]]
    if missing:
        raise OctoError(
            f"{origin} has no column {', '.join(missing)}, without which no cost can be allocated. "
            f"{_missing_remedy([column.name for column in columns])}",
            code="column-missing",
        )
    canonical = [_expression(shape, name, kind, columns_by_name[name], origin) for name, kind in shape.columns.items()]
    if payer is None:
        return canonical
    return [
        replace(expression, value=f"coalesce({expression.value}, {literal(payer)})")
        if expression.name == shape.account
        else expression
        for expression in canonical
    ]


def _known_name(name: str, spellings: Collection[str]) -> str:
    """The folded name; for a localised name, the English one in brackets."""
    match = _NAME_IN_BRACKETS.search(name)
    inner = folded(match[1]) if match and match.end() == len(name) else ""
    return inner if inner in spellings else folded(name)


def _missing_remedy(names: Sequence[str]) -> str:
    unknown = [name for name in names if folded(name) not in _ENGLISH_NAMES]
    if not unknown:
        return "Export all attributes, or point to the right file."
    return (
        f"Its header has names that no export in English has ({', '.join(unknown[:3])}). If it is localised, export it "
        "with English column names; otherwise point to the right file."
    )


def _expression(shape: Shape, name: str, kind: str, columns: Sequence[SourceColumn], origin: str) -> Expression:
    maker: _Maker = _price if name in shape.only_for_list_cost else _MAKERS.get(kind, _amount)
    made = [maker(name, kind, column, origin) for column in columns]
    empty = "'{}'" if kind == TAGS else f"CAST(NULL AS {kind})"
    value = f"coalesce({', '.join([*(expression.value for expression in made), empty])})"
    checks = [check for expression in made for check in expression.checks]
    if name in shape.required:
        text = f"coalesce({', '.join([*map(clean_text, columns), 'NULL'])})"
        checks.append(Check(columns[0].name, text, f"{text} IS NULL", "no row can do without it"))
    return Expression(name, value, tuple(checks))


def _text(name: str, kind: str, source: SourceColumn, origin: str) -> Expression:
    return Expression(name, clean_text(source))


def clean_text(source: SourceColumn) -> str:
    """SQL of a column's value as trimmed text, null if it is empty."""
    return trimmed(source.sql if source.type in TEXT_TYPES else f"CAST({source.sql} AS VARCHAR)")


def _word(source: SourceColumn) -> str:
    """The same for an amount or date, whose only white space is spaces; trimming only those is faster."""
    text = source.sql if source.type in TEXT_TYPES else f"CAST({source.sql} AS VARCHAR)"
    return f"nullif(trim({text}), '')"


def _amount(name: str, kind: str, source: SourceColumn, origin: str) -> Expression:
    text, stands_for_another = _number_text(source)
    if text is None:
        raise OctoError(
            f"{origin}: {source.name} is of type {source.type}, which holds no amounts.", code="column-type-wrong"
        )
    check = Check(
        source.name,
        _word(source),
        f"{_word(source)} IS NOT NULL AND (TRY_CAST({text} AS {kind}) IS NULL OR {stands_for_another})",
        "which is not an amount with at most 28 digits before the decimal point",
    )
    return Expression(name, f"CAST({text} AS {kind})", (check,))


def _price(name: str, kind: str, source: SourceColumn, origin: str) -> Expression:
    text, stands_for_another = _number_text(source)
    known = f"CASE WHEN {stands_for_another} THEN 0 ELSE TRY_CAST({text or 'NULL'} AS {kind}) END"
    return Expression(name, f"CASE WHEN {_word(source)} IS NOT NULL THEN coalesce({known}, 0) END")


def _number_text(source: SourceColumn) -> tuple[str | None, str]:
    """SQL of a number, None if the column has no numbers; and SQL that is true if it is not the column's number."""
    if source.type == JSON_NUMBER:
        digits = digits_name(source)
        # The digits could be those of a key with the same name in an object within the line.
        return digits, f"TRY_CAST({digits} AS DOUBLE) IS DISTINCT FROM TRY_CAST({_word(source)} AS DOUBLE)"
    if source.type in TEXT_TYPES:
        return _word(source), "false"
    return (source.sql if _NUMBER.fullmatch(source.type) else None), "false"


def digits_name(source: SourceColumn) -> str:
    """The name of the column with the digits of a number in JSON lines."""
    return identifier(f"octo_digits_{source.name}")


def digits_sql(source: SourceColumn, line: str) -> str:
    """SQL of the digits of a number in a line of JSON."""
    pattern = f'"{re.escape(source.name)}"\\s*:\\s*"?\\s*([-+0-9.eE]+)'
    return f"nullif(regexp_extract({line}, {literal(pattern)}, 1), '')"


def _day(name: str, kind: str, source: SourceColumn, origin: str) -> Expression:
    """A date in ISO 8601 or in the form of Azure's CSV, month first."""
    if source.type.startswith("TIMESTAMP") or source.type == "DATE":
        zoned = " AT TIME ZONE 'UTC'" if source.type == "TIMESTAMP WITH TIME ZONE" else ""
        return Expression(name, f"CAST(({source.sql}{zoned}) AS DATE)")
    if source.type not in TEXT_TYPES:
        raise OctoError(
            f"{origin}: {source.name} is of type {source.type}, which holds no dates.", code="column-type-wrong"
        )
    text = _word(source)
    is_bad = f"{text} IS NOT NULL AND ({day_of(text, 'try_')}) IS NULL"
    reason = "which is not a date such as 2024-01-31 or 01/31/2024"
    return Expression(name, day_of(text, ""), (Check(source.name, text, is_bad, reason),))


def day_of(text: str, attempt: str) -> str:
    """SQL of the date in a text, month first; with ``try_`` for `attempt`, null if it is not a date."""
    american = f"regexp_extract({text}, '^[0-9]{{1,2}}/[0-9]{{1,2}}/[0-9]{{4}}')"
    # DuckDB would read 06/05/24 as a day of the year 6.
    other = f"WHEN regexp_matches({text}, '^[0-9]{{4}}') THEN" if attempt else "ELSE"
    return (
        f"CASE WHEN {american} <> '' THEN CAST({attempt}strptime({american}, '%m/%d/%Y') AS DATE) "
        f"{other} CAST({attempt}CAST({text} AS TIMESTAMP) AS DATE) END"
    )


def _tags(name: str, kind: str, source: SourceColumn, origin: str) -> Expression:
    """The tags with a value as a JSON object with sorted keys; the first value of a repeated key counts.

    EA exports omit the braces of the object.
    """
    if source.type.startswith(("MAP(", "STRUCT(")):
        return Expression(name, _sorted_object(f"to_json({source.sql})"))
    text = clean_text(source)
    whole = f"CASE WHEN starts_with({text}, '{{') THEN {text} ELSE '{{' || {text} || '}}' END"
    # json_type raises an error for malformed JSON.
    is_bad = f"{text} IS NOT NULL AND CASE WHEN json_valid({whole}) THEN json_type({whole}) <> 'OBJECT' ELSE true END"
    check = Check(source.name, text, is_bad, "which is not a JSON object")
    return Expression(name, _sorted_object(f"CAST({whole} AS JSON)"), (check,))


def _sorted_object(json: str) -> str:
    # Bound to a name first: a lambda that repeats the expression evaluates it again for every key.
    value = "json_extract_string(octo_tags, '/' || replace(replace(octo_key, '~', '~0'), '/', '~1'))"
    keys = f"list_filter(list_sort(list_distinct(json_keys(octo_tags))), lambda octo_key: {value} <> '')"
    members = f"list_transform({keys}, lambda octo_key: to_json(octo_key) || ':' || to_json({value}))"
    text = f"'{{' || array_to_string({members}, ',') || '}}'"
    return f"list_transform([{json}], lambda octo_tags: {text})[1]"


_MAKERS: dict[str, _Maker] = {"VARCHAR": _text, "DATE": _day, TAGS: _tags}
