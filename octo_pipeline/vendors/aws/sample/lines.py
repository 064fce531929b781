"""The rows of the report: how each type of line fills its columns."""

from octo_pipeline.model.months import add_months, month_index
from octo_pipeline.model.sql import Relation, Sql
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.sample.accounts import PAYER, account_name
from octo_pipeline.vendors.aws.sample.columns import COLUMNS
from octo_pipeline.vendors.aws.sample.commitments import HOUR, TERM_YEARS, covered_lines
from octo_pipeline.vendors.aws.sample.services import MARKETPLACE_CODE
from octo_pipeline.vendors.aws.sample.settings import SampleSettings
from octo_pipeline.vendors.aws.sample.usage import usage_lines

# SQL of the columns by type of line. A column without an expression is null.
_LINE = {
    "identity_time_interval": "time_interval",
    "line_item_usage_account_id": "account_id",
    "line_item_usage_start_date": "start_time",
    "line_item_usage_end_date": "end_time",
    "line_item_usage_type": "usage_type",
    "line_item_resource_id": "resource_id",
    "product_instance_type": "instance_type",
    "product_sku": "sku",
    "product_usagetype": "usage_type",
    "resource_tags_user_cost_center": "cost_center",
    "resource_tags_user_environment": "environment",
    "resource_tags_user_name": "tag_name",
    "resource_tags_user_team": "team",
}

_USAGE = _LINE | {
    "line_item_line_item_type": "'Usage'",
    "line_item_product_code": "code",
    "line_item_operation": "operation",
    "line_item_availability_zone": "CASE WHEN instance_type IS NOT NULL THEN region || 'a' END",
    "line_item_usage_amount": "quantity / units",
    "line_item_unblended_rate": "rate_text",
    "line_item_unblended_cost": "money(cost)",
    "line_item_blended_rate": "rate_text",
    "line_item_blended_cost": "money(cost)",
    "line_item_line_item_description": "description",
    "product_product_name": "name",
    "product_location": "location",
    "product_operating_system": "CASE WHEN starts_with(resource_id, 'i-') THEN 'Linux' END",
    "product_region": "region",
    "product_servicecode": "code",
    "pricing_public_on_demand_cost": "money(cost)",
    "pricing_public_on_demand_rate": "rate_text",
    "pricing_term": "'OnDemand'",
    "pricing_unit": "unit",
}

_COMMITTED = {
    "line_item_product_code": "'AmazonEC2'",
    "line_item_operation": "'RunInstances'",
    "line_item_normalization_factor": "factor",
    "product_product_name": "'Amazon Elastic Compute Cloud'",
    "product_location": "'US East (N. Virginia)'",
    "product_region": "'us-east-1'",
    "product_servicecode": "'AmazonEC2'",
    "pricing_unit": "'Hrs'",
}

_COVERED = (
    _LINE
    | _COMMITTED
    | {
        "line_item_availability_zone": "'us-east-1a'",
        "line_item_usage_amount": f"quantity / {HOUR}",
        "line_item_normalized_usage_amount": f"quantity * factor / {HOUR}",
        "product_operating_system": "'Linux'",
        "pricing_public_on_demand_cost": "money(quantity * demand_rate)",
        "pricing_public_on_demand_rate": "rate_text(demand_rate)",
    }
)

_DISCOUNTED_USAGE = _COVERED | {
    "line_item_line_item_type": "'DiscountedUsage'",
    "line_item_unblended_rate": "rate_text(0)",
    "line_item_unblended_cost": "0",
    "line_item_blended_rate": "rate_text(0)",
    "line_item_blended_cost": "0",
    "line_item_line_item_description": "'Linux/UNIX (Amazon VPC), ' || instance_type || ' reserved instance applied'",
    "pricing_lease_contract_length": f"'{TERM_YEARS}yr'",
    "pricing_offering_class": "offering_class",
    "pricing_purchase_option": "'Partial Upfront'",
    "pricing_term": "'Reserved'",
    "reservation_amortized_upfront_cost_for_usage": "money(quantity * upfront_rate)",
    "reservation_effective_cost": "money(quantity * (recurring_rate + upfront_rate))",
    "reservation_recurring_fee_for_usage": "money(quantity * recurring_rate)",
    "reservation_reservation_a_r_n": "arn",
}

_PLAN_USAGE = _COVERED | {
    "line_item_line_item_type": "'SavingsPlanCoveredUsage'",
    "line_item_unblended_rate": "rate_text(demand_rate)",
    "line_item_unblended_cost": "money(quantity * demand_rate)",
    "line_item_blended_rate": "rate_text(demand_rate)",
    "line_item_blended_cost": "money(quantity * demand_rate)",
    "line_item_line_item_description": "'$' || rtrim(rate_text(demand_rate), '0')"
    " || ' per On Demand Linux ' || instance_type || ' Instance Hour'",
    "pricing_term": "'OnDemand'",
    "savings_plan_savings_plan_a_r_n": "arn",
    "savings_plan_savings_plan_rate": "plan_rate / 1000000",
    "savings_plan_savings_plan_effective_cost": "money(quantity * plan_rate)",
    "savings_plan_offering_type": "'ComputeSavingsPlans'",
    "savings_plan_payment_option": "'No Upfront'",
    "savings_plan_purchase_term": f"'{TERM_YEARS}yr'",
}

_PLAN_NEGATION = _PLAN_USAGE | {
    "line_item_line_item_type": "'SavingsPlanNegation'",
    "line_item_unblended_cost": "money(-quantity * demand_rate)",
    "line_item_blended_cost": "money(-quantity * demand_rate)",
    "line_item_line_item_description": "'SavingsPlanNegation used by AccountId : ' || account_id"
    " || ' and UsageSku : ' || sku",
    "pricing_public_on_demand_cost": "0",
    "savings_plan_savings_plan_effective_cost": "0",
}

# AWS often leaves the offering class of the fee empty, so readers must take it from the covered lines.
_RESERVATION_FEE = _COMMITTED | {
    "line_item_line_item_type": "'RIFee'",
    "line_item_usage_account_id": f"'{PAYER}'",
    "line_item_usage_type": "'USE1-HeavyUsage:' || instance_type",
    "line_item_usage_amount": f"promised / {HOUR}",
    "line_item_normalized_usage_amount": f"promised * factor / {HOUR}",
    "line_item_unblended_rate": "rate_text(recurring_rate)",
    "line_item_unblended_cost": "money(promised * recurring_rate)",
    "line_item_blended_rate": "rate_text(recurring_rate)",
    "line_item_blended_cost": "money(promised * recurring_rate)",
    "line_item_line_item_description": "'USD ' || rtrim(rate_text(recurring_rate), '0')"
    " || ' hourly fee per Linux/UNIX (Amazon VPC), ' || instance_type || ' instance'",
    "reservation_amortized_upfront_fee_for_billing_period": "money(promised * upfront_rate)",
    "reservation_end_time": "term_end",
    "reservation_number_of_reservations": "reservations",
    "reservation_reservation_a_r_n": "arn",
    "reservation_start_time": "term_start",
    "reservation_total_reserved_units": f"promised // {HOUR}",
    "reservation_units_per_reservation": f"promised // {HOUR} // reservations",
    "reservation_unused_amortized_upfront_fee_for_billing_period": "money((promised - used) * upfront_rate)",
    "reservation_unused_quantity": f"(promised - used) / {HOUR}",
    "reservation_unused_recurring_fee": "money((promised - used) * recurring_rate)",
}

_PLAN_FEE = {
    "line_item_line_item_type": "'SavingsPlanRecurringFee'",
    "line_item_usage_account_id": f"'{PAYER}'",
    "line_item_product_code": "'ComputeSavingsPlans'",
    "line_item_usage_type": f"'ComputeSP:{TERM_YEARS}yrNoUpfront'",
    "line_item_usage_amount": f"promised / {HOUR}",
    "line_item_unblended_cost": "money(promised * plan_rate)",
    "line_item_blended_cost": "money(promised * plan_rate)",
    "line_item_line_item_description": f"'{TERM_YEARS} year No Upfront Compute Savings Plan'",
    "product_product_name": "'Savings Plans for AWS Compute usage'",
    "savings_plan_total_commitment_to_date": "money(promised * plan_rate)",
    "savings_plan_savings_plan_a_r_n": "arn",
    "savings_plan_used_commitment": "money(used * plan_rate)",
    "savings_plan_amortized_upfront_commitment_for_billing_period": "0",
    "savings_plan_recurring_commitment_for_billing_period": "money(promised * plan_rate)",
    "savings_plan_start_time": "term_start",
    "savings_plan_end_time": "term_end",
    "savings_plan_offering_type": "'ComputeSavingsPlans'",
    "savings_plan_payment_option": "'No Upfront'",
    "savings_plan_purchase_term": f"'{TERM_YEARS}yr'",
}

_FEE = {
    "bill_billing_entity": f"CASE WHEN code = '{MARKETPLACE_CODE}' THEN 'AWS Marketplace' ELSE 'AWS' END",
    "bill_bill_type": "CASE line_type WHEN 'Fee' THEN 'Purchase' WHEN 'Refund' THEN 'Refund' ELSE 'Anniversary' END",
    "line_item_line_item_type": "line_type",
    "line_item_usage_account_id": "account_id",
    "line_item_product_code": "code",
    "line_item_usage_amount": "1",
    "line_item_unblended_cost": "cents / 100",
    "line_item_blended_cost": "cents / 100",
    "line_item_line_item_description": "description",
    "line_item_tax_type": "CASE WHEN line_type = 'Tax' THEN 'USSalesTax' END",
    "product_product_name": "name",
    "reservation_reservation_a_r_n": "arn",
}


def rows_of_file(settings: SampleSettings, month: str, index: int) -> Sql:
    """The SELECT of a file's rows: its slice of the usage lines; the last file also has the fees."""
    usage = usage_lines(settings, month, *_slice(settings.resources, settings.files, index))
    covered = covered_lines(settings, month, *_slice(settings.covered, settings.files, index))
    branches = [
        _rows("usage", "line_number", month, _USAGE, usage),
        _rows("reserved", "line_number", month, _DISCOUNTED_USAGE, covered, "is_reserved"),
        _rows("covered", "line_number", month, _PLAN_USAGE, covered, "NOT is_reserved"),
        _rows("negation", "line_number", month, _PLAN_NEGATION, covered, "NOT is_reserved"),
    ]
    if index == settings.files - 1:
        fulfilled = Relation("(FROM fulfilled ORDER BY commitment)")
        branches += [
            _rows("rifee", "commitment", month, _RESERVATION_FEE, fulfilled, "is_reserved"),
            _rows("spfee", "commitment", month, _PLAN_FEE, fulfilled, "NOT is_reserved"),
            _rows("fee", "position", month, _FEE, Relation("(FROM fees ORDER BY position)")),
        ]
    return Sql(" UNION ALL ".join(branches))


def _slice(count: int, parts: int, index: int) -> tuple[int, int]:
    return count * index // parts, count * (index + 1) // parts


def _rows(kind: str, number: str, month: str, values: dict[str, str], lines: Relation, condition: str = "") -> Sql:
    """The SELECT of every column of the report for one type of line."""
    filled = dict.fromkeys((column.athena_name for column in COLUMNS), "NULL") | _month_values(month) | values
    filled["line_item_usage_account_name"] = account_name(filled["line_item_usage_account_id"])
    filled["identity_line_item_id"] = f"'{month}-{kind}-' || {number}"
    columns = [
        {"name": column.athena_name, "value": filled[column.athena_name], "type": column.sql_type} for column in COLUMNS
    ]
    return render("vendors/aws/sample/report_rows", report_columns=columns, lines=lines, condition=condition)


def _month_values(month: str) -> dict[str, str]:
    start, end = f"TIMESTAMP '{month}-01'", f"TIMESTAMP '{add_months(month, 1)}-01'"
    return {
        "identity_time_interval": f"'{month}-01T00:00:00Z/{add_months(month, 1)}-01T00:00:00Z'",
        "bill_invoice_id": f"'{1_000_000_000 + month_index(month)}'",
        "bill_billing_entity": "'AWS'",
        "bill_bill_type": "'Anniversary'",
        "bill_payer_account_id": f"'{PAYER}'",
        "bill_billing_period_start_date": start,
        "bill_billing_period_end_date": end,
        "line_item_usage_start_date": start,
        "line_item_usage_end_date": f"{end} - INTERVAL 1 SECOND",
        "line_item_currency_code": "'USD'",
        "line_item_legal_entity": "'Amazon Web Services, Inc.'",
    }
