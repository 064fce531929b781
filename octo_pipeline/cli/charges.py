"""`octo charges`: fees and credits that people import by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.acting import editor
from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.errors import OctoError

if TYPE_CHECKING:
    from octo_pipeline.workspace import Workspace

MonthOption = Annotated[str, typer.Option(help="The month, YYYY-MM.")]

app = typer.Typer(help="Fees and credits that no vendor exports, imported by hand.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """Fees and credits that no vendor exports, imported by hand."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV: month, account, description, amount, currency, seller.")],
    month: MonthOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes without making them.")] = False,
    replace_month: Annotated[
        bool, typer.Option("--replace-month", help="The file has all charges of the month.")
    ] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Charges that are not in the file stay.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Import the charges of a month from a file, and show what changes.

    With --dry-run alone, the changes are those of --replace-month.
    """
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.charges import ImportMode, listed_changes, plan_import, run_import

    if replace_month and merge:
        raise OctoError("Give either --replace-month or --merge, not both.", code="import-mode-wrong")
    if not (dry_run or replace_month or merge):
        raise OctoError(
            "Say what happens to the charges that the month already has: --replace-month replaces them all, --merge keeps "
            "those that are not in the file, and --dry-run shows the changes without making them.",
            code="import-mode-wrong",
        )
    workspace = _workspace()
    actor = None if dry_run else editor(workspace)
    planned = plan_import(workspace, file, parse_month(month), ImportMode.merge if merge else ImportMode.replace_month)
    changes = listed_changes(planned)
    print_rows(f"Charges of {month}", changes.columns, changes.rows, output)
    if actor is not None:
        delivery = run_import(workspace, planned, actor)
        if output is Output.table:
            outcome = (
                f"`octo run --month {month}` brings the month up to date."
                if delivery
                else "The month already has them."
            )
            typer.echo(outcome)
    elif output is Output.table:
        typer.echo("Nothing was imported.")


@app.command("list")
def list_(month: MonthOption, output: OutputOption = Output.table) -> None:
    """List the charges of a month."""
    from octo_pipeline.services.charges import listed_charges, month_charges

    rows = listed_charges(month_charges(_workspace(), month))
    print_rows(f"Charges of {month}", rows.columns, rows.rows, output)


def _workspace() -> "Workspace":
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    return Workspace(load_settings())
