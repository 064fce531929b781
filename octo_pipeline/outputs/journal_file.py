"""Writes a journal to a file: CSV, XLSX, or the text that a template makes of it for an accounting system.

What is posted belongs in `octo_pipeline.outputs.journal`.
"""

import calendar
import csv
import io
import os
from datetime import date
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.spreadsheet import csv_value, xlsx_value
from octo_pipeline.model.wording import reason
from octo_pipeline.outputs.journal import Journal

if TYPE_CHECKING:
    from openpyxl.worksheet._write_only import WriteOnlyWorksheet

# Columns of amounts in their currency's decimals.
_AMOUNTS = ("debit", "credit")


def write_journal(journal: Journal, file: Path, *, is_raw: bool = False) -> None:
    """Write a journal in the format of the file's ending, in one step.

    Args:
        journal: the lines.
        file: where to; .csv or .xlsx.
        is_raw: whether CSV has the texts as they are, for programs; else none of them becomes a formula.

    Raises:
        OctoError: the ending is unknown, or the file cannot be written.
    """
    kind = file.suffix.lower()
    if kind == ".csv":
        write_text(file, _csv(journal, is_raw))
    elif kind == ".xlsx":
        _write(file, _xlsx(journal))
    else:
        raise OctoError(
            f"The file {file} must end in .csv or .xlsx; other texts are written with a template.",
            code="journal-format-unknown",
        )


def write_text(file: Path, text: str) -> None:
    """Write a text as UTF-8 in one step, so that nobody posts half a journal.

    Raises:
        OctoError: the file cannot be written.
    """
    _write(file, text.encode())


def _write(file: Path, content: bytes) -> None:
    new = file.with_name(f".{file.name}.new")
    try:
        new.write_bytes(content)
        os.replace(new, file)
    except OSError as error:
        raise OctoError(f"Cannot write the journal to {file}: {reason(error)}.", code="journal-not-writable") from error


def rendered(journal: Journal, template: Path) -> str:
    """The text that a template makes of a journal.

    The template is a Jinja template in a sandbox. It has ``month``, ``state``, ``is_provisional``, ``first_day`` and
    ``last_day`` of the month, ``lines``, and ``entries``, each with what its lines have in common and its ``lines``; the
    filter ``csv`` quotes a value where CSV needs it. What is missing in a line is an empty text.

    Args:
        journal: the lines.
        template: the file.

    Raises:
        OctoError: the template cannot be read or is wrong; the message has its line.
    """
    from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        text = template.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise OctoError(f"The template {template} cannot be read: {why}.", code="template-unreadable") from error
    # The text is for an accounting system, not for a browser. Its line ends are the template's.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        newline_sequence="\r\n" if "\r\n" in text else "\n",
    )
    environment.filters["csv"] = _quoted
    try:
        return environment.from_string(text).render(_variables(journal))
    except TemplateSyntaxError as error:
        raise _template_error(template, error.lineno, error) from error
    # A template calls methods of its values with whatever it likes, so anything can be raised.
    except (
        TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        numbers = [number for frame, number in walk_tb(error.__traceback__) if frame.f_code.co_filename == "<template>"]
        raise _template_error(template, numbers[-1] if numbers else 1, error) from error


def _template_error(template: Path, line: int, error: Exception) -> OctoError:
    return OctoError(f"{template}: line {line}: {str(error).rstrip('.')}.", code="template-wrong", place=str(template))


def _variables(journal: Journal) -> dict[str, Any]:
    lines = [
        {name: _written(value) for name, value in zip(journal.lines.columns, values, strict=True)}
        for values in journal.lines.rows
    ]
    common = (
        "entry", "kind", "charge_month", "vendor", "payer", "invoice_id", "invoice_issuer_name", "currency", "description",
    )  # fmt: skip
    entries = []
    for _, group in groupby(lines, key=lambda line: line["entry"]):
        own = list(group)
        entries.append({name: own[0][name] for name in common} | {"lines": own})
    year, month = map(int, journal.month.split("-"))
    return {
        "month": journal.month,
        "state": journal.state,
        "is_provisional": journal.is_provisional,
        "first_day": date(year, month, 1),
        "last_day": date(year, month, calendar.monthrange(year, month)[1]),
        "lines": lines,
        "entries": entries,
    }


def _written(value: Any) -> Any:
    return "" if value is None else f"{value:f}" if isinstance(value, Decimal) else value


def _quoted(value: object) -> str:
    text = str(value)
    quoted = '"' + text.replace('"', '""') + '"'
    return quoted if any(character in text for character in ',;\t"\r\n') else text


def _csv(journal: Journal, is_raw: bool) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(journal.lines.columns)
    writer.writerows(
        [
            _written(value) if is_raw else csv_value(_written(value)) if isinstance(value, str) else _written(value)
            for value in row
        ]
        for row in journal.lines.rows
    )
    return text.getvalue()


def _xlsx(journal: Journal) -> bytes:
    """A workbook. Debits and credits are numbers with the decimals of their currency, of which a sheet keeps 15 digits."""
    from openpyxl import Workbook
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)
    sheet = book.create_sheet(f"journal {journal.month}")
    sheet.freeze_panes = "A2"
    columns = journal.lines.columns
    sheet.append(list(columns))
    for row in journal.lines.rows:
        sheet.append([_cell(sheet, name, value) for name, value in zip(columns, row, strict=True)])
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(columns))}{len(journal.lines) + 1}"
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _cell(sheet: "WriteOnlyWorksheet", column: str, value: Any) -> Any:
    from openpyxl.cell import WriteOnlyCell

    if column not in _AMOUNTS or value is None:
        return xlsx_value(sheet, value)
    cell = WriteOnlyCell(sheet, Decimal(value))
    decimals = len(value.partition(".")[2])
    cell.number_format = f"#,##0.{'0' * decimals}" if decimals else "#,##0"
    return cell
