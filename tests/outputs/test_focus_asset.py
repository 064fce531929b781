"""The asset `focus_export`: a month in the lake, made on demand."""

from pathlib import Path

import dagster as dg
import duckdb
import pytest

from octo_pipeline.assets.focus_export import focus_export
from octo_pipeline.definitions import defs
from octo_pipeline.model.columns import MONEY
from octo_pipeline.outputs.focus.export import TABLE
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.workspace import Workspace
from tests.emulators.aws import upload
from tests.support.case import make, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in, write_lines


def materialised(workspace, *, raise_on_error=True) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [focus_export], partition_key=MONTH, resources={"workspace": workspace}, raise_on_error=raise_on_error
    )


def test_it_publishes_the_month_in_the_lake(tmp_path):
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    workspace = make(run(workspace, [MONTH]), AccountCosts(), [MONTH])

    [event] = materialised(workspace).get_asset_materialization_events()

    metadata = event.materialization.metadata
    assert metadata["dagster/row_count"].value == 4
    assert "| USD | 140 |" in metadata["totals"].value
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT sum(BilledCost) FROM '{workspace.lake.path(TABLE, MONTH)}'").fetchall()
    assert rows == [(140,)]


def test_what_cannot_be_proved_fails_and_publishes_nothing(tmp_path):
    workspace = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    workspace = make(run(workspace, [MONTH]), AccountCosts(), [MONTH])
    write_lines(workspace, tmp_path, [line_item("1", "11"), line_item("2", "30"), FEE_OF_100])

    with pytest.raises(dg.Failure, match="fails its proof"):
        materialised(workspace)

    assert workspace.lake.months(TABLE) == []


@pytest.mark.slow
def test_it_publishes_the_month_in_a_lake_in_a_bucket(s3_server, tmp_path, monkeypatch):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    made = workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()])
    made = make(run(made, [MONTH]), AccountCosts(), [MONTH])
    bucket = s3_server.bucket()
    upload(s3_server.client(), Path(made.settings.lake), "lake/", bucket)
    workspace = Workspace(
        Settings(
            lake=f"s3://{bucket}/lake",
            config=made.settings.config,
            temp=tmp_path / "temp",
            database_url=f"sqlite:///{tmp_path / 'registry.sqlite'}",
        )
    )

    materialised(workspace)

    with workspace.lake.connect() as connection:
        rows = workspace.lake.scan(TABLE, [MONTH], {"BilledCost": MONEY})
        assert connection.execute(f"SELECT sum(BilledCost) FROM {rows}").fetchall() == [(140,)]
    # What it was written to first.
    assert not list((tmp_path / "temp").rglob("*.parquet"))


def test_the_daily_job_leaves_it_alone():
    keys = defs.resolve_job_def("monthly_allocation").asset_layer.executable_asset_keys
    assert focus_export.key not in keys
    assert dg.AssetKey("account_costs") in keys
