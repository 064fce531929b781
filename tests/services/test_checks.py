"""Every check with a month that passes it and one that does not, and the first line it then says."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from octo_pipeline.allocation import resolution
from octo_pipeline.registry.records import NewAccount
from octo_pipeline.services.checks import CHECKS, CheckResult
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.oracle import Line
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import run_check, workspace_in, write_allocators, write_lines


def make_all(workspace: Workspace, months: list[str]) -> Workspace:
    """Run the months and make the marts that the checks look at."""
    made = run(workspace, months)
    return make(make(made, AccountCosts(), months), InvoiceCosts(), months)


def check(name: str, folder: Path, lines: list[Line], documents: list[dict]) -> CheckResult:
    return run_check(name, run(workspace_in(folder, lines, documents), [MONTH]), MONTH)


@pytest.mark.parametrize("name", [c.name for c in CHECKS])
def test_a_clean_month_passes(name, tmp_path):
    found = check(name, tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    assert (found.passed, found.details) == (True, ())
    assert found.summary.endswith(".")


def test_unknown_line_types(tmp_path):
    lines = [
        *USAGE_OF_10_AND_30,
        line_item("1", "2.50", "EdpDiscount2", "Adjustment"),
        line_item("1", "4", "New", "Adjustment"),
    ]
    found = check("unknown_line_types", tmp_path, lines, [])
    assert not found.passed
    assert found.summary == (
        "6.50 USD on unrecognised line types, counted as Adjustment: EdpDiscount2, New. "
        "Decide which charge category they are."
    )
    assert found.details == (
        ("aws", "EdpDiscount2", "USD", 1, Decimal("2.5")),
        ("aws", "New", "USD", 1, Decimal(4)),
    )


def test_conflicts(tmp_path):
    found = check(
        "no_conflicts",
        tmp_path,
        [*USAGE_OF_10_AND_30, FEE_OF_100],
        [fee_allocator(), fee_allocator("cost"), fee_allocator("0")],
    )
    assert not found.passed
    assert found.summary == (
        "100.00 USD matched by several rules; the first by priority, createTime and id took it: a0 before a1, a2. "
        "Narrow their criteria."
    )


def test_values_that_resolve_to_nobody(tmp_path):
    nobody = fee_allocator() | {"allocator": [{"type": "payer", "value": "5"}, {"type": "costgroup", "value": "gone"}]}
    found = check("values_resolve", tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [nobody])
    assert not found.passed
    assert found.summary.startswith("Nobody gets the share of costgroup gone (a0), payer 5 (a0) in 2024-01")


def test_over_allocation(tmp_path):
    found = check("no_over_allocation", tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator("cost*usage*1.5")])
    assert not found.passed
    assert found.summary.startswith("a0 handed out 50.00 USD more than there was; ")
    assert [row[3:] for row in found.details] == [(Decimal(100), Decimal(-50)) * 2]


def test_over_allocation_is_judged_on_all_items_of_an_allocator_and_month(tmp_path):
    """A constant is more than the small fee, and the large fee makes up for it."""
    small_fee, large_fee = line_item("9", "3", "Fee", "Purchase", charge_description="small"), FEE_OF_100
    constants = fee_allocator("5")
    workspace = run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, small_fee, large_fee], [constants]), [MONTH])
    assert run_check("no_over_allocation", workspace, MONTH).passed

    write_allocators(workspace.settings.config, [fee_allocator("30")])
    found = run_check("no_over_allocation", run(Workspace(workspace.settings), [MONTH]), MONTH)
    # 4 times 30 of 103; the details have the item that is exceeded.
    assert found.summary.startswith("a0 handed out 17.00 USD more than there was; ")
    assert [row[2:] for row in found.details] == [("USD", *(Decimal(3), Decimal(-57)) * 2)]


@pytest.mark.parametrize("months", [1, 2])
def test_failed_formulas(tmp_path, months):
    failing = fee_allocator()
    failing["allocator"][0] |= {"formula": "cost/(usage-usage)", "months": months}
    found = check("formulas_hold", tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [failing])
    assert not found.passed
    assert found.summary.startswith(f"{100 / months:.2f} USD could not be distributed: a formula of a0 fails")


def test_formulas_that_fail_in_one_measure_and_handing_out_too_much_of_it(tmp_path):
    fee = replace(FEE_OF_100, effective_cost=Decimal(2))
    checked = check("formulas_hold", tmp_path / "fails", [*USAGE_OF_10_AND_30, fee], [fee_allocator("cost/(cost - 2)")])
    assert checked.summary == (
        "100.00 USD, amortised 2.00 USD, could not be distributed: a formula of a0 fails for the amortised cost (division by "
        "zero, overflow). Fix it and run 2024-01 again."
    )
    checked = check("no_over_allocation", tmp_path / "exceeds", [*USAGE_OF_10_AND_30, fee], [fee_allocator("3")])
    assert checked.summary.startswith("a0 handed out 0.00 USD, amortised 4.00 USD, more than there was; ")
    assert [row[3:] for row in checked.details] == [(100, 0, 2, -4)]


def test_conservation_over_months_is_of_both_measures(tmp_path):
    workspace = run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()]), [MONTH])
    amortised = replace(FEE_OF_100, effective_cost=Decimal(40))
    write_lines(workspace, tmp_path, [*USAGE_OF_10_AND_30, amortised])
    materialise(workspace, MatchedItems(), MONTH)
    checked = run_check("conserved_over_months", workspace, MONTH)
    assert checked.summary.startswith(
        "0.00 USD, amortised 60.00 USD, of the items of 2024-01 is not booked as it is due"
    )


def test_a_currency_without_any_rate(tmp_path):
    euros = line_item("3", "7", billing_currency="EUR")
    workspace = make_all(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, euros], []), [MONTH])
    checked = run_check("base_currency_known", workspace, MONTH)
    assert checked.summary == (
        "7.00 EUR of costs have no value in USD: exchange_rates.csv has no rate for EUR in 2024-01 or earlier. Add one and "
        "run 2024-01 again."
    )
    assert checked.details == (("EUR", 1, 7, 7),)


def test_invalid_documents(tmp_path):
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    (workspace.settings.config / "allocators" / "bad.json").write_text('{"category": "fees"}')
    found = run_check("valid_documents", run(workspace, [MONTH]), MONTH)
    assert not found.passed
    assert found.summary.startswith("1 document is left out until it is fixed: ")
    assert {row[0].rsplit("/", 1)[-1] for row in found.details} == {"bad.json"}


def test_owners_without_a_cost_centre(tmp_path):
    rows = [replace(line, billing_account_id="p") for line in [*USAGE_OF_10_AND_30, FEE_OF_100]]
    settings = make_all(workspace_in(tmp_path, rows, [fee_allocator()]), [MONTH]).settings

    def checked(*lines: str) -> CheckResult:
        header = "owner_type,owner_id,cost_centre,ledger_account,name,email"
        (settings.config / "cost_centres.csv").write_text("\n".join([header, *lines]))
        return run_check("owners_have_cost_centres", Workspace(settings), MONTH)

    assert checked().summary == "Nothing is posted: cost_centres.csv has no lines."
    assert checked("account,re:^[129]$,CC,6400,,", "payer,p,,2100,,").passed
    result = checked("account,re:^[19]$,CC,6400,,")
    assert (result.passed, result.summary) == (
        False,
        "105.00 USD of account 2 has no cost centre, so the journal posts it as unmapped. Add it to cost_centres.csv.",
    )
    assert [row[:3] for row in result.details] == [("account", "2", "USD"), ("payer", "p", "USD")]
    result = checked("account,re:^[129]$,CC,6400,,")
    assert (result.passed, result.summary) == (
        False,
        "payer p has no ledger account, so the journal posts it as unmapped. Add it to cost_centres.csv.",
    )


def test_conservation_over_months_sees_a_restated_origin_month(tmp_path):
    spread = fee_allocator()
    spread["allocator"][0]["months"] = 2
    later = [line_item("1", "1", billing_month="2024-02"), line_item("2", "1", billing_month="2024-02")]
    workspace = run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100, *later], [spread]), [MONTH, "2024-02"])
    assert run_check("conserved_over_months", workspace, MONTH).passed

    write_lines(workspace, tmp_path, [*USAGE_OF_10_AND_30, line_item("9", "300", "Fee", "Purchase"), *later])
    run(workspace, [MONTH])
    found = run_check("conserved_over_months", workspace, MONTH)
    assert not found.passed
    assert found.summary.startswith("-100.00 USD of the items of 2024-01 is not booked as it is due in 2024-02")

    run(workspace, ["2024-02"])
    assert run_check("conserved_over_months", workspace, MONTH).passed


def test_conservation_over_months_waits_for_months_to_come(tmp_path):
    spread = fee_allocator()
    spread["allocator"][0]["months"] = 3
    workspace = run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [spread]), [MONTH])
    found = run_check("conserved_over_months", workspace, MONTH)
    assert found.passed
    assert found.summary.endswith("Not made yet: 2024-02, 2024-03.")


def test_a_removed_allocator_leaves_what_was_pinned_until_the_month_is_made_again(tmp_path):
    spread = fee_allocator()
    spread["allocator"][0]["months"] = 2
    later = [line_item("1", "1", billing_month="2024-02")]
    workspace = run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100, *later], [spread]), [MONTH])
    (workspace.settings.config / "allocators" / "a0.json").unlink()
    run(workspace, ["2024-02"])
    assert run_check("conserved_over_months", workspace, MONTH).passed
    write_allocators(workspace.settings.config, [])
    run(workspace, [MONTH])
    assert not run_check("conserved_over_months", workspace, MONTH).passed
    run(workspace, ["2024-02"])
    assert run_check("conserved_over_months", workspace, MONTH).passed


def test_targets_that_nobody_knows(tmp_path):
    entries = [
        {"type": "account", "value": "4", "formula": "cost/2"},
        {"type": "payer", "value": "9", "formula": "cost"},
    ]
    rule = fee_allocator() | {"allocator": entries, "defaultAccount": "5"}
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [rule])
    found = run_check("targets_known", make_all(workspace, [MONTH]), MONTH)
    assert found.summary.startswith("account 4 of a0, defaultAccount 5 of a0 were never billed and are not registered")
    # What the rule gave them in a month does not make them known in the next.
    write_lines(
        workspace, tmp_path, [replace(line, billing_month="2024-02") for line in (*USAGE_OF_10_AND_30, FEE_OF_100)]
    )
    assert not run_check("targets_known", make_all(workspace, ["2024-02"]), "2024-02").passed
    # One is billed in a later month, the other is registered.
    write_lines(workspace, tmp_path, [line_item("4", "1", billing_month="2024-03")])
    workspace.registry.accounts.add([NewAccount("aws", "5", "Main", "payer", None, "an-external-id")], "ana")
    assert run_check("targets_known", make_all(workspace, ["2024-03"]), MONTH).passed


def test_a_rate_of_an_earlier_month(tmp_path):
    lines = [
        *USAGE_OF_10_AND_30,
        replace(USAGE_OF_10_AND_30[1], sub_account_id="2", billing_currency="GBP"),
        FEE_OF_100,
    ]
    workspace = workspace_in(tmp_path, lines, [fee_allocator()])
    rates = workspace.settings.config / "exchange_rates.csv"
    rates.write_text("month,currency,rate\n2023-11,GBP,1.5\n2023-10,GBP,3\n2023-12,EUR,1.1\n")
    found = run_check("rates_current", run(workspace, [MONTH]), MONTH)
    assert found.summary == (
        "Usage of 2024-01 was compared at earlier rates: GBP of 2023-11 (1.5). Add the rates of 2024-01 to exchange_rates.csv."
    )
    rates.write_text(f"month,currency,rate\n{MONTH},GBP,1.5\n")
    assert run_check("rates_current", run(Workspace(workspace.settings), [MONTH]), MONTH).passed


HEADS = {"usageOf": {"metric": "heads"}}


def with_metric(tmp_path, document: dict, text: str):
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [document])
    (workspace.settings.config / "metrics").mkdir()
    (workspace.settings.config / "metrics" / "heads.csv").write_text("month,account,quantity\n" + text)
    return run(workspace, [MONTH])


def test_a_metric_without_a_row_of_the_month(tmp_path):
    workspace = with_metric(tmp_path, fee_allocator() | HEADS, "2024-02,1,5\n")
    checked = run_check("metrics_delivered", workspace, MONTH)
    assert checked.summary == (
        "100.00 USD could not be distributed in 2024-01: the metric heads (of a0) has no row of 2024-01. Deliver it and run "
        "2024-01 again."
    )
    assert [row[:3] for row in checked.details] == [("a0", "USD", 1)]
    assert run_check("formulas_hold", workspace, MONTH).passed


def test_a_metric_of_an_earlier_month_and_rows_that_do_not_count(tmp_path):
    carried = {"usageOf": {"metric": "heads", "carryForward": True}}
    workspace = with_metric(
        tmp_path, fee_allocator() | carried, "2023-11,1,5\n2023-12,1,5\n2023-12,2,5\n2023-12,8,2.5\n"
    )
    checked = run_check("metrics_current", workspace, MONTH)
    assert checked.summary == "heads is of 2023-12: 2024-01 has no row yet. Deliver it and run 2024-01 again."
    checked = run_check("metrics_listed", workspace, MONTH)
    assert checked.summary == (
        "2.50 of heads is of 1 account or group that a0 does not list, and does not count. Add entries for them, or leave it so."
    )
    assert run_check("metrics_delivered", workspace, MONTH).passed


def test_a_family_of_too_many_groups_fails_what_names_it_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(resolution, "MOST_VALUES", 1)
    named = fee_allocator(allocator=[{"type": "group", "value": "re:^acc"}])
    other = fee_allocator(criteria=[{"and": {"description": "other"}}], allocator=[{"type": "account", "value": "1"}])
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("9", "7", "Fee", "Purchase", charge_description="other")]
    workspace = workspace_in(tmp_path, lines, [other, named])
    family = {"by": {"account": True}, "combinations": {"awsOptions": {}}}
    (workspace.settings.config / "cost_groups" / "accounts.json").write_text(json.dumps(family))
    checked = run_check("families_small", run(workspace, [MONTH]), MONTH)
    assert checked.summary.startswith("100.00 USD could not be distributed in 2024-01: a1 names a family of more than")
