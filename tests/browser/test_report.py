"""How the report looks in a window, on a phone and on paper."""

from decimal import Decimal

import pytest

from octo_pipeline.services.report import Bill, Report
from octo_pipeline.services.report_page import write_report

pytestmark = pytest.mark.browser
MILLION = Decimal("1234567.89")
BILL = Bill("USD", MILLION, 21_531, MILLION, MILLION / 3, MILLION / 3, Decimal(91), MILLION, MILLION + 1, MILLION + 2)
REPORT = Report(
    month="2024-03",
    previous_month="2024-02",
    changed_inputs=("rules",),
    stale_months=("2024-02",),
    bills=(BILL,),
    rules=(
        ("Enterprise support by usage", "Two words. " * 30, "fee", "USD", MILLION, MILLION, Decimal(91), 12, MILLION),
    ),
    accounts=tuple(
        (f"e9c0d25e-95fb-503e-a90b-6e249e06{n:04d}", "warehouse-prod", "USD", *[Decimal("12345.67")] * 9)
        for n in range(60)
    ),
    left=(("400000000001", None, "x" * 90, "fee", f"restored by maria: {'y' * 90}", "USD", MILLION, MILLION),),
    prepayments=(("400000000001", "An annual contract", "2024-01", "USD", *[MILLION] * 5),),
    cost_groups=(("Product teams", "USD", *[MILLION] * 8),),
    findings=(("warning", "Something to look at."),),
    state="provisional",
    corrections=(("400000000001", "2024-01", "enterprise-support", "USD", MILLION, MILLION),),
    causes=(("2024-01", "delivery"),),
)


@pytest.fixture
def page(browser, tmp_path):
    write_report(REPORT, tmp_path / "report.html")
    opened = browser.new_page()
    opened.goto((tmp_path / "report.html").as_uri())
    yield opened
    opened.close()


def rows_of_cards(page) -> int:
    return page.locator(".card").evaluate_all(
        "cards => new Set(cards.map(card => card.getBoundingClientRect().top)).size"
    )


@pytest.mark.parametrize(("width", "rows"), [(1280, 1), (800, 1), (390, 2)])
def test_cards_share_rows_and_nothing_is_wider_than_the_window(page, width, rows):
    page.set_viewport_size({"width": width, "height": 900})
    assert rows_of_cards(page) == rows
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A list may be scrolled by itself, but does not have to be with such amounts.
    too_wide = "cells => cells.filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.textContent)"
    assert page.locator("td, .card, .scroll").evaluate_all(too_wide) == []


def test_on_paper_four_cards_share_a_row_and_every_page_has_the_heads_of_its_columns(page):
    page.emulate_media(media="print")
    # A4 without margins, in pixels.
    page.set_viewport_size({"width": 718, "height": 1046})
    assert rows_of_cards(page) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    for part, display in (("thead", "table-header-group"), ("tfoot", "table-row-group")):
        assert set(page.locator(part).evaluate_all("parts => parts.map(part => getComputedStyle(part).display)")) == {
            display
        }
