"""Fails a command whose months or checks failed."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.months import Failed

if TYPE_CHECKING:
    from octo_pipeline.workspace import Workspace


def raise_for_failures(events: Iterable[object]) -> None:
    """Fail if a step failed.

    Raises:
        OctoError: the sentences of all steps that failed.
    """
    failures = [event for event in events if isinstance(event, Failed)]
    if failures:
        message = " ".join(f"{event.month} was not published: {sentence(event.error)}" for event in failures)
        raise OctoError(message, code="months-failed") from failures[0].error


def raise_for_checks(workspace: "Workspace", months: Sequence[str]) -> None:
    """Fail if money of a month is not distributed as it should be, although the month is made and proved.

    Raises:
        OctoError: the sentences of the failed checks whose severity is error.
    """
    from octo_pipeline.services.checks import failed_checks

    failed = [
        f"{month}: {result.summary}" for month in months for _, result in failed_checks(workspace, month, "error")
    ]
    if failed:
        raise OctoError("\n".join(["What was made is published, but a check failed.", *failed]), code="checks-failed")
