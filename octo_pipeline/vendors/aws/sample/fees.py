"""The charges of a month that are neither usage nor a commitment's recurring fee, in cents."""

import duckdb

from octo_pipeline.model.months import add_months
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.sample.accounts import FIRST_TEAM, PAYER, PLATFORM
from octo_pipeline.vendors.aws.sample.commitments import TERM_YEARS
from octo_pipeline.vendors.aws.sample.services import COST_PARTS, MARKETPLACE_CODE
from octo_pipeline.vendors.aws.sample.settings import SampleSettings
from octo_pipeline.vendors.aws.sample.usage import usage_lines

# Usage above, up to (both in cents), percent.
_SUPPORT_TIERS = (
    (0, 15_000_000, 10),
    (15_000_000, 50_000_000, 7),
    (50_000_000, 100_000_000, 5),
    (100_000_000, 10**15, 3),
)
_CREDIT_PERCENT = 2
_TAX_PERCENT = 10
_DISCOUNT_PERCENT = 3
_YEARLY_FEE_CENTS = 1_200_000
_RENEWAL_CENTS = 1_300
_BUNDLED_DISCOUNT_CENTS = -4_250
_REFUND_CENTS = -34_815


def create_fees(con: duckdb.DuckDBPyConnection, settings: SampleSettings, month: str) -> None:
    """Create the table of a month's fees, taxes, credits and discounts."""
    query = render(
        "vendors/aws/sample/fees",
        usage_lines=usage_lines(settings, month, 0, settings.resources),
        cent=COST_PARTS // 100,
        support_cents=support_cents(),
        payer=PAYER,
        platform=PLATFORM,
        first_team=FIRST_TEAM,
        marketplace_code=MARKETPLACE_CODE,
        credit_percent=_CREDIT_PERCENT,
        tax_percent=_TAX_PERCENT,
        discount_percent=_DISCOUNT_PERCENT,
        yearly_fee_cents=_YEARLY_FEE_CENTS,
        renewal_cents=_RENEWAL_CENTS,
        bundled_discount_cents=_BUNDLED_DISCOUNT_CENTS,
        refund_cents=_REFUND_CENTS,
        upfront_hours=settings.instances_of_commitment * TERM_YEARS * 365 * 24,
        is_first=month == settings.first,
        is_last=month == settings.last,
        previous_month=add_months(month, -1),
    )
    con.execute(query)


def support_cents() -> str:
    """SQL of the support fee by AWS's tiers, without its minimum, so that a small sample keeps the proportion."""
    tiers = [
        f"least(greatest(total_cents - {above}, 0), {limit - above}) * {percent}"
        for above, limit, percent in _SUPPORT_TIERS
    ]
    return f"({' + '.join(tiers)}) // 100"
