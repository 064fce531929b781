"""The Dagster UI on the demo's data in a real browser: `make browser`. Needs Debian's chromium, so it is no part of CI.

Dagster's UI is not ours; what is ours is what it shows of the assets, the checks and the jobs.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pictures import dagster_ui

pytestmark = pytest.mark.browser
DAGSTER = Path(__file__).parent.parent.parent / ".venv" / "bin" / "dagster"
WAIT = 60_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    assert os.environ.get("DAGSTER_HOME"), "run this by `make browser`, which prepares the demo's data"
    with dagster_ui(str(DAGSTER)) as found:
        yield found


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1600, "height": 1000})
    opened.set_default_timeout(WAIT)
    yield opened
    opened.close()


def test_the_graph_reads_from_the_exports_to_the_marts(page, address):
    page.goto(f"{address}/asset-groups")
    for group in ("raw", "normalisation", "configuration", "allocation", "marts"):
        page.get_by_text(group, exact=True).first.wait_for()


def test_an_asset_shows_its_columns_its_figures_and_its_chart(page, address):
    page.goto(f"{address}/assets/account_costs?view=overview")
    page.get_by_text("amortised_final_cost", exact=True).first.wait_for()
    for figure in ("billed USD", "billed EUR", "billed GBP", "final USD"):
        page.get_by_text(figure, exact=True).first.wait_for()
    row = page.get_by_text("allocated per account USD", exact=True).first.locator("xpath=ancestor::tr")
    row.get_by_text("[Show Markdown]").click()
    chart = page.get_by_role("dialog").get_by_role("img").last
    chart.wait_for()
    assert chart.evaluate("image => [image.complete, image.naturalWidth]") == [True, 760]


def test_the_checks_say_which_money_they_looked_at(page, address):
    page.goto(f"{address}/assets/allocations?view=checks")
    page.get_by_text("All instalments of the items of 2024-03 are booked as they are due.").first.wait_for()


def test_simulate_is_launched_from_the_launchpad_and_its_result_is_read(page, address):
    page.goto(f"{address}/locations/octo_pipeline/jobs/simulate_allocator/playground")
    page.get_by_text("enterprise-support").first.wait_for()
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url("**/runs/**")
    page.get_by_text("Who gets how much").first.wait_for(timeout=2 * WAIT)
    event = page.get_by_text("Who gets how much").first.locator("xpath=ancestor::tr")
    event.get_by_text("[Show Markdown]").click()
    table = page.get_by_role("dialog").get_by_role("table")
    table.wait_for()
    shown = table.inner_text()
    assert "account" in shown
    assert "400000000001" in shown
    assert "USD" in shown
