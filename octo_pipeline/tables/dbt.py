"""The dbt models: compiled once per state of the project, and executed by the lake's own engine.

Only building the manifest needs dbt, whose import takes longer than all tables of a small month. The manifest has each
model's compiled SQL, so a month is made by one COPY of it.
"""

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from octo_pipeline.lake.lake import PartitionMetadata, Staged, copy_rows
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.shipped import shipped_folder
from octo_pipeline.model.sql import Sql, identifier, literal
from octo_pipeline.model.templates import render
from octo_pipeline.model.vendors import VENDORS
from octo_pipeline.model.wording import reason
from octo_pipeline.settings import cache_folder

# The models of all vendors are found by these names; see marts/cost_line_items.sql.
VARIABLES = ("--vars", json.dumps({"vendors": list(VENDORS)}))

_JSON = "manifest.json"
# How many manifests of different states of the project are kept, so that switching between branches builds nothing.
_KEPT = 4
_QUIET = (
    "--log-level", "none", "--log-level-file", "none", "--no-version-check", "--no-send-anonymous-usage-stats",
    "--no-partial-parse", "--no-use-colors", "--no-populate-cache", "--no-introspect",
)  # fmt: skip


def project_folder() -> Path:
    """The dbt project of this installation."""
    return shipped_folder("dbt_project")


@cache
def manifest() -> dict[str, Any]:
    """The manifest of the project in its current state; built if there is none yet.

    Raises:
        OctoError: the project does not compile, or the manifest cannot be written.
    """
    manifest: dict[str, Any] = json.loads(manifest_path().read_bytes())
    return manifest


def manifest_path() -> Path:
    """The file of the manifest; built if there is none for this project yet.

    Raises:
        OctoError: the project does not compile, or the manifest cannot be written.
    """
    return DbtProject().manifest_folder / _JSON


@cache
def column_descriptions(model: str) -> dict[str, str]:
    """The descriptions of a model's columns, from the manifest; empty if there is no such model."""
    nodes = manifest()["nodes"].values()
    models = [node for node in nodes if node["resource_type"] == "model" and node["name"] == model]
    columns = {name: column for node in models for name, column in node["columns"].items()}
    return {name: " ".join(column["description"].split()) for name, column in columns.items()}


class Model(NamedTuple):
    """A compiled model.

    Attributes:
        sql: its SELECT.
        reads: the relations that it reads: ``main.model`` or ``source.table``, each of them one quoted name.
    """

    sql: str
    reads: tuple[str, ...]


@cache
def compiled_models() -> dict[str, Model]:
    """The models by name, ``main.model``.

    Raises:
        OctoError: the manifest does not exist yet and cannot be built.
    """
    models = {id: node for id, node in manifest()["nodes"].items() if node["resource_type"] == "model"}
    relations = models | manifest()["sources"]
    names = {id: f"{relation['schema']}.{relation['name']}" for id, relation in relations.items()}
    compiled = {}
    for id, node in models.items():
        sql = node["compiled_code"]
        for read in node["depends_on"]["nodes"]:
            # dbt writes a relation in one way wherever it is read: with its database and in quotes. What a statement
            # names itself has no schema, so the whole name becomes one identifier.
            sql = sql.replace(relations[read]["relation_name"], identifier(names[read]))
        compiled[names[id]] = Model(sql, tuple(names[read] for read in node["depends_on"]["nodes"]))
    return compiled


class DbtProject:
    """The dbt project of this installation."""

    def __init__(self) -> None:
        self.folder = project_folder()

    @cached_property
    def manifest_target(self) -> Path:
        """Where the manifest is or will be; looking at it builds nothing."""
        return self._cache / self._source_digest()

    @cached_property
    def manifest_folder(self) -> Path:
        """The folder with the manifest of the project in its current state.

        It is named after what it is made from: the project's files and dbt itself. So it is never out of date, and
        versions of the program do not disturb each other. If several processes need it at once, one builds it and the
        others wait: Dagster's workers all start by importing the definitions.

        Raises:
            OctoError: the project does not compile, or the cache folder cannot be written.
        """
        folder = self.manifest_target
        if folder.is_dir():
            return folder
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with (self._cache / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not folder.is_dir():
                    self._build(folder)
        except OSError as error:
            raise OctoError(
                f"The dbt manifest cannot be written to {self._cache}: {reason(error)}. Make this cache folder writable.",
                code="manifest-not-writable",
                place=str(self._cache),
            ) from error
        return folder

    @property
    def _cache(self) -> Path:
        # A checkout keeps everything in its own folder; an installed package may be read-only or shared by users.
        if (self.folder.parent / "pyproject.toml").exists():
            return self.folder / "target" / "manifests"
        return cache_folder() / "manifests"

    def _build(self, folder: Path) -> None:
        """Compile the project; the folder appears only when it is complete."""
        from dbt.cli.main import dbtRunner

        with tempfile.TemporaryDirectory(prefix=".building-", dir=self._cache) as scratch:
            target, made = Path(scratch) / "target", Path(scratch) / "made"
            project = str(self.folder)
            result = dbtRunner().invoke(
                [
                    "compile", *VARIABLES, "--project-dir", project, "--profiles-dir", project,
                    "--target-path", str(target), "--log-path", str(target), *_QUIET,
                ]
            )  # fmt: skip
            if not result.success:
                raise OctoError(
                    f"The dbt project {self.folder} does not compile: {_failure(result)}", code="dbt-project-malformed"
                )
            made.mkdir()
            (target / _JSON).replace(made / _JSON)
            made.replace(folder)
        others = [path for path in self._cache.iterdir() if path.is_dir() and path.name[0] != "." and path != folder]
        for old in sorted(others, key=lambda path: path.stat().st_mtime)[: -(_KEPT - 1)]:
            shutil.rmtree(old, ignore_errors=True)

    def _source_digest(self) -> str:
        # The manifest also contains the macros of dbt and of its adapter. What this program makes of the project counts,
        # too: an earlier edition kept no compiled SQL.
        digest = hashlib.sha256(f"{version('dbt-core')} {version('dbt-duckdb')} {VARIABLES[1]} compiled\0".encode())
        for file in sorted(self.folder.rglob("*")):
            if file.suffix in {".sql", ".yml"} and "target" not in file.relative_to(self.folder).parts:
                digest.update(f"{file.relative_to(self.folder)}\0".encode())
                digest.update(file.read_bytes())
        return digest.hexdigest()[:32]


def _failure(result: Any) -> str:
    """What dbt says of an invocation that failed: an exception, or the message of the first model."""
    failed = [run for run in getattr(result.result, "results", []) if run.status == "error"]
    return str(result.exception or next((f"{run.node.name}: {run.message}" for run in failed), "no reason is known"))


def run_model(
    connection: duckdb.DuckDBPyConnection,
    staged: Staged,
    metadata: PartitionMetadata,
    relations: Mapping[str, str],
    columns: Mapping[str, str],
) -> None:
    """Let the dbt model with the table's name write the staged file, in one statement.

    Args:
        connection: reads the lake.
        staged: the partition to write.
        metadata: recorded in the file.
        relations: ``schema.name`` -> SQL of what the models read as sources, or in place of a model (``main.name``).
        columns: name -> type of the columns that the table promises, in order.

    Raises:
        OctoError: the model's columns are others, or the manifest cannot be built.
    """
    query = model_query(f"main.{staged.table}", relations)
    connection.execute(f"SET VARIABLE octo_month = {literal(staged.month)}")
    copy_rows(connection, query, staged.path, metadata)
    _require_columns(connection, staged, columns)


def model_query(name: str, relations: Mapping[str, str]) -> Sql:
    """The query of a model with all that it reads. The DuckDB variable ``octo_month`` must be set where it runs.

    Args:
        name: ``main.name``.
        relations: as for `run_model`.

    Raises:
        OctoError: the manifest does not exist yet and cannot be built.
    """
    models = compiled_models()
    views: dict[str, str] = {}

    def add_view(name: str) -> None:
        query = relations.get(name)
        if query is None:
            for read in models[name].reads:
                add_view(read)
            query = models[name].sql
        views.setdefault(name, query)

    for read in models[name].reads:
        add_view(read)
    return render("tables/compiled_model", views=views, model=models[name].sql)


def _require_columns(connection: duckdb.DuckDBPyConnection, staged: Staged, columns: Mapping[str, str]) -> None:
    """Hold a model to the contract of its table.

    Raises:
        OctoError: it names the first column that differs, or the order does.
    """
    made = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE FROM {staged.relation}").fetchall()}
    for name in [*columns, *made]:
        if made.get(name) != columns.get(name):
            raise OctoError(
                f"The dbt model {staged.table} makes the column {name} as {made.get(name, 'nothing')}, and the table's "
                f"is {columns.get(name, 'none')}. Correct models/marts/{staged.table}.sql or the columns of the table.",
                code="model-breaks-contract",
                place=f"{staged.table}.{name}",
            )
    if list(made) != list(columns):
        raise OctoError(
            f"The dbt model {staged.table} makes its columns in another order than the table has: {', '.join(made)}. Correct "
            f"models/marts/{staged.table}.sql or the columns of the table.",
            code="model-breaks-order",
            place=staged.table,
        )


@cache
def sources_of(model: str) -> frozenset[str]:
    """The names of the sources that a model reads, directly or through other models.

    Raises:
        OctoError: the manifest does not exist yet and cannot be built.
    """
    models = compiled_models()
    sources, names = set(), [f"main.{model}"]
    while names:
        for read in models[names.pop()].reads:
            if read in models:
                names.append(read)
            else:
                sources.add(read.rpartition(".")[2])
    return frozenset(sources)
