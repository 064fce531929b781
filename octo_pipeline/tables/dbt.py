"""dbt in this process: the manifest, which the first process that needs it builds, and one way to run models.

A run in this process with a loaded manifest takes about half a second; a subprocess takes five to eight.
"""

import fcntl
import hashlib
import json
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

import duckdb

from octo_pipeline.lake.lake import PartitionMetadata, Staged, copy_options
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.shipped import shipped_folder
from octo_pipeline.model.vendors import VENDORS
from octo_pipeline.model.wording import reason
from octo_pipeline.settings import cache_folder
from octo_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

# The models of all vendors are found by these names; see marts/cost_line_items.sql.
VARIABLES = ("--vars", json.dumps({"vendors": list(VENDORS)}))

# dbt keeps its adapter and our session in module state, so one invocation at a time.
_LOCK = threading.Lock()
_JSON, _PACKED = "manifest.json", "manifest.msgpack"
# How many manifests of different states of the project are kept, so that switching between branches builds nothing.
_KEPT = 4
# How often the queries of an interrupted invocation are stopped until it has ended.
_INTERRUPT_SECONDS = 0.1
_QUIET = (
    "--log-level", "none", "--log-level-file", "none", "--no-version-check", "--no-send-anonymous-usage-stats",
    "--no-partial-parse", "--no-use-colors", "--no-populate-cache",
)  # fmt: skip


@dataclass(frozen=True)
class Session:
    """The inputs of one invocation of dbt.

    Attributes:
        variables: name -> text of the DuckDB variables.
        relations: ``schema.name`` -> SQL of the relations that dbt knows as sources.
        settings: DuckDB settings, such as the memory limit.
        setup: statements that let a connection read the lake; they hold secrets.
        cursors: those of the invocation, which an interrupt stops.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    relations: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    setup: Sequence[str] = field(default=(), repr=False)
    cursors: list[duckdb.DuckDBPyConnection] = field(default_factory=list, repr=False)


_session = Session()


def current_session() -> Session:
    """The inputs of the running invocation of dbt; an empty session if none is running."""
    return _session


def project_folder() -> Path:
    """The dbt project of this installation."""
    return shipped_folder("dbt_project")


def manifest_path() -> Path:
    """The manifest that Dagster reads; built if there is none for this project yet.

    Raises:
        OctoError: the project does not parse, or the manifest cannot be written.
    """
    return dbt_project().manifest_folder / _JSON


@cache
def column_descriptions(model: str) -> dict[str, str]:
    """The descriptions of a model's columns, from the manifest; empty if there is no such model."""
    nodes = json.loads(manifest_path().read_bytes())["nodes"].values()
    models = [node for node in nodes if node["resource_type"] == "model" and node["name"] == model]
    columns = {name: column for node in models for name, column in node["columns"].items()}
    return {name: " ".join(column["description"].split()) for name, column in columns.items()}


@contextmanager
def _stopping_at_interrupts(session: Session) -> Iterator[None]:
    """Let an interrupt end dbt's queries, whatever it raises otherwise and wherever dbt is.

    dbt cancels its queries for a KeyboardInterrupt only, and only those that are at work at that moment: it waits for the end
    of one that begins just then, which may take hours. Dagster's handler raises an exception of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over = threading.Event()

    def stop_queries() -> None:
        while not is_over.wait(_INTERRUPT_SECONDS):
            for cursor in list(session.cursors):
                # dbt closes its cursors in the meantime.
                with suppress(duckdb.Error):
                    cursor.interrupt()

    def interrupt(*_: object) -> None:
        threading.Thread(target=stop_queries, daemon=True).start()
        raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    replaced = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in replaced:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        is_over.set()
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _handle_interrupt(interrupt: BaseException) -> NoReturn:
    """Raise what the handler of this process makes of an interrupt, such as Dagster's own exception."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(interrupt, KeyboardInterrupt) and callable(handler):
        handler(signal.SIGINT, None)
    raise interrupt


class DbtModelError(OctoError):
    """A model failed; the message has the engine's own text."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="model-failed")


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
            OctoError: the project does not parse, or the cache folder cannot be written.
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

    def run(self, models: Sequence[str], session: Session) -> None:
        """Run models within a session.

        Raises:
            DbtModelError: a model failed.
            OctoError: there is no manifest, and building it failed.
        """
        from dbt.cli.main import dbtRunner

        manifest = self._manifest
        global _session
        with _LOCK, tempfile.TemporaryDirectory(prefix="octo-dbt-", ignore_cleanup_errors=True) as scratch:
            _session = session
            try:
                with _stopping_at_interrupts(session):
                    result = dbtRunner(manifest=manifest).invoke(
                        [
                            "run",
                            "--select",
                            *models,
                            "--no-write-json",
                            *VARIABLES,
                            *self._paths(Path(scratch)),
                            *_QUIET,
                        ]
                    )
            finally:
                _session = Session()
        if result.success:
            return
        if result.exception is not None and not isinstance(result.exception, Exception):
            # dbt catches interrupts too; an interrupted model has not failed.
            _handle_interrupt(result.exception)
        failed = [r for r in getattr(result.result, "results", []) if r.status in ("error", "fail")]
        if failed:
            raise DbtModelError(f"The model {failed[0].node.name} failed: {failed[0].message}")
        raise OctoError(f"dbt could not run {', '.join(models)}: {result.exception}", code="dbt-failed")

    def sources_of(self, model: str) -> frozenset[str]:
        """The names of the sources that a model reads, directly or through other models.

        Raises:
            OctoError: there is no manifest, and building it failed.
        """
        sources, models = set(), [f"model.octo.{model}"]
        while models:
            for read in self._manifest.nodes[models.pop()].depends_on_nodes:
                if read.startswith("source."):
                    sources.add(read.rpartition(".")[2])
                else:
                    models.append(read)
        return frozenset(sources)

    def _paths(self, target: Path) -> list[str]:
        folder = str(self.folder)
        return [
            "--project-dir", folder, "--profiles-dir", folder, "--target-path", str(target), "--log-path", str(target)
        ]  # fmt: skip

    @property
    def _cache(self) -> Path:
        # A checkout keeps everything in its own folder; an installed package may be read-only or shared by users.
        if (self.folder.parent / "pyproject.toml").exists():
            return self.folder / "target" / "manifests"
        return cache_folder() / "manifests"

    def _build(self, folder: Path) -> None:
        """Parse the project and write what `run` and Dagster load; the folder appears only when it is complete."""
        from dbt.cli.main import dbtRunner

        with tempfile.TemporaryDirectory(prefix=".building-", dir=self._cache) as scratch:
            target = Path(scratch) / "target"
            result = dbtRunner().invoke(["parse", *VARIABLES, *self._paths(target), *_QUIET])
            if not result.success:
                raise OctoError(
                    f"The dbt project {self.folder} does not parse: {result.exception}", code="dbt-project-malformed"
                )
            # dbt cannot load the JSON that it writes, so the object that it works with is kept too.
            (target / _PACKED).write_bytes(cast("Manifest", result.result).to_msgpack())
            target.replace(folder)
        others = [path for path in self._cache.iterdir() if path.is_dir() and path.name[0] != "." and path != folder]
        for old in sorted(others, key=lambda path: path.stat().st_mtime)[: -(_KEPT - 1)]:
            shutil.rmtree(old, ignore_errors=True)

    @cached_property
    def _manifest(self) -> "Manifest":
        from dbt.contracts.graph.manifest import Manifest

        manifest = Manifest.from_msgpack((self.manifest_folder / _PACKED).read_bytes())
        manifest.build_flat_graph()  # type: ignore[no-untyped-call]
        return manifest

    def _source_digest(self) -> str:
        # The manifest also contains the macros of dbt and of its adapter.
        digest = hashlib.sha256(f"{version('dbt-core')} {version('dbt-duckdb')} {VARIABLES[1]}\0".encode())
        for file in sorted(self.folder.rglob("*")):
            if file.suffix in {".sql", ".yml"} and "target" not in file.relative_to(self.folder).parts:
                digest.update(f"{file.relative_to(self.folder)}\0".encode())
                digest.update(file.read_bytes())
        return digest.hexdigest()[:32]


def run_model(
    workspace: Workspace,
    staged: Staged,
    metadata: PartitionMetadata,
    relations: Mapping[str, str],
    *,
    upstream: Sequence[str] = (),
) -> None:
    """Let the dbt model with the table's name write the staged file.

    Args:
        workspace: its lake has the settings and secrets that dbt works with.
        staged: the partition to write.
        metadata: recorded in the file.
        relations: ``schema.name`` -> SQL of what the model reads as sources, or in place of a model that is not run.
        upstream: dbt's selection of the models that it reads and that are run before it.

    Raises:
        DbtModelError: the model failed.
        OctoError: the manifest is missing or out of date.
    """
    settings = workspace.lake.duckdb_config()
    session = Session(
        variables={
            "octo_month": staged.month,
            f"octo_copy_{staged.table}": f"{staged.path}\n{copy_options(metadata.to_json())}",
        },
        relations=relations,
        settings={name: str(settings[name]) for name in ("memory_limit", "temp_directory") if name in settings},
        setup=workspace.lake.duckdb_setup(),
    )
    dbt_project().run([*upstream, staged.table], session)


@cache
def sources_of(model: str) -> frozenset[str]:
    """The names of the sources that a model reads; see `DbtProject.sources_of`."""
    return dbt_project().sources_of(model)


@cache
def dbt_project() -> DbtProject:
    """The one project of this process, so that its manifest is loaded once."""
    return DbtProject()
