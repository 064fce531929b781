"""Balances in what people ask for: simulations, restores, the story of an item, the report and lists."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.model.rows import Rows
from octo_pipeline.rules.allocator import parse_allocator
from octo_pipeline.services.allocations import Filters, fetched, listed_allocations
from octo_pipeline.services.costs import cost_group_costs
from octo_pipeline.services.decide import decide, find_items, story
from octo_pipeline.services.report import report_of
from octo_pipeline.services.report_page import write_report
from octo_pipeline.services.simulate import Simulation, simulate
from octo_pipeline.services.summary import summary_of
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.tables import MART_TABLES
from tests.support.workspaces import exact_rows, workspace_in


def to(account: str, formula: str = "cost") -> dict:
    return {"type": "account", "value": account, "formula": formula}


def balance_rule(step: int, account: str, *entries: dict, **more: str) -> dict:
    return {
        "category": "balance",
        "step": step,
        "startMonth": MONTH,
        "criteria": [{"and": {"account": account, "payer": "re:^9"}}],
        "allocator": list(entries),
    } | more


@pytest.fixture(scope="module")
def halved(tmp_path_factory) -> Workspace:
    """A fee of 100 goes to account 2, which has 30; then half of its 130 goes to account 3."""
    documents = [fee_allocator(allocator=[to("2")]), balance_rule(2, "2", to("3", "cost*0.5"))]
    folder = tmp_path_factory.mktemp("halved")
    return run(workspace_in(folder, [*USAGE_OF_10_AND_30, FEE_OF_100], documents), [MONTH])


def simulated(workspace: Workspace, document: dict, name: str = "new") -> Simulation:
    return simulate(workspace, parse_allocator(json.dumps(document), file=f"{name}.json"), MONTH)


def differences(simulation: Simulation) -> list[tuple]:
    return simulation.differences.select("category", "account", "live", "simulated")


def picked(rows: Rows, *names: str) -> list[tuple]:
    return rows.select(*names)


def test_a_rule_for_fees_changes_the_balances_after_it(halved):
    simulation = simulated(halved, fee_allocator(allocator=[to("2", "cost*0.5"), to("1", "cost*0.5")]), "a0")
    assert differences(simulation) == [
        ("balance", "2", -65, -40),
        ("balance", "3", 65, 40),
        ("fee", "1", 0, 50),
        ("fee", "2", 100, 50),
    ]


def test_a_rule_for_balances_is_simulated_on_what_is_there_before_its_step(halved):
    files = {path: path.read_bytes() for path in Path(halved.lake.root).rglob("*.parquet")}
    mark_up = balance_rule(1, "!re:^9", {"type": "owner", "formula": "cost*1.1"}, defaultAccount="9")

    simulation = simulated(halved, mark_up)

    assert picked(simulation.matched_costs, "currency", "items", "cost") == [("USD", 2, 140)]
    assert picked(simulation.matched_items, "account", "step", "cost", "taken_by") == [
        ("2", 1, 130, "new"),
        ("1", 1, 10, "new"),
    ]
    assert picked(simulation.accounts, "account", "kind", "cost") == [
        ("1", "split", 11),
        ("2", "split", 143),
        ("9", "remainder", -14),
    ]
    # The later step halves what account 2 has then: 143 instead of 130.
    assert differences(simulation) == [
        ("balance", "1", 0, 1),
        ("balance", "2", -65, Decimal("-58.5")),
        ("balance", "3", 65, Decimal("71.5")),
        ("balance", "9", 0, -14),
    ]
    assert any("hands out 14.00 USD more than there is" in warning for warning in simulation.warnings)
    assert {path: path.read_bytes() for path in Path(halved.lake.root).rglob("*.parquet")} == files


def test_a_rule_for_balances_that_comes_later_in_its_step_takes_nothing(halved):
    simulation = simulated(halved, balance_rule(2, "2", to("4"), priority="5"))
    assert picked(simulation.conflicts, "taken_by", "also_matched_by", "cost") == [("a1", "new", 130)]
    assert picked(simulation.accounts, "account", "cost") == [("4", 130)]
    assert differences(simulation) == []
    assert simulation.warnings[0] == "It would take nothing: a1 comes first. Give it a lower priority to put it before."


def test_a_rule_for_balances_outside_its_months_matches_nothing(halved):
    simulation = simulated(halved, balance_rule(1, "2", to("4"), startMonth="2024-02"))
    assert not simulation.matched_items
    assert differences(simulation) == []
    assert simulation.warnings[0].startswith("It matches no item of 2024-01.")


def test_a_rule_of_balances_can_replace_one_of_fees(halved):
    assert differences(simulated(halved, balance_rule(1, "9", to("4")), "a0")) == [
        ("balance", "2", -65, -15),
        ("balance", "3", 65, 15),
        ("balance", "4", 0, 100),
        ("balance", "9", 0, -100),
        ("fee", "2", 100, 0),
        ("fee", "9", -100, 0),
    ]


def test_the_story_of_a_balance(halved):
    (item,) = find_items(halved, allocator="a1", month=MONTH, account="2")
    version = next(row[16] for row in exact_rows(halved) if row[0] == item.item_id and row[3] == "item")
    assert story(halved, item.item_id) == [
        f"Item {item.item_id}: the balance of account 2 in 2024-01 before step 2, 130.0000000000 USD.",
        f"The rule a1 (version {version[:8]}) takes it: sub_account_id is '2', which fits '2' and billing_account_id is "
        "'999999999999', which fits 're:^9'.",
        "In 2024-01, instalment 1 of 1 is due: 130.0000000000 USD.",
        "  3 (by name, entry 1): cost*0.5 gives 65.0000000000 USD, including rounding.",
        "  2: remainder 65.0000000000 USD, what the splits left over.",
        "In 2024-01 it is listed as checked_allocated.",
    ]


def test_a_restored_balance_stays_until_it_is_re_applied_and_everybody_sees_it(halved):
    before = exact_rows(halved)
    items = find_items(halved, allocator="a1", month=MONTH)
    list(decide(halved, "restore", items, reason="not yet", actor="tester"))

    listed = fetched(halved, listed_allocations(halved, MONTH, Filters(category="balance")))
    assert picked(listed, "step", "source_account", "status", "reason", "cost") == [
        (2, "2", "unchecked_allocated", "restored", 130)
    ]
    left = summary_of(halved, MONTH).left
    assert picked(left, "category", "what", "why", "cost") == [
        ("balance", "balance before step 2", "restored by a person", 130)
    ]

    list(decide(halved, "reapply", find_items(halved, item=items[0].item_id), reason="now", actor="tester"))
    assert exact_rows(halved) == before


def test_the_report_and_the_costs_of_accounts_and_groups_show_the_steps(halved, tmp_path, monkeypatch):
    group = {"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "3"}}]}}}
    (halved.settings.config / "cost_groups" / "three.json").write_text(json.dumps(group))
    workspace = Workspace(halved.settings)
    for table in MART_TABLES:
        materialise(workspace, table, MONTH)

    report = report_of(workspace, MONTH)

    (bill,) = report.bills
    # What the steps hand on is neither shared out of the bill nor left over of it.
    assert (bill.allocated_out, bill.allocated_in, bill.remainder, bill.final) == (100, 100, 0, 140)
    assert report.has_steps
    assert [(row[0], row[2], *row[4:7]) for row in report.rules] == [
        ("a1", "balance", 130, 65, 65),
        ("a0", "fee", 100, 100, 0),
    ]
    assert {row[0]: (row[7], row[9]) for row in report.accounts} == {
        "1": (10, 0),
        "2": (65, -65),
        "3": (65, 65),
        "9": (0, 0),
    }
    assert report.cost_groups == (("three", "USD", 0, 0, 0, 65, 0, 0, 65, 65),)
    page = tmp_path / "report.html"
    write_report(report, page)
    assert "What was handed on after that, step by step" in page.read_text()
    assert picked(cost_group_costs(workspace, "three", [MONTH], by="account"), "account", "balance", "cost") == [
        ("3", 65, 65)
    ]

    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("OCTO_LAKE", str(workspace.lake.root))
    monkeypatch.setenv("OCTO_CONFIG", str(workspace.settings.config))
    costs = CliRunner().invoke(app, ["accounts", "costs", "--month", MONTH]).stdout
    assert re.search(r"account .* moved in +steps +final cost", costs)
    assert re.search(r"2 +USD +30.00 +0.00 +100.00 +-65.00 +65.00", costs)
    costs = CliRunner().invoke(app, ["cost-groups", "show", "three", "--month", MONTH]).stdout
    assert "Cost 65.00 USD (direct, account, fee and balance)" in costs
