"""Writing FOCUS files: a month's rows are written aside, proved as they were written, and only then get their name."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from octo_pipeline.lake.lake import PartitionMetadata
from octo_pipeline.lake.staging import sync
from octo_pipeline.model.columns import LINE_ITEMS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation, Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import reason
from octo_pipeline.outputs.focus.columns import PROVED, Version, in_words_of_the_lake
from octo_pipeline.outputs.focus.datasets import datasets
from octo_pipeline.outputs.focus.month_charges import MonthCharges, prepare_charges
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import code_version
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

# The folder of exports in the lake. It is not a table: nothing reads it, and it is made only when somebody asks for it.
TABLE = "focus_export"

_OPTIONS = {
    ".parquet": "format parquet, compression zstd, compression_level 1",
    ".csv.gz": "format csv, header, compression gzip, timestampformat '%Y-%m-%dT%H:%M:%SZ'",
}


@dataclass(frozen=True)
class WrittenMonth:
    """What was written of a month, proved.

    Attributes:
        totals: by currency the bill, the items spread, the instalments and the corrections, what was written, and the same
            in effective costs.
        kinds: how many rows of each kind and currency, and their costs.
        is_as_kept: whether its usage is by account and service, because its deliveries changed since it was closed.
    """

    month: str
    file: Path
    totals: Rows
    kinds: Rows
    is_as_kept: bool


def export_focus(workspace: Workspace, months: Sequence[str], target: Path, version: Version) -> list[WrittenMonth]:
    """Write months as FOCUS, to one file or to a folder with a file per month and data set.

    Args:
        workspace: the lake.
        months: the months, in order.
        target: a file that ends in .parquet or .csv.gz, or a folder, which is made if its own folder exists.
        version: of the standard.

    Raises:
        OctoError: a month was not run, the target cannot be written, or a proof fails; then no file appears.
    """
    ending = next((ending for ending in _OPTIONS if target.name.lower().endswith(ending)), None)
    if ending is not None and not target.is_dir():
        return _write_file(workspace, months, target, ending, version)
    if target.suffix and not target.is_dir():
        raise OctoError(
            f"{target} must end in .parquet or .csv.gz, or be a folder.",
            code="focus-ending-unknown",
            place=str(target),
        )
    written = []
    for month in months:
        written += _write_file(workspace, [month], _file_in(target, "cost_and_usage", month), ".parquet", version)
        # They are new in 1.4.
        for name, query in datasets(workspace, month).items() if version == "1.4" else ():
            _write_dataset(workspace, query, _file_in(target, name, month))
    return written


def publish_focus(workspace: Workspace, month: str) -> WrittenMonth:
    """Publish a month as FOCUS 1.4 in the lake, where it replaces an earlier export of the month.

    Raises:
        OctoError: the month was not run, or a proof fails; what was published before stays.
    """
    lake = workspace.lake
    with lake.stage(TABLE, month) as staged:
        metadata = PartitionMetadata(_inputs(workspace, month), workspace.run_id)
        with lake.connect() as connection:
            month_charges = prepare_charges(connection, workspace, month)
            lake.copy(connection, month_charges.cost_and_usage("1.4"), staged, metadata)
            month_charges.prove(connection, _written(staged.path, ".parquet", "1.4"))
            summary = _summary(connection, month_charges, staged.path)
        lake.publish(staged, still_current=lambda: _inputs(workspace, month))
    return summary


def _inputs(workspace: Workspace, month: str) -> dict[str, str]:
    """What the export of a month is made from."""
    tables = (LINE_ITEMS, MatchedItems.name, UsageShares.name, Allocations.name, Corrections.name, AccountCosts.name)
    fingerprints = {f"{table}/{month}": workspace.lake.fingerprint(table, month) or "" for table in tables}
    return {"code": code_version("outputs/focus", "model", "allocation"), **fingerprints}


def _write_file(
    workspace: Workspace, months: Sequence[str], file: Path, ending: str, version: Version
) -> list[WrittenMonth]:
    # The lake is asked whether it changed in the meantime before the file gets its name.
    with _appearing(file) as staged, workspace.lake.connect() as connection:
        prepared = [prepare_charges(connection, workspace, month) for month in months]
        rows = [month_charges.cost_and_usage(version) for month_charges in prepared]
        _copy(connection, render("outputs/focus/months", parts=rows), staged, _OPTIONS[ending], file)
        written = _written(staged, ending, version)
        for month_charges in prepared:
            month_charges.prove(connection, written)
        return [_summary(connection, month_charges, file) for month_charges in prepared]


def _file_in(folder: Path, dataset: str, month: str) -> Path:
    """The file of a month in a folder that is made if its own folder exists."""
    file = folder / dataset / f"billing_period={month}" / "focus.parquet"
    with _translate_write_errors(folder):
        folder.mkdir(exist_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _write_dataset(workspace: Workspace, query: Sql, file: Path) -> None:
    with _appearing(file) as staged, workspace.lake.connect() as connection:
        _copy(connection, query, staged, _OPTIONS[".parquet"], file)


def _written(staged: Path, ending: str, version: Version) -> Relation:
    """The columns of a written file that the proofs read."""
    file = literal(str(staged))
    rows = f"read_parquet({file})"
    if ending != ".parquet":
        rows = f"read_csv({file}, header = true, all_varchar = true, compression = 'gzip')"
    details = "x_AllocatedMethodDetails" if version == "1.2" else "AllocatedMethodDetails"
    columns = {column: name for name, column in in_words_of_the_lake(PROVED).items()}
    query = render(
        "outputs/focus/written", named_columns=columns | {"allocated_method_details": details}, file_rows=rows
    )
    return Relation(f"({query})")


def _copy(connection: duckdb.DuckDBPyConnection, query: Sql, staged: Path, options: str, file: Path) -> None:
    try:
        connection.execute(f"COPY ({query}) TO {literal(str(staged))} ({options})")
    except duckdb.IOException as error:
        raise _write_error(file, str(error)) from None


def _summary(connection: duckdb.DuckDBPyConnection, month_charges: MonthCharges, file: Path) -> WrittenMonth:
    sums = month_charges.written_sums
    totals = render("outputs/focus/written_totals", staged=sums, totals=month_charges.totals)
    return WrittenMonth(
        month_charges.month,
        file,
        Rows.fetched(connection, totals),
        Rows.fetched(connection, render("outputs/focus/written_kinds", staged=sums)),
        month_charges.is_as_kept,
    )


@contextmanager
def _appearing(file: Path) -> Iterator[Path]:
    """A file to write, which gets its name when the context ends well, and is removed when it does not.

    If the process is killed it stays, and its name does not end as those that other programs look for.

    Raises:
        OctoError: its folder does not exist or takes no file.
    """
    staged = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    with _translate_write_errors(file):
        try:
            # A folder that takes no file is refused before the work.
            staged.touch()
            yield staged
            sync(staged)
            staged.replace(file)
            sync(file.parent)
        finally:
            staged.unlink(missing_ok=True)


@contextmanager
def _translate_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _write_error(path, f"{reason(error)}.") from error


def _write_error(path: Path, why: str) -> OctoError:
    return OctoError(f"Cannot write the FOCUS export to {path}: {why}", code="export-not-writable", place=str(path))
