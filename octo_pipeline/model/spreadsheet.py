"""Texts in files that people open in a spreadsheet: none of them becomes a formula.

Spreadsheets take a text for a formula by how it begins, and a formula can call programs or send what is in the sheet
elsewhere. In CSV a leading apostrophe keeps a text a text, as OWASP advises ("CSV Injection"); programs that read CSV
want the texts as they are, so that is their choice. In XLSX a cell says that it is a text.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Sql, identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.worksheet._write_only import WriteOnlyWorksheet

# White space and invisible characters before it do not stop a spreadsheet; the last four are full-width signs.
_INVISIBLE = "[ \u00a0\u200b-\u200f\u2060\u3000\ufeff]*"
_FORMULA = f"^(?:[\x00-\x1f\x7f]|{_INVISIBLE}[-=+@\u2212\uff0b\uff0d\uff1d\uff20])"
_BEGINS_FORMULA = re.compile(_FORMULA)
# RE2 wants them written out.
_FORMULA_RE2 = "".join(character if " " <= character <= "~" else f"\\x{{{ord(character):x}}}" for character in _FORMULA)

_SHEET_ROWS = 1_048_575

# XML has no control characters but these three.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def csv_value(value: Any) -> Any:
    """A value for CSV: a text that would become a formula gets an apostrophe; anything else stays."""
    return f"'{value}" if isinstance(value, str) and _BEGINS_FORMULA.match(value) else value


def csv_column_sql(column: str) -> Sql:
    """SQL of the same for a column of texts."""
    name = identifier(column)
    return Sql(f"CASE WHEN regexp_matches({name}, {literal(_FORMULA_RE2)}) THEN '''' || {name} ELSE {name} END")


def write_xlsx(result: "DuckDBPyConnection", file: Path, title: str) -> None:
    """Write the rows of a query as a workbook of one sheet. Amounts are numbers, of which a sheet keeps 15 digits.

    Args:
        result: an executed query, whose rows are fetched bit by bit.
        file: the file.
        title: of the sheet.

    Raises:
        OctoError: there are more rows than a sheet can have.
    """
    from openpyxl import Workbook
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    sheet.append([column[0] for column in result.description or []])
    written = 0
    while rows := result.fetchmany(10_000):
        written += len(rows)
        if written > _SHEET_ROWS:
            raise OctoError(
                f"There are more than the {_SHEET_ROWS:,} rows that a sheet can have; take CSV or Parquet.",
                code="export-too-long",
            )
        for row in rows:
            sheet.append([xlsx_value(sheet, str(v) if isinstance(v, dict) else v) for v in row])
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(result.description or []))}{written + 1}"
    book.save(file)


def xlsx_value(sheet: "WriteOnlyWorksheet", value: Any) -> Any:
    """A value for a cell of a sheet: texts are texts, with control characters as their pictures."""
    if not isinstance(value, str):
        return value
    text = _NO_XML.sub(lambda match: chr(0x2400 + ord(match[0])), value)
    # openpyxl takes these for a formula or an error.
    if not text.startswith(("=", "#")) and _BEGINS_FORMULA.match(text) is None:
        return text
    return _text_cell(sheet, text)


def _text_cell(sheet: "WriteOnlyWorksheet", text: str) -> "WriteOnlyCell":
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet, text)
    cell.data_type = "s"
    # It stays a text when somebody edits it.
    cell.quotePrefix = True
    return cell
