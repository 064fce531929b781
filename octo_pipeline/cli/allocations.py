"""`octo allocations`: the results of a month."""

from typing import Annotated

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.errors import OctoError

app = typer.Typer(help="The allocations of a month.", no_args_is_help=True)

_COLUMNS = (
    "status", "kind", "category", "source_account", "target_account", "service_code", "charge_description",
    "allocator_id", "currency", "cost",
)  # fmt: skip


@app.callback()
def _noun() -> None:
    """The allocations of a month."""


@app.command("list")
def list_(
    month: Annotated[str, typer.Option(help="The booking month, YYYY-MM.")],
    status: Annotated[
        str | None, typer.Option(help="unchecked_allocated, checked_allocated, checked_splitted.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="fee, account or savings.")] = None,
    account: Annotated[str | None, typer.Option(help="Source or target account.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """List the items of a month and the rows booked in it."""
    from octo_pipeline.allocation.months import parse_month
    from octo_pipeline.settings import load_settings
    from octo_pipeline.tables.allocation import explained_allocations
    from octo_pipeline.tables.workspace import Workspace

    lake = Workspace(load_settings()).lake
    if parse_month(month) not in lake.months("allocations"):
        raise OctoError(f"The lake has no allocations of {month}. Run `octo run --month {month}` first.")
    with lake.connect() as connection:
        rows = connection.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM ({explained_allocations(lake, [month])}) "
            "WHERE ($1 IS NULL OR status = $1) AND ($2 IS NULL OR category = $2) "
            "AND ($3 IS NULL OR source_account = $3 OR target_account = $3) "
            "ORDER BY category, source_account, service_code, charge_description, status, target_account, cost",
            [status, category, account],
        ).fetchall()
    print_rows(f"Allocations of {month}", _COLUMNS, rows, output)
