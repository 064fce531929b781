"""`octo report`: a month in plain language."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    month: Annotated[str, typer.Option(help="The month, YYYY-MM.")],
    page: Annotated[
        Path | None, typer.Option("--page", help="The HTML file; report-<month>.html in this folder if left out.")
    ] = None,
) -> None:
    """Write a month as one HTML page for people in finance, and its account figures as CSV beside it."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.report import report_of
    from octo_pipeline.services.report_page import write_report
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    target = page or Path(f"report-{parse_month(month)}.html")
    figures = write_report(report_of(Workspace(load_settings()), parse_month(month)), target)
    typer.echo(f"The report is in {target}, its figures are in {figures}.")
