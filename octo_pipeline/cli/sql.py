"""`octo sql` and `octo catalog`: the lake's tables as views. The view `allocations` has the explained rows."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows, sentence
from octo_pipeline.model.errors import OctoError

if TYPE_CHECKING:
    from octo_pipeline.workspace import Workspace


def sql(
    query: Annotated[
        str | None, typer.Argument(help="One or more statements; read from standard input if left out.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Query the lake in SQL; every table is a view. Without a query, read statements that end in a semicolon.

    Only statements that read are allowed: SELECT, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN of these. They see only the views.
    """
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    if query is not None:
        _answer(workspace, query, output)
    else:
        _prompt(workspace, output)


def catalog(
    file: Annotated[Path, typer.Argument(help="DuckDB file to write the views to; other tables in it stay.")],
) -> None:
    """Write the views to a DuckDB file, for tools that open one. They always show what the lake has at that moment."""
    import duckdb

    from octo_pipeline.services.views import views
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    lake, queries = workspace.lake, views(workspace)
    try:
        with duckdb.connect(str(file), config={"autoload_known_extensions": "false"}) as connection:
            lake.open_store(connection)
            for name, view in queries.items():
                connection.execute(f"create or replace view {name} as {view}")
    except duckdb.Error as error:
        raise OctoError(
            f"Cannot write the views to {file}: {_first_line(error)}", code="catalog-not-writable"
        ) from error
    typer.echo(f"{len(queries)} views in {file}: {', '.join(queries)}.")
    if lake.duckdb_setup():
        typer.echo(f"To open it, you need DuckDB's extension httpfs and a secret that may read {lake.root}.")
    absent = sorted(queries.keys() - set(lake.tables()))
    if absent:
        typer.echo(f"These have no months yet: {', '.join(absent)}. Run `octo catalog` again when they have.")


def _answer(workspace: "Workspace", text: str, output: Output) -> None:
    """Run the statements and print what each gives.

    The views are opened for each text, because months and credentials can change while a prompt is open for days.

    Raises:
        OctoError: a statement does more than read, or cannot be run.
    """
    from octo_pipeline.services.questions import answers, asking

    with asking(workspace) as connection:
        for answer in answers(connection, text):
            print_rows("", answer.columns, answer.rows, output)


def _prompt(workspace: "Workspace", output: Output) -> None:
    """Answer the statements of standard input. After an error, a person can continue; a script ends."""
    from octo_pipeline.tables.graph import TABLES

    is_person = sys.stdin.isatty()
    if is_person:
        names = ", ".join(sorted(table.name for table in TABLES))
        typer.echo(f"Views: {names}. End a statement with ; and leave with Ctrl-D.")
    for text in _statements(is_person):
        try:
            _answer(workspace, text, output)
        except OctoError as error:
            if not is_person:
                raise
            typer.echo(f"octo: {sentence(error)}", err=True)


def _statements(is_person: bool) -> Iterator[str]:
    """The statements of standard input, each as soon as its last line is read."""
    lines: list[str] = []
    while line := _next_line("octo> " if not lines else "  ... ", is_person):
        lines.append(line)
        if _is_complete("".join(lines)):
            yield "".join(lines)
            lines = []
    if "".join(lines).strip():
        yield "".join(lines)


def _next_line(prompt: str, is_person: bool) -> str:
    if is_person:
        typer.echo(prompt, nl=False)
    return sys.stdin.readline()


def _is_complete(text: str) -> bool:
    """The text ends in a semicolon that is not inside a quoted text or a comment."""
    import duckdb

    if not text.rstrip().endswith(";"):
        return False
    # DuckDB's tokenizer knows quotes and comments. It gives positions in bytes.
    tokens = duckdb.tokenize(text)
    return bool(tokens) and tokens[-1] == (len(text.rstrip().encode()) - 1, duckdb.token_type.operator)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
