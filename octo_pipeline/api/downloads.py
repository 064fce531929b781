"""Files that leave the lake, as answers: FOCUS, statements and journals."""

import re
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.background import BackgroundTask

from octo_pipeline.outputs.focus.columns import Version
from octo_pipeline.outputs.focus.export import export_focus
from octo_pipeline.outputs.journal import Journal
from octo_pipeline.outputs.journal_file import write_journal
from octo_pipeline.outputs.statement_pages import archive, csv_page, file_stem, html_page, pdf_page
from octo_pipeline.outputs.statements import Statement
from octo_pipeline.workspace import Workspace

FocusFile = Literal["parquet", "csv.gz"]
StatementFile = Literal["html", "pdf", "csv"]

_STYLE = re.compile("<style>(.*?)</style>", re.DOTALL)
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def focus_file(workspace: Workspace, month: str, version: Version, file: FocusFile) -> Response:
    """A month as FOCUS, proved before it is sent.

    Raises:
        OctoError: as `octo_pipeline.outputs.focus.export.export_focus`.
    """
    folder = Path(tempfile.mkdtemp(dir=workspace.settings.temp))
    target = folder / f"focus-{month}.{file}"
    try:
        export_focus(workspace, [month], target, version)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return _sent(folder, target, "application/vnd.apache.parquet" if file == "parquet" else "application/gzip")


def statement_file(statement: Statement, file: StatementFile) -> Response:
    """The page of a statement. As HTML it runs nothing and has no other style than its own."""
    if file == "html":
        page = html_page(statement)
        hashes = " ".join(f"'sha256-{_digest(style)}'" for style in _STYLE.findall(page))
        policy = f"default-src 'none'; style-src {hashes}; base-uri 'none'; frame-ancestors 'none'; sandbox"
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})
    name = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(f'{file_stem(statement)}.{file}', safe='')}"}
    if file == "csv":
        return Response(csv_page(statement), media_type="text/csv", headers=name)
    return Response(pdf_page(statement), media_type="application/pdf", headers=name)


def statement_archive(statements: Sequence[Statement], month: str) -> Response:
    """All statements as one ZIP file, which is sent while it is made."""
    name = {"Content-Disposition": f'attachment; filename="statements-{month}.zip"'}
    return StreamingResponse(archive(statements), media_type="application/zip", headers=name)


def journal_workbook(workspace: Workspace, journal: Journal) -> Response:
    """A journal for people who work in spreadsheets."""
    folder = Path(tempfile.mkdtemp(dir=workspace.settings.temp))
    target = folder / f"journal-{journal.month}.xlsx"
    try:
        write_journal(journal, target)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return _sent(folder, target, _XLSX)


def _sent(folder: Path, file: Path, media_type: str) -> Response:
    return FileResponse(
        file, media_type=media_type, filename=file.name, background=BackgroundTask(shutil.rmtree, folder)
    )


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()
