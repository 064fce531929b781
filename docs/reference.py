"""The reference pages, made from the program itself when the site is built: an mkdocs hook.

Each function writes one page as Markdown from what is the truth at run time: the settings' fields, the commands,
Dagster's definitions, the tables with their columns, the checks. Pages that explain are files in this folder.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from octo_pipeline.allocation.balances import TAKEN_ITEM_COLUMNS
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.api.app import create_app
from octo_pipeline.assets.checks import NO_MONTH_IS_STALE
from octo_pipeline.assets.specs import EVERY_SOURCE_ANSWERED
from octo_pipeline.cli.main import app
from octo_pipeline.definitions import defs
from octo_pipeline.model.sql import rows_sql
from octo_pipeline.outputs.proofs import PROOFS
from octo_pipeline.services.checks import CHECKS
from octo_pipeline.settings import Settings
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.graph import TABLES, column_meaning, order
from octo_pipeline.tables.usage_shares import UsageShares


def settings_page() -> str:
    """Every setting: variable, default, meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        meaning = (field.description or "") + (_one_of(choices) if choices else "")
        rows.append((f"`OCTO_{name.upper()}`", default, meaning))
    return _page(
        "Settings",
        "Settings are environment variables. All have a default or may be left out; a value that is not allowed is "
        "an error that names the variable. `DAGSTER_HOME`, Dagster's own variable, is the folder where Dagster keeps "
        "its runs and events; without it the command line records nothing there.",
        _table(("variable", "default", "meaning"), rows),
    )


def commands_page() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    parts = [_command_section(path, command) for path, command in sorted(_commands("octo", root), key=lambda c: c[0])]
    return _page(
        "Commands",
        "Exit codes: 0 done, 1 an error or a problem found, 2 wrong usage. An error is one sentence on the standard "
        "error; `octo --debug …` shows the traceback instead. `octo COMMAND --help` prints what is written here.",
        *parts,
    )


def _commands(path: str, command: Any) -> Iterable[tuple[str, Any]]:
    """The commands below a group; typer's classes for them are its own, so they are told by what they have."""
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            if not one.hidden:
                yield from _commands(f"{path} {name}", one)
    else:
        yield path, command


def _command_section(path: str, command: Any) -> str:
    usage = " ".join([path, *command.collect_usage_pieces(command.context_class(command, info_name=path))])
    rows = [(_given(one), "required" if one.required else _default(one), _meaning(one)) for one in command.params]
    lines = [f"## {path}", " ".join((command.help or "").split()), f"```\n{usage}\n```"]
    return "\n\n".join([*lines, _table(("given", "default", "meaning"), rows)] if rows else lines)


def _given(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{param.name.upper()}`"
    value = "" if param.is_flag else f" {_VALUES.get(param.type_descriptor.annotation, 'TEXT')}"
    return f"`{', '.join([*param.opts, *param.secondary_opts])}{value}`"


_VALUES = {int: "NUMBER", Path: "PATH"}


def _meaning(param: Any) -> str:
    kind = param.type_descriptor.annotation
    return f"{param.help or ''}{_one_of(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ''}"


def _one_of(values: Iterable[str]) -> str:
    return f" One of {_code(values)}."


def _default(param: Any) -> str:
    return "" if param.default in (None, False) else f"`{param.default}`"


def assets_page() -> str:
    """Every asset, job, schedule and sensor of the Dagster definitions."""
    graph = defs.resolve_asset_graph()
    assets = []
    for group in dict.fromkeys(graph.get(key).group_name for key in graph.toposorted_asset_keys):
        keys = [key for key in graph.toposorted_asset_keys if graph.get(key).group_name == group]
        rows = [
            (
                f"`{key.to_user_string()}`",
                _first_paragraph(graph.get(key).description),
                _code(sorted(one.to_user_string() for one in graph.get(key).parent_keys)),
                "month" if graph.get(key).is_partitioned else "",
            )
            for key in keys
        ]
        assets += [f"### Group {group}", _table(("asset", "what it is", "made from", "partitions"), rows)]
    repository = defs.get_repository_def()
    jobs = [
        (f"`{job.name}`", _first_paragraph(job.description))
        for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
        if not job.name.startswith("__")
    ]
    schedules = [
        (
            f"`{one.name}`",
            f"`{one.cron_schedule}` {one.execution_timezone}",
            _started(one.default_status),
            one.description,
        )
        for one in repository.schedule_defs
    ]
    sensors = [
        (f"`{one.name}`", _interval(one.minimum_interval_seconds), _started(one.default_status), one.description)
        for one in sorted(repository.sensor_defs, key=lambda one: one.name)
    ]
    return _page(
        "Assets, jobs, schedules and sensors",
        "What stands in the Dagster UI. Partitions are months, from `OCTO_START_MONTH` to the current one.",
        "## Assets",
        *assets,
        "## Jobs",
        _table(("job", "what it does"), jobs),
        "## Schedules",
        _table(("schedule", "when", "at first", "what it does"), schedules),
        "## Sensors",
        _table(("sensor", "looks every", "at first", "what it does"), sensors),
    )


def _started(status: Any) -> str:
    return "on" if status.value == "RUNNING" else "off"


def _interval(seconds: int | None) -> str:
    return f"{seconds} s" if seconds else ""


def tables_page() -> str:
    """Every table with its columns, and the view that explains allocations."""
    parts = []
    for table in TABLES:
        columns = [(f"`{name}`", _sql_type(kind), column_meaning(table, name)) for name, kind in table.columns.items()]
        parts += [f"## {table.name}", table.grain, _table(("column", "type", "meaning"), columns)]
    columns = [(f"`{name}`", _sql_type(kind), column_meaning(Allocations(), name)) for name, kind in _explained()]
    return _page(
        "Tables and columns",
        "A table is Parquet at `<OCTO_LAKE>/<table>/month=YYYY-MM/data.parquet`. `octo sql` has each as a view with a "
        "column `month` more. Amounts are decimals with ten places.",
        *parts,
        "## The view allocations",
        "In `octo sql`, in exports and in `octo catalog`, `allocations` is this view: each row with its item, its "
        "pinned allocator and the shares of its account.",
        _table(("column", "type", "meaning"), columns),
    )


def _explained() -> list[tuple[str, str]]:
    import duckdb

    month = {"booking_month": "VARCHAR"}
    columns = (month | Allocations.columns, TAKEN_ITEM_COLUMNS, month | UsageShares.columns)
    nothing = [rows_sql(of_relation, []) for of_relation in columns]
    with duckdb.connect() as connection:
        described = connection.execute(f"DESCRIBE ({explained_sql(*(f'({sql})' for sql in nothing))})").fetchall()
    return [(name, kind) for name, kind, *_ in described]


def _sql_type(kind: str) -> str:
    return f"`{kind.lower()}`"


def checks_page() -> str:
    """Every check of every table."""
    rows = [(f"`{one.name}`", f"`{one.table}`", one.severity, one.description) for one in CHECKS]
    graph = defs.resolve_asset_graph()
    for name, severity in ((EVERY_SOURCE_ANSWERED, "error"), (NO_MONTH_IS_STALE, "warning")):
        keys = sorted((key for key in graph.asset_check_keys if key.name == name), key=lambda key: key.asset_key)
        described = graph.get_check_spec(keys[0]).description
        rows.append((f"`{name}`", _code(key.asset_key.to_user_string() for key in keys), severity, described or ""))
    return _page(
        "Checks",
        "A check looks at what is published and names, in its first line, the money concerned and what to do. It never "
        "stops a publication: what does are the [proofs](../proof.md). Its details list at most 100 findings. "
        "[What to do when a check fails](../operation.md#when-a-check-fails) explains each.",
        _table(("check", "asset", "severity", "holds when"), rows),
    )


def proofs_page() -> str:
    """Every proof of every table and of what leaves the lake, with its query."""
    proofs = {table.name: table.proofs for table in order()} | dict(PROOFS)
    rows = [
        (f"`{name}`", f"`{proof.name}`", proof.claim, f"`octo_pipeline/{_template(proof.sql)}`")
        for name, claims in proofs.items()
        for proof in claims
    ]
    return _page(
        "Proofs",
        "What must hold of a month of a table before it is published, and of an export before it is written; `octo proofs` lists "
        "the same. The query of a proof finds violations; one is enough, and the month is not published. [How a result is proved](../proof.md) explains "
        "how.",
        _table(("table", "proof", "claim", "query"), rows),
    )


def _template(name: str) -> str:
    room, _, file = name.rpartition("/")
    return f"{room}/sql/{file}.sql.j2"


def api_page() -> str:
    """Every route of the API with its parameters."""
    parts = []
    for path, methods in create_app(Settings()).openapi()["paths"].items():
        for method, route in methods.items():
            rows = [
                (
                    f"`{given['name']}`",
                    given["in"],
                    "required" if given.get("required") else "",
                    given.get("description"),
                )
                for given in route.get("parameters", ())
            ]
            parts += [f"## {method.upper()} {path}", route["description"].split("\n\n")[0]]
            parts += [_table(("parameter", "in", "", "meaning"), rows)] if rows else []
    return _page(
        "API",
        "The routes of `octo serve`, as `/api/openapi.json` describes them to programs. How to ask is on the page "
        "[REST API](../api.md).",
        *parts,
    )


PAGES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings_page,
    "reference/commands.md": commands_page,
    "reference/api.md": api_page,
    "reference/assets.md": assets_page,
    "reference/tables.md": tables_page,
    "reference/checks.md": checks_page,
    "reference/proofs.md": proofs_page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the site; called by mkdocs."""
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *parts]) + "\n"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str | None]]) -> str:
    head = list(columns)
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | None) -> str:
    return " ".join((value or "").split()).replace("|", "\\|").replace("<", "&lt;")


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _first_paragraph(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0].partition("####")[0].strip()
