"""What the launchpad's ops share: who acts, and failures that are sentences."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from octo_pipeline.assets.failures import in_dagster
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.access import acting
from octo_pipeline.workspace import Workspace

# The tag of jobs, and so of their runs, by which the lists of jobs and runs can be filtered: what the job is about.
AREA = "octo/area"


@contextmanager
def translate_errors() -> Iterator[None]:
    """Show our sentence as the failure's description; trying again by itself would not help."""
    try:
        yield
    except OctoError as error:
        raise dg.Failure(description=in_dagster(error), allow_retries=False) from None


def acting_admin(workspace: Workspace) -> Actor:
    """The name of the administrator whom the code location runs as.

    Raises:
        OctoError: this is not an administrator.
    """
    return acting(workspace, "admin")


def acting_editor(workspace: Workspace) -> Actor:
    """The name of the editor or administrator whom the code location runs as.

    Raises:
        OctoError: this is neither.
    """
    return acting(workspace, "editor")
