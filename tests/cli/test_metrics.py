"""`octo metrics` as a user types it, and metrics that a pipeline delivers to the lake."""

import json
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner, Result

from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.tables.graph import stale
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import administered, exact_rows, workspace_in

WEIGHED = fee_allocator() | {"usageOf": {"metric": "heads"}}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return administered(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [WEIGHED]))


@pytest.fixture
def octo(workspace, monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", str(workspace.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(workspace.settings.config))

    def invoke(*arguments: str | Path, code: int = 0, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, ["metrics", *map(str, arguments)], input=answer)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return invoke


def deliver(workspace: Workspace, month: str, query: str) -> None:
    folder = Path(str(workspace.lake.root)) / "metrics" / "heads" / f"month={month}"
    folder.mkdir(parents=True, exist_ok=True)
    duckdb.execute(f"COPY ({query}) TO '{folder / 'part-0.parquet'}'")


def splits(workspace: Workspace) -> list[tuple]:
    return sorted((row[5], float(row[9])) for row in exact_rows(workspace) if row[3] == "split")


def test_put_list_and_show(octo, tmp_path, workspace):
    file = tmp_path / "any.csv"
    file.write_text("month,account,quantity\n2024-01,1,30\n2024-01,2,10\n2023-12,1,5\n")
    octo("put", file, "--id", "heads", answer="n\n", code=1)
    assert not (workspace.settings.config / "metrics").exists()
    result = octo("put", file, "--id", "heads", "--yes")
    assert result.stdout.splitlines()[0] == "heads: 3 rows of 2023-12 to 2024-01."
    assert workspace.registry.audit()[0].action == "save_metric"
    rows = json.loads(octo("list", "--output", "json").stdout)
    assert [(r["metric"], r["month"], r["rows"], float(r["quantity"])) for r in rows] == [
        ("heads", "2023-12", 1, 5.0),
        ("heads", "2024-01", 2, 40.0),
    ]
    rows = json.loads(octo("show", "heads", "--month", MONTH, "--output", "json").stdout)
    assert [(r["type"], r["id"], float(r["quantity"])) for r in rows] == [
        ("account", "1", 30.0),
        ("account", "2", 10.0),
    ]
    assert splits(run(workspace, [MONTH])) == [("1", 75.0), ("2", 25.0)]


@pytest.mark.parametrize(
    ("months", "sentence_of_months"),
    [
        (["2024-03"], "of 2024-03."),
        (["2024-01", "2024-02"], "of 2024-01 to 2024-02."),
        (["2023-11", "2024-02"], "of 2023-11 to 2024-02, none of 2023-12, 2024-01."),
    ],
)
def test_put_names_the_months_and_those_that_are_missing_between_them(octo, tmp_path, months, sentence_of_months):
    file = tmp_path / "heads.csv"
    file.write_text("month,account,quantity\n" + "".join(f"{month},1,5\n" for month in months))
    assert octo("put", file, "--id", "heads", "--yes").stdout.splitlines()[0].endswith(f" {sentence_of_months}")


def test_what_cannot_be_put_or_shown(octo, tmp_path):
    file = tmp_path / "bad.csv"
    file.write_text("month,account,quantity\n2024-01,1,-3\n")
    assert sentence(octo("put", file, "--id", "heads", "--yes", code=1).exception).startswith(
        f'{file}: line 2: "-3" is'
    )
    assert "The metric heads has no row of 2024-01" in sentence(
        octo("show", "heads", "--month", MONTH, code=1).exception
    )


def test_a_row_of_a_delivered_metric_makes_again_what_it_touches(workspace):
    deliver(workspace, MONTH, "SELECT '1' AS account, 3::DOUBLE AS quantity UNION ALL SELECT '2', 1")
    deliver(workspace, "2024-02", "SELECT '1' AS account, 3 AS quantity")
    made = run(workspace, [MONTH])
    assert splits(made) == [("1", 75.0), ("2", 25.0)]
    deliver(workspace, "2024-02", "SELECT '1' AS account, 4 AS quantity")
    assert [(p.table, p.month) for p in stale(Workspace(workspace.settings)) if p.table == "usage_shares"] == []
    # The same rows in another file change nothing.
    deliver(workspace, MONTH, "SELECT 1::DECIMAL(9, 1) AS quantity, '2' AS account UNION ALL SELECT 3, '1'")
    assert [(p.table, p.month) for p in stale(Workspace(workspace.settings)) if p.table == "usage_shares"] == []
    deliver(workspace, MONTH, "SELECT '1' AS account, 1 AS quantity UNION ALL SELECT '2', 1")
    changes = [p.changed for p in stale(Workspace(workspace.settings)) if p.table == "usage_shares"]
    assert changes == [["metrics/heads"]]
    assert splits(run(workspace, [MONTH])) == [("1", 50.0), ("2", 50.0)]


@pytest.mark.parametrize(
    ("query", "flaw"),
    [
        ("SELECT '1' AS account, -1 AS quantity", "has a quantity that is missing or negative in 1 row"),
        ("SELECT '' AS account, 1 AS quantity", "has no account or group in 1 row"),
        ("SELECT unnest(['1', '1']) AS account, 1 AS quantity", "has an account or group twice in 1 row"),
        ("SELECT '1' AS account", "has the columns account; it needs quantity, and account or group"),
    ],
)
def test_a_delivered_metric_that_is_wrong_is_named(octo, workspace, query, flaw):
    deliver(workspace, MONTH, query)
    message = sentence(octo("list", code=1).exception)
    assert message == f"The metric metrics/heads/month=2024-01 in the lake {flaw}. Deliver it again."


def test_a_month_in_both_places_is_refused(octo, workspace):
    (workspace.settings.config / "metrics").mkdir()
    (workspace.settings.config / "metrics" / "heads.csv").write_text("month,account,quantity\n2024-01,1,30\n")
    deliver(workspace, MONTH, "SELECT '1' AS account, 1 AS quantity")
    message = sentence(octo("list", code=1).exception)
    assert message == "The metric heads has 2024-01 both in metrics/heads.csv and in the lake. Keep one of them."
