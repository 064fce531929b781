"""Statements as pages: HTML that loads nothing from elsewhere, and PDF that has its fonts in it.

A PDF is set by Typst, which gets what a page says as data: no name is ever markup. Whatever script a name is written in, one
of the Noto fonts has it.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.html import html_template
from octo_pipeline.model.spreadsheet import csv_value
from octo_pipeline.model.wording import cut, plain, reason
from octo_pipeline.outputs.statements import Statement

if TYPE_CHECKING:
    from typst import Compiler

_TEMPLATE = Path(__file__).with_name("statement.typ")
# The first that has a character sets it. A letter that several scripts have, such as a Han character, is the first one's.
_FONTS = (
    "Noto Sans", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Thai", "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Telugu", "Noto Sans Kannada", "Noto Sans Malayalam",
    "Noto Sans Gujarati", "Noto Sans Gurmukhi", "Noto Sans Oriya", "Noto Sans Sinhala", "Noto Sans Georgian",
    "Noto Sans Armenian", "Noto Sans Ethiopic", "Noto Sans Khmer", "Noto Sans Lao", "Noto Sans Myanmar",
    "Noto Sans Symbols", "Noto Emoji",
)  # fmt: skip
# Files are named after ids, which can be of any length and have any character.
_NAME_LENGTH = 80
_TITLE_LENGTH, _SHORT_TITLE_LENGTH = 120, 50
# Pictures of control characters, which fonts do not have.
_CONTROLS = re.compile("[\u2400-\u2421]")
_MOST_OWNERS = 20
_SAVINGS = "Savings of commitments, in the amortised amount only"


def write_pages(statements: Sequence[Statement], folder: Path) -> list[Path]:
    """Write the HTML and the PDF of each statement, each in one step.

    Args:
        statements: the statements of a month.
        folder: where to; it is made if it is not there.

    Returns:
        The PDFs, in the order of the statements.

    Raises:
        OctoError: the folder or a file cannot be written.
    """
    pdfs = []
    try:
        folder.mkdir(exist_ok=True)
        for statement in statements:
            pdf = folder / f"{file_stem(statement)}.pdf"
            _replace(pdf, pdf_page(statement))
            _replace(pdf.with_suffix(".html"), html_page(statement).encode())
            pdfs.append(pdf)
    except OSError as error:
        raise OctoError(
            f"Cannot write statements to {folder}: {reason(error)}.", code="statement-not-writable", place=str(folder)
        ) from error
    return pdfs


def file_stem(statement: Statement) -> str:
    """The name of a statement's files without their ending: the month and the id; a hash too if no file can be named so."""
    name = re.sub(r"[^\w.-]+", "_", statement.id)[:_NAME_LENGTH].strip("._")
    if statement.subject not in (name, f"account/{name}"):
        name = f"{name}-{sha256(statement.subject.encode()).hexdigest()[:8]}"
    return f"{statement.month}-{name}"


def html_page(statement: Statement) -> str:
    """The page as HTML."""
    return html_template("outputs/statement.html.j2").render(statement=_shown(statement))


def pdf_page(statement: Statement) -> bytes:
    """The page as PDF."""
    pdf = _compiler().compile(format="pdf", sys_inputs=_inputs(statement), timestamp=0)
    if not isinstance(pdf, bytes):
        raise TypeError(f"Typst made {type(pdf)} of {statement.subject}")
    return pdf


def csv_page(statement: Statement) -> str:
    """The lines of the statement as CSV; no text of it becomes a formula in a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("month", "kind", "id", "name", "currency", "part", "what", "detail", "amount"))
    page = _shown(statement)
    head = [statement.month, page["kind"], page["id"], page["title"]]
    for section in page["sections"]:
        blocks = [(block["title"], block["lines"]) for block in section["blocks"]]
        blocks += [(_SAVINGS, section["savings"]), (f"Change since {page['previous_month']}", section["causes"])]
        lines = [("To pay", "", "", section["total"])]
        lines += [(title, line["what"], line["detail"], line["amount"]) for title, part in blocks for line in part]
        for part, what, detail, paid in lines:
            number = paid.replace(",", "").replace("\u2212", "-")
            writer.writerow([*map(csv_value, (*head, section["currency"], part, what, detail)), number])
    return text.getvalue()


def archive(statements: Sequence[Statement]) -> Iterator[bytes]:
    """A ZIP file of all pages in all formats, piece by piece as they are made."""
    sink = _Sink()
    with ZipFile(sink, "w", ZIP_DEFLATED) as zipped:
        for statement in statements:
            stem = file_stem(statement)
            for ending, content in (
                ("pdf", pdf_page(statement)),
                ("html", html_page(statement).encode()),
                ("csv", csv_page(statement).encode()),
            ):
                # The same statements are the same file.
                zipped.writestr(ZipInfo(f"{stem}.{ending}"), content, ZIP_DEFLATED)
            yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Where a ZIP file is written to that is sent at once; nobody can go back in it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> bytes:
        """What was written since it was taken last."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _inputs(statement: Statement) -> dict[str, str]:
    return {"statement": json.dumps(_shown(statement)), "fonts": json.dumps(_FONTS)}


@cache
def _compiler() -> "Compiler":
    # Imported here, because it takes a while and only statements need it.
    import manimgx_fonts
    import manimgx_fonts_cjk
    from typst import Compiler

    fonts = [Path(package.__file__).parent for package in (manimgx_fonts, manimgx_fonts_cjk)]
    return Compiler(
        _TEMPLATE,
        root=_TEMPLATE.parent,
        font_paths=fonts,
        ignore_system_fonts=True,
        sys_inputs={"statement": "{}", "fonts": "[]"},
    )


def _shown(statement: Statement) -> dict[str, Any]:
    """What both pages show, with the texts that they have in common."""
    page = asdict(statement)
    owners = statement.owners[:_MOST_OWNERS]
    more = len(statement.owners) - len(owners)
    state = statement.state
    for section in page["sections"]:
        for block in section["blocks"]:
            block["sum_title"] = "Together"
    page |= {
        "title": cut(statement.title, _TITLE_LENGTH),
        "short_title": cut(statement.title, _SHORT_TITLE_LENGTH),
        "subtitle": f"{statement.kind} {cut(statement.id, _TITLE_LENGTH)}",
        "is_provisional": statement.is_provisional,
        "state_title": f"{state[0].upper()}{state[1:]}",
        "owners_title": f"The costs of {', '.join(owners)}{f' and {more:,} more' if more > 0 else ''}."
        if owners
        else "",
    }
    return {name: _printable(value) for name, value in page.items()}


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return _CONTROLS.sub(" ", plain(value))
    if isinstance(value, dict):
        return {name: _printable(inner) for name, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    os.replace(new, path)
