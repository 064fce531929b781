"""The dbt models without dbt's run: compiled once per process, and executed on an engine of its own.

What a model makes of rows is the same, in a tenth of the time. That dbt itself runs them is tested by the commands, the
Dagster assets and the sample of all vendors.
"""

from collections.abc import Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb
import pytest

from octo_pipeline.model.sql import identifier, literal
from octo_pipeline.tables import dbt
from octo_pipeline.tables.dbt import _QUIET, VARIABLES, DbtModelError, DbtProject, Session


class Model(NamedTuple):
    """A compiled model."""

    sql: str
    reads: tuple[str, ...]


@cache
def compiled_models() -> dict[str, Model]:
    """The models by name, each after the ones that it reads."""
    from dbt.cli.main import dbtRunner

    project = DbtProject()
    with TemporaryDirectory() as scratch:
        result = dbtRunner(manifest=project._manifest).invoke(
            ["compile", "--no-write-json", "--no-introspect", *VARIABLES, *project._paths(Path(scratch)), *_QUIET]
        )
    assert result.success, result.exception
    nodes = {run.node.unique_id: run.node for run in result.result.results if run.node.resource_type == "model"}
    models = {
        node.name: Model(node.compiled_code, tuple(nodes[id].name for id in node.depends_on.nodes if id in nodes))
        for node in nodes.values()
    }
    order = TopologicalSorter({name: model.reads for name, model in models.items()}).static_order()
    return {name: models[name] for name in order}


def run_compiled(models: Sequence[str], session: Session) -> None:
    """In place of `DbtProject.run`."""
    from octo_pipeline.tables.dbt_plugin import Plugin

    compiled = compiled_models()
    *upstream, name = models
    selected = [model.removeprefix("+") for model in upstream]
    views = frozenset(selected).union(*map(read_by, selected))
    with duckdb.connect(config={"threads": 1}) as connection:
        Plugin.configure_cursor(Plugin.__new__(Plugin), connection)
        try:
            for view in compiled:
                if view in views:
                    connection.execute(f"create view {identifier(view)} as {compiled[view].sql}")
            path, options = session.variables[f"octo_copy_{name}"].split("\n", 1)
            connection.execute(f"copy ({compiled[name].sql}) to {literal(path)} ({options})")
        except duckdb.Error as error:
            raise DbtModelError(f"The model {name} failed: {error}") from error


def run_without_dbt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the models in this way until the patch is undone."""

    def run(project: DbtProject, models: list[str], session: Session) -> None:
        monkeypatch.setattr(dbt, "_session", session)
        run_compiled(models, session)

    monkeypatch.setattr(DbtProject, "run", run)


@cache
def read_by(name: str) -> frozenset[str]:
    """The models that a model reads, directly and indirectly."""
    reads = compiled_models()[name].reads
    return frozenset(reads).union(*map(read_by, reads))
