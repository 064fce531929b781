"""Closed months as they are known now: what their results would be from the current deliveries and decisions.

They are computed by the same tables with the rules that the closing kept, in an overlay of the lake that nobody else reads.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.columns import LINE_ITEMS
from octo_pipeline.tables.dues import origins_read
from octo_pipeline.tables.matched_items import DELIVERIES, MatchedItems
from octo_pipeline.tables.table import KEPT, code_version
from octo_pipeline.workspace import Overlay, Workspace

FOLDER = "known"
PREVIEW = "preview"
# Everything that the rows of a month depend on beside its inputs.
_CODE = (
    "model", "rules", "allocation", "tables/restored_items.py", "dbt_project/macros", "dbt_project/models",
)  # fmt: skip


def as_known(workspace: Workspace) -> Workspace:
    """The workspace in which the results of closed months are made aside, as they would be now."""
    if workspace.overlay:
        return workspace
    return replace(workspace, overlay=Overlay(FOLDER, KEPT))


def with_rules_of_today(workspace: Workspace) -> Workspace:
    """The workspace in which closed months are made aside with today's rules; `remove_overlay` ends it."""
    return replace(workspace, overlay=Overlay(PREVIEW, KEPT | {MatchedItems.name}, has_rules_of_today=True))


def remove_overlay(workspace: Workspace) -> None:
    """Remove all partitions of the workspace's overlay, and the parts that they were made of."""
    for table in sorted(workspace.overlay.tables if workspace.overlay else ()):
        for month in workspace.lake.overlaid_months(table):
            workspace.lake.remove(table, month)
        # A preview that failed has parts without a partition.
        for month in workspace.lake.months_with_parts(table):
            workspace.lake.drop_parts(table, month, but=[])


def remove_known(workspace: Workspace, month: str) -> None:
    """Remove what a month was known as while it was closed."""
    known = as_known(workspace)
    for table in sorted(KEPT):
        if month in known.lake.overlaid_months(table):
            known.lake.remove(table, month)
        known.lake.drop_parts(table, month, but=[])


def first_open_month(workspace: Workspace) -> str | None:
    """The month in which corrections are booked: the first of the lake after the closed ones; None if there is none."""
    if not workspace.closed_months:
        return None
    newest = workspace.closed_months[-1]
    return next((month for month in workspace.lake.months(LINE_ITEMS) if month > newest), None)


def state_of(workspace: Workspace, month: str) -> dict[str, Any]:
    """What a month is computed from: its deliveries, the decisions on what is booked in it, and the version of the code.

    Of a restated delivery that is not matched yet, the state is still that of the one before.
    """
    origins = origins_read(workspace.lake, month)
    partitions = workspace.lake.metadata_of(MatchedItems.name, origins)
    decided = workspace.registry.restored_items(origins)
    return {
        "deliveries": {origin: metadata.facts.get(DELIVERIES, "") for origin, metadata in partitions.items()},
        "decisions": fingerprint(dict.fromkeys((decision.item_id for decision in decided), "")),
        "code": code_version(*_CODE),
    }


def cause_of(booked: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Why a month is known otherwise than it is booked, of two states; empty if nothing changed."""
    causes = {"deliveries": "delivery", "decisions": "decision", "code": "code"}
    # Read first, as people name them: code and delivery.
    return " and ".join(causes[name] for name in ("code", "deliveries", "decisions") if booked[name] != known[name])
