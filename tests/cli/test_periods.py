"""`octo periods`, and how corrections look in the other commands."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from octo_pipeline.cli.main import app
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.closing import close_months
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.tables import MART_TABLES
from tests.support.workspaces import administered, workspace_in, write_lines

NEXT = "2024-02"


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """January is closed and was restated: the fee is 120 now. February corrects it."""
    lines = [*USAGE_OF_10_AND_30, FEE_OF_100, line_item("1", "5", billing_month=NEXT)]
    workspace = administered(workspace_in(tmp_path, lines, [fee_allocator()]))
    run(workspace, [MONTH, NEXT])
    close_months(workspace, [MONTH])
    write_lines(workspace, tmp_path, [*USAGE_OF_10_AND_30, line_item("9", "120", "Fee", "Purchase")])
    run(workspace, [MONTH, NEXT])
    for table in MART_TABLES:
        make(workspace, table, [NEXT])
    monkeypatch.setenv("OCTO_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("OCTO_CONFIG", str(tmp_path / "config"))
    return Workspace(workspace.settings)


def octo(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_months_their_drift_and_their_corrections(closed):
    listed = octo("periods", "list").stdout
    assert "2024-01   closed   finance" in listed
    assert "delivery" in listed
    assert "2024-01 as it is known, because of: delivery" in octo("periods", "drift", MONTH).stdout
    drift = octo("periods", "drift", MONTH, "-o", "csv").stdout
    assert "USD,account,2,a0,75.0000000000,90.0000000000,15.0000000000,15.0000000000" in drift
    corrections = octo("periods", "corrections", NEXT, "-o", "csv").stdout
    assert "2024-01,2,a0,USD,15.0000000000,15.0000000000" in corrections
    assert "2024-01 corrects nothing." in octo("periods", "corrections", MONTH).stdout


def test_corrections_stand_in_every_list(closed):
    listed = octo("allocations", "list", "--month", NEXT).stdout
    assert ["2024-01:", "Splitted", "to", "2", "15.00", "USD"] in words(listed)
    assert ["2024-01:", "Allocated", "20.00", "USD"] in words(listed)
    assert "corrected" in octo("accounts", "costs", "--month", NEXT).stdout
    assert "corrected" not in octo("accounts", "costs", "--month", MONTH).stdout
    exported = closed.settings.config / "rows.csv"
    assert octo("allocations", "export", str(exported), "--month", NEXT).exit_code == 0
    assert exported.read_text().count("correction") == 3


def test_questions_in_sql_see_a_closed_month_as_it_was_closed_and_its_corrections_where_they_are_booked(closed):
    query = (
        "SELECT booking_month, kind, corrected_month, item_cost, cost FROM allocations "
        "WHERE category = 'fee' AND target_account = '2' ORDER BY ALL"
    )
    # The fee is 120 by now.
    assert octo("sql", query, "-o", "csv").stdout.splitlines()[1:] == [
        "2024-01,split,,100.0000000000,75.0000000000",
        "2024-02,correction,2024-01,,15.0000000000",
    ]


def test_the_report_says_whether_its_month_is_closed_and_what_it_corrects(closed, tmp_path):
    pages = {month: tmp_path / f"{month}.html" for month in (MONTH, NEXT)}
    for month, page in pages.items():
        assert octo("report", "--month", month, "--page", str(page)).exit_code == 0
    assert "Closed on " in pages[MONTH].read_text()
    text = pages[NEXT].read_text()
    assert "Provisional." in text
    assert "2024-01 differs because of: delivery." in text
    assert "Corrections of closed months" not in pages[MONTH].read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["close"], "Name either the month, or with --through the last one."),
        (["close", MONTH, "--through", MONTH], "Name either the month, or with --through the last one."),
        (["close", MONTH, "--yes"], "2024-01 is closed already."),
        (["close", "2024-13", "--yes"], "2024-13"),
        (["reopen", NEXT, "--reason", "x", "--yes"], "2024-02 is not closed, so there is nothing to reopen."),
        (["finalise", NEXT, "--yes"], "2024-02 is not closed; close it before it becomes final."),
        (["drift", NEXT], "2024-02 is not closed."),
        (["accept", NEXT, "--yes"], "2024-02 is not closed, so nothing of it has to be accepted."),
    ],
)
def test_what_is_refused_is_a_sentence(closed, arguments, expected):
    refused = octo("periods", *arguments)
    assert refused.exit_code != 0
    assert expected in str(refused.exception)


def test_only_administrators_close_months(closed):
    for user in closed.registry.users.all():
        closed.registry.users.add("other", "admin", "tester")
        closed.registry.users.remove(user.name, "other")
    refused = octo("periods", "reopen", MONTH, "--reason", "x", "--yes")
    assert refused.exit_code == 1
    assert Workspace(closed.settings).is_closed(MONTH)


def test_a_month_is_reopened_and_made_final(closed):
    assert "is final" in octo("periods", "finalise", MONTH, "--reason", "audited", "--yes").stdout
    refused = octo("periods", "reopen", MONTH, "--reason", "x", "--yes")
    assert "2024-01 is final and is never reopened" in str(refused.exception)
