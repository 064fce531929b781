"""The smallest month in which costs are shared: two accounts with usage, a fee, and an allocator for the fee."""

from dataclasses import dataclass
from decimal import Decimal

from tests.support.oracle import Line

MONTH = "2024-01"


def line_item(account: str, cost: str, line_type: str = "Usage", category: str = "Usage", **more) -> Line:
    """A line item of MONTH, whose three costs are the same; `more` are columns with another value."""
    amount = Decimal(cost)
    values = {"service_code": "AmazonEC2", "charge_description": "x", **more}
    return Line(
        billing_month=values.pop("billing_month", MONTH),
        sub_account_id=account,
        charge_category=category,
        line_type=line_type,
        billed_cost=amount,
        effective_cost=amount,
        list_cost=amount,
        **values,
    )


@dataclass(frozen=True)
class InvoicedLine(Line):
    """A line item that names its invoice."""

    invoice_id: str | None = None
    invoice_issuer_name: str | None = None


def invoiced(line: Line, invoice_id: str | None) -> InvoicedLine:
    """The line item on an invoice; None where it is not invoiced yet."""
    return InvoicedLine(**vars(line), invoice_id=invoice_id, invoice_issuer_name="AWS")


# A quarter of the usage is account 1's, three quarters are account 2's.
USAGE_OF_10_AND_30 = [line_item("1", "10"), line_item("2", "30")]
# Billed on account 9, which has no usage.
FEE_OF_100 = line_item("9", "100", "Fee", "Purchase")


def fee_allocator(formula: str = "cost*usage", **more) -> dict:
    """A document that shares every fee between accounts 1 and 2; `more` are keys with another value."""
    return {
        "startMonth": MONTH,
        "criteria": [{"and": {"lineType": "Fee"}}],
        "allocator": [
            {"type": "account", "value": "1", "formula": formula},
            {"type": "account", "value": "2", "formula": formula},
        ],
    } | more
