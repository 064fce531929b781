"""Golden cases: the project's own in tests/cases and those under --cases, compared whole."""

from decimal import Decimal
from pathlib import Path

import pytest

from octo_pipeline.services.checks import CHECKS
from octo_pipeline.tables.account_costs import AccountCosts
from tests.support.case import EXPECTATIONS, Case, Expectation, comparison, differences, make, prepare, run_case

OWN = Path(__file__).parent / "cases"


def pytest_generate_tests(metafunc):
    if "case" not in metafunc.fixturenames:
        return
    folders = [OWN, *(Path(p) for p in metafunc.config.getoption("--cases"))]
    for folder in folders:
        if not folder.is_dir():
            raise pytest.UsageError(f"--cases {folder}: there is no such folder")
    cases = [Case(p.parent) for folder in folders for p in sorted(folder.rglob("case.json"))]
    metafunc.parametrize("case", cases, ids=[f"{c.folder.parent.name}/{c.folder.name}" for c in cases])


def test_case(case, tmp_path):
    workspace = run_case(case, tmp_path)
    lines = [line for expectation in EXPECTATIONS for line in comparison(case, workspace, expectation)]
    assert not lines, "\n".join([*lines, *map(str, workspace.configuration.problems)])
    conserved = next(check for check in CHECKS if check.name == "conserved_over_months")
    assert [r.summary for m in case.months if not (r := conserved.run(workspace, m)).passed] == []
    # Each month costs a run of dbt; the last one has what the others spread over it.
    make(workspace, AccountCosts(), case.months[-1:])


def test_a_column_that_is_not_compared_is_refused():
    with pytest.raises(ValueError, match=r"expected_allocations\.csv: column target_acount is unknown; allowed: "):
        EXPECTATIONS[0].columns(["booking_month", "target_acount", "cost"])


def test_what_the_tables_lack_is_a_difference(tmp_path):
    case = Case(tmp_path)
    (tmp_path / "expected.csv").write_text("owner,cost\n1,2\n")
    missing = Expectation("expected.csv", "no_such_table", "month", ("owner",), ("cost",))
    assert comparison(case, None, missing) == ["expected.csv: there is no table no_such_table"]


def test_a_file_that_a_run_would_not_read_is_refused(tmp_path):
    (tmp_path / "line_items_2.csv").touch()
    (tmp_path / "closings.json").touch()
    with pytest.raises(NotImplementedError, match=r"closings\.json, line_items_2\.csv is not supported yet"):
        prepare(Case(tmp_path), tmp_path)


def test_every_amount_of_a_row_is_compared():
    actual = {("a",): (Decimal(1), Decimal(2)), ("zero",): (Decimal(0), Decimal(0))}
    assert differences(actual, {("a",): (Decimal(1), Decimal(2))}) == []
    assert differences(actual, {("a",): (Decimal(1), Decimal(3))}) == ["a: expected 1 / 3, not 1 / 2"]
    assert differences({}, {("b",): (Decimal(0), Decimal(3))}) == ["b: expected 0 / 3, not 0 / 0"]
