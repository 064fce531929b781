"""The report of a small month: its figures, and a page that needs nothing but itself."""

import csv
import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
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
    assert [row[2:] for row in report.rules] == [("fee", "USD", Decimal(100), Decimal(75), Decimal(25), 2)]
    # Account 1 has 10 of 40 of the usage, account 2 takes half, account 9 keeps the quarter that is left over.
    assert {row[0]: (row[3], row[4], row[5], row[7]) for row in report.accounts} == {
        "1": (Decimal(10), Decimal(0), Decimal(25), Decimal(35)),
        "2": (Decimal(37), Decimal(0), Decimal(50), Decimal(87)),
        "9": (Decimal(100), Decimal(100), Decimal(25), Decimal(25)),
    }
    assert report.left == (("2", EVIL, "fee", "no rule takes it", "USD", Decimal(7)),)


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
