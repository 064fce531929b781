"""`octo deliveries`: the vendors' exports that are landed."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.acting import admin
from octo_pipeline.cli.output import Output, OutputOption, print_rows

if TYPE_CHECKING:
    from octo_pipeline.workspace import Workspace

VersionArgument = Annotated[str, typer.Argument(help="The version, or its beginning.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

app = typer.Typer(help="Landed deliveries of the vendors' exports.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """Landed deliveries of the vendors' exports."""


@app.command("list")
def list_(
    month: Annotated[str | None, typer.Option(help="Only this month, YYYY-MM.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """List the landed deliveries, oldest first."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.deliveries import listed_deliveries

    rows = listed_deliveries(_workspace(), parse_month(month) if month else None)
    landed = [
        tuple(f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value for value in row) for row in rows.rows
    ]
    print_rows("Deliveries", rows.columns, landed, output)


@app.command()
def sources(output: OutputOption = Output.table) -> None:
    """List the sources of exports, what each delivered last, and what is late. Secrets are never shown."""
    from octo_pipeline.services.deliveries import listed_sources, source_states

    rows = listed_sources(source_states(_workspace(), datetime.now(UTC)))
    states = [
        tuple(f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value for value in row) for row in rows.rows
    ]
    print_rows("Sources", rows.columns, states, output)


@app.command()
def show(version: VersionArgument) -> None:
    """Show one delivery with its files, and verify their sizes and checksums."""
    from octo_pipeline.services.landing import delivery_of
    from octo_pipeline.vendors.landing import verify

    delivery = delivery_of(_workspace(), version)
    verify(delivery)
    typer.echo(f"{delivery.vendor} {delivery.account} {delivery.month}, version {delivery.version}")
    typer.echo(f"from {delivery.source}, landed {delivery.fetched_at:%Y-%m-%d %H:%M} UTC in {delivery.path}")
    for file in delivery.files:
        typer.echo(f"  {file.name}  {file.size:,} bytes  sha256 {file.sha256}  verified")


@app.command()
def remove(version: VersionArgument, yes: YesOption = False) -> None:
    """Remove a delivery. The next run uses the newest one that is left."""
    from octo_pipeline.services.landing import delivery_of, remove_delivery

    workspace = _workspace()
    actor = admin(workspace)
    delivery = delivery_of(workspace, version)
    if not yes:
        typer.confirm(f"Remove {delivery.title}?", abort=True)
    remove_delivery(workspace, delivery, actor)
    typer.echo(f"Removed. `octo run --month {delivery.month}` brings the month up to date.")


@app.command()
def reland(version: VersionArgument, yes: YesOption = False) -> None:
    """Fetch a delivery again from its source, for example after its files were damaged."""
    from octo_pipeline.services.landing import delivery_of
    from octo_pipeline.services.landing import reland as fetch_again
    from octo_pipeline.services.sources import sources as sources_of

    workspace = _workspace()
    actor = admin(workspace)
    delivery = delivery_of(workspace, version)
    if not yes:
        typer.confirm(f"Fetch {delivery.title} again?", abort=True)
    fetch_again(workspace, delivery, sources_of(workspace, delivery.vendor), actor)
    typer.echo(f"Landed again. `octo run --month {delivery.month}` brings the month up to date.")


def _workspace() -> "Workspace":
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    return Workspace(load_settings())
