"""The one way to make a partition: read inputs, make, prove, publish."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import octo_pipeline
from octo_pipeline.lake.lake import InputChangedError, PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.shipped import shipped_folder
from octo_pipeline.workspace import Workspace

# A partition whose inputs keep changing while it is computed is somebody's loop, not a coincidence.
_ATTEMPTS = 3


class Table(Protocol):
    """A table of the lake; `columns` are its columns and their SQL types, in order."""

    name: str
    columns: dict[str, str]

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """What the month's partition would be made from now: name -> fingerprint or version."""
        ...

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Write the staged file and prove it."""
        ...


@dataclass(frozen=True)
class Materialised:
    """What happened to a partition."""

    table: str
    month: str
    outcome: Literal["published", "unchanged"]
    fingerprint: str
    rows: int
    seconds: float


def materialise(workspace: Workspace, table: Table, month: str) -> Materialised:
    """Bring a partition up to date.

    Returns:
        ``unchanged`` if the partition in place was made from the same inputs; nothing is written then.

    Raises:
        OctoError: the partition could not be made or proved; the one in place stays.
    """
    started = time.monotonic()
    for attempt in range(_ATTEMPTS):
        try:
            return _attempt(workspace, table, month, started)
        except InputChangedError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _attempt(workspace: Workspace, table: Table, month: str, started: float) -> Materialised:
    lake = workspace.lake
    made_from = PartitionMetadata(table.inputs(workspace, month), workspace.run_id)
    published = False
    if lake.fingerprint(table.name, month) != made_from.fingerprint:
        with lake.stage(table.name, month) as staged:
            table.make(workspace, month, staged, made_from)
            published = lake.publish(staged, still_current=lambda: table.inputs(workspace, month))
    return Materialised(
        table.name,
        month,
        "published" if published else "unchanged",
        made_from.fingerprint,
        lake.rows(table.name, month),
        time.monotonic() - started,
    )


@cache
def code_version(*parts: str) -> str:
    """A digest of the source files a table's rows depend on, so that a changed program makes its rows again.

    Args:
        parts: files or folders of the package, or of the dbt project if they begin with ``dbt_project/``.
    """
    package = Path(octo_pipeline.__file__).parent
    digest = hashlib.sha256()
    for part in parts:
        # A wheel has the project elsewhere than a checkout; both make the same rows, so both have the same version.
        is_dbt = part.startswith("dbt_project/")
        base = shipped_folder("dbt_project").parent if is_dbt else package
        root = base / part
        files = (
            [root]
            if root.is_file()
            else sorted(p for p in root.rglob("*") if p.suffix in {".py", ".sql", ".j2", ".yml"})
        )
        for file in files:
            if "target" in file.parts:
                continue
            digest.update(f"{file.relative_to(base if is_dbt else package.parent)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class StalePartition(NamedTuple):
    """A partition whose recorded inputs are no longer current.

    Attributes:
        changed: the names of the inputs that changed, came or went.
        fingerprint: what the partition would have if it were made now.
    """

    table: str
    month: str
    changed: list[str]
    fingerprint: str


def stale(workspace: Workspace, tables: Iterable[Table]) -> list[StalePartition]:
    """The stale partitions among those that are there, table by table.

    A partition that is made from a stale one is stale once that has been made again with another result.
    """
    found = []
    for table in tables:
        for month in workspace.lake.months(table.name):
            recorded = workspace.lake.metadata(table.name, month)
            now = table.inputs(workspace, month)
            if recorded is not None and recorded.fingerprint != fingerprint(now):
                names = now.keys() | recorded.inputs.keys()
                changed = sorted(n for n in names if now.get(n) != recorded.inputs.get(n))
                found.append(StalePartition(table.name, month, changed, fingerprint(now)))
    return found
