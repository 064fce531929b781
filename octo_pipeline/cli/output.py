"""How commands print: rich tables for people, JSON and CSV for machines, errors with what helps; one shape for all."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import amount, cut


class Output(StrEnum):
    """What a command prints."""

    table = "table"
    json = "json"
    csv = "csv"


# A truncated timestamp is as misleading as a truncated number.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d)?")

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people; json or csv for machines.")]


def exact(value: Any) -> Any:
    """A value for machines: decimals as plain text with all their places."""
    return f"{value:f}" if isinstance(value, Decimal) else value


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], output: Output) -> None:
    """Print rows in the chosen shape. Decimals are right-aligned amounts in a table and exact elsewhere."""
    if output is Output.json:
        records = [{c: exact(v) for c, v in zip(columns, row, strict=True)} for row in rows]
        sys.stdout.write(json.dumps(records, ensure_ascii=False, indent=1, default=str) + "\n")
    elif output is Output.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([exact(v) for v in row] for row in rows)
    else:
        _print_table(title, columns, rows)


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    headers = [name.replace("_", " ") for name in columns]
    numeric = [bool(rows) and all(isinstance(r[i], Decimal | int | None) for r in rows) for i in range(len(columns))]
    cells = [[_shown(value) for value in row] for row in rows]
    whole = [numeric[i] or all(_MOMENT.fullmatch(row[i]) for row in cells) for i in range(len(columns))]
    prose = [any(" " in row[i] for row in cells) for i in range(len(columns))]
    natural = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    widths = _fit(natural, whole, prose, console.width)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for header, is_number, width in zip(headers, numeric, widths, strict=True):
        table.add_column(cut(header, width), justify="right" if is_number else "left", no_wrap=True)
    for row in cells:
        table.add_row(*(cut(cell, width) for cell, width in zip(row, widths, strict=True)))
    console.print(table)


def _fit(widths: list[int], whole: list[bool], prose: list[bool], available: int) -> list[int]:
    """Narrow texts until all columns fit: prose first, then ids. A number that is cut is a wrong number."""
    fitted = list(widths)
    for may_cut in (prose, [not is_whole for is_whole in whole]):
        texts = [i for i, is_whole in enumerate(whole) if not is_whole and may_cut[i]]
        while texts and sum(fitted) + 3 * len(fitted) > available:
            widest = max(texts, key=lambda i: fitted[i])
            if fitted[widest] <= 8:
                break
            fitted[widest] -= 1
    return fitted


def _shown(value: Any) -> str:
    return amount(value) if isinstance(value, Decimal) else "" if value is None else str(value)


def sentence(error: OctoError) -> str:
    """An error as the command line says it: what is wrong, and the commands and variables that help."""
    return " ".join(filter(None, (str(error), advice(error.remedies))))


def advice(remedies: Iterable[Remedy]) -> str:
    """What helps, as commands to run and environment variables to set."""
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
