"""The whole pipeline on a lake in a bucket, as a user types it: the same rows as in a folder, by the same commands."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root
from octo_pipeline.services.access import os_user
from octo_pipeline.services.landing import land_month
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES as MADE
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import CurFolderSource
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace

pytestmark = pytest.mark.slow
MONTH = "2024-01"
ALLOCATOR = """{"startMonth": "2024-01", "criteria": [{"and": {"productCode": "AWSSupportEnterprise"}}],
"allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}]}"""
TABLES = (
    "cost_line_items", "matched_items", "resolved_accounts", "usage_shares", "corrections", "allocations", "account_costs",
    "cost_group_costs", "prepayments", "container_usage", "invoice_costs",
)  # fmt: skip


@pytest.fixture
def octo(s3_server, tmp_path, monkeypatch):
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    (tmp_path / "config" / "allocators" / "support.json").write_text(ALLOCATOR)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)

    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(lake: object, *arguments: object) -> str:
        for name, value in {
            "OCTO_LAKE": str(lake),
            "OCTO_CONFIG": str(tmp_path / "config"),
            "OCTO_TEMP": str(tmp_path / "temp"),
            "OCTO_DATABASE_URL": f"sqlite:///{tmp_path / 'registry'}-{str(lake).startswith('s3:')}.sqlite",
        }.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    return run


def rows(lake: Lake, table: str) -> list[tuple]:
    """All rows of all months, every column as text."""
    with lake.connect() as connection:
        files = ", ".join(f"'{lake.path(table, month)}'" for month in lake.months(table))
        query = f"SELECT month, to_json(t)::VARCHAR FROM read_parquet([{files}], hive_partitioning = true) AS t ORDER BY ALL"
        return connection.execute(query).fetchall()


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_lake_in_a_bucket_is_a_lake(octo, s3_server, tmp_path):
    write_cur(tmp_path / "exports", months=[MONTH], accounts=4, lines=500)
    cur = tmp_path / "exports" / "aws"
    places = folder, bucket = tmp_path / "lake", f"s3://{s3_server.bucket()}/lake"
    said = [octo(place, "run", "--month", MONTH, "--cur", cur) for place in places]
    assert f"{len(MADE)} partitions published, 0 unchanged" in said[1]
    assert [line for line in said[1].splitlines() if "difference" in line] == [
        line for line in said[0].splitlines() if "difference" in line
    ]
    lakes = [Lake(lake_root(str(place), tmp_path / "temp")) for place in places]
    for name in TABLES:
        expected, found = (rows(lake, name) for lake in lakes)
        assert found == expected, name
        assert len(expected) > 0 or name in ("corrections", "cost_group_costs", "prepayments", "container_usage")
    assert lakes[1].tables() == sorted(TABLES)
    assert "Every partition is current." in octo(bucket, "stale")

    query = "SELECT month, sum(billed_cost) AS billed, count(*) AS n FROM cost_line_items GROUP BY 1 ORDER BY 1"
    assert octo(bucket, "sql", query, "-o", "csv") == octo(folder, "sql", query, "-o", "csv")
    listed = [octo(place, "allocations", "list", "--month", MONTH, "-o", "csv") for place in places]
    assert listed[0] == listed[1]
    candidate = tmp_path / "candidate.json"
    candidate.write_text(ALLOCATOR.replace("AWSSupportEnterprise", "AmazonEC2"))
    simulated = [octo(place, "allocators", "simulate", candidate, "--month", MONTH) for place in places]
    assert simulated[0] == simulated[1]
    for place, name in zip(places, ("folder", "bucket"), strict=True):
        octo(place, "allocations", "export", tmp_path / f"{name}.parquet", "--month", MONTH)
        octo(place, "report", "--month", MONTH, "--page", tmp_path / f"{name}.html")
    exported = [f"FROM '{tmp_path}/{name}.parquet'" for name in ("folder", "bucket")]
    assert duckdb.sql(f"{exported[0]} EXCEPT ALL {exported[1]}").fetchall() == []
    assert "<html" in (tmp_path / "bucket.html").read_text()

    item = next(row["item_id"] for row in table(listed[1]) if row["status"] == "checked_splitted")
    for place in places:
        octo(place, "registry", "init", "--admin", os_user())
        assert "restore recorded" in octo(place, "allocations", "restore", item, "--reason", "test", "--yes")
    assert rows(lakes[0], "allocations") == rows(lakes[1], "allocations")

    delivery = table(octo(bucket, "deliveries", "list", "--month", MONTH, "-o", "csv"))[0]["version"]
    shown = octo(bucket, "deliveries", "show", delivery)
    assert f"UTC in {bucket}/landing/aws/999988887777/month={MONTH}/{delivery}" in shown
    assert "verified" in shown
    octo(bucket, "deliveries", "remove", delivery, "--yes")
    assert table(octo(bucket, "deliveries", "list", "--month", MONTH, "-o", "csv")) == []
    stale = table(octo(bucket, "stale", "-o", "csv"))
    assert ("cost_line_items", MONTH) in {(row["table"], row["month"]) for row in stale}
    assert "you need DuckDB's extension httpfs" in octo(bucket, "catalog", tmp_path / "views.duckdb")
    assert not list((tmp_path / "temp" / ".staging").iterdir())
    assert not (tmp_path / "s3:").exists(), "the URL was taken for a folder"


# Two runs at once: each materialises all tables of the month, as two machines with one lake would.
RUNNER = """
import sys
from pathlib import Path
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.services.landing import land_month
from octo_pipeline.vendors.aws.cur import CurFolderSource
from octo_pipeline.services.access import caller
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
url, config, temp, registry, cur = sys.argv[1:]
settings = Settings(lake=url, config=Path(config), temp=Path(temp), database_url=f"sqlite:///{registry}")
workspace = Workspace(settings)
workspace.registry.upgrade(caller(workspace))
print("ready", flush=True)
sys.stdin.readline()
land_month(workspace, "aws", [CurFolderSource(Path(cur))], "2024-01")
for table in TABLES:
    print(table.name, materialise(workspace, table, "2024-01").outcome, flush=True)
"""


def test_two_processes_run_the_same_month_and_one_of_them_publishes_each_partition(octo, s3_server, tmp_path):
    write_cur(tmp_path / "exports", months=[MONTH], accounts=4, lines=500)
    bucket, cur = f"s3://{s3_server.bucket()}/lake", tmp_path / "exports" / "aws"
    processes = []
    for number in range(2):
        arguments = [bucket, tmp_path / "config", tmp_path / f"temp{number}", tmp_path / "registry.sqlite", cur]
        command = [sys.executable, "-c", RUNNER, *map(str, arguments)]
        processes.append(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=Path.cwd(),
            )
        )
        assert processes[-1].stdout.readline() == "ready\n", processes[-1].stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    outcomes = [dict(line.split() for line in out.splitlines()) for out, _ in said]
    for name in TABLES:
        assert sorted(one[name] for one in outcomes) == ["published", "unchanged"], (name, outcomes)
    lake = Lake(lake_root(bucket, tmp_path / "temp"))
    one = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config"))
    land_month(one, "aws", [CurFolderSource(cur)], MONTH)
    for made in MADE:
        materialise(one, made, MONTH)
        assert rows(lake, made.name) == rows(one.lake, made.name)


def test_a_run_without_a_place_for_decisions_is_one_sentence(octo, monkeypatch, tmp_path):
    monkeypatch.setenv("OCTO_LAKE", "s3://bucket/lake")
    monkeypatch.delenv("OCTO_DATABASE_URL", raising=False)
    result = CliRunner().invoke(app, ["run", "--month", MONTH])
    assert str(result.exception).startswith("The lake s3://bucket/lake is in a bucket, ")
