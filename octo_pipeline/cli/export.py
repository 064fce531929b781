"""`octo export`: what leaves the lake for other systems."""

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.currency import minor_digits
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import plain

if TYPE_CHECKING:
    from octo_pipeline.outputs.focus.export import WrittenMonth
    from octo_pipeline.outputs.journal import Journal

app = typer.Typer(help="What leaves the lake for other systems.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """What leaves the lake for other systems."""


class By(StrEnum):
    """Whom a journal has lines of."""

    cost_centre = "cost-centre"
    account = "account"
    group = "group"


# What people read of a line; the file has all columns.
_COLUMNS = ("entry", "description", "payer", "cost_centre", "ledger_account", "owner", "debit", "credit", "currency")


# What the export of a month is made of.
_PARTS = ("bill", "spread", "instalments", "corrections")


class FocusVersion(StrEnum):
    """The versions of FOCUS that are written."""

    newest = "1.4"
    most_read = "1.2"


@app.command()
def focus(
    target: Annotated[
        Path, typer.Argument(help="A file, .parquet or .csv.gz, or a folder for a file per month and data set.")
    ],
    month: Annotated[str, typer.Option(help="The month, YYYY-MM.")],
    to: Annotated[str | None, typer.Option(help="The last month, if there are several.")] = None,
    version: Annotated[FocusVersion, typer.Option(help="The version of FOCUS.")] = FocusVersion.newest,
) -> None:
    """Write months as FOCUS: every charge as it is allocated, proved to be the bill before the file appears.

    A folder also gets the data sets Billing Period and Invoice Detail.
    """
    from octo_pipeline.model.months import month_range, parse_month
    from octo_pipeline.outputs.focus.export import export_focus
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    months = month_range(parse_month(month), parse_month(to or month))
    if not months:
        raise OctoError(f"--to {to} is before --month {month}.", code="months-reversed")
    for written in export_focus(Workspace(load_settings()), months, target, version.value):
        _print_month(written)
    typer.echo(f"FOCUS {version.value} of {', '.join(months)} is in {target}.")


def _print_month(written: "WrittenMonth") -> None:
    totals = written.totals
    rows = [
        (currency, measure, *(totals.column(f"{prefix}{part}")[i] for part in _PARTS), totals.column(written_cost)[i])
        for i, currency in enumerate(totals.column("currency"))
        for measure, prefix, written_cost in (
            ("billed", "", "billed_cost"),
            ("effective", "effective_", "effective_cost"),
        )
    ]
    title = f"FOCUS of {written.month}: the bill - items spread + instalments + corrections = what is written"
    print_rows(title, ("currency", "measure", *_PARTS, "written"), rows, Output.table)
    print_rows(f"Rows of {written.month}", written.kinds.columns, written.kinds.rows, Output.table)
    if written.is_as_kept:
        typer.echo(
            f"The deliveries of {written.month} changed since it was closed: its usage is exported by account and service, as "
            "it was kept."
        )


@app.command()
def journal(
    month: Annotated[str, typer.Option(help="The booking month, YYYY-MM.")],
    by: Annotated[By, typer.Option(help="A line per cost centre and ledger account, per account, or per cost group.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="The file to write, .csv or .xlsx, or any with --template; else it is printed."),
    ] = None,
    template: Annotated[
        Path | None, typer.Option(help="A Jinja template that makes the text of another system of it.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Write what finance posts of a month: debits and credits that add up to the cents of each invoice.

    In CSV, texts that a spreadsheet would take for a formula get a leading apostrophe, unless it is -o raw.
    """
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.outputs.journal import journal_of
    from octo_pipeline.outputs.journal_file import rendered, write_journal, write_text
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    posted = journal_of(Workspace(load_settings()), parse_month(month), by.value)
    text = rendered(posted, template) if template else None
    if file is None:
        if text is not None:
            typer.echo(text, nl=False)
        elif output is Output.table:
            _print_lines(posted)
            _print_sums(posted)
        else:
            print_rows("", posted.lines.columns, posted.lines.rows, output)
        return
    if text is None:
        write_journal(posted, file, is_raw=output is Output.raw)
    else:
        write_text(file, text)
    _print_sums(posted)
    typer.echo(f"The journal of {month} is in {file}.")


def _print_lines(posted: "Journal") -> None:
    records = [dict(zip(posted.lines.columns, row, strict=True)) for row in posted.lines.rows]
    for record in records:
        is_owner = record["posting"] == "cost" and record["owner_id"]
        record["owner"] = f"{record['owner_type']} {record['owner_id']}" if is_owner else record["name"]
        for side in ("debit", "credit"):
            record[side] = f"{Decimal(record[side]):,f}" if record[side] else ""
    rows = [[record[name] for name in _COLUMNS] for record in records]
    print_rows(f"Journal of {posted.month}", _COLUMNS, _aligned(rows, _COLUMNS.index("debit")), Output.table)


def _print_sums(posted: "Journal") -> None:
    columns = posted.sums.columns
    first = columns.index("debits")
    rows = []
    for row in posted.sums.rows:
        digits = minor_digits(row[columns.index("currency")])
        # What is rounded is less than a cent.
        rows.append([*row[:first], *(f"{amount:,.{digits}f}" for amount in row[first:-1]), f"{row[-1].normalize():f}"])
    print_rows(f"Entries of {posted.month}", columns, _aligned(rows, first), Output.table)
    if posted.unmapped:
        names = ", ".join(posted.unmapped[:5]) + (" …" if len(posted.unmapped) > 5 else "")
        typer.echo(plain(f"Not in cost_centres.csv: {names}."))
    if posted.is_provisional:
        typer.echo(f"{posted.month} is not closed: this journal is provisional.")


def _aligned(rows: list[list[Any]], first: int) -> list[list[Any]]:
    """The rows with the amounts from the column `first` on padded: each currency has decimals of its own."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return [
        [
            cell.rjust(width) if i >= first and cell else cell
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
