"""How tests close and reopen months of the product: the one seam to its services.

The line items of golden cases and drawn months are published by themselves, not from deliveries, so nothing can be said of
how ready a month is.
"""

from collections.abc import Sequence
from dataclasses import replace

from octo_pipeline.registry.records import Actor
from octo_pipeline.services.periods import keep_as_closed, reopen
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.tables import ALLOCATION_TABLES, MART_TABLES

_FINANCE = Actor("finance")


def close_months(workspace: Workspace, months: Sequence[str]) -> None:
    """Close months in order."""
    for month in months:
        current = replace(workspace)
        for table in (*ALLOCATION_TABLES, *MART_TABLES):
            materialise(current, table, month)
        keep_as_closed(current, month, _FINANCE, reason="a test")


def reopen_months(workspace: Workspace, months: Sequence[str]) -> None:
    """Reopen months, the last of the list first."""
    for month in reversed(months):
        reopen(replace(workspace), month, _FINANCE, reason="a test")
