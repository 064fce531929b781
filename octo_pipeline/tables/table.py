"""What a table is, and the one way to make a partition of it: read inputs, make, prove, publish.

How tables depend on each other belongs in `graph`; each table has a file of its own.
"""

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import duckdb

import octo_pipeline
from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.errors import InputChangedError, OctoError
from octo_pipeline.model.shipped import shipped_folder
from octo_pipeline.tables.dues import due_digests, outstanding_digests
from octo_pipeline.tables.kept_parts import drop_other_parts
from octo_pipeline.workspace import Workspace

# If the inputs change during every attempt, it is no longer a coincidence: something changes them in a loop.
_ATTEMPTS = 3

# Inputs of tables that are not tables: the deliveries, the configuration, the registry, the settings.
OUTSIDE = frozenset(
    {
        "landing",
        "allocators",
        "cost_groups",
        "exchange_rates",
        "metrics",
        "registered_accounts",
        "decisions",
        "base_currency",
    }
)

# The results of a month: they stay as they are while it is closed. Everything before them goes on being true.
KEPT = frozenset(
    {
        "resolved_accounts",
        "usage_shares",
        "allocations",
        "corrections",
        "account_costs",
        "cost_group_costs",
        "prepayments",
    }
)

# A template as `render` names it, or as another template imports it.
_TEMPLATE = re.compile(r'"(\w+(?:/\w+)*?)/(?:sql/)?(\w+)(?:\.sql\.j2)?"')

# Column -> the (table, column) pairs that its values come from.
Lineage = Mapping[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Reads:
    """Something that a table reads.

    Attributes:
        name: a table, or one of `OUTSIDE`.
        months: which months of a table. ``this``: the month that is made. ``owing``: also what is due in it from the
            items of each origin month. ``outstanding``: what is due in the month or later from its items and those of
            earlier origin months, if they are spread. ``pinned``: only the allocators that took the items of the origin
            months with something due. ``named``: the month that is made, where an allocator or cost group needs it.
            ``closed``: the closed months.
    """

    name: str
    months: Literal["this", "owing", "outstanding", "pinned", "named", "closed"] = "this"

    def inputs(self, lake: Lake, month: str) -> dict[str, str]:
        """The fingerprints of what is read from a table."""
        if self.months in ("pinned", "named", "closed"):
            # The outside inputs of a table that reads the pinned documents include what it takes from them, and what
            # they name; those of one that reads closed months, what these are computed from.
            return {}
        if self.months == "outstanding":
            later = outstanding_digests(lake, month)
            return {f"{self.name}/{origin}/outstanding": fingerprint(digests) for origin, digests in later.items()}
        partition = lake.fingerprint(self.name, month)
        inputs = {f"{self.name}/{month}": partition} if partition else {}
        if self.months == "owing":
            due = due_digests(lake, month)
            inputs |= {f"{self.name}/{origin}/due": fingerprint(digests) for origin, digests in due.items()}
        return inputs


class Table(ABC):
    """A table of the lake. Its docstring describes it to readers of the asset graph.

    Attributes:
        name: its folder in the lake and its asset.
        group: its group in the asset graph.
        grain: what one row is, as a sentence.
        key: the columns that identify a row within a month.
        columns: name -> SQL type, in order.
        reads: what it is made from; its order, its asset's dependencies and its fingerprint follow from this.
        code: the source files that its rows depend on; see `code_version`.
        is_dbt_model: whether the dbt model with its name makes its rows.
        has_parts: whether a large month is made of parts that are kept.
        proofs: what must hold for a month before it is published.
        remedy: a sentence about what helps if a proof fails.
        made_from: the columns that the values of its own columns come from.
        descriptions: descriptions of the columns that neither a dbt model nor an earlier table has.
    """

    name: ClassVar[str]
    group: ClassVar[str]
    grain: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    columns: ClassVar[dict[str, str]]
    reads: ClassVar[tuple[Reads, ...]]
    code: ClassVar[tuple[str, ...]]
    is_dbt_model: ClassVar[bool] = False
    has_parts: ClassVar[bool] = False
    proofs: ClassVar[tuple[Proof, ...]] = ()
    remedy: ClassVar[str] = ""
    made_from: ClassVar[Lineage] = {}
    descriptions: ClassVar[Mapping[str, str]] = {}

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """What the month's partition would be made from now: name -> fingerprint or version."""
        inputs = {"code": code_version(*self.code)} | self.outside_inputs(workspace, month)
        for read in self.reads:
            if read.name not in OUTSIDE:
                inputs |= read.inputs(workspace.lake, month)
        return inputs

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The fingerprints of what it reads from `OUTSIDE`, limited to what determines its rows."""
        return {}

    def changes(self, before: PartitionMetadata | None, after: PartitionMetadata | None) -> tuple[str, ...]:
        """The names of the inputs that differ between two partitions; none if one of them does not exist."""
        if before is None or after is None:
            return ()
        names = before.inputs.keys() | after.inputs.keys()
        return tuple(sorted(name for name in names if before.inputs.get(name) != after.inputs.get(name)))

    @abstractmethod
    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> str | None:
        """Write the staged file and prove it.

        Returns:
            A sentence about how it was made, if there is something to say.
        """

    def prove(self, connection: duckdb.DuckDBPyConnection, staged: Staged, **pieces: object) -> None:
        """Prove the staged file; `pieces` are the other relations that the proofs name.

        Raises:
            ProofError: a proof fails.
        """
        remedy = self.remedy.format(month=staged.month)
        prove(connection, self.name, staged.month, self.proofs, remedy=remedy, staged=staged.relation, **pieces)


@dataclass(frozen=True)
class Materialised:
    """What happened to a partition.

    Attributes:
        outcome: ``closed``: the month is closed, so its partition stays as it is.
        changed: the inputs that changed since the partition that was replaced was made; empty if there was none, or if
            nothing was published.
        note: how it was made, as a sentence; '' if there is nothing to say.
    """

    table: str
    month: str
    outcome: Literal["published", "unchanged", "closed"]
    fingerprint: str
    rows: int
    seconds: float
    changed: tuple[str, ...] = ()
    note: str = ""


def materialise(workspace: Workspace, table: Table, month: str) -> Materialised:
    """Bring a partition up to date.

    Returns:
        ``unchanged`` if the published partition was made from the same inputs; then nothing is written.

    Raises:
        OctoError: the partition could not be made or proved; the published one stays.
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
    if table.name in KEPT and workspace.is_closed(month):
        require_as_closed(workspace, table.name, month)
        kept = lake.fingerprint(table.name, month) or ""
        return Materialised(table.name, month, "closed", kept, lake.rows(table.name, month), time.monotonic() - started)
    made_from = PartitionMetadata(table.inputs(workspace, month), workspace.run_id)
    published, note = False, None
    replaced = lake.metadata(table.name, month)
    if replaced is None or replaced.fingerprint != made_from.fingerprint:
        with lake.stage(table.name, month) as staged:
            note = table.make(workspace, month, staged, made_from)
            published = lake.publish(staged, still_current=lambda: _still_current(workspace, table, month))
        if published and table.has_parts:
            drop_other_parts(lake, table.name, month)
    return Materialised(
        table.name,
        month,
        "published" if published else "unchanged",
        made_from.fingerprint,
        lake.rows(table.name, month),
        time.monotonic() - started,
        table.changes(replaced, lake.metadata(table.name, month)) if published else (),
        (note or "") if published else "",
    )


def require_as_closed(workspace: Workspace, table: str, month: str) -> None:
    """Refuse to go on with a closed month whose partition is another one than when it was closed.

    Raises:
        OctoError: it is another one or is missing, as in a lake that was restored from an older backup than the registry.
    """
    kept = workspace.closing(month).fingerprints.get(table)
    if kept is not None and kept != workspace.lake.fingerprint(table, month):
        raise OctoError(
            f"{month} is closed, and {table} is not as it was closed. Restore {workspace.settings.lake} from the same backup "
            "as the registry.",
            code="closed-month-changed",
            place=month,
        )


def _still_current(workspace: Workspace, table: Table, month: str) -> Mapping[str, str]:
    """What the partition would be made from now.

    Raises:
        OctoError: somebody closed the month in the meantime.
    """
    if table.name in KEPT and workspace.overlay is None:
        period = workspace.registry.periods.all().get(month)
        if period and period.is_closed:
            raise OctoError(
                f"{month} was closed while {table.name} was made; its results stay as they were closed.",
                code="month-closed-meanwhile",
                place=month,
            )
    return table.inputs(workspace, month)


@cache
def code_version(*parts: str) -> str:
    """A digest of the source files that a table's rows depend on, so that a changed program makes its rows again.

    A file brings along the templates that it names.

    Args:
        parts: files or folders of the package, or of the dbt project if they begin with ``dbt_project/``.
    """
    package = Path(octo_pipeline.__file__).parent
    digest = hashlib.sha256()
    templates = set[Path]()
    for part in parts:
        # A wheel and a checkout have the project in different folders; both make the same rows, so both must have the
        # same version.
        is_dbt = part.startswith("dbt_project/")
        base = shipped_folder("dbt_project").parent if is_dbt else package
        root = base / part
        if not root.exists():
            # Otherwise changes to it would never make anything again, and nobody would notice.
            raise FileNotFoundError(root)
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
            if not is_dbt:
                _add_templates(file, package, templates)
    for template in sorted(templates):
        digest.update(f"{template.relative_to(package)}\0".encode())
        digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


def _add_templates(file: Path, package: Path, templates: set[Path]) -> None:
    for template in _named_templates(file, package):
        if template not in templates:
            templates.add(template)
            _add_templates(template, package, templates)


@cache
def _named_templates(file: Path, package: Path) -> tuple[Path, ...]:
    """The templates that a file names. Most files belong to several tables."""
    named = (package / room / "sql" / f"{name}.sql.j2" for room, name in _TEMPLATE.findall(file.read_text()))
    return tuple(template for template in named if template.is_file())
