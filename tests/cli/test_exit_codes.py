"""When `octo run` and `octo backfill` end with 1: a job that watches nothing else must see that money lies where it should not."""

import json

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace

pytestmark = pytest.mark.slow
MONTH = "2024-01"
RULE = {
    "startMonth": MONTH,
    "criteria": [{"and": {"productCode": "re:^AWSSupport"}}],
    "allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}],
}


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    write_cur(tmp_path / "exports", months=[MONTH], accounts=3, lines=100)
    settings = {
        "lake": str(tmp_path / "lake"),
        "config": tmp_path / "config",
        "aws_exports": tmp_path / "exports" / "aws",
        "start_month": "2023-12",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"OCTO_{name.upper()}", str(value))
    return Workspace(Settings(**settings))


def octo(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    error = result.exception
    return (1, sentence(error)) if isinstance(error, OctoError) else (result.exit_code, result.output)


@pytest.mark.parametrize("command", [("run", "--month", MONTH), ("backfill", "--from", MONTH, "--to", MONTH)])
def test_a_rule_that_is_left_out_and_a_formula_that_fails(workspace, command):
    rules = workspace.settings.config / "allocators"
    (rules / "support.json").write_text(json.dumps(RULE))
    assert octo(*command)[0] == 0
    (rules / "half.json").write_text('{"criteria": ')
    code, text = octo(*command)
    assert code == 1
    assert f"{MONTH}: 1 document is left out" in text
    (rules / "half.json").unlink()
    entry = RULE["allocator"][0] | {"formula": "cost/0"}
    (rules / "support.json").write_text(json.dumps(RULE | {"allocator": [entry]}))
    code, text = octo(*command)
    assert code == 1
    assert "could not be distributed: a formula of support fails" in text
    # What was made is there all the same.
    assert workspace.lake.months("account_costs") == [MONTH]


def test_items_that_no_rule_takes_are_no_failure(workspace):
    assert octo("run", "--month", MONTH)[0] == 0


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--month", "2023-12"),
        ("backfill", "--from", "2023-12", "--to", MONTH),
        ("backfill", "--from", "2023-12", "--to", MONTH, "--workers", "2"),
    ],
)
def test_a_month_that_no_source_has_is_said_and_nothing_of_it_is_published(workspace, command):
    """Regression: it was published as empty tables, and "proved"."""
    code, text = octo(*command)
    assert code == 0
    assert text.count("Nothing of 2023-12 is landed, and no source offers any of it.") == 1
    assert "2023-12" not in workspace.lake.months("cost_line_items")
    assert workspace.lake.months("account_costs") == ([MONTH] if command[0] == "backfill" else [])


def test_without_sources_nothing_is_made(workspace, monkeypatch):
    monkeypatch.delenv("OCTO_AWS_EXPORTS")
    code, text = octo("run", "--month", MONTH)
    assert code == 1
    assert f"Nothing of {MONTH} is landed" in text
    assert workspace.lake.tables() == []
