"""The schedules."""

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from octo_pipeline.automation.jobs import monthly_allocation
from octo_pipeline.automation.watched import watched_months


@dg.schedule(
    job=monthly_allocation,
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
    description="Every day the previous and the current month, as one range: support fees and refunds restate "
    "closed months for about ten days. OCTO_WATCHED_MONTHS makes the range longer.",
)
def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Request one run over the watched months."""
    months = watched_months(context.scheduled_execution_time)
    return dg.RunRequest(
        run_key=context.scheduled_execution_time.strftime("%Y-%m-%d"),
        tags={ASSET_PARTITION_RANGE_START_TAG: months[0], ASSET_PARTITION_RANGE_END_TAG: months[-1]},
    )
