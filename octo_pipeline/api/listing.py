"""Lists as answers: a page of JSON, or the whole list as NDJSON, CSV, Parquet, an Arrow stream or a workbook.

A list is a query. DuckDB writes a whole list to a file, which is sent once it is complete: no table is ever in memory, and
an error is an error rather than half a file. A page is a slice of the query; its cursor names the state of the lake that it
began with, so that pages of two states are never put together.
"""

import base64
import binascii
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import duckdb
from fastapi import Depends, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows, exact
from octo_pipeline.model.spreadsheet import csv_column_sql, write_xlsx
from octo_pipeline.model.sql import Sql, identifier, literal, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.workspace import Workspace

_MOST_ROWS = 1_000

JSON = "application/json"
_ARROW = "application/vnd.apache.arrow.stream"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# Media type -> ending and options of COPY, which Arrow and workbooks do not have.
_FILES = {
    "application/x-ndjson": ("ndjson", "format json, array false"),
    "text/csv": ("csv", "format csv, header"),
    "application/vnd.apache.parquet": ("parquet", "format parquet, compression zstd"),
    _ARROW: ("arrows", None),
    XLSX: ("xlsx", None),
}
MEDIA_TYPES = (JSON, *_FILES)


@dataclass(frozen=True)
class Page:
    """What of a list is asked for, and as what.

    Attributes:
        media_type: one of `MEDIA_TYPES`.
        cursor: where a page begins; of the page before.
        limit: how many rows a page has at most.
        sort: a column; with a minus in front descending.
        is_raw: whether CSV has texts as they are; else a spreadsheet takes none of them for a formula.
    """

    media_type: str
    cursor: str | None
    limit: int
    sort: str | None
    is_raw: bool


def _page(
    request: Request,
    cursor: Annotated[str | None, Query(description="`next` of the page before.", max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_ROWS, description="Rows of a page of JSON.")] = 100,
    sort: Annotated[
        str | None, Query(description="A column of the list; with - in front descending.", max_length=100)
    ] = None,
    raw: Annotated[bool, Query(description="CSV for programs: texts as they are.")] = False,
) -> Page:
    return Page(_negotiated(request.headers.get("accept", "*/*")), cursor, limit, sort, raw)


PageOf = Annotated[Page, Depends(_page)]


def answer(workspace: Workspace, page: Page, query: Sql, version: str) -> Response:
    """The answer to a request for a list.

    Args:
        workspace: whose lake the query reads.
        page: what is asked for.
        query: the rows in their own order, which is total.
        version: of what the query reads; another one means that rows may differ.

    Raises:
        OctoError: the column to sort by is unknown, or the list changed since the page before.
    """
    with workspace.lake.connect() as connection:
        columns = {name: kind for name, kind, *_ in connection.execute(f"describe {query}").fetchall()}
        order_by = _order(page.sort, columns)
        if page.media_type == JSON:
            return _json_page(connection, page, query, version, columns, order_by)
        return _file(connection, workspace, page, query, columns, order_by)


def answer_rows(workspace: Workspace, page: Page, rows: Rows) -> Response:
    """The answer to a request for a list that is small enough to have its rows in Python."""
    return answer(workspace, page, _written_out(rows), fingerprint({"rows": repr(rows)}))


def fetched_page(workspace: Workspace, page: Page, query: Sql, version: str) -> tuple[Rows, str | None]:
    """The rows of a page of a list, for people, and the cursor of the page after it; None if it is the last.

    Raises:
        OctoError: as `answer`.
    """
    start = position_of(page, version)
    with workspace.lake.connect() as connection:
        columns = {name: kind for name, kind, *_ in connection.execute(f"describe {query}").fetchall()}
        order_by = _order(page.sort, columns)
        sql = render("api/page", listed=query, order_by=order_by, row_count=page.limit + 1, row_offset=start)
        return cut_page(page, version, Rows.fetched(connection, sql))


def cut_page(page: Page, version: str, rows: Rows) -> tuple[Rows, str | None]:
    """The rows of a page, of which one more than it has room for was read, and the cursor of the page after it."""
    if len(rows) <= page.limit:
        return rows, None
    following = _cursor(position_of(page, version) + page.limit, version, page.sort)
    return Rows(rows.columns, rows.rows[: page.limit]), following


def version_of(workspace: Workspace, *partitions: tuple[str, str]) -> str:
    """The version of what is read from partitions, each a table and a month."""
    prints = {f"{table}/{month}": workspace.lake.fingerprint(table, month) or "" for table, month in partitions}
    return fingerprint(prints)


def _json_page(
    connection: duckdb.DuckDBPyConnection,
    page: Page,
    query: Sql,
    version: str,
    columns: Mapping[str, str],
    order_by: Sequence[tuple[str, str]],
) -> Response:
    start = position_of(page, version)
    selected = ", ".join(_text_of_decimal(name, kind) for name, kind in columns.items())
    rows_of_page = render("api/page", listed=query, order_by=order_by, row_count=page.limit + 1, row_offset=start)
    sql = render("api/page_of_json", page=rows_of_page, selected=selected)
    rows = [row for (row,) in connection.execute(sql).fetchall()]
    following = json.dumps(_cursor(start + page.limit, version, page.sort)) if len(rows) > page.limit else "null"
    body = f'{{"items":[{",".join(rows[: page.limit])}],"next":{following}}}'
    return Response(body, media_type=JSON, headers={"ETag": f'"{version}"'})


def _file(
    connection: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    page: Page,
    query: Sql,
    columns: Mapping[str, str],
    order_by: Sequence[tuple[str, str]],
) -> Response:
    ending, options = _FILES[page.media_type]
    column_sql: Callable[[str, str], Sql] = lambda name, _: identifier(name)  # noqa: E731
    if page.media_type == "application/x-ndjson":
        column_sql = _text_of_decimal
    elif page.media_type == "text/csv" and not page.is_raw:
        column_sql = _text_of_spreadsheet
    selected = ", ".join(column_sql(name, kind) for name, kind in columns.items())
    sql = render("api/whole_list", listed=query, order_by=order_by, selected=selected)
    with tempfile.NamedTemporaryFile(suffix=f".{ending}", dir=workspace.settings.temp, delete=False) as file:
        path = Path(file.name)
    try:
        if page.media_type == _ARROW:
            _write_arrow(connection, sql, path)
        elif page.media_type == XLSX:
            write_xlsx(connection.execute(sql), path, "list")
        else:
            connection.execute(f"copy ({sql}) to {literal(str(path))} ({options})")
    except BaseException:
        path.unlink()
        raise
    return FileResponse(path, media_type=page.media_type, background=BackgroundTask(path.unlink))


def _write_arrow(connection: duckdb.DuckDBPyConnection, sql: Sql, path: Path) -> None:
    import pyarrow as pa

    reader = connection.execute(sql).to_arrow_reader(100_000)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def _negotiated(accept: str) -> str:
    """The first media type of an Accept header that is offered.

    Raises:
        HTTPException: none is.
    """
    for part in sorted(accept.split(","), key=_quality, reverse=True):
        media_range = part.partition(";")[0].strip().lower()
        for media_type in MEDIA_TYPES:
            if media_range in (media_type, "*/*", f"{media_type.partition('/')[0]}/*"):
                return media_type
    raise HTTPException(406, f"A list is offered as {', '.join(MEDIA_TYPES)}.")


def _quality(part: str) -> float:
    for parameter in part.split(";")[1:]:
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0
    return 1


def _order(sort: str | None, columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """The columns to sort by and their directions; all others break ties, so that pages fit together."""
    if sort is None:
        return []
    name = sort.removeprefix("-")
    if name not in columns:
        raise OctoError(
            f"The list has no column {name}; sort by one of {', '.join(columns)}.", code="sort-column-unknown"
        )
    others = [other for other, kind in columns.items() if other != name and not kind.startswith("MAP")]
    return [(name, "desc" if sort.startswith("-") else "asc"), *((other, "asc") for other in others)]


def _text_of_decimal(name: str, kind: str) -> Sql:
    """An amount as a text with all of its digits, because a JSON number loses some."""
    column = identifier(name)
    return Sql(f"{column}::VARCHAR AS {column}" if kind.startswith("DECIMAL") else column)


def _text_of_spreadsheet(name: str, kind: str) -> Sql:
    column = identifier(name)
    return Sql(f"{csv_column_sql(name)} AS {column}" if kind == "VARCHAR" else column)


def _cursor(position: int, version: str, sort: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([position, version, sort]).encode()).decode().rstrip("=")


def position_of(page: Page, version: str) -> int:
    """Where a page begins, from 0.

    Raises:
        OctoError: the cursor is not one, belongs to another order, or the list has changed since.
    """
    if page.cursor is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(page.cursor + "=" * (-len(page.cursor) % 4))
        position, its_version, sort = json.loads(text)
        is_position = isinstance(position, int) and 0 <= position < 2**62
    except (binascii.Error, ValueError, TypeError):
        is_position = False
    if not is_position or sort != page.sort:
        raise OctoError("The cursor is not one of this list in this order.", code="cursor-wrong")
    if its_version != version:
        raise OctoError(
            "The list has changed since the page before; begin again without a cursor.", code="list-changed"
        )
    return int(position)


def _written_out(rows: Rows) -> Sql:
    """A query that returns these few rows."""
    columns = {name: _kind([row[i] for row in rows.rows]) for i, name in enumerate(rows.columns)}
    return rows_sql(columns, [[_text(value) for value in row] for row in rows.rows])


def _kind(values: Sequence[Any]) -> str:
    """The type of a column of these values."""
    kinds = {type(value) for value in values if value is not None}
    for kind, name in ((bool, "BOOLEAN"), (int, "BIGINT"), (Decimal, MONEY)):
        if kinds == {kind}:
            return name
    return "VARCHAR"


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(exact(value))
