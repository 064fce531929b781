"""Whole months in one op: landing and all tables, recorded partition by partition.

A run over a range of the asset graph goes step by step, and Dagster skips what follows a failed step for all
months of the range. Here a month goes through all its steps, so that a bad one stops no other; and each
partition is recorded with a data version of its own, which a step over a range cannot give.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import dagster as dg

from octo_pipeline.assets.dagster_compat import data_version_tags
from octo_pipeline.assets.metadata import figures_metadata
from octo_pipeline.assets.months import outcome_metadata
from octo_pipeline.assets.raw import RAW_ASSETS, landed_metadata
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.services.figures import figures
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.sources import sources
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.table import Materialised, materialise
from octo_pipeline.workspace import Workspace


def make_months(context: dg.OpExecutionContext, workspace: Workspace, months: Sequence[str]) -> Rows:
    """Land and make each month.

    Returns:
        A row a month: how many partitions were published, how many were up to date.

    Raises:
        dg.Failure: it names the months that were not made; the others were.
    """
    made: list[tuple[str, int, int]] = []
    failed: dict[str, OctoError] = {}
    for month in months:
        try:
            outcomes = _make_month(context, workspace, month)
            made.append((month, outcomes["published"], outcomes["unchanged"]))
            context.log.info(f"{month}: {outcomes['published']} published, {outcomes['unchanged']} unchanged")
        except OctoError as error:
            failed[month] = error
            context.log.error(f"{month}: {error}")
    if failed:
        raise dg.Failure(
            description="\n".join(f"{month} was not made: {error}" for month, error in failed.items()),
            metadata={"made": ", ".join(row[0] for row in made) or "none"},
            allow_retries=False,
        )
    return Rows(("month", "published", "unchanged"), tuple(made))


def _make_month(context: dg.OpExecutionContext, workspace: Workspace, month: str) -> "Counter[str]":
    for vendor, asset in RAW_ASSETS.items():
        landed = land_month(workspace, vendor, sources(workspace, vendor), month)
        landed.require_complete()
        for sentence in landed.failures:
            context.log.warning(sentence)
        _record(context, asset, month, landed_metadata(landed))
    outcomes: Counter[str] = Counter()
    for table in TABLES:
        found = materialise(workspace, table, month)
        outcomes[found.outcome] += 1
        record_materialised(context, workspace, found)
    return outcomes


def record_materialised(context: dg.OpExecutionContext, workspace: Workspace, made: Materialised) -> None:
    """Record a partition that an op made, with its figures and its fingerprint as the data version."""
    told = outcome_metadata(made) | figures_metadata(figures(workspace, made.table, made.month))
    _record(context, made.table, made.month, told)


def _record(context: dg.OpExecutionContext, asset: str, month: str, told: dict[str, Any]) -> None:
    tags = data_version_tags(str(told["fingerprint"]))
    context.log_event(dg.AssetMaterialization(asset_key=asset, partition=month, metadata=told, tags=tags))
