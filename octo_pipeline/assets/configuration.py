"""The documents of the configuration folder as assets: read from disk, never made.

Their data versions are those of the documents, so that Dagster calls what is made from them unsynced when a document
changed, and not whenever somebody looked.
"""

from typing import Any

import dagster as dg

from octo_pipeline.assets.specs import FINOPS
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.workspace import Workspace


@dg.asset(group_name="configuration", kinds={"json"}, owners=FINOPS)
def allocators(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The allocator documents as they are on disk; a file with an error is left out and listed."""
    version, metadata = allocators_now(workspace)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(version))


@dg.asset(group_name="configuration", kinds={"json"}, owners=FINOPS)
def cost_groups(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The cost group documents as they are on disk."""
    version, metadata = cost_groups_now(workspace)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(version))


def allocators_now(workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """The data version of the allocators at the moment, and what there is to say about them."""
    configuration = workspace.configuration
    lines = [f"| {a.id} | {a.category} | {a.start} | {a.end or ''} | {a.name} |" for a in configuration.allocators]
    return fingerprint({a.id: a.version for a in configuration.allocators}), {
        "allocators": len(configuration.allocators),
        "problems": dg.MetadataValue.md("\n".join(f"- {p}" for p in configuration.problems) or "none"),
        "list": dg.MetadataValue.md(
            "\n".join(["| id | category | start | end | name |", "| --- | --- | --- | --- | --- |", *lines])
        ),
    }


def cost_groups_now(workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """The data version of the cost groups at the moment, and what there is to say about them."""
    groups = workspace.configuration.cost_groups
    return fingerprint({name: group.version for name, group in groups.items()}), {
        "cost_groups": len(groups),
        "list": ", ".join(groups) or "none",
    }
