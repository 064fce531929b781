"""Assembles the Dagster definitions, nothing else."""

import dagster as dg

from octo_pipeline.assets import allocation, checks, cost_line_items, marts, raw
from octo_pipeline.automation import accounts, alerts, jobs, operations, schedules, sensors
from octo_pipeline.settings import load_settings
from octo_pipeline.workspace import Workspace


@dg.resource(description="The lake and what decides what goes into it, read anew for each run.")
def workspace(context: dg.InitResourceContext) -> Workspace:
    """One workspace a run, so that a run sees one configuration."""
    return Workspace(load_settings(), run_id=context.run_id or "adhoc")


defs = dg.Definitions(
    assets=dg.with_source_code_references(dg.load_assets_from_modules([raw, cost_line_items, allocation, marts])),
    asset_checks=checks.asset_checks,
    jobs=[jobs.monthly_allocation, jobs.restatement, *operations.operations, *accounts.jobs],
    schedules=[schedules.daily],
    sensors=[
        *sensors.deliveries_sensors.values(),
        sensors.stale_months,
        sensors.restated_months,
        alerts.alert_on_failed_runs,
        alerts.alert_on_failed_checks,
    ],
    resources={"workspace": workspace},
    executor=dg.in_process_executor,
)
