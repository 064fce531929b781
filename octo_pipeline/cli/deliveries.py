"""`octo deliveries`: what the vendors delivered and is landed."""

from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.acting import admin
from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.errors import OctoError

if TYPE_CHECKING:
    from octo_pipeline.sources.landing import Delivery
    from octo_pipeline.storage.store import Location

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
    from octo_pipeline.allocation.months import parse_month
    from octo_pipeline.sources.landing import deliveries

    found = deliveries(_root(), month=parse_month(month) if month else None)
    rows = [
        (
            d.vendor,
            d.account,
            d.month,
            d.version,
            len(d.files),
            sum(f.size for f in d.files),
            f"{d.fetched_at:%Y-%m-%d %H:%M}",
        )
        for d in found
    ]
    print_rows("Deliveries", ("vendor", "account", "month", "version", "files", "bytes", "landed_at"), rows, output)


@app.command()
def show(version: Annotated[str, typer.Argument(help="The version, or its beginning.")]) -> None:
    """Show one delivery with its files, and verify their sizes and checksums."""
    from octo_pipeline.sources.landing import verify

    delivery = _find(version)
    verify(delivery)
    typer.echo(f"{delivery.vendor} {delivery.account} {delivery.month}, version {delivery.version}")
    typer.echo(f"from {delivery.source}, landed {delivery.fetched_at:%Y-%m-%d %H:%M} UTC in {delivery.path}")
    for file in delivery.files:
        typer.echo(f"  {file.name}  {file.size:,} bytes  sha256 {file.sha256}  verified")


@app.command()
def remove(
    version: Annotated[str, typer.Argument(help="The version, or its beginning.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a delivery; the next newest one counts from the next run on."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.sources.landing import remove as remove_delivery
    from octo_pipeline.tables.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = admin(workspace)
    delivery = _find(version)
    title = f"{delivery.vendor} {delivery.account} {delivery.month} {delivery.version}"
    if not yes:
        typer.confirm(f"Remove {title}?", abort=True)
    remove_delivery(workspace.lake.root, delivery)
    workspace.registry.note(actor, "remove_delivery", title, {"report": delivery.report, "source": delivery.source})
    typer.echo(f"Removed. `octo run --month {delivery.month}` brings the month up to date.")


def _root() -> "Location":
    from octo_pipeline.resources.storage import lake_root
    from octo_pipeline.settings import load_settings

    settings = load_settings()
    return lake_root(settings.lake, settings.temp)


def _find(version: str) -> "Delivery":
    from octo_pipeline.sources.landing import deliveries

    found = [d for d in deliveries(_root()) if d.version.startswith(version)]
    if len(found) != 1:
        raise OctoError(
            f"{len(found) or 'No'} deliveries have a version that begins with {version!r}; `octo deliveries list` shows all."
        )
    return found[0]
