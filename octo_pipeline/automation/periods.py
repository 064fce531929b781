"""Jobs that close, reopen and finalise months, like `octo periods`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from octo_pipeline.assets.markdown import markdown_list
from octo_pipeline.assets.metadata import markdown_table
from octo_pipeline.automation.launchpad import AREA, acting_admin, translate_errors
from octo_pipeline.automation.typed import Month
from octo_pipeline.services import periods
from octo_pipeline.workspace import Workspace


class CloseConfig(dg.Config):
    """Which months, and what is said about them."""

    through: Month = Field(description="The last month to close; all open months of the lake before it are closed too.")
    despite: str = Field(default="", description="Why to close them although something stands against it.")
    propose: bool = Field(default=False, description="Only propose it; another administrator confirms it.")


@dg.op(
    description="Closes months: their results stay as they are, and what changes them is booked in the first open month."
)
def close_the_months(
    context: dg.OpExecutionContext, config: CloseConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.Output[None]]:
    """Close all open months up to the configured one."""
    with translate_errors():
        actor = acting_admin(workspace)
        months = periods.through(workspace, config.through.value)
        periods.close(workspace, months, actor, despite=config.despite, is_proposal=config.propose)
    yield dg.Output(None, metadata={"months": ", ".join(months) or "none", "actor": actor})


class PeriodConfig(dg.Config):
    """Which month, and why."""

    month: Month = Field(description="The month, YYYY-MM.")
    reason: str = Field(description="Why; kept with the month.")
    propose: bool = Field(default=False, description="Only propose it; another administrator confirms it.")


@dg.op(description="Reopens the newest closed month; its results are made again from current rules and deliveries.")
def reopen_the_month(
    context: dg.OpExecutionContext, config: PeriodConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.Output[None]]:
    """Reopen the configured month."""
    with translate_errors():
        actor = acting_admin(workspace)
        periods.reopen(workspace, config.month.value, actor, reason=config.reason, is_proposal=config.propose)
    yield dg.Output(None, metadata={"month": config.month.value, "actor": actor})


@dg.op(description="Makes a closed month final: it is never reopened.")
def finalise_the_month(
    context: dg.OpExecutionContext, config: PeriodConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.Output[None]]:
    """Finalise the configured month."""
    with translate_errors():
        actor = acting_admin(workspace)
        periods.finalise(workspace, config.month.value, actor, reason=config.reason, is_proposal=config.propose)
    yield dg.Output(None, metadata={"month": config.month.value, "actor": actor})


@dg.op(description="Books what only a new version of the program computes otherwise in a closed month.")
def accept_the_month(
    context: dg.OpExecutionContext, config: PeriodConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.Output[None]]:
    """Accept the differences of the configured month."""
    with translate_errors():
        actor = acting_admin(workspace)
        periods.accept(workspace, config.month.value, actor, reason=config.reason)
    yield dg.Output(None, metadata={"month": config.month.value, "actor": actor})


class LookConfig(dg.Config):
    """Which month."""

    month: Month = Field(description="The month, YYYY-MM.")


@dg.op(
    description="Says why a month should not be closed yet; of a closed month, what it is known as otherwise by now."
)
def look_at_the_month(
    context: dg.OpExecutionContext, config: LookConfig, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.Output[None]]:
    """Readiness or drift of the configured month, as the output's metadata."""
    month = config.month.value
    with translate_errors():
        if workspace.is_closed(month):
            cause, rows = periods.drift(workspace, month)
            metadata: dict[str, Any] = {
                "because of": cause or "nothing",
                "drift": dg.MetadataValue.md(markdown_table(rows)),
            }
        else:
            reasons = periods.readiness(workspace, month)
            metadata = {"stands against closing": dg.MetadataValue.md(markdown_list(reasons) or "nothing")}
    yield dg.Output(None, metadata={"month": month} | metadata)


@dg.job(
    tags={AREA: "periods"},
    executor_def=dg.in_process_executor,
    description="Close months, like `octo periods close --through`.",
)
def close_months() -> None:
    """One op: `close_the_months`."""
    close_the_months()


@dg.job(
    tags={AREA: "periods"},
    executor_def=dg.in_process_executor,
    description="Reopen the newest closed month, like `octo periods reopen`.",
)
def reopen_month() -> None:
    """One op: `reopen_the_month`."""
    reopen_the_month()


@dg.job(
    tags={AREA: "periods"},
    executor_def=dg.in_process_executor,
    description="Make a closed month final, like `octo periods finalise`.",
)
def finalise_month() -> None:
    """One op: `finalise_the_month`."""
    finalise_the_month()


@dg.job(
    tags={AREA: "periods"},
    executor_def=dg.in_process_executor,
    description="Book what only a new version of the program computes otherwise, like `octo periods accept`.",
)
def accept_month() -> None:
    """One op: `accept_the_month`."""
    accept_the_month()


@dg.job(
    tags={AREA: "periods"},
    executor_def=dg.in_process_executor,
    description="What stands against closing a month, or how a closed one differs by now, like `octo periods readiness` "
    "and `octo periods drift`.",
)
def period_status() -> None:
    """One op: `look_at_the_month`."""
    look_at_the_month()


period_jobs = [close_months, reopen_month, finalise_month, accept_month, period_status]
