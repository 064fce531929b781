"""The documents of the configuration folder as assets: read from disk, never made."""

import dagster as dg

from octo_pipeline.assets.specs import FINOPS
from octo_pipeline.workspace import Workspace


@dg.asset(group_name="configuration", kinds={"json"}, owners=FINOPS)
def allocators(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The allocator documents as they are on disk; a file with an error is left out and listed."""
    configuration = workspace.configuration
    lines = [f"| {a.id} | {a.category} | {a.start} | {a.end or ''} | {a.name} |" for a in configuration.allocators]
    return dg.MaterializeResult(
        metadata={
            "allocators": len(configuration.allocators),
            "problems": dg.MetadataValue.md("\n".join(f"- {p}" for p in configuration.problems) or "none"),
            "list": dg.MetadataValue.md(
                "\n".join(["| id | category | start | end | name |", "| --- | --- | --- | --- | --- |", *lines])
            ),
        }
    )


@dg.asset(group_name="configuration", kinds={"json"}, owners=FINOPS)
def cost_groups(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
    """The cost group documents as they are on disk."""
    groups = workspace.configuration.cost_groups
    return dg.MaterializeResult(metadata={"cost_groups": len(groups), "list": ", ".join(groups) or "none"})
