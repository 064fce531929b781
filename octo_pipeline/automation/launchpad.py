"""What the launchpad's ops share: who acts, and how errors become failures."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from octo_pipeline.assets.failures import in_dagster
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.access import caller
from octo_pipeline.workspace import Workspace


@contextmanager
def translate_errors() -> Iterator[None]:
    """Show an error's sentence as the failure's description. A retry would fail the same way, so there is none."""
    try:
        yield
    except OctoError as error:
        raise dg.Failure(description=in_dagster(error), allow_retries=False) from None


def acting_admin(context: dg.OpExecutionContext, workspace: Workspace) -> Actor:
    """The name of the administrator whom the code location runs as. Logs it if this first use made them one.

    Raises:
        OctoError: the caller is not an administrator.
    """
    acting = workspace.registry.users.require_admin(caller(workspace.settings.token))
    if acting.is_new:
        context.log.info(f"The registry had no users: {acting.name} is its administrator from now on.")
    return acting.name
