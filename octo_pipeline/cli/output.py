"""How all commands print: rich tables for people, JSON and CSV for machines, errors with what to do about them."""

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.rows import Rows, exact
from octo_pipeline.model.spreadsheet import csv_value
from octo_pipeline.model.wording import amount, plain


class Output(StrEnum):
    """What a command prints."""

    table = "table"
    json = "json"
    csv = "csv"
    raw = "raw"


# A timestamp contains a space but is not prose.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d)?")
# In a narrower column sentences become unreadable.
_LEAST_PROSE = 16

OutputOption = Annotated[
    Output,
    typer.Option(
        "--output",
        "-o",
        help="table for people; csv for spreadsheets; json, or raw as CSV, for machines. Amounts in json are strings with "
        "all of their digits, because a JSON number loses some.",
    ),
]


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], output: Output) -> None:
    """Print rows in the chosen format. Decimals are right-aligned amounts in a table and exact elsewhere."""
    if output is Output.json:
        records = Rows(tuple(columns), tuple(map(tuple, rows))).records()
        sys.stdout.write(json.dumps(records, ensure_ascii=False, indent=1, default=str) + "\n")
    elif output is Output.csv:
        _write_csv([csv_value(name) for name in columns], ([exact(csv_value(v)) for v in row] for row in rows))
    elif output is Output.raw:
        _write_csv(columns, ([exact(v) for v in row] for row in rows))
    else:
        _print_table(title, columns, rows)


def _write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows for people: as a table where it fits, else each row as a block of lines.

    Nothing is ever cut. Prose is folded; ids, amounts and currencies stay in one piece.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    headers = [name.replace("_", " ") for name in columns]
    numeric = [bool(rows) and all(isinstance(r[i], Decimal | int | None) for r in rows) for i in range(len(columns))]
    cells = [[plain(_cell(value)) for value in row] for row in rows]
    natural = [max(map(cell_width, column)) for column in zip(headers, *cells, strict=True)]
    is_prose = [any(" " in row[i] and not _MOMENT.fullmatch(row[i]) for row in cells) for i in range(len(columns))]
    least = [_least_prose(headers[i], width) if is_prose[i] else width for i, width in enumerate(natural)]
    available = _available_width()
    # A table has a space on both sides of each column's border, but none at its edges.
    borders = 3 * len(columns)
    if available is not None and sum(least) + borders > available:
        _print_blocks(title, headers, cells)
        return
    widths = _fold(natural, least, None if available is None else available - borders)
    console = Console(width=sum(widths) + borders, highlight=False, markup=False, emoji=False, soft_wrap=False)
    print_title(title)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for header, is_number, width in zip(headers, numeric, widths, strict=True):
        table.add_column(Text(header), justify="right" if is_number else "left", width=width, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def print_title(title: str) -> None:
    """Print what a table is, however wide the table is."""
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, soft_wrap=True).print(Text(plain(title), style="bold"))


def _print_blocks(title: str, headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print each row as lines of a name and a value, for a terminal that is too narrow for the table."""
    print_title(title)
    width = max(map(cell_width, headers))
    for row in cells:
        sys.stdout.write("\n")
        lines: list[str] = []
        for header, cell in zip(headers, row, strict=True):
            if header or not lines:
                lines.append(f" {header:{width}}  {cell}".rstrip())
            else:
                # A column without a name is the unit of the one before it.
                lines[-1] = f"{lines[-1]} {cell}".rstrip()
        sys.stdout.write("\n".join(lines) + "\n")


def _available_width() -> int | None:
    """How many columns there are; None if nobody looks at a terminal, where lines may be as long as they are."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _least_prose(header: str, natural: int) -> int:
    """How narrow a column of sentences may become."""
    return min(natural, max(_LEAST_PROSE, cell_width(header)))


def _fold(natural: Sequence[int], least: Sequence[int], available: int | None) -> list[int]:
    """The widths of columns: the widest are folded until all fit."""
    widths = list(natural)
    while available is not None and sum(widths) > available:
        widest = max((i for i in range(len(widths)) if widths[i] > least[i]), key=lambda i: widths[i])
        widths[widest] -= 1
    return widths


def cell_width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def _cell(value: Any) -> str:
    return amount(value) if isinstance(value, Decimal) else "" if value is None else str(value)


def sentence(error: OctoError) -> str:
    """An error as the command line prints it: what is wrong, and which commands and variables help."""
    return " ".join(filter(None, (str(error), advice(error.remedies))))


def advice(remedies: Iterable[Remedy]) -> str:
    """Remedies as commands to run and environment variables to set."""
    commands: list[str] = []
    variables: list[str] = []
    for remedy in remedies:
        purpose = f" to {remedy.purpose}" if remedy.purpose else ""
        if remedy.action in ("set", "unset"):
            variables.append(
                f"{remedy.action.capitalize()} OCTO_{str(dict(remedy.options)['setting']).upper()}{purpose}."
            )
        else:
            commands.append(f"`octo {remedy}`{purpose}")
    return " ".join([f"Run {', or '.join(commands)}.", *variables] if commands else variables)
