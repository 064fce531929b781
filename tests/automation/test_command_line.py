"""What commands make is seen in Dagster: as runs of a job where they make months, on the assets where they make again."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG
from dagster._core.workspace.load import location_origins_from_yaml_paths
from typer.testing import CliRunner

from octo_pipeline.automation.command_line import recorded_as_run
from octo_pipeline.cli.main import app
from octo_pipeline.definitions import defs
from octo_pipeline.registry.records import NewAccount
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.services.months import make_months
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.workspace import Workspace
from tests.support.workspaces import administered

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MONTHS = ["2024-01", "2024-02"]
PAYER = "999988887777"
RULE = {
    "startMonth": "2024-01",
    "criteria": [{"and": {"productCode": "re:^AWSSupport"}}],
    "allocator": [{"type": "payer", "value": PAYER, "formula": "cost*usage"}],
}


@pytest.fixture
def instance(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    (tmp_path / "config" / "allocators" / "support.json").write_text(json.dumps(RULE))
    write_cur(tmp_path / "exports", months=MONTHS, accounts=3, lines=100)
    settings = {
        "lake": str(tmp_path / "lake"),
        "config": tmp_path / "config",
        "aws_exports": tmp_path / "exports" / "aws",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"OCTO_{name.upper()}", str(value))
    return Workspace(Settings(**settings))


def octo(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def runs_of(instance: dg.DagsterInstance, job: str) -> list[dg.DagsterRun]:
    """The runs of a job as the webserver lists them that serves workspace.yaml."""
    (location,) = location_origins_from_yaml_paths([str(ROOT / "workspace.yaml")])
    origin = RemoteRepositoryOrigin(location, defs.get_repository_def().name)
    filters = dg.RunsFilter(job_name=job, tags={REPOSITORY_LABEL_TAG: origin.get_label()})
    return list(instance.get_runs(filters))


def test_octo_run_is_a_run_of_the_job_backfill_with_its_materialisations_and_checks(instance, workspace):
    octo("run", "--from", MONTHS[0], "--to", MONTHS[1])
    (run,) = runs_of(instance, "backfill")
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.run_config == {"ops": {"make_the_months": {"config": {"first": MONTHS[0], "last": MONTHS[1]}}}}
    assert run.run_id == workspace.lake.metadata("allocations", MONTHS[0]).run_id
    (step,) = instance.get_run_step_stats(run.run_id)
    assert (step.step_key, step.status.value) == ("make_the_months", "SUCCESS")
    assets = [*(vendor.raw_asset for vendor in VENDORS.values()), "stg_aws__cur", *(table.name for table in TABLES)]
    for asset in assets:
        assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set(MONTHS)
    (record,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("account_costs"), asset_partitions=[MONTHS[0]]), limit=1
    ).records
    materialisation = record.asset_materialization
    assert record.run_id == run.run_id
    assert materialisation.tags["dagster/data_version"] == workspace.lake.fingerprint("account_costs", MONTHS[0])
    assert materialisation.metadata["billed USD"].value > 0
    checks = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    names = [one.event_log_entry.dagster_event.asset_check_evaluation_data.check_name for one in checks]
    for check in CHECKS:
        assert names.count(check.name) == len(MONTHS) * sum(one.name == check.name for one in CHECKS)
    assert names.count("every_source_answered") == len(MONTHS) * len(VENDORS)
    assert names.count("no_month_is_stale") == len(TABLES)

    octo("run", "--month", MONTHS[0])
    # Documents that did not change are not recorded again: it would make all months unsynced.
    assert len(instance.fetch_observations(dg.AssetKey("allocators"), limit=5).records) == 1
    graph = defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    # Made on demand alone.
    for key in graph.materializable_asset_keys - {dg.AssetKey("focus_export")}:
        for month in MONTHS if graph.get(key).is_partitioned else [None]:
            assert resolver.get_status(key, month) is StaleStatus.FRESH, (key, month)


def test_a_bad_month_fails_the_run_with_the_sentence_of_the_command(instance, workspace, tmp_path):
    data = next(p for p in (tmp_path / "exports").rglob("*.parquet") if p.parent.name.startswith("20240101-"))
    data.write_bytes(data.read_bytes()[:-100])
    octo("backfill", "--from", MONTHS[0], "--to", MONTHS[1], code=1)
    (run,) = runs_of(instance, "backfill")
    assert run.status is dg.DagsterRunStatus.FAILURE
    (failed,) = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    reason = failed.event_log_entry.dagster_event.step_failure_data.user_failure_data.description
    assert reason.startswith("2024-01 was not published: ")
    assert data.name in reason
    assert instance.get_materialized_partitions(dg.AssetKey("allocations")) == {MONTHS[1]}


def test_an_interrupted_command_is_a_cancelled_run(instance, workspace):
    def interrupted():
        for event in make_months(workspace, MONTHS):
            yield event
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(recorded_as_run(workspace, MONTHS, interrupted()))
    assert [run.status for run in runs_of(instance, "backfill")] == [dg.DagsterRunStatus.CANCELED]


def test_a_restore_and_the_removal_of_an_account_are_seen_on_the_assets(instance, workspace):
    workspace.registry.accounts.add([NewAccount("aws", PAYER, "Main", "payer", None, "an-external-id")], "ana")
    list(make_months(workspace, MONTHS))
    assert instance.get_materialized_partitions(dg.AssetKey("allocations")) == set()
    administered(workspace)
    octo("allocations", "restore", "--allocator", "support", "--month", MONTHS[0], "--reason", "ours", "--yes")
    assert instance.get_materialized_partitions(dg.AssetKey("allocations")) == {MONTHS[0]}
    (record,) = instance.fetch_materializations(dg.AssetKey("allocations"), limit=5).records
    run = instance.get_run_by_id(record.run_id)
    assert (run.job_name, run.status, run.tags["dagster/partition"]) == (
        "restore_items",
        dg.DagsterRunStatus.SUCCESS,
        MONTHS[0],
    )
    why = record.asset_materialization.metadata["why"].value
    assert "| rules | support |" in why
    assert "| reason | ours |" in why
    assert record.asset_materialization.tags["dagster/data_version"] == workspace.lake.fingerprint(
        "allocations", MONTHS[0]
    )
    assert instance.get_materialized_partitions(dg.AssetKey("cost_line_items")) == set()
    # Regression: Dagster keeps one result of a check for each run and partition, and there was no run.
    for action in ("reapply", "restore"):
        octo("allocations", action, "--allocator", "support", "--month", MONTHS[0], "--reason", "ours", "--yes")
    assert [one.job_name for one in instance.get_runs()] == ["restore_items", "reapply_items", "restore_items"]
    octo("accounts", "delete", PAYER, "--yes")
    assert instance.get_runs(limit=1)[0].job_name == "delete_account"
    assert instance.get_materialized_partitions(dg.AssetKey("cost_line_items")) == set(MONTHS)


def test_without_a_dagster_home_nothing_of_dagster_is_loaded(workspace, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    program = (
        "import sys; from typer.testing import CliRunner; from octo_pipeline.cli.main import app\n"
        f"result = CliRunner().invoke(app, ['run', '--month', '{MONTHS[0]}'])\n"
        "assert result.exit_code == 0, result.output\n"
        "assert 'dagster' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
