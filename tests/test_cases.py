"""Golden cases: the project's own in tests/cases and those under --cases, compared whole."""

from pathlib import Path

import pytest

from octo_pipeline.services.checks import CHECKS
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from tests.support.case import (
    ALLOCATION_KEY,
    COST_GROUP_KEY,
    Case,
    allocations,
    cost_groups,
    differences,
    expected,
    make,
    run_case,
)

OWN = Path(__file__).parent / "cases"


def pytest_generate_tests(metafunc):
    folders = [OWN, *(Path(p) for p in metafunc.config.getoption("--cases"))]
    for folder in folders:
        if not folder.is_dir():
            raise pytest.UsageError(f"--cases {folder}: there is no such folder")
    cases = [Case(p.parent) for folder in folders for p in sorted(folder.rglob("case.json"))]
    metafunc.parametrize("case", cases, ids=[f"{c.folder.parent.name}/{c.folder.name}" for c in cases])


def test_case(case, tmp_path):
    workspace = run_case(case, tmp_path)
    wanted = expected(case.rows("expected_allocations.csv"), ALLOCATION_KEY)
    assert differences(allocations(workspace, case.months), wanted) == [], workspace.configuration.problems
    conserved = next(check for check in CHECKS if check.name == "conserved_over_months")
    assert [r.summary for m in case.months if not (r := conserved.run(workspace, m)).passed] == []
    # Each month costs a run of dbt; the last one has what the others spread over it.
    make(workspace, AccountCosts(), case.months[-1:])
    if (case.folder / "expected_cost_groups.csv").exists():
        wanted = expected(case.rows("expected_cost_groups.csv"), COST_GROUP_KEY)
        make(workspace, CostGroupCosts(), case.months)
        assert differences(cost_groups(workspace, case.months), wanted) == []
