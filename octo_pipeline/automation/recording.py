"""Turns the events of months that are made outside the asset graph into materialisations and check evaluations.

An op yields them, the command line records them as a run, and a restore reports them without a run.
"""

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import dagster as dg

from octo_pipeline.assets.checks import check_evaluations, stale_evaluation
from octo_pipeline.assets.cost_line_items import VIEWS, normalisation
from octo_pipeline.assets.dagster_compat import RecordedVersions
from octo_pipeline.assets.failures import failure_in_dagster, in_dagster
from octo_pipeline.assets.metadata import markdown_table
from octo_pipeline.assets.months import answered, event_metadata
from octo_pipeline.assets.raw import raw_exports
from octo_pipeline.assets.specs import EVERY_SOURCE_ANSWERED
from octo_pipeline.assets.tables import assets as table_assets
from octo_pipeline.model.rows import Rows
from octo_pipeline.services.accounts import Removed
from octo_pipeline.services.months import Event, Failed, Landed, MonthDone, Skipped
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.graph import TABLES, stale
from octo_pipeline.tables.table import Materialised
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.workspace import Workspace

_Event = TypeVar("_Event", bound=Event | Removed)

_SPECS = {spec.key: spec for asset in (*raw_exports, normalisation, *table_assets) for spec in asset.specs}

AssetEvent = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation


def asset_events(
    workspace: Workspace, versions: RecordedVersions, event: Event | Removed, cause: Mapping[str, str] | None = None
) -> Iterator[AssetEvent]:
    """What Dagster records of an event: a materialisation with its data version, and the results of its checks.

    Args:
        workspace: whose lake.
        versions: of the instance where it is recorded; each event must be recorded before the next is asked for. What is
            recorded there already is left out.
        event: what happened.
        cause: why partitions were made again, if somebody decided it: names and texts.
    """
    if isinstance(event, Landed):
        raw = dg.AssetKey(VENDORS[event.vendor].raw_asset)
        if not versions.is_recorded(_SPECS[raw], event.month, event.fingerprint):
            metadata = event_metadata(workspace, event)
            yield from _materialisation(versions, raw, event.fingerprint, metadata, event.month)
        check = answered(event)
        evaluation = dg.AssetCheckEvaluation(
            asset_key=raw,
            check_name=EVERY_SOURCE_ANSWERED,
            passed=check.passed,
            severity=check.severity,
            description=check.description,
            partition=event.month,
        )
        yield from _news(versions, [evaluation], event.month)
    if isinstance(event, Materialised):
        table = dg.AssetKey(event.table)
        evaluations = check_evaluations(workspace, event.table, event.month)
        # An event takes Dagster longer to store than all that is done for a month without news.
        if event.outcome != "published" and versions.is_recorded(_SPECS[table], event.month, event.fingerprint):
            yield from _news(versions, [*evaluations], event.month)
            return
        # The views have no rows of their own. A third of the events of a month without news would be theirs.
        if event.table == CostLineItems.name and (
            event.outcome == "published" or event.month not in versions.instance.get_materialized_partitions(VIEWS[-1])
        ):
            for view in VIEWS:
                yield from _materialisation(versions, view, event.fingerprint, {}, event.month)
        metadata = event_metadata(workspace, event) | _cause_metadata(cause)
        yield from _materialisation(versions, table, event.fingerprint, metadata, event.month)
        yield from evaluations


def _news(
    versions: RecordedVersions, evaluations: Sequence[dg.AssetCheckEvaluation], month: str | None
) -> Iterator[dg.AssetCheckEvaluation]:
    """The results of checks, without those that passed before in the same words; all partitions of the checks are as they were."""
    last = versions.last_results([evaluation.asset_check_key for evaluation in evaluations], month)
    for evaluation in evaluations:
        before = last.get(evaluation.asset_check_key)
        if not (evaluation.passed and before and before.passed and before.description == evaluation.description):
            yield evaluation


def _cause_metadata(cause: Mapping[str, str] | None) -> dict[str, Any]:
    # The texts are people's own, and a table is where they are shown as texts.
    return {"why": dg.MetadataValue.md(markdown_table(Rows(("what", "value"), tuple(cause.items()))))} if cause else {}


def _materialisation(
    versions: RecordedVersions, asset: dg.AssetKey, version: str, metadata: Mapping[str, Any], month: str
) -> Iterator[dg.AssetMaterialization]:
    tags = versions.tags(_SPECS[asset], version)
    yield dg.AssetMaterialization(asset, partition=month, metadata=metadata, tags=tags)
    versions.forget(asset)


def stale_evaluations(workspace: Workspace, versions: RecordedVersions) -> Iterator[dg.AssetCheckEvaluation]:
    """The check `no_month_is_stale` of every table, evaluated after everything is made."""
    partitions = stale(workspace)
    evaluations = [
        stale_evaluation(table.name, [partition for partition in partitions if partition.table == table.name])
        for table in TABLES
    ]
    yield from _news(versions, evaluations, None)


def log_lines(event: Event | Removed) -> Iterator[tuple[int, str]]:
    """The lines that a run's log has for an event, each with its level; tables that were up to date are counted at the end."""
    if isinstance(event, Landed):
        yield logging.INFO, f"{VENDORS[event.vendor].raw_asset} {event.month}: {event.outcome}"
        for sentence in map(in_dagster, event.unanswered):
            yield logging.WARNING, sentence
    if isinstance(event, Materialised) and event.outcome != "unchanged":
        yield logging.INFO, f"{event.table} {event.month}: {event.outcome}"
    if isinstance(event, Failed):
        yield logging.ERROR, failure_in_dagster(event)
    if isinstance(event, Skipped) and event.step == CostLineItems.name:
        yield logging.WARNING, in_dagster(event.error)
    if isinstance(event, MonthDone):
        yield logging.INFO, f"{event.month}: {event.published} published, {event.unchanged} unchanged"


def recorded_in_op(
    context: dg.OpExecutionContext,
    workspace: Workspace,
    events: Iterable[_Event],
    cause: Mapping[str, str] | None = None,
) -> Generator[AssetEvent, None, list[_Event]]:
    """Log and yield what an op makes, as soon as it is made; `cause` as in `asset_events`.

    Returns:
        All events.

    Raises:
        dg.Failure: a step failed. Its description names the months that were not published and says why; everything
            else was made.
    """
    done = []
    versions = RecordedVersions(context.instance)
    for event in events:
        done.append(event)
        for level, sentence in log_lines(event):
            context.log.log(level, sentence)
        yield from asset_events(workspace, versions, event, cause)
    if failures := [failure_in_dagster(event) for event in done if isinstance(event, Failed)]:
        whole = [event.month for event in done if isinstance(event, MonthDone) and not event.failed]
        raise dg.Failure(
            description="\n".join(failures), metadata={"made": ", ".join(whole) or "none"}, allow_retries=False
        )
    return done


def months_table(events: Iterable[Event]) -> dg.MarkdownMetadataValue:
    """How many partitions of each month were published, and how many were up to date."""
    rows = tuple((event.month, event.published, event.unchanged) for event in events if isinstance(event, MonthDone))
    return dg.MetadataValue.md(markdown_table(Rows(("month", "published", "unchanged"), rows)))
