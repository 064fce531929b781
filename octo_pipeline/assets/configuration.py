"""The documents of the configuration folder as assets: observed, never made.

Their data versions are those of the documents. So Dagster shows the assets that are made from them as unsynced when a
document has changed, and not after every observation. No run makes them, so a backfill has no runs for them.
"""

from collections.abc import Callable
from typing import Any

import dagster as dg

from octo_pipeline.assets.dagster_compat import observation_tags, recorded_version
from octo_pipeline.assets.markdown import markdown_list, plain_markdown
from octo_pipeline.assets.partitions import monthly
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.errors import OctoError
from octo_pipeline.tables.metrics import metric_months
from octo_pipeline.workspace import Workspace


def _allocators(workspace: Workspace) -> tuple[str, dict[str, Any]]:
    configuration = workspace.configuration
    lines = [
        "| " + " | ".join(map(plain_markdown, (a.id, a.category, a.start, a.end or "", a.name))) + " |"
        for a in configuration.allocators
    ]
    return fingerprint({a.id: a.version for a in configuration.allocators}), {
        "allocators": len(configuration.allocators),
        "problems": dg.MetadataValue.md(markdown_list(list(map(str, configuration.problems))) or "none"),
        "list": dg.MetadataValue.md(
            "\n".join(["| id | category | start | end | name |", "| --- | --- | --- | --- | --- |", *lines])
        ),
    }


def _cost_groups(workspace: Workspace) -> tuple[str, dict[str, Any]]:
    groups = workspace.configuration.cost_groups
    return fingerprint({name: group.version for name, group in groups.items()}), {
        "cost_groups": len(groups),
        "list": ", ".join(groups) or "none",
    }


def _observed(
    name: str, description: str, observe: Callable[[Workspace], tuple[str, dict[str, Any]]]
) -> dg.SourceAsset:
    @dg.observable_source_asset(name=name, group_name="configuration", description=description)
    def documents(workspace: dg.ResourceParam[Workspace]) -> dg.ObserveResult:
        version, metadata = observe(workspace)
        return dg.ObserveResult(data_version=dg.DataVersion(version), metadata=metadata)

    return documents


allocators = _observed(
    "allocators",
    "The allocator documents as they are on disk; a file with an error is left out and listed.",
    _allocators,
)
cost_groups = _observed("cost_groups", "The cost group documents as they are on disk.", _cost_groups)


@dg.observable_source_asset(
    name="metrics",
    group_name="configuration",
    description="The quantities from outside by which allocators weigh, such as headcount: of the configuration, or delivered "
    "to the lake by any pipeline. A partition is a month of all metrics.",
    partitions_def=monthly,
)
def metrics(workspace: dg.ResourceParam[Workspace]) -> dg.DataVersionsByPartition:
    """The version of each month's rows."""
    return dg.DataVersionsByPartition(_metric_versions(workspace))


def _metric_versions(workspace: Workspace) -> dict[str, str]:
    months: dict[str, dict[str, str]] = {}
    for metric_month in metric_months(workspace):
        months.setdefault(metric_month.month, {})[metric_month.metric_id] = metric_month.digest
    return {month: fingerprint(digests) for month, digests in months.items() if monthly.has_partition_key(month)}


def changed_documents(workspace: Workspace, instance: dg.DagsterInstance) -> list[dg.AssetObservation]:
    """An observation of each kind of document, and of each month of metrics, that changed since Dagster saw it last."""
    observations = []
    for asset, observe in ((allocators, _allocators), (cost_groups, _cost_groups)):
        version, metadata = observe(workspace)
        if recorded_version(instance, asset.key) != version:
            observations.append(dg.AssetObservation(asset.key, metadata=metadata, tags=observation_tags(version)))
    return [*observations, *_changed_metrics(workspace, instance)]


def _changed_metrics(workspace: Workspace, instance: dg.DagsterInstance) -> list[dg.AssetObservation]:
    try:
        versions = _metric_versions(workspace)
    except OctoError:
        # Whatever weighs by the wrong delivery says so; nothing else waits for it.
        return []
    return [
        dg.AssetObservation(metrics.key, partition=month, tags=observation_tags(version))
        for month, version in sorted(versions.items())
        if recorded_version(instance, metrics.key, month) != version
    ]
