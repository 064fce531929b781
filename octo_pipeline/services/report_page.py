"""How the report looks: one HTML file that loads nothing from elsewhere, and a CSV of the accounts beside it."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

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
    "amortised_final_cost",
    "net_steps_received",
    "net_corrections",
    "change_to_previous_month",
)


_MOST_ROWS = 60  # people do not read longer lists; the page says how many rows are left out


@dataclass(frozen=True)
class _List:
    """The rows of one currency.

    Attributes:
        rows: the first of them.
        left_out: how many there are besides.
        totals: of all rows, a sum for each column; None for a column that has other values than amounts.
        largest: the largest amount of the column that a chart shows.
    """

    currency: str
    rows: tuple[tuple[Any, ...], ...]
    left_out: int
    totals: tuple[Decimal | None, ...]
    largest: Decimal

    def width(self, cost: Decimal) -> float:
        """The length of an amount's bar in percent; that of the largest amount is 100."""
        return round(float(abs(cost) / self.largest) * 100, 1) if self.largest else 0


def _lists(rows: Sequence[tuple[Any, ...]], currency: int, charted: int | None = None) -> list[_List]:
    """A list for each currency, in the order in which they occur; `currency` and `charted` are columns."""
    by_currency: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_currency.setdefault(row[currency], []).append(row)
    return [
        _List(
            name,
            tuple(members[:_MOST_ROWS]),
            max(len(members) - _MOST_ROWS, 0),
            tuple(map(_total, zip(*members, strict=True))),
            max((abs(row[charted]) for row in members), default=Decimal(0)) if charted is not None else Decimal(0),
        )
        for name, members in by_currency.items()
    ]


def _total(values: Sequence[Any]) -> Decimal | None:
    amounts = [value for value in values if value is not None]
    return sum(amounts, Decimal(0)) if all(isinstance(value, Decimal) for value in amounts) else None


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
    return html_template("services/report_page.html.j2").render(
        report=report,
        rules=_lists([row for row in report.rules if row[2] in ("fee", "account")], currency=3),
        accounts=_lists(report.accounts, currency=2, charted=7),
        left=_lists([row for row in report.left if row[3] in ("fee", "account")], currency=5),
        steps=_lists([row for row in report.rules if row[2] == "balance"], currency=3),
        steps_left=_lists([row for row in report.left if row[3] == "balance"], currency=5),
        savings=_lists([row for row in report.rules if row[2] == "savings"], currency=3),
        savings_left=_lists([row for row in report.left if row[3] == "savings"], currency=5),
        prepayments=_lists(report.prepayments, currency=3),
        corrections=_lists(report.corrections, currency=3),
        cost_groups=_lists(report.cost_groups, currency=1),
    )


def _csv(report: Report) -> str:
    from io import StringIO

    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ACCOUNT_COLUMNS)
    writer.writerows([f"{v:f}" if isinstance(v, Decimal) else csv_value(v) for v in row] for row in report.accounts)
    return text.getvalue()
