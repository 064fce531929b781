"""Raw exports: what the vendors delivered, landed byte for byte."""

from pathlib import Path

import dagster as dg

from octo_pipeline.assets.months import run_months
from octo_pipeline.partitions import monthly
from octo_pipeline.resources.lake import fingerprint
from octo_pipeline.tables.landing import land_month
from octo_pipeline.tables.workspace import Workspace


class CurConfig(dg.Config):
    """Where to look for CUR deliveries."""

    path: str | None = None
    """A folder laid out as the report's S3 bucket, or one data file; OCTO_AWS_EXPORTS if not given."""


@dg.asset(
    group_name="raw",
    kinds={"aws", "parquet"},
    partitions_def=monthly,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def raw_cur(
    context: dg.AssetExecutionContext, config: CurConfig, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult:
    """AWS Cost and Usage Reports as delivered. One delivery a payer, month and version; the newest counts."""
    source = Path(config.path) if config.path else workspace.settings.aws_exports
    return run_months(
        context,
        context.asset_key,
        lambda month: land_month(workspace, "aws", source, month),
        lambda landed: {
            "outcome": landed.sentence,
            "deliveries": len(landed.deliveries),
            "files": sum(len(d.files) for d in landed.deliveries),
            "bytes": sum(f.size for d in landed.deliveries for f in d.files),
            "fingerprint": fingerprint({f"{d.vendor}/{d.account}": d.version for d in landed.deliveries}),
        },
    )


def _absent(name: str, vendor: str, description: str) -> dg.AssetsDefinition:
    """An export that this installation does not fetch yet: its months are recorded as empty."""

    @dg.asset(
        name=name,
        description=description,
        group_name="raw",
        kinds={vendor},
        partitions_def=monthly,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def absent(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return run_months(
            context,
            context.asset_key,
            lambda month: month,
            lambda month: {"outcome": "no source", "deliveries": 0},
        )

    return absent


azure_usage = _absent("azure_usage", "azure", "Azure CSP daily usage as delivered. No Azure source is connected yet.")
bigquery_export = _absent(
    "bigquery_export", "bigquery", "GCP billing export as delivered. No GCP source is connected yet."
)
