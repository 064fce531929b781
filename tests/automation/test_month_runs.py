"""Months that are chosen in the asset graph: a run for each, as the daemon makes them of a backfill."""

from pathlib import Path

import dagster as dg
import pytest

from octo_pipeline.assets.partitions import a_run_a_month
from octo_pipeline.definitions import defs
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.sample import write_cur

pytestmark = pytest.mark.slow
MONTHS = ["2024-01", "2024-02", "2024-03"]


def monthly_allocation() -> dg.JobDefinition:
    """The job, from a function that a process can find again."""
    return defs.resolve_job_def("monthly_allocation")


def run(instance: dg.DagsterInstance, month: str, parent: str | None = None) -> dg.JobExecutionResult:
    again = dg.ReexecutionOptions.from_failure(parent, instance) if parent else None
    return dg.execute_job(
        dg.reconstructable(monthly_allocation),
        instance,
        tags={"dagster/partition": month},
        reexecution_options=again,
        raise_on_error=False,
    )


def made(instance: dg.DagsterInstance, table: str) -> list[str]:
    return sorted(instance.get_materialized_partitions(dg.AssetKey(table)))


def published(lake: Path, table: str) -> list[str]:
    return sorted(file.parent.name.removeprefix("month=") for file in lake.glob(f"{table}/*/data.parquet"))


def test_a_damaged_month_in_the_middle_stops_no_other_and_its_re_execution_does_the_rest(tmp_path, monkeypatch):
    """Regression: one run made all months of a backfill; a bad month ended it, and empty months were published."""
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    write_cur(tmp_path / "exports", months=MONTHS, accounts=3, lines=100)
    for name, folder in (("LAKE", "lake"), ("CONFIG", "config"), ("AWS_EXPORTS", "exports/aws")):
        monkeypatch.setenv(f"OCTO_{name}", str(tmp_path / folder))
    data = next(file for file in tmp_path.glob("exports/**/*.parquet") if "20240201-" in str(file))
    whole = data.read_bytes()
    data.write_bytes(whole[:-100])
    # What the daemon goes by when it makes runs of the months of a backfill.
    graph = defs.resolve_asset_graph()
    partitioned = [key for key in graph.materializable_asset_keys if graph.get(key).partitions_def]
    assert {graph.get(key).backfill_policy for key in partitioned} == {a_run_a_month}
    assert a_run_a_month.max_partitions_per_run == 1

    with dg.instance_for_test() as instance:
        results = {month: run(instance, month) for month in MONTHS}
        assert {month: result.success for month, result in results.items()} == dict(
            zip(MONTHS, (True, False, True), strict=True)
        )
        for table in TABLES:
            assert made(instance, table.name) == ["2024-01", "2024-03"]
            assert published(tmp_path / "lake", table.name) == ["2024-01", "2024-03"]
        failed = results["2024-02"]
        (failure,) = [event for event in failed.all_node_events if event.is_step_failure]
        assert failure.step_key == "raw_cur"
        assert data.name in failure.step_failure_data.user_failure_data.description

        data.write_bytes(whole)
        again = run(instance, "2024-02", failed.run_id)
        assert again.success
        # What was finished before is not done again.
        steps = {event.step_key for event in again.all_node_events if event.is_step_success}
        finished = {event.step_key for event in failed.all_node_events if event.is_step_success}
        assert "raw_cur" in steps
        assert not steps & finished
        for table in TABLES:
            assert made(instance, table.name) == MONTHS
            assert published(tmp_path / "lake", table.name) == MONTHS
