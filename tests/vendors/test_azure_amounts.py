"""Prices and amounts of Azure: 0 is no price, a price stops no bill, and amounts have as many digits as they have."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from tests.support.azure_exports import AMORTISED, BOUGHT, COVERED, MONTH, UNUSED, USAGE, csv_bytes, day, write

NOW = datetime(2024, 6, 10, tzinfo=UTC)


def line_items(tmp_path, workspace, columns, **files):
    (tmp_path / "loose").mkdir()
    source = write(tmp_path / "loose", {f"{name}.csv": csv_bytes(*rows) for name, rows in files.items()})
    source.land(workspace.lake.root, MONTH, NOW)
    materialise(workspace, CostLineItems(), MONTH)
    with workspace.lake.connect() as con:
        table = workspace.lake.scan("cost_line_items", [MONTH], CostLineItems.columns)
        return con.execute(f"SELECT {columns} FROM {table} GROUP BY ALL ORDER BY ALL").fetchall()


def used(cost, price, list_cost, **changes):
    """Usage that a reservation covers, in an amortised export of a Microsoft Customer Agreement."""
    return (
        AMORTISED
        | {"Cost": cost, "PayGPrice": price, "Quantity": "1", "paygCostInBillingCurrency": list_cost}
        | changes
    )


SAVED = (
    "sum(list_cost - effective_cost) FILTER (savings_kind = 'used'), sum(billed_cost), min(list_cost - effective_cost)"
)


@pytest.mark.parametrize(
    "unknown",
    [
        used("80", "0", "0"),
        used("80", "0", ""),
        used("80", "", "0"),
        used("80", "0.000", "0.00"),
        used("80", "5", "", Quantity="0"),
        used("80", "5", "0", exchangeRatePricingToBilling="0"),
    ],
)
def test_usage_without_a_list_price_saves_nothing_that_is_known(tmp_path, workspace, unknown):
    """Regression: 80 of cost were a saving of -80."""
    blank = {"exchangeRatePricingToBilling": ""}
    known = used("30", "45", "45") | {"Date": "05/06/2024"}
    rows = [day(1, Cost="10", PayGPrice="5", paygCostInBillingCurrency="10") | blank, blank | unknown, blank | known]
    assert line_items(tmp_path, workspace, SAVED, amortized=rows) == [(Decimal(15), Decimal(120), Decimal(0))]


def test_usage_without_a_list_price_beside_actual_cost(tmp_path, workspace):
    """It is billed nothing, and its list cost is not less than what it is worth."""
    found = line_items(
        tmp_path,
        workspace,
        "line_type, savings_kind, sum(billed_cost), sum(effective_cost), sum(list_cost)",
        actual=[COVERED | {"PayGPrice": "0"}, BOUGHT],
        amortized=[AMORTISED | {"PayGPrice": "0"}, UNUSED],
    )
    assert found == [
        ("Purchase", None, Decimal(90), Decimal(0), Decimal(90)),
        ("UnusedReservation", "unused", Decimal(0), Decimal(3), Decimal(0)),
        ("Usage", None, Decimal(0), Decimal(6), Decimal(6)),
    ]


@pytest.mark.parametrize(
    ("price", "quantity", "list_cost"),
    [
        ("1500000000", "1", Decimal(1_500_000_000)),
        ("99999999999999999", "1", Decimal(99_999_999_999_999_999)),
        ("1500000000.25", "20000", Decimal(30_000_000_005_000)),
        ("1.5E+9", "2", Decimal(3_000_000_000)),
        ("0.000000000000123", "1000000", Decimal("0.000000123")),
        # Not known: more than can be held, or no number.
        ("9" * 30, "1", Decimal(5)),
        ("99999999999999999", "99999999999999999", Decimal(5)),
        ("n/a", "1", Decimal(5)),
        ("1,5", "1", Decimal(5)),
    ],
)
def test_a_price_never_stops_a_bill(tmp_path, workspace, price, quantity, list_cost):
    """Regression: a price of more than 9 digits kept the month out."""
    rows = [day(1, Cost="5", PayGPrice=price, Quantity=quantity)]
    assert line_items(tmp_path, workspace, "sum(billed_cost), sum(list_cost)", actual=rows) == [(Decimal(5), list_cost)]


@pytest.mark.parametrize("rate", ["12345678901234567890", "none"])
def test_an_exchange_rate_never_stops_a_bill(tmp_path, workspace, rate):
    rows = [day(1, Cost="5", exchangeRatePricingToBilling=rate)]
    assert line_items(tmp_path, workspace, "sum(billed_cost), sum(list_cost)", actual=rows) == [
        (Decimal(5), Decimal(5))
    ]


@pytest.mark.parametrize(
    ("cost", "billed"),
    [
        ("1400000000", "1400000000"),
        ("1234567890123456789012345678.1234567891", "1234567890123456789012345678.1234567891"),
        ("-9999999999999999999999999999", "-9999999999999999999999999999"),
        ("0.12345678901234567890123456789012345678901234567890", "0.1234567890"),
        ("1E-7", "0.0000001"),
        ("1.4e+9", "1400000000"),
        ("+5", "5"),
        ("00000000000000000000000000000000000000000000005.5", "5.5"),
    ],
)
def test_amounts_of_any_length(tmp_path, workspace, cost, billed):
    rows = [day(1, Cost=cost, Quantity="12345678901234567890")]
    found = line_items(tmp_path, workspace, "sum(billed_cost), sum(consumed_quantity)", actual=rows)
    assert found == [(Decimal(billed), Decimal("12345678901234567890"))]


@pytest.mark.parametrize("cost", ["99999999999999999999999999999", "1,5", "1.234,56", "five"])
def test_a_cost_that_cannot_be_held_is_refused(tmp_path, workspace, cost):
    with pytest.raises(OctoError, match=r"line 2: Cost is .*, which is not an amount with at most 28 digits"):
        line_items(tmp_path, workspace, "1", actual=[USAGE | {"Cost": cost}])
