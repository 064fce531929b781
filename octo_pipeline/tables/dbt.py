"""dbt, in this process: the manifest built at install time, and one way to run models.

A run in process with a loaded manifest takes about half a second where a subprocess takes five to eight.
"""

import hashlib
import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import octo_pipeline
from octo_pipeline.model.errors import OctoError

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

# dbt keeps its adapter and our session in module state, so one invocation at a time.
_LOCK = threading.Lock()
_QUIET = (
    "--log-level", "none", "--log-level-file", "none", "--no-version-check", "--no-send-anonymous-usage-stats",
    "--no-partial-parse", "--no-use-colors",
)  # fmt: skip


@dataclass(frozen=True)
class Session:
    """What one invocation of dbt is about.

    Attributes:
        variables: name -> text of the DuckDB variables.
        relations: ``schema.name`` -> SQL of the relations that dbt knows as sources.
        settings: DuckDB settings, such as the memory limit.
        setup: statements that let a connection read the lake; they hold secrets.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    relations: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    setup: Sequence[str] = field(default=(), repr=False)


_session = Session()


def current_session() -> Session:
    """What the running invocation of dbt is about; an empty session outside one."""
    return _session


def project_folder() -> Path:
    """The dbt project of this installation."""
    return Path(octo_pipeline.__file__).parent.parent / "dbt_project"


def manifest_path() -> Path:
    """The manifest that Dagster reads; built by `build_manifest`, never at import."""
    return project_folder() / "target" / "manifest.json"


@cache
def column_descriptions(model: str) -> dict[str, str]:
    """The descriptions of a model's columns, from the manifest; none if there is no such model."""
    nodes = json.loads(manifest_path().read_bytes())["nodes"].values()
    found = [node for node in nodes if node["resource_type"] == "model" and node["name"] == model]
    return {name: " ".join(one["description"].split()) for node in found for name, one in node["columns"].items()}


class DbtModelError(OctoError):
    """A model failed; the text is the engine's own."""


class DbtProject:
    """The dbt project of this installation."""

    def __init__(self) -> None:
        self.folder = project_folder()

    def build_manifest(self) -> Path:
        """Parse the project and write what `run` and Dagster load.

        Raises:
            OctoError: the project does not parse.
        """
        from dbt.cli.main import dbtRunner

        result = dbtRunner().invoke(["parse", *self._paths(self.folder / "target"), *_QUIET])
        if not result.success:
            raise OctoError(f"The dbt project {self.folder} does not parse: {result.exception}")
        # The object dbt works with is not the JSON it writes, so both are kept, with what they were made from.
        self._packed_path.write_bytes(cast("Manifest", result.result).to_msgpack())
        self._stamp_path.write_text(self._source_digest())
        return manifest_path()

    def check_manifest(self) -> None:
        """Tell whether `run` would find its manifest.

        Raises:
            OctoError: it is missing or out of date; the sentence says what to run.
        """
        if not self._packed_path.exists():
            raise OctoError(f"The dbt manifest of {self.folder} is not built yet: run `make manifest`.")
        if self._stamp_path.read_text() != self._source_digest():
            raise OctoError(f"The dbt project {self.folder} changed since its manifest was built: run `make manifest`.")

    def run(self, models: Sequence[str], session: Session) -> None:
        """Run models within a session.

        Raises:
            DbtModelError: a model failed.
            OctoError: the manifest is missing or out of date.
        """
        from dbt.cli.main import dbtRunner

        manifest = self._manifest
        global _session
        with _LOCK, tempfile.TemporaryDirectory(prefix="octo-dbt-") as scratch:
            _session = session
            try:
                result = dbtRunner(manifest=manifest).invoke(
                    ["run", "--select", *models, "--no-write-json", *self._paths(Path(scratch)), *_QUIET]
                )
            finally:
                _session = Session()
        if result.success:
            return
        failed = [r for r in getattr(result.result, "results", []) if r.status in ("error", "fail")]
        if failed:
            raise DbtModelError(f"The model {failed[0].node.name} failed: {failed[0].message}")
        raise OctoError(f"dbt could not run {', '.join(models)}: {result.exception}")

    def _paths(self, target: Path) -> list[str]:
        folder = str(self.folder)
        return [
            "--project-dir", folder, "--profiles-dir", folder, "--target-path", str(target), "--log-path", str(target)
        ]  # fmt: skip

    @property
    def _packed_path(self) -> Path:
        return self.folder / "target" / "octo_manifest.msgpack"

    @property
    def _stamp_path(self) -> Path:
        return self.folder / "target" / "octo_manifest.digest"

    @cached_property
    def _manifest(self) -> "Manifest":
        from dbt.contracts.graph.manifest import Manifest

        self.check_manifest()
        manifest = Manifest.from_msgpack(self._packed_path.read_bytes())
        manifest.build_flat_graph()  # type: ignore[no-untyped-call]
        return manifest

    def _source_digest(self) -> str:
        digest = hashlib.sha256()
        for file in sorted(self.folder.rglob("*")):
            if file.suffix in {".sql", ".yml"} and "target" not in file.relative_to(self.folder).parts:
                digest.update(f"{file.relative_to(self.folder)}\0".encode())
                digest.update(file.read_bytes())
        return digest.hexdigest()


@cache
def dbt_project() -> DbtProject:
    """This process's project, so that its manifest is loaded once."""
    return DbtProject()
