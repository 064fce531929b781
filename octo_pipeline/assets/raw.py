"""Raw exports: what the vendors delivered, landed byte for byte."""

from pathlib import Path
from typing import Any

import dagster as dg

from octo_pipeline.assets.months import run_months
from octo_pipeline.assets.partitions import monthly
from octo_pipeline.assets.specs import DATA_ENGINEERING, FRESHNESS
from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.landing import LandedMonth, land_month
from octo_pipeline.services.sources import sources
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.vendor import Vendor
from octo_pipeline.workspace import Workspace

EVERY_SOURCE_ANSWERED = "every_source_answered"

# The vendor and the asset of its raw exports.
RAW_ASSETS = {vendor.name: vendor.raw_asset for vendor in VENDORS.values()}


class ExportConfig(dg.Config):
    """Where to look for exports."""

    path: str | None = None
    """A folder laid out as the vendor lays out its exports, or one data file; the configured sources if not given."""


def _raw(vendor: Vendor) -> dg.AssetsDefinition:
    @dg.asset(
        name=vendor.raw_asset,
        description=vendor.raw_description,
        group_name="raw",
        kinds={vendor.raw_kind, "parquet"},
        owners=DATA_ENGINEERING,
        freshness_policy=FRESHNESS,
        partitions_def=monthly,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec(
                EVERY_SOURCE_ANSWERED,
                asset=vendor.raw_asset,
                description="Every configured source could be reached, and what it had was whole. Where it was not, "
                "the last good delivery of the month stays.",
            )
        ],
    )
    def raw(
        context: dg.AssetExecutionContext, config: ExportConfig, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult:
        found = [vendor.folder_source(Path(config.path))] if config.path else sources(workspace, vendor.name)
        failures: dict[str, tuple[str, ...]] = {}

        def land(month: str) -> LandedMonth:
            landed = land_month(workspace, vendor.name, found, month)
            # Without any delivery of a payer the month is not whole; and who names a folder wants that folder.
            landed.require_complete()
            if landed.failures and config.path:
                raise OctoError("\n".join(landed.failures))
            if landed.failures:
                failures[month] = landed.failures
                context.log.warning("\n".join(landed.failures))
            return landed

        result = run_months(context, context.asset_key, land, landed_metadata)
        return dg.MaterializeResult(data_version=result.data_version, check_results=[_answered(failures)])

    return raw


def landed_metadata(landed: LandedMonth) -> dict[str, Any]:
    """What is landed of a month, as metadata."""
    return {
        "outcome": landed.sentence,
        "deliveries": len(landed.deliveries),
        "files": sum(len(d.files) for d in landed.deliveries),
        "bytes": sum(f.size for d in landed.deliveries for f in d.files),
        "fingerprint": fingerprint({f"{d.vendor}/{d.account}": d.version for d in landed.deliveries}),
    }


def _answered(failures: dict[str, tuple[str, ...]]) -> dg.AssetCheckResult:
    lines = [f"{month}: {sentence}" for month, sentences in failures.items() for sentence in sentences]
    return dg.AssetCheckResult(
        check_name=EVERY_SOURCE_ANSWERED,
        passed=not lines,
        description="\n".join(lines) or "Every source answered.",
    )


raw_exports = [_raw(vendor) for vendor in VENDORS.values()]
