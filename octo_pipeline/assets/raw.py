"""Raw exports: what the vendors delivered, landed byte for byte."""

from pathlib import Path

import dagster as dg

from octo_pipeline.assets.months import make_step
from octo_pipeline.assets.partitions import a_run_a_month, monthly
from octo_pipeline.assets.specs import DATA_ENGINEERING, EVERY_SOURCE_ANSWERED, FRESHNESS
from octo_pipeline.services.months import Landing
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.vendor import Vendor
from octo_pipeline.workspace import Workspace


class ExportConfig(dg.Config):
    """Where to look for exports."""

    path: str | None = None
    """A folder with exports in the vendor's layout, or one data file; the configured sources if left out."""


def _raw(vendor: Vendor) -> dg.AssetsDefinition:
    @dg.asset(
        name=vendor.raw_asset,
        description=vendor.raw_description,
        group_name="raw",
        kinds={vendor.raw_kind, "parquet"},
        owners=DATA_ENGINEERING,
        freshness_policy=FRESHNESS,
        partitions_def=monthly,
        backfill_policy=a_run_a_month,
        check_specs=[
            dg.AssetCheckSpec(
                EVERY_SOURCE_ANSWERED,
                asset=vendor.raw_asset,
                partitions_def=monthly,
                description="Every configured source could be reached, and its exports were complete. Otherwise the last "
                "good delivery of the month stays.",
            )
        ],
    )
    def raw(
        context: dg.AssetExecutionContext, config: ExportConfig, workspace: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult:
        folder = Path(config.path) if config.path else None
        return make_step(context, workspace, Landing(vendor.name, folder))

    return raw


raw_exports = [_raw(vendor) for vendor in VENDORS.values()]
