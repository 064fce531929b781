"""Assembles the Dagster definitions, nothing else."""

import dagster as dg

from octo_pipeline.assets import checks, configuration, cost_line_items, focus_export, raw, tables
from octo_pipeline.automation import accounts, alerts, deliveries, jobs, operations, periods, restatement, schedules
from octo_pipeline.resources.workspace_resource import run_resources
from octo_pipeline.settings import load_settings

defs = dg.Definitions(
    assets=dg.with_source_code_references(
        dg.load_assets_from_modules([raw, configuration, cost_line_items, tables, focus_export])
    ),
    asset_checks=checks.asset_checks,
    jobs=[jobs.monthly_allocation, *operations.operations, *periods.period_jobs, *accounts.jobs],
    schedules=[schedules.daily],
    sensors=[
        deliveries.deliveries,
        restatement.stale_months,
        restatement.restated_months,
        alerts.alert_on_failed_runs,
        alerts.alert_on_failed_checks,
        alerts.alert_on_stale_months,
        accounts.new_accounts,
    ],
    resources=run_resources(load_settings()),
    executor=dg.in_process_executor,
)
