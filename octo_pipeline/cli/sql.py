"""`octo sql` and `octo catalog`: the lake's tables as views, `allocations` being the rows that explain themselves."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows, sentence
from octo_pipeline.model.errors import OctoError

if TYPE_CHECKING:
    import duckdb


def sql(
    query: Annotated[str | None, typer.Argument(help="One or more statements; without it they are read.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Ask the lake in SQL: every table is a view. Without a query, read statements that end in a semicolon."""
    from octo_pipeline.services.views import views
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    lake = Workspace(load_settings()).lake
    with lake.connect() as connection:
        for name, view in views(lake).items():
            connection.execute(f"create view {name} as {view}")
        if query is not None:
            _answer(connection, query, output)
        else:
            _prompt(connection, output)


def catalog(
    file: Annotated[Path, typer.Argument(help="DuckDB file to write the views to; other tables in it stay.")],
) -> None:
    """Write the views to a DuckDB file, for tools that open one. They show what the lake holds when they are asked."""
    import duckdb

    from octo_pipeline.services.views import views
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    lake = Workspace(load_settings()).lake
    queries = views(lake)
    try:
        with duckdb.connect(str(file)) as connection:
            lake.open_store(connection)
            for name, view in queries.items():
                connection.execute(f"create or replace view {name} as {view}")
    except duckdb.Error as error:
        raise OctoError(
            f"Cannot write the views to {file}: {_first_line(error)}", code="catalog-not-writable"
        ) from error
    typer.echo(f"{len(queries)} views in {file}: {', '.join(queries)}.")
    if lake.duckdb_setup():
        typer.echo(f"Whoever opens it needs DuckDB's extension httpfs and a secret that may read {lake.root}.")
    absent = sorted(queries.keys() - set(lake.tables()))
    if absent:
        typer.echo(f"Still without a month, to be written again when they have one: {', '.join(absent)}.")


def _answer(connection: "duckdb.DuckDBPyConnection", text: str, output: Output) -> None:
    """Run the statements and print what each gives.

    Raises:
        OctoError: a statement cannot be run; the sentence is the engine's.
    """
    import duckdb

    try:
        for statement in connection.extract_statements(text):
            answer = connection.execute(statement)
            if answer.description:
                print_rows("", [column[0] for column in answer.description], answer.fetchall(), output)
    except duckdb.Error as error:
        raise OctoError(str(error), code="sql-refused") from error


def _prompt(connection: "duckdb.DuckDBPyConnection", output: Output) -> None:
    """Answer the statements of the standard input. A person may err and go on; a script ends at its first error."""
    is_person = sys.stdin.isatty()
    if is_person:
        names = connection.execute("select view_name from duckdb_views() where not internal order by 1").fetchall()
        typer.echo(f"Views: {', '.join(name for (name,) in names)}. End a statement with ; and leave with Ctrl-D.")
    for text in _statements(is_person):
        try:
            _answer(connection, text, output)
        except OctoError as error:
            if not is_person:
                raise
            typer.echo(f"octo: {sentence(error)}", err=True)


def _statements(is_person: bool) -> Iterator[str]:
    """The statements typed or piped, each as soon as the line that ends it is there."""
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
    # The engine's own tokens know quotes and comments; where they begin is counted in bytes.
    tokens = duckdb.tokenize(text)
    return bool(tokens) and tokens[-1] == (len(text.rstrip().encode()) - 1, duckdb.token_type.operator)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
