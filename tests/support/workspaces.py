"""Workspaces made of line items and allocator documents, and what tests read from them."""

import csv
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from octo_pipeline.registry.records import Actor, Decision
from octo_pipeline.services.access import os_user
from octo_pipeline.services.checks import CHECKS, CheckResult
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
from tests.support.case import load_line_items
from tests.support.oracle import Line


def workspace_in(folder: Path, rows: list[Line], documents: list[dict]) -> Workspace:
    """A workspace whose line items and allocators are these."""
    config = folder / "config"
    (config / "cost_groups").mkdir(parents=True)
    write_allocators(config, documents)
    workspace = Workspace(Settings(lake=folder / "lake", config=config))
    write_lines(workspace, folder, rows)
    return workspace


def write_allocators(config: Path, documents: list[dict]) -> None:
    """Write the documents as ``a0.json``, ``a1.json`` and so on: a file's stem is its allocator's id."""
    (config / "allocators").mkdir(exist_ok=True)
    for i, document in enumerate(documents):
        (config / "allocators" / f"a{i}.json").write_text(json.dumps(document))


def write_lines(workspace: Workspace, folder: Path, rows: list[Line]) -> None:
    """Publish the rows' months of cost_line_items."""
    columns = list((type(rows[0]) if rows else Line).__dataclass_fields__)
    path = folder / "line_items.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for line in rows:
            values = (getattr(line, name) for name in columns)
            writer.writerow([json.dumps(v) if isinstance(v, Mapping) else v for v in values])
    load_line_items(workspace.lake, path)


def administered(workspace: Workspace) -> Workspace:
    """The workspace with who runs the tests as its administrator."""
    workspace.registry.users.add(os_user(), "admin", Actor("tester"))
    return workspace


def decision(action: str, item_id: str, origin: str) -> Decision:
    """A decision on a fee item, taken now."""
    return Decision(action, item_id, origin, "fee", "tester", "a test", datetime.now(UTC))


def exact_rows(workspace: Workspace) -> list[tuple]:
    """Every allocation row as it is at rest, in order."""
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT * FROM read_parquet('{workspace.lake.root}/allocations/*/*.parquet') ORDER BY ALL"
        ).fetchall()


def run_check(name: str, workspace: Workspace, month: str) -> CheckResult:
    """What the check of this name says of a month."""
    return next(check for check in CHECKS if check.name == name).run(workspace, month)
