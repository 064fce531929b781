"""The files that people open in a spreadsheet have no formula in them, whatever a bill says."""

import csv
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import openpyxl
import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.services import report_page
from octo_pipeline.services.report_page import ACCOUNT_COLUMNS
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in

HOSTILE = ['=HYPERLINK("http://evil")', "@SUM(1+1)*cmd|'x'", "+1+1", "-1+1", "\x1b[31mred", "#REF!"]
FIRST = ("=", "+", "-", "@", "\t", "\r", "\x1b")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    lines = [line_item("9", "100", "Fee", "Purchase", charge_description=text) for text in HOSTILE]
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, *lines], [fee_allocator()])
    monkeypatch.setenv("OCTO_LAKE", str(workspace.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(workspace.settings.config))
    return run(workspace, [MONTH])


def exported(file: Path, *options: str) -> Path:
    result = CliRunner().invoke(app, ["allocations", "export", str(file), "--month", MONTH, *options])
    assert result.exit_code == 0, result.exception
    return file


def cells(file: Path) -> list[str]:
    with file.open(newline="") as stream:
        return [cell for row in csv.reader(stream) for cell in row]


def test_csv(workspace: Workspace, tmp_path: Path) -> None:
    """Regression: 493 cells of an export began with a sign of a formula."""
    found = cells(exported(tmp_path / "a.csv"))
    assert [cell for cell in found if cell.startswith(FIRST) and not _is_number(cell)] == []
    assert {f"'{text}" for text in HOSTILE if text != "#REF!"} <= set(found)
    raw = cells(exported(tmp_path / "b.csv", "--raw"))
    assert set(HOSTILE) <= set(raw)
    assert [cell.removeprefix("'") for cell in found] == [cell.removeprefix("'") for cell in raw]


def test_xlsx(workspace: Workspace, tmp_path: Path) -> None:
    """Regression: descriptions became formulas, and one with a control character ended the export."""
    sheet = openpyxl.load_workbook(exported(tmp_path / "a.xlsx"))["allocations"]
    texts = [cell for row in sheet.iter_rows() for cell in row if isinstance(cell.value, str)]
    assert {cell.data_type for cell in texts} <= {"s", "inlineStr"}
    assert {text.replace("\x1b", "␛") for text in HOSTILE} <= {cell.value for cell in texts}
    assert all(cell.quotePrefix for cell in texts if cell.value.startswith(FIRST[:4]))
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == sheet.dimensions


def test_what_commands_print_as_csv(workspace: Workspace) -> None:
    for output, expected in (("csv", "'=1"), ("raw", "=1")):
        result = CliRunner().invoke(app, ["sql", "SELECT '=1' AS text, -1.5 AS cost", "-o", output])
        assert result.stdout == f"text,cost\n{expected},-1.5\n"


def test_the_report_beside_its_page() -> None:
    amounts = [Decimal(-1)] * (len(ACCOUNT_COLUMNS) - 3)
    report = SimpleNamespace(accounts=[("=1", "+x", "USD", *amounts)])
    assert report_page._csv(report).splitlines()[1].startswith("'=1,'+x,USD,-1,-1")


def _is_number(cell: str) -> bool:
    try:
        return bool(float(cell)) or True
    except ValueError:
        return False
