"""What is billed and not yet booked: a fee over three months, whose unpaid rest is carried from month to month."""

from dataclasses import replace
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from octo_pipeline.allocation.proofs import ProofError, prove
from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.decide import find_items
from octo_pipeline.services.figures import figures
from octo_pipeline.services.report import report_of
from octo_pipeline.services.report_page import write_report
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.graph import stale
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import decision, run_check, workspace_in, write_lines

NEXT = "2024-02"
SPREAD = fee_allocator() | {"allocator": [{"type": "account", "value": "1", "formula": "cost", "months": 3}]}
LINES = [*USAGE_OF_10_AND_30, replace(FEE_OF_100, effective_cost=Decimal(40)), line_item("1", "1", billing_month=NEXT)]


def carried(workspace: Workspace, month: str) -> list[tuple]:
    columns = "opening, billed, booked, closing, effective_opening, effective_closing"
    with workspace.lake.connect() as connection:
        relation = workspace.lake.scan(Prepayments.name, [month], Prepayments.columns)
        return connection.execute(f"SELECT {columns} FROM {relation}").fetchall()


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    workspace = run(workspace_in(tmp_path, LINES, [SPREAD]), [MONTH, NEXT])
    return make(workspace, Prepayments(), [MONTH, NEXT])


def test_the_closing_of_a_month_is_the_opening_of_the_next(workspace):
    third, rest = Decimal("33.3333333333"), Decimal("66.6666666667")
    small_rest, last = Decimal("26.6666666667"), Decimal("13.3333333334")
    assert carried(workspace, MONTH) == [(0, 100, third, rest, 0, small_rest)]
    assert carried(workspace, NEXT) == [(rest, 0, third, rest - third, small_rest, last)]
    assert run_check("prepayments_carried", workspace, NEXT).passed


def test_a_restored_item_is_no_prepayment_and_all_its_months_are_made_again(workspace):
    (item,) = find_items(workspace, allocator="a0", month=MONTH)
    workspace.registry.record_decisions([decision("restore", item.item_id, MONTH)])
    assert sorted(item.months) == [MONTH, NEXT]
    restored = make(run(workspace, [MONTH, NEXT]), Prepayments(), [MONTH, NEXT])
    assert carried(restored, MONTH) == carried(restored, NEXT) == []


def test_it_depends_on_what_is_due_later_and_on_nothing_else(workspace, tmp_path):
    def changed() -> dict[str, list[str]]:
        return {p.month: p.changed for p in stale(Workspace(workspace.settings), [Prepayments()])}

    write_lines(workspace, tmp_path, [*LINES, line_item("9", "5", "Tax", "Tax")])
    materialise(Workspace(workspace.settings), MatchedItems(), MONTH)
    assert changed() == {}
    write_lines(workspace, tmp_path, [*LINES, line_item("9", "5", "Fee", "Purchase", charge_description="late")])
    materialise(Workspace(workspace.settings), MatchedItems(), MONTH)
    assert changed() == {month: [f"matched_items/{MONTH}/outstanding"] for month in (MONTH, NEXT)}


def test_a_month_that_begins_with_another_amount_is_warned_of(workspace, tmp_path):
    write_lines(workspace, tmp_path, [replace(line, billed_cost=Decimal(130)) if line.line_type == "Fee" else line for line in LINES])  # fmt: skip
    make(run(workspace, [MONTH]), Prepayments(), [MONTH])
    check = run_check("prepayments_carried", workspace, NEXT)
    assert check.summary == (
        "2024-02 begins with -20.00 USD, amortised 0.00 USD, more prepaid than 2024-01 ended with. Run 2024-01 and 2024-02 "
        "again, in this order."
    )


def test_what_accounts_pay_reconciles_with_the_bill(workspace, tmp_path):
    made = make(workspace, AccountCosts(), [MONTH])
    assert run_check("prepayments_reconcile", made, MONTH).passed
    # The account costs are of an earlier bill, in which nothing is spread.
    write_lines(workspace, tmp_path, [line for line in LINES if line.line_type != "Fee"])
    run(workspace, [MONTH])
    make(workspace, Prepayments(), [MONTH])
    check = run_check("prepayments_reconcile", made, MONTH)
    assert check.summary == (
        "Accounts pay -66.67 USD, amortised -26.67 USD, more than the bill of 2024-01 and its prepayments explain. Run "
        "2024-01 again."
    )


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        ("SELECT * REPLACE (closing + 1 AS closing) FROM {good}", "opening"),
        ("SELECT * REPLACE (booked + 1 AS booked, closing - 1 AS closing) FROM {good}", "what is billed and booked"),
        ("SELECT * FROM {good} WHERE false", "what is billed and booked"),
        (
            "SELECT * REPLACE (effective_opening + 1 AS effective_opening, effective_closing + 1 AS effective_closing) "
            "FROM {good}",
            "what is carried on",
        ),
    ],
)
def test_prepayments_that_do_not_add_up_are_refused(workspace, wrong, claim):
    lake = workspace.lake
    good = lake.scan(Prepayments.name, [MONTH], Prepayments.columns)
    with lake.connect() as connection:
        connection.execute("CREATE TABLE restored (item_id VARCHAR)")
        pieces = {
            "matched_items": lake.scan(MatchedItems.name, [MONTH], MatchedItems.columns),
            "restored_items": "restored",
            "booked": lake.scan(Allocations.name, [MONTH], Allocations.columns),
            "corrections": lake.scan("corrections", [], Corrections.columns),
        }
        prove(connection, Prepayments.name, MONTH, Prepayments.proofs, staged=good, **pieces)
        with pytest.raises(ProofError, match=f"prepayments 2024-01 fails its proof that {claim}"):
            staged = f"({wrong.format(good=good)})"
            prove(connection, Prepayments.name, MONTH, Prepayments.proofs, staged=staged, **pieces)


def test_a_month_without_allocations_is_refused(tmp_path):
    with pytest.raises(OctoError, match="no allocations of 2024-01") as refused:
        materialise(workspace_in(tmp_path, LINES, []), Prepayments(), MONTH)
    assert sentence(refused.value).endswith("Run `octo run --month 2024-01`.")


def test_people_see_them(workspace, tmp_path, monkeypatch):
    made = make(make(workspace, AccountCosts(), [MONTH]), CostGroupCosts(), [MONTH])
    report = report_of(made, MONTH)
    assert [row[:4] for row in report.prepayments] == [("9", "x", MONTH, "USD")]
    write_report(report, tmp_path / "report.html")
    assert "Due later at the end" in (tmp_path / "report.html").read_text()
    numbers = figures(made, "prepayments", MONTH).numbers
    assert (numbers["billed USD"], numbers["effective closing USD"]) == (100, Decimal("26.6666666667"))
    monkeypatch.setenv("OCTO_LAKE", str(made.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(made.settings.config))
    printed = CliRunner().invoke(app, ["accounts", "costs", "--month", MONTH]).stdout
    assert printed.splitlines()[-1] == (
        "Prepayments: 0.00 USD due later at the start + 100.00 billed - 33.33 booked = 66.67 USD due later at the end."
    )
