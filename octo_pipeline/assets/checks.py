"""The checks as Dagster asset checks, partitioned like their tables: the same results as `octo checks`."""

import dagster as dg

from octo_pipeline.assets.metadata import markdown_table
from octo_pipeline.partitions import monthly
from octo_pipeline.tables.checks import CHECKS, Check
from octo_pipeline.tables.rows import Rows
from octo_pipeline.tables.workspace import Workspace


def _definition(check: Check) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=check.table,
        name=check.name,
        description=check.description,
        partitions_def=monthly,
    )
    def run(context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
        results = {month: check.run(workspace, month) for month in context.partition_keys}
        failed = {month: result for month, result in results.items() if not result.passed}
        return dg.AssetCheckResult(
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if check.severity == "error" else dg.AssetCheckSeverity.WARN,
            description="\n".join(f"{m}: {r.summary}" for m, r in (failed or results).items()),
            metadata={
                month: dg.MetadataValue.md(markdown_table(Rows(result.columns, result.details)))
                for month, result in failed.items()
            },
        )

    return run


asset_checks = [_definition(check) for check in CHECKS]
