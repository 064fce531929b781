"""The schedules."""

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from octo_pipeline.allocation.months import add_months
from octo_pipeline.automation.jobs import monthly_allocation
from octo_pipeline.partitions import monthly


@dg.schedule(
    job=monthly_allocation,
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
    description="Every day the previous and the current month, as one range: support fees and refunds restate "
    "closed months for about ten days.",
)
def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Request one run over the previous and the current month."""
    current = context.scheduled_execution_time.strftime("%Y-%m")
    first = monthly.get_first_partition_key()
    start = max(add_months(current, -1), first or current)
    return dg.RunRequest(
        run_key=context.scheduled_execution_time.strftime("%Y-%m-%d"),
        tags={ASSET_PARTITION_RANGE_START_TAG: start, ASSET_PARTITION_RANGE_END_TAG: current},
    )
