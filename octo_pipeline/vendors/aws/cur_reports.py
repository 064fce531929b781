"""AWS Cost and Usage Reports in a folder: which files make which report of which month.

This module knows the layout of reports on a disk that were copied from S3, and of loose data files. The content of a
manifest belongs in `cur_manifest`. Data files are read only as far as needed to find the month of loose files.

Assumptions: the manifest that is highest in a period's folder is the current one. AWS replaces it at each refresh and,
if it keeps old refreshes, leaves a copy beside each. A data file is where the manifest's key says, except that the
prefix may have been omitted, or a folder put around it, when the report was copied.

Edge cases: files of an old refresh with the same name never replace missing ones; a link that leads out of the folder
is refused; loose files are read only from the folder itself, because folders below it may hold several refreshes.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.model.errors import OctoError, combined
from octo_pipeline.model.months import is_month, parse_month
from octo_pipeline.model.wording import reason
from octo_pipeline.vendors.aws.cur_columns import Costs, export_kind
from octo_pipeline.vendors.aws.cur_manifest import (
    Domain,
    Listing,
    is_manifest,
    month_of_folder,
    parse_listing,
    parse_manifest,
)
from octo_pipeline.vendors.aws.cur_rows import first_month, open_file
from octo_pipeline.vendors.data_files import (
    as_named,
    bare_name,
    csv_header,
    data_format,
    data_name,
    is_unread_form,
    unique_names,
)
from octo_pipeline.vendors.downloads import SourceFile, inside
from octo_pipeline.vendors.landing import describe
from octo_pipeline.vendors.listing import is_hidden, is_litter


@dataclass(frozen=True)
class CurReport:
    """One refresh of one report's month, wherever its files are.

    Attributes:
        report: the report's name in AWS, or the name of the folder or file.
        month: the billing period, YYYY-MM.
        version: the refresh.
        account: the account that owns the report; None if only the data names it.
        source: the manifest, or the folder or file if there is none.
        files: the data files as delivered.
        is_listed: whether a manifest lists the files; otherwise some may be copies or refreshes of others.
        costs: which costs count, by the setting of its source.
        domain: of its billing view, None if unknown.
    """

    report: str
    month: str
    version: str
    account: str | None
    source: str
    files: tuple[SourceFile, ...]
    is_listed: bool = True
    costs: Costs = "unblended"
    domain: Domain | None = None


@dataclass(frozen=True)
class Search:
    """The exports in a folder.

    Attributes:
        reports: by month and name.
        failures: the errors of incomplete reports.
        passed_over: other exports with costs, which another kind of source reads.
    """

    reports: list[CurReport]
    failures: list[OctoError]
    passed_over: list["OtherExportError"]


class OtherExportError(OctoError):
    """An export that is not a Cost and Usage Report."""

    def __init__(self, address: str, kind: Literal["focus", "other"]) -> None:
        if kind == "focus":
            message = f"{address} is a FOCUS export, which this source does not read. Give it a source document of kind focus."
        else:
            message = f"{address} is not a Cost and Usage Report: it has none of its columns. Point to the folder of the report."
        super().__init__(message, code="export-of-another-kind", place=address)
        self.kind = kind


def find_reports(path: Path, *, month: str | None = None) -> list[CurReport]:
    """The reports in a folder laid out as in S3, in a folder of data files, or in one data file.

    Args:
        path: the folder or file.
        month: only reports of this month. Files without rows are assumed to be of it.

    Returns:
        The reports by month and name; none if there are reports, but not of the month.

    Raises:
        OctoError: there is no report at all, or one of the month is incomplete.
    """
    search = search_reports(path, month=month)
    if search.failures:
        raise combined(search.failures)
    return search.reports


def search_reports(path: Path, *, month: str | None = None) -> Search:
    """As `find_reports`, but returns the errors of incomplete reports beside the complete ones.

    Other exports, such as recommendations, are skipped.

    Raises:
        OctoError: there is no report at all, or loose files do not make one.
    """
    if month is not None:
        parse_month(month)
    if not path.exists():
        raise OctoError(
            f"{path} does not exist. Point to the folder or file of a Cost and Usage Report.", code="exports-missing"
        )
    reports: list[CurReport] = []
    failures: list[OctoError] = []
    others: list[OtherExportError] = []
    manifests = _manifests(path) if path.is_dir() else []
    for of_report in manifests:
        try:
            report = _read_report(of_report, path, month)
        except OtherExportError as other:
            others.append(other)
        except OctoError as error:
            failures.append(error)
        else:
            reports += [report] if report else []
    if len(others) == len(manifests):
        loose = _loose_files(path) if path.is_dir() else [path]
        if others and not loose:
            raise others[0]
        loose_reports, loose_others = _loose_reports(path, loose, month)
        reports += loose_reports
        others += loose_others
    reports.sort(key=lambda report: (report.month, report.report, report.source))
    # Only FOCUS exports are reported: others, such as recommendations, have no costs to miss.
    return Search(reports, failures, [other for other in others if other.kind == "focus"])


def _manifests(root: Path) -> list[list[Path]]:
    """The manifests of each report and period: of the current refresh and perhaps of old ones."""
    by_period: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for folder, _, names in os.walk(root, onerror=_refuse):
        for name in sorted(filter(is_manifest, names)):
            manifest = Path(folder) / name
            if is_litter(manifest.relative_to(root).parts):
                continue
            by_period[_period_folder(manifest, root) or manifest.parent, name].append(manifest)
    return [by_period[key] for key in sorted(by_period)]


def _current(manifests: Sequence[Path]) -> Path:
    depth = min(len(manifest.parts) for manifest in manifests)
    current = [manifest for manifest in manifests if len(manifest.parts) == depth]
    if len(current) > 1:
        raise OctoError(
            f"{current[0]} and {current[1]} are refreshes of one report, and the manifest above them, which names the "
            "current one, is missing. Copy the whole folder of the period.",
            code="current-refresh-unknown",
        )
    return current[0]


def _period_folder(file: Path, root: Path) -> Path | None:
    """The folder of the billing period that contains the file, searched up to the root."""
    for folder in file.parents:
        if month_of_folder(folder.resolve().name):
            return folder
        if folder == root:
            break
    return None


def _read_report(manifests: Sequence[Path], root: Path, month: str | None) -> CurReport | None:
    """The current report of a period's manifests; None if it is of another month."""
    period = _period_folder(manifests[0], root)
    folder_month = month_of_folder(period.resolve().name) if period else None
    if month is not None and folder_month not in (None, month):
        return None
    current = _current(manifests)
    text = inside(current, root, str(current)).read_bytes().decode("utf-8-sig", "replace")
    kind = _kind(parse_listing(text, str(current)), current, root)
    if kind != "cur":
        raise OtherExportError(str(current), kind)
    manifest = parse_manifest(text, name=current.name, folder_month=folder_month, origin=str(current))
    if month not in (None, manifest.month):
        return None
    files = [_locate(key, current, root) for key in manifest.keys]
    _require_one_format(files, str(current))
    return CurReport(
        report=manifest.report or _folder_name(root),
        month=manifest.month,
        version=manifest.version,
        account=manifest.account,
        source=str(current),
        files=tuple(map(_source_file, files)),
        domain=manifest.domain,
    )


def _kind(listing: Listing, manifest: Path, root: Path) -> Literal["cur", "focus", "other"]:
    """The kind of an export by the columns in its manifest or its first file; if unknown, it is taken for a report."""
    if listing.columns:
        return export_kind(listing.columns)
    try:
        return _kind_of_file(_locate(listing.keys[0], manifest, root))
    except OctoError:
        return "cur"


def _kind_of_file(file: Path) -> Literal["cur", "focus", "other"]:
    if data_format(file.name) != "parquet":
        return export_kind(csv_header(file, str(file)))
    with shared_connection({}) as con:
        return export_kind(column.name for column in open_file(con, file, str(file)).columns)


def _locate(key: Sequence[str], manifest: Path, root: Path) -> Path:
    """The file of a manifest's key: the longest end of the key that is a file, nearest to the manifest.

    The end must begin above the period's folder or directly in it. Further down, a file of that name may belong to
    another refresh.
    """
    period = _period_folder(manifest, root)
    within = next((at + 1 for at, part in enumerate(key[:-1]) if month_of_folder(part)), None)
    below = [folder for folder in manifest.parents if folder == root or root in folder.parents]
    for start in range(len(key)):
        for folder in below:
            is_below_refresh = within is not None and (start > within or (start == within and folder != period))
            candidate = folder.joinpath(*key[start:])
            if candidate.is_file() and not (period and is_below_refresh):
                return inside(candidate, root, f"{candidate}, a data file of {manifest},")
    raise OctoError(
        f"{'/'.join(key)} is listed in {manifest}, but is not below {root}. Copy the report's folder again, "
        "with the manifest and all data files of the period.",
        code="report-incomplete",
    )


def _loose_files(folder: Path) -> list[Path]:
    files = [entry for entry in folder.iterdir() if entry.is_file() and not is_hidden([entry.name])]
    unread = sorted(entry.name for entry in files if is_unread_form(entry.name))
    if unread:
        raise OctoError(
            f"{folder} has {', '.join(unread[:3])}, which is not read: a report is Parquet or CSV (.csv, .csv.gz, "
            ".csv.zip). Deliver it in one of these formats, or remove it from the folder.",
            code="file-format-unknown",
            place=str(folder),
        )
    return sorted(inside(entry, folder, str(entry)) for entry in files if data_name(entry))


def _loose_reports(
    path: Path, files: Sequence[Path], month: str | None
) -> tuple[list[CurReport], list[OtherExportError]]:
    """One report for each month of the files, and the files that are another export."""
    if not files or not all(map(data_name, files)):
        raise OctoError(
            f"{path} holds no Cost and Usage Report: it has neither a manifest nor data files (.parquet, .csv, .csv.gz, "
            ".csv.zip). Point to the report's folder as it is in S3, or to its data files.",
            code="exports-missing",
        )
    with as_named() as named:
        readable = {file: named(file) for file in files}
        others = [
            OtherExportError(str(file), "focus")
            for file, known in readable.items()
            if file.stat().st_size and _kind_of_file(known) == "focus"
        ]
        if len(others) == len(files):
            raise others[0]
        left_out = {other.place for other in others}
        counted = [file for file in files if str(file) not in left_out]
        with shared_connection({}) as con:
            months = {file: _first_month(con, file, readable[file]) for file in counted}
    by_month: dict[str, list[Path]] = defaultdict(list)
    for file in counted:
        by_month[months[file] or _inferred_month(file, month, months)].append(file)
    return [
        _loose_report(path, report_month, same)
        for report_month, same in by_month.items()
        if month in (None, report_month)
    ], others


def _first_month(con: duckdb.DuckDBPyConnection, file: Path, readable: Path) -> str | None:
    """The month of the file's first row; '' if the row does not have it, None if there are no rows."""
    if file.stat().st_size == 0:
        raise OctoError(f"{file} is empty (0 bytes). Fetch it again.", code="file-empty")
    month = first_month(con, readable, str(file))
    if month and not is_month(month):
        raise OctoError(
            f"{file}: the billing period of its first row begins {month!r}, which is not a date.", code="value-wrong"
        )
    return month


def _inferred_month(file: Path, month: str | None, months: dict[Path, str | None]) -> str:
    known_months = {known for known in months.values() if known}
    if month is None and len(known_months) != 1:
        raise OctoError(
            f"{file} does not say its month: it has no rows, or none with the start of the billing period. Specify the "
            "month.",
            code="month-unknown",
        )
    return month or known_months.pop()


def _loose_report(path: Path, month: str, files: Sequence[Path]) -> CurReport:
    names = {file: data_name(file) or file.name for file in files}
    _require_one_format(files, str(path), list(names.values()))
    described = {file: describe(file) for file in files}
    listing = "\n".join(f"{file.name} {description.sha256}" for file, description in described.items())
    return CurReport(
        report=bare_name(path.name) if path.is_file() else _folder_name(path),
        month=month,
        version=hashlib.sha256(listing.encode()).hexdigest()[:32],
        account=None,
        source=str(path),
        files=tuple(
            _source_file(file, description.sha256, name)
            for (file, description), name in zip(described.items(), unique_names(list(names.values())), strict=True)
        ),
        is_listed=False,
    )


def _require_one_format(files: Sequence[Path], origin: str, names: Sequence[str] = ()) -> None:
    formats = {data_format(name) for name in names or [file.name for file in files]}
    if len(formats) > 1 or None in formats:
        listed = ", ".join(file.name for file in files[:5])
        raise OctoError(
            f"{origin} has files of several or unknown formats ({listed}); a report is all Parquet (.parquet) "
            "or all CSV (.csv, .csv.gz, .csv.zip).",
            code="file-format-unknown",
        )


def _source_file(file: Path, sha256: str | None = None, name: str | None = None) -> SourceFile:
    return SourceFile(name or file.name, lambda: file.open("rb"), file.stat().st_size, sha256)


def _folder_name(folder: Path) -> str:
    return folder.resolve().name


def _refuse(error: OSError) -> None:
    raise OctoError(f"{error.filename} cannot be read ({reason(error)}).", code="file-unreadable") from error
