"""Every check with a month that passes it and one that does not, and the first line it then says."""

from decimal import Decimal
from pathlib import Path

import pytest

from octo_pipeline.services.checks import CHECKS, CheckResult
from tests.support.case import run
from tests.support.oracle import Line
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import run_check, workspace_in, write_allocators, write_lines


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
        "100.00 USD matched by several allocators; the first by createTime and id took it: a0 before a1, a2. "
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
    assert [row[3:] for row in found.details] == [(Decimal(100), Decimal(-50))]


@pytest.mark.parametrize("months", [1, 2])
def test_failed_formulas(tmp_path, months):
    failing = fee_allocator()
    failing["allocator"][0] |= {"formula": "cost/(usage-usage)", "months": months}
    found = check("formulas_hold", tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [failing])
    assert not found.passed
    assert found.summary.startswith(f"{100 / months:.2f} USD could not be distributed: a formula of a0 fails")


def test_invalid_documents(tmp_path):
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    (workspace.settings.config / "allocators" / "bad.json").write_text('{"category": "fees"}')
    found = run_check("valid_documents", run(workspace, [MONTH]), MONTH)
    assert not found.passed
    assert found.summary.startswith("1 document is left out, so it distributes nothing: ")
    assert {row[0].rsplit("/", 1)[-1] for row in found.details} == {"bad.json"}


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
