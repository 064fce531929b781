"""Golden cases: the project's own in tests/cases and those under --cases, compared whole."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from octo_pipeline.services.checks import CHECKS
from octo_pipeline.tables.account_costs import AccountCosts
from tests.support.case import EXPECTATIONS, Case, Expectation, comparison, differences, make, run_case

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc):
    if "case" not in metafunc.fixturenames:
        return
    folders = [HERE / "cases", HERE / "closed_cases", *(Path(p) for p in metafunc.config.getoption("--cases"))]
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
    # The last month has what the others spread over it.
    make(workspace, AccountCosts(), case.months[-1:])


def test_a_column_that_is_not_compared_is_refused():
    with pytest.raises(ValueError, match=r"expected_allocations\.csv: column target_acount is unknown; allowed: "):
        EXPECTATIONS[0].columns(["booking_month", "target_acount", "cost"])


def test_what_the_tables_lack_is_a_difference(tmp_path):
    case = Case(tmp_path)
    (tmp_path / "expected.csv").write_text("owner,cost\n1,2\n")
    missing = Expectation("expected.csv", "no_such_table", "month", ("owner",), ("cost",))
    assert comparison(case, None, missing) == ["expected.csv: there is no table no_such_table"]


def test_runs_go_on_until_the_last_thing_that_is_due_has_been_run(tmp_path):
    case = Case(tmp_path)
    assert case.run_count == 1
    (tmp_path / "closings.json").write_text('[{"after_run": 1, "close": ["2024-01"]}]')
    assert case.run_count == 2
    (tmp_path / "restores.csv").write_text("origin_month,after_run,reapplied_after_run\n2024-01,1,3\n2024-02,,\n")
    assert case.run_count == 4
    (tmp_path / "allocators_6").mkdir()
    assert case.run_count == 6


def test_what_is_due_after_a_run(tmp_path):
    entries = [
        {"after_run": 1, "close": ["2024-01"]},
        {"after_run": 2, "reopen": ["2024-01"]},
        {"after_run": 3, "close": ["2024-01", "2024-02"]},
    ]
    (tmp_path / "closings.json").write_text(json.dumps(entries))
    (tmp_path / "restores.csv").write_text("origin_month,after_run,reapplied_after_run\n2024-01,2,3\n2024-02,,\n")
    case = Case(tmp_path)
    assert [case.closings_after(n) for n in (1, 2, 3)] == [
        [([], ["2024-01"])],
        [(["2024-01"], [])],
        [([], ["2024-01", "2024-02"])],
    ]
    decisions = [[(action, row["origin_month"]) for action, row in case.decisions_after(n)] for n in (1, 2, 3)]
    assert decisions == [[("restore", "2024-02")], [("restore", "2024-01")], [("reapply", "2024-01")]]


def test_a_run_has_the_newest_edition_of_a_file(tmp_path):
    for name in ("line_items.csv", "line_items_2.csv", "line_items_4.csv"):
        (tmp_path / name).touch()
    case = Case(tmp_path)
    editions = [case.path("line_items.csv", n).name for n in range(1, 6)]
    assert editions == [
        "line_items.csv",
        "line_items_2.csv",
        "line_items_2.csv",
        "line_items_4.csv",
        "line_items_4.csv",
    ]
    assert [n for n in range(1, 6) if case.is_replaced("line_items.csv", n)] == [2, 4]
    assert case.path("allocators", 3) == tmp_path / "allocators"


def test_what_a_run_would_not_read_is_refused(tmp_path):
    (tmp_path / "line_items_1.csv").touch()
    with pytest.raises(ValueError, match=r"line_items_1\.csv: the files of the first run have no number"):
        _ = Case(tmp_path).run_count
    (tmp_path / "closings.json").write_text('[{"after_run": 1, "closes": []}]')
    with pytest.raises(ValueError, match=r"closings\.json: closes is unknown"):
        _ = Case(tmp_path).closings


def test_every_amount_of_a_row_is_compared():
    actual = {("a",): (Decimal(1), Decimal(2)), ("zero",): (Decimal(0), Decimal(0))}
    assert differences(actual, {("a",): (Decimal(1), Decimal(2))}) == []
    assert differences(actual, {("a",): (Decimal(1), Decimal(3))}) == ["a: expected 1 / 3, not 1 / 2"]
    assert differences({}, {("b",): (Decimal(0), Decimal(3))}) == ["b: expected 0 / 3, not 0 / 0"]
