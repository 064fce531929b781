"""The schedules."""

import dagster as dg

from octo_pipeline.automation.jobs import monthly_allocation
from octo_pipeline.automation.watched import watched_months
from octo_pipeline.services.landing import is_offered
from octo_pipeline.tables.landed_charges import landed_months
from octo_pipeline.workspace import Workspace


@dg.schedule(
    job=monthly_allocation,
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
    description="Runs the previous and the current month every day, each in a run of its own, because support fees and "
    "refunds still change a closed month for about ten days. OCTO_WATCHED_MONTHS makes it more months. A month that no "
    "source has begun to bill is left out.",
)
def daily(
    context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Request a run of each watched month of which there is or may be something."""
    day = context.scheduled_execution_time.strftime("%Y-%m-%d")
    months = watched_months(context.scheduled_execution_time)
    landed = landed_months(workspace)
    # On the first of a month most vendors have not billed anything yet.
    due = [month for month in months if month in landed or is_offered(workspace, month)]
    if not due:
        return dg.SkipReason(f"No source has anything of {', '.join(months)}, and nothing of them is landed.")
    return [dg.RunRequest(run_key=f"{day}/{month}", partition_key=month) for month in due]
