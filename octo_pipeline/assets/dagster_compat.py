"""The parts of Dagster that may change with any release: names from `dagster._core`, beta and preview features.

This is the only module that imports from `dagster._core`; a test enforces it. When an upgrade of Dagster breaks
something, look here first. It is among the assets because they use Dagster's private names too, and assets
import nothing from the automation above them.
"""

import warnings
from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_IS_USER_PROVIDED_TAG, DATA_VERSION_TAG
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)


def accept_unstable_features() -> None:
    """Do not warn about the beta and preview features that are used on purpose and covered by tests.

    Beta: backfill policies, source code references, and a partition mapping to months that do not exist.
    Preview: partitioned asset checks.
    """
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)


def month_range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make one run cover the months from first to last; a run request has no field for a range."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def run_months(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The first and the last month of a run, from its tags; None for a run without months."""
    if month := tags.get(PARTITION_NAME_TAG):
        return month, month
    if first := tags.get(ASSET_PARTITION_RANGE_START_TAG):
        return first, tags.get(ASSET_PARTITION_RANGE_END_TAG, first)
    return None


def data_version_tags(version: str) -> dict[str, str]:
    """The tags that give a materialisation its data version; an op's event has no field for it."""
    return {DATA_VERSION_TAG: version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
