"""`octo export focus` as people type it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.tables.account_costs import AccountCosts
from tests.support.case import make, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import workspace_in


@pytest.fixture
def octo(tmp_path: Path):
    """A command on a small month."""
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    make(run(workspace, [MONTH]), AccountCosts(), [MONTH])
    environment = {"OCTO_LAKE": str(workspace.settings.lake), "OCTO_CONFIG": str(workspace.settings.config)}
    return lambda *words: CliRunner().invoke(app, ["export", "focus", *words], env=environment)


def test_the_summary_says_what_the_export_is_made_of(octo, tmp_path):
    result = octo(str(tmp_path / "focus.parquet"), "--month", MONTH)

    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "USD billed 140.00 0.00 0.00 0.00 140.00" in text
    assert "split USD 2 100.00 100.00" in text
    assert text.endswith(f"FOCUS 1.4 of {MONTH} is in {tmp_path / 'focus.parquet'}.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--month", "2024-1"), "'2024-1' is not a month"),
        (("--month", "2024-02"), "The lake has no account costs of 2024-02"),
        (("--month", MONTH, "--to", "2023-12"), "--to 2023-12 is before --month 2024-01"),
    ],
)
def test_months_that_cannot_be_exported_are_named(octo, tmp_path, words, message):
    result = octo(str(tmp_path / "focus.parquet"), *words)

    assert result.exit_code == 1
    assert message in str(result.exception)
    assert not (tmp_path / "focus.parquet").exists()
