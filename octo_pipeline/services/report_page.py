"""How the report looks: one HTML file that loads nothing from elsewhere, and a CSV of the accounts beside it."""

import csv
import os
from decimal import Decimal
from pathlib import Path

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.html import html_template
from octo_pipeline.model.spreadsheet import csv_value
from octo_pipeline.model.wording import reason
from octo_pipeline.services.report import Report

ACCOUNT_COLUMNS = (
    "account",
    "name",
    "currency",
    "billed",
    "allocated_out",
    "allocated_in",
    "net_savings_received",
    "final_cost",
    "change_to_previous_month",
)


def write_report(report: Report, page: Path) -> Path:
    """Write the page and the CSV beside it, each in one step.

    Args:
        report: the content.
        page: the HTML file.

    Returns:
        The CSV file.

    Raises:
        OctoError: the folder does not exist or cannot be written.
    """
    figures = page.with_suffix(".csv")
    try:
        _replace(page, _html(report))
        _replace(figures, _csv(report))
    except OSError as error:
        raise OctoError(f"Cannot write the report to {page}: {reason(error)}.", code="report-not-writable") from error
    return figures


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8", newline="")
    os.replace(new, path)


def _html(report: Report) -> str:
    largest = max((abs(row[7]) for row in report.accounts), default=Decimal(0))
    return html_template("services/report_page.html.j2").render(
        report=report,
        # In percent of the column; the bar of the largest account fills it.
        width=lambda value: round(float(abs(value) / largest) * 100, 1) if largest else 0,
    )


def _csv(report: Report) -> str:
    from io import StringIO

    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ACCOUNT_COLUMNS)
    writer.writerows([f"{v:f}" if isinstance(v, Decimal) else csv_value(v) for v in row] for row in report.accounts)
    return text.getvalue()
