"""The schedules."""

import dagster as dg

from octo_pipeline.assets.dagster_compat import month_range_tags
from octo_pipeline.automation.jobs import monthly_allocation
from octo_pipeline.automation.watched import watched_months


@dg.schedule(
    job=monthly_allocation,
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
    description="Runs the previous and the current month every day, as one range, because support fees and refunds "
    "still change a closed month for about ten days. OCTO_WATCHED_MONTHS makes the range longer.",
)
def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Request one run over the watched months."""
    months = watched_months(context.scheduled_execution_time)
    return dg.RunRequest(
        run_key=context.scheduled_execution_time.strftime("%Y-%m-%d"),
        tags=month_range_tags(months[0], months[-1]),
    )
