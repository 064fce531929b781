"""The report of a small month: its figures, and a page that needs nothing but itself."""

import csv
import re
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.decide import decide, find_items
from octo_pipeline.services.report import report_of
from octo_pipeline.services.report_page import write_report
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.tables import MART_TABLES
from tests.support.workspaces import workspace_in

EVIL = "<script>alert('x')</script>"


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    document = fee_allocator() | {"id": "fees", "name": EVIL, "description": "Fees & more"}
    document["allocator"][1]["formula"] = "cost*0.5"
    left = line_item("2", "7", "Tax", "Tax", charge_description=EVIL)
    workspace = run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100, left], [document]), [MONTH])
    for table in MART_TABLES:
        materialise(Workspace(workspace.settings), table, MONTH)
    return workspace


def test_the_figures(workspace):
    report = report_of(workspace, MONTH)
    (bill,) = report.bills
    assert (bill.currency, bill.billed, bill.lines, bill.previous) == ("USD", Decimal(147), 4, None)
    assert (bill.allocated_out, bill.allocated_in, bill.final) == (Decimal(100), Decimal(100), Decimal(147))
    assert bill.remainder == Decimal(25)
    assert [row[2:] for row in report.rules] == [
        ("fee", "USD", Decimal(100), Decimal(75), Decimal(25), 2, Decimal(100))
    ]
    # Account 1 has 10 of 40 of the usage, account 2 takes half, account 9 keeps the quarter that is left over.
    assert {row[0]: (row[3], row[4], row[5], row[7]) for row in report.accounts} == {
        "1": (Decimal(10), Decimal(0), Decimal(25), Decimal(35)),
        "2": (Decimal(37), Decimal(0), Decimal(50), Decimal(87)),
        "9": (Decimal(100), Decimal(100), Decimal(25), Decimal(25)),
    }
    assert report.left == (("2", None, EVIL, "fee", "no rule takes it", "USD", Decimal(7), Decimal(7)),)


def test_a_restored_item_names_who_restored_it_and_why(workspace):
    (item,) = find_items(workspace, allocator="fees", month=MONTH)
    for _ in decide(workspace, "restore", [item], reason="The audit's own", actor=Actor("maria")):
        pass
    report = report_of(Workspace(workspace.settings), MONTH)
    assert [(row[0], row[4], row[6]) for row in report.left] == [
        ("9", "restored by maria: The audit's own", Decimal(100)),
        ("2", "no rule takes it", Decimal(7)),
    ]


def test_stale_months_are_named_first(workspace, tmp_path):
    before = report_of(workspace, MONTH).changed_inputs
    assert "rules" not in before
    (workspace.settings.config / "allocators" / "a0.json").unlink()
    changed = Workspace(workspace.settings)
    after = report_of(changed, MONTH).changed_inputs
    assert set(after) == {*before, "rules"}
    page = tmp_path / "report.html"
    write_report(report_of(changed, MONTH), page)
    text = page.read_text(encoding="utf-8")
    assert text.index("2024-01 is out of date.</b> What it was made from changed since: ") < text.index("The bill")


def test_each_currency_has_a_list_of_its_own_with_totals_and_shares(tmp_path):
    euros = [line_item(account, cost, billing_currency="EUR") for account, cost in (("4", "30"), ("5", "10"))]
    saved = {"commitment_discount_type": "SP", "commitment_discount_id": "plan", "savings_kind": "used"}
    covered = replace(line_item("1", "0", "SavingsPlanCoveredUsage", **saved), list_cost=Decimal(6))
    tax = line_item("5", "8", "Tax", "Tax", billing_currency="EUR", charge_description="VAT")
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, *euros, tax, covered]
    workspace = run(workspace_in(tmp_path, lines, [fee_allocator()]), [MONTH])
    for table in MART_TABLES:
        materialise(Workspace(workspace.settings), table, MONTH)
    page = tmp_path / "report.html"
    write_report(report_of(workspace, MONTH), page)
    lists = Lists()
    lists.feed(page.read_text(encoding="utf-8"))
    rules, dollars, in_euros, left, savings = lists.tables
    assert rules["Total"][:5] == ["100.00", "71.4 %", "100.00", "", "100.00"]
    assert dollars["1"] == ["10.00", "", "25.00", "", "35.00", "35.00", "25.0 %"]
    assert dollars["Total"] == ["140.00", "100.00", "100.00", "", "140.00", "140.00", "100.0 %"]
    assert in_euros["Total"] == ["48.00", "", "", "", "48.00", "48.00", "100.0 %"]
    assert left == {
        "5": ["VAT", "no rule takes it", "8.00", "8.00", "16.7 %"],
        "Total": ["", "", "8.00", "8.00", "16.7 %"],
    }
    # Savings are part of no bill.
    assert savings["Total"] == ["", "", "6.00"]
    # Repeated on each page of paper, unlike the totals.
    assert lists.heads == len(lists.tables)


class Lists(HTMLParser):
    """The tables of the page by the text of each row's first cell: the texts of its other cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[dict[str, list[str]]] = []
        self.heads = 0
        self._cells: list[str] | None = None

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append({})
        elif tag == "thead":
            self.heads += 1
        elif tag == "tr":
            self._cells = []
        elif tag == "td" and dict(attrs).get("class") != "chart":
            self._cells.append("")

    def handle_data(self, data):
        if self._cells:
            self._cells[-1] += data.strip()

    def handle_endtag(self, tag):
        if tag == "tr" and self._cells:
            name, *cells = self._cells
            self.tables[-1][name] = cells
            self._cells = None


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_the_page_fetches_nothing_and_shows_texts_as_texts(workspace, tmp_path):
    page = tmp_path / "report.html"
    figures = write_report(report_of(workspace, MONTH), page)
    text = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert not {name for name, _ in tags.seen} & {"script", "link", "img", "iframe", "object"}
    assert not any({"src", "href", "onload", "onclick"} & attributes.keys() for _, attributes in tags.seen)
    assert not re.search(r"url\(|@import|https?:", text)
    assert text.count("&lt;script&gt;") == 2
    assert "Fees &amp; more" in text
    for shown in ("147.00 USD", "35.00", "no rule takes it", "68.0 % of the bill"):
        assert shown in text
    with figures.open(newline="") as file:
        rows = {row["account"]: row["final_cost"] for row in csv.DictReader(file)}
    assert rows == {"1": "35.0000000000", "2": "87.0000000000", "9": "25.0000000000"}


def test_a_month_that_was_not_run_is_a_sentence(workspace):
    with pytest.raises(OctoError) as refused:
        report_of(workspace, "2024-02")
    assert sentence(refused.value) == "The lake has no allocations of 2024-02. Run `octo run --month 2024-02`."


def test_a_folder_that_is_not_there_is_a_sentence(workspace, tmp_path):
    with pytest.raises(OctoError, match=r"Cannot write the report to .*gone"):
        write_report(report_of(workspace, MONTH), tmp_path / "gone" / "report.html")
