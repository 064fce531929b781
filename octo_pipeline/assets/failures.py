"""Errors as sentences for people who use Dagster: what is wrong, and which job or setting helps."""

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.services.months import Failed

# Action -> the job that does the same. The other actions exist only on the command line.
_JOBS = {
    "accounts confirm": "confirm_account",
    "accounts delete": "delete_account",
    "allocations reapply": "reapply_items",
    "allocations restore": "restore_items",
    "backfill": "backfill",
    "deliveries reland": "reland_delivery",
    "run": "monthly_allocation",
}


def in_dagster(error: OctoError) -> str:
    """The error as a description of a failure or a check."""
    return " ".join((str(error), *map(action_in_dagster, error.remedies)))


def failure_in_dagster(event: Failed) -> str:
    """What failed, why and what helps."""
    return f"{event.month} was not published: {in_dagster(event.error)}"


def action_in_dagster(remedy: Remedy) -> str:
    """A remedy as a sentence for somebody who uses Dagster."""
    purpose = f" to {remedy.purpose}" if remedy.purpose else ""
    if remedy.action in ("set", "unset"):
        variable = f"OCTO_{str(dict(remedy.options)['setting']).upper()}"
        return f"{remedy.action.capitalize()} {variable} where this code location runs{purpose}."
    if remedy.action in _JOBS:
        values = ", ".join((*remedy.arguments, *(f"{name} {value}" for name, value in remedy.options)))
        return f"Launch the job {_JOBS[remedy.action]}{f' with {values}' if values else ''}{purpose}."
    return f"On the command line, run octo {remedy}{purpose}."
