"""`octo rates`: the exchange rates to the base currency."""

from typing import Annotated

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows


def rates(
    month: Annotated[str | None, typer.Option(help="Those that count in this month, YYYY-MM.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """List the exchange rates to the base currency."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.rates import listed_rates
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    rows = listed_rates(Workspace(load_settings()), parse_month(month) if month else None)
    print_rows("Exchange rates", rows.columns, rows.rows, output)
