"""`octo accounts`: what each account pays."""

from typing import Annotated

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.errors import OctoError

app = typer.Typer(help="Accounts and what they pay.", no_args_is_help=True)

# A table for people has 100 columns: fewer of ours, under shorter names; json and csv have all.
_SHOWN = {
    "account": "account",
    "currency": "currency",
    "billed": "billed",
    "allocated_out": "moved_out",
    "allocated_in": "moved_in",
    "final_cost": "final_cost",
    "amortised_final_cost": "amortised",
}


@app.callback()
def _noun() -> None:
    """Accounts and what they pay."""


@app.command()
def costs(
    month: Annotated[str, typer.Option(help="The month, YYYY-MM.")],
    output: OutputOption = Output.table,
) -> None:
    """List what each account was billed, what was moved from and to it, and what it pays."""
    from octo_pipeline.allocation.months import parse_month
    from octo_pipeline.settings import load_settings
    from octo_pipeline.tables.marts import AccountCosts
    from octo_pipeline.tables.workspace import Workspace

    lake = Workspace(load_settings()).lake
    if parse_month(month) not in lake.months(AccountCosts.name):
        raise OctoError(f"The lake has no account costs of {month}. Run `octo run --month {month}` first.")
    columns = tuple(_SHOWN if output is Output.table else AccountCosts.columns)
    table = lake.scan(AccountCosts.name, [month], AccountCosts.columns)
    with lake.connect() as connection:
        rows = connection.execute(
            f"SELECT {', '.join(columns)} FROM {table} ORDER BY currency, final_cost DESC, account"
        ).fetchall()
        sums = ", ".join(f"sum({name})" for name in columns[2:])
        totals = connection.execute(
            f"SELECT 'total', currency, {sums} FROM {table} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    if output is Output.table:
        print_rows(f"Account costs of {month}", tuple(_SHOWN.values()), rows + totals, output)
    else:
        print_rows("", columns, rows, output)
