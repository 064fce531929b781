"""Random worlds as a workspace and as what the oracle is asked; what both tests over them share."""

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb

from octo_pipeline.model.columns import TAGS
from octo_pipeline.model.sql import rows_sql
from octo_pipeline.registry.records import NewAccount
from octo_pipeline.settings import Settings
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.workspace import Workspace
from tests.support.case import publish, run
from tests.support.oracle.case_folder import read_documents
from tests.support.oracle.months import World
from tests.support.workspaces import write_lines
from tests.torture.drawn_months import Drawn, write_files

# What random worlds are drawn with.
FEATURES = frozenset(
    {
        "keys", "windows", "measures", "active_accounts", "usage_of", "groups", "families", "containers",
        "owner", "metrics", "balances",
    }
)  # fmt: skip


def made(drawn: Drawn, folder: Path) -> Workspace:
    """The world, run."""
    workspace = written(drawn, folder)
    if not drawn.edited_files:
        return run(workspace, drawn.months)
    run(workspace, drawn.months[:-1])
    write_files(workspace.settings.config, drawn.edited_files)
    return run(workspace, drawn.months[-1:])


def written(drawn: Drawn, folder: Path) -> Workspace:
    """The world as it is before it is run."""
    config = folder / "config"
    (config / "allocators").mkdir(parents=True)
    write_files(config, drawn.files)
    workspace = Workspace(Settings(lake=folder / "lake", config=config))
    problems = [str(problem) for problem in workspace.configuration.problems]
    assert not problems, "\n".join(problems)
    write_lines(workspace, folder, drawn.lines)
    if drawn.containers:
        write_containers(workspace, drawn, drawn.months)
    workspace.registry.accounts.add([NewAccount("aws", a, payer_id=p) for p, a in drawn.registered], "test")
    return workspace


def write_containers(workspace: Workspace, drawn: Drawn, months: Sequence[str]) -> None:
    """Publish months of container_usage."""
    columns = {"tags_json": "VARCHAR"} | {n: k for n, k in ContainerUsage.columns.items() if n != "tags"}
    for month in months:
        rows = [c for c in drawn.containers if c.billing_month == month]
        values = [(json.dumps(c.tags), *(str(getattr(c, n)) for n in columns if n != "tags_json")) for c in rows]
        selected = ", ".join(
            f"CAST(tags_json::JSON AS {TAGS}) AS tags" if n == "tags" else n for n in ContainerUsage.columns
        )
        with duckdb.connect() as connection:
            query = f"SELECT {selected} FROM ({rows_sql(columns, values)})"
            publish(workspace.lake, connection, ContainerUsage.name, month, query)


def world_of(drawn: Drawn, folder: Path) -> World:
    """What the oracle is asked."""
    unedited = folder / "unedited"
    write_files(unedited, drawn.files)
    world = World(drawn.lines, read_documents(unedited), drawn.months, drawn.registered, drawn.containers)
    if drawn.edited_files:
        world.documents_of = {drawn.months[-1]: read_documents(folder / "config")}
    return world
