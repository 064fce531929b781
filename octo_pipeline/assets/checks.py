"""The checks as Dagster asset checks, partitioned like their tables."""

from collections.abc import Iterator, Sequence

import dagster as dg

from octo_pipeline.assets.metadata import markdown_table
from octo_pipeline.assets.partitions import monthly
from octo_pipeline.model.rows import Rows
from octo_pipeline.services.checks import CHECKS, Check, CheckResult, Severity
from octo_pipeline.tables.graph import TABLES, StalePartition, stale
from octo_pipeline.tables.table import Table
from octo_pipeline.workspace import Workspace


def _definition(check: Check) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=check.table,
        name=check.name,
        description=check.description,
        partitions_def=monthly,
    )
    def run(context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
        month = context.partition_key
        result = check.run(workspace, month)
        return dg.AssetCheckResult(
            passed=result.passed,
            severity=_SEVERITIES[check.severity],
            description=f"{month}: {result.summary}",
            metadata={} if result.passed else {month: _details(result)},
        )

    return run


_SEVERITIES: dict[Severity, dg.AssetCheckSeverity] = {
    "error": dg.AssetCheckSeverity.ERROR,
    "warning": dg.AssetCheckSeverity.WARN,
}


def _details(result: CheckResult) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(markdown_table(Rows(result.columns, result.details)))


def check_evaluations(workspace: Workspace, table: str, month: str) -> Iterator[dg.AssetCheckEvaluation]:
    """The evaluations of a table's checks for a month that was made outside of the asset graph."""
    for check in CHECKS:
        if check.table == table:
            result = check.run(workspace, month)
            yield dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(table),
                check_name=check.name,
                passed=result.passed,
                severity=_SEVERITIES[check.severity],
                description=f"{month}: {result.summary}",
                metadata={} if result.passed else {month: _details(result)},
                partition=month,
            )


NO_MONTH_IS_STALE = "no_month_is_stale"


def _stale_check(table: Table) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=table.name,
        name=NO_MONTH_IS_STALE,
        description="Every month was made from the current inputs: deliveries, rules, decisions, rates and code. The "
        "sensor stale_months keeps this check up to date between runs.",
    )
    def run(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
        evaluation = stale_evaluation(table.name, stale(workspace, [table]))
        return dg.AssetCheckResult(
            passed=evaluation.passed,
            severity=evaluation.severity,
            description=evaluation.description,
            metadata=evaluation.metadata,
        )

    return run


def stale_evaluation(table: str, partitions: Sequence[StalePartition]) -> dg.AssetCheckEvaluation:
    """The evaluation of the check, given the stale partitions of a table."""
    months = [partition.month for partition in partitions]
    changes = tuple((partition.month, ", ".join(partition.changed)) for partition in partitions)
    rows = Rows(("month", "changed inputs"), changes)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(table),
        check_name=NO_MONTH_IS_STALE,
        passed=not months,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(months)} stale: {', '.join(months[:12])}{' …' if len(months) > 12 else ''}. Run them again, or "
        "turn on the sensor restated_months."
        if months
        else "Every month is current.",
        metadata={"stale": dg.MetadataValue.md(markdown_table(rows))} if months else {},
    )


asset_checks = [*(_definition(check) for check in CHECKS), *(_stale_check(table) for table in TABLES)]
