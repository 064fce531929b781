"""Commands that run the pipeline: `octo run`, `octo backfill`, `octo stale`, `octo sample`."""

from pathlib import Path
from typing import Annotated

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.errors import OctoError


def run(
    month: Annotated[str | None, typer.Option(help="The month, YYYY-MM.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="First month of a range.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month of a range.")] = None,
    cur: Annotated[
        Path | None,
        typer.Option(help="AWS report to land first: a folder laid out like its S3 bucket, or one data file."),
    ] = None,
) -> None:
    """Land what is new and make all tables for a month or a range of months."""
    from octo_pipeline.cli.failures import raise_for_checks
    from octo_pipeline.cli.progress import show_months
    from octo_pipeline.cli.summary import print_summary
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    if (month is None) == (first is None and last is None):
        raise OctoError("Say which month: --month YYYY-MM, or --from YYYY-MM --to YYYY-MM.", code="month-missing")
    months = _months(month or first or last or "", month or last or first or "")
    if cur is not None and not cur.exists():
        raise OctoError(f"There is no file or folder {cur}.", code="exports-missing")
    workspace = Workspace(load_settings())
    done = show_months(workspace, months, {"aws": cur.absolute()} if cur else None)
    if made := [month.month for month in done if month.is_made]:
        print_summary(made[-1])
    raise_for_checks(workspace, made)


def backfill(
    first: Annotated[str, typer.Option("--from", help="First month, YYYY-MM.")],
    last: Annotated[str, typer.Option("--to", help="Last month, YYYY-MM.")],
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes share the months.")] = 1,
) -> None:
    """Bring past months up to date from the configured sources. A second run continues where the first stopped."""
    from octo_pipeline.cli.failures import raise_for_checks
    from octo_pipeline.cli.progress import show_months
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace, months = Workspace(load_settings()), _months(first, last)
    done = show_months(workspace, months, workers=workers)
    rows = sorted((month.month, month.published, month.unchanged) for month in done)
    print_rows("Backfilled", ("month", "published", "unchanged"), rows, Output.table)
    raise_for_checks(workspace, [month.month for month in done if month.is_made])


def _months(first: str, last: str) -> list[str]:
    from octo_pipeline.model.months import month_range, parse_month

    start, end = parse_month(first), parse_month(last)
    months = month_range(start, end)
    if not months:
        raise OctoError(f"--from {start} is after --to {end}.", code="months-reversed")
    return months


def stale(output: OutputOption = Output.table) -> None:
    """List the partitions whose recorded inputs are no longer current, and the closed months that differ by now."""
    from octo_pipeline.services.periods import periods_of
    from octo_pipeline.settings import load_settings
    from octo_pipeline.tables.graph import stale as find_stale
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    partitions = find_stale(workspace)
    rows = [(partition.table, partition.month, ", ".join(partition.changed)) for partition in partitions]
    if not rows and output is Output.table:
        typer.echo("Every partition is current.")
    else:
        print_rows("Stale partitions: run these months again", ("table", "month", "changed"), rows, output)
    if output is not Output.table:
        return
    for period in periods_of(workspace):
        if period.changed:
            booked = (
                f"the difference is booked in {period.corrected_in}" if period.corrected_in else "the difference waits"
            )
            typer.echo(f"{period.month} differs from what was closed ({period.changed}); {booked}.")


def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; it is laid out like the vendors' buckets.")],
    first: Annotated[str, typer.Option("--from", help="First month.")] = "2024-01",
    last: Annotated[str, typer.Option("--to", help="Last month.")] = "2024-03",
    accounts: Annotated[int, typer.Option(help="How many accounts.")] = 12,
    lines: Annotated[int, typer.Option(help="Usage lines per month.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same months.")] = 7,
) -> None:
    """Write sample months in the vendors' own formats.

    Also writes the sample's configuration (allocators, cost groups, exchange rates) if there is none yet.
    """
    import shutil

    from octo_pipeline.model.shipped import shipped_folder
    from octo_pipeline.settings import load_settings
    from octo_pipeline.vendors.catalog import VENDORS

    months = _months(first, last)
    samples = {name: vendor.sample for name, vendor in VENDORS.items() if vendor.sample}
    for sample in samples.values():
        sample.write(folder, months=months, accounts=accounts, lines=lines, seed=seed)
    *titles, last_title = [sample.title for sample in samples.values()]
    typer.echo(f"{len(months)} months of {', '.join(titles)} and {last_title} in {folder}: {', '.join(samples)}.")
    config = load_settings().config
    if not config.exists():
        shutil.copytree(shipped_folder("allocator_configs"), config)
        typer.echo(f"The rules that share their costs are in {config}.")


def manifest() -> None:
    """Build the dbt manifest now, so that no later command waits for it."""
    from octo_pipeline.tables.dbt import manifest_path

    typer.echo(f"dbt manifest: {manifest_path()}")
