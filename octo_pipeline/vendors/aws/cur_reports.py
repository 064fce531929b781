"""Where AWS Cost and Usage Reports are in a folder: which files make which report of which month.

Here belongs the layout of reports on a disk that was copied from S3, or of loose data files. What a manifest
says is `aws_cur_manifest`'s matter; what is in the data files is looked at only as far as needed to tell the
month of loose files.

Assumptions: the manifest that stands highest in a period's folder is the current one (AWS replaces it at each
refresh and, when it keeps old refreshes, leaves a copy beside each). A data file is where the manifest's key
says, up to a prefix that was left out or a folder that was put around it when the report was copied.

Edge cases: an old refresh's files of the same name are never taken for a missing one's; a link that leads
out of the folder is refused; loose files are taken only from the folder itself, not from folders below it,
where several refreshes might lie.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import is_month, parse_month
from octo_pipeline.model.wording import reason
from octo_pipeline.vendors.aws.cur_manifest import is_manifest, month_of_folder, parse_manifest
from octo_pipeline.vendors.aws.cur_rows import first_month
from octo_pipeline.vendors.data_files import bare_name, data_format
from octo_pipeline.vendors.downloads import SourceFile, inside
from octo_pipeline.vendors.landing import describe


@dataclass(frozen=True)
class CurReport:
    """One refresh of one report's month, wherever its files are.

    Attributes:
        report: the name that the report has at AWS, or of the folder or file.
        month: the billing period, YYYY-MM.
        version: the refresh.
        account: the account that owns the report; None if only the data can tell.
        source: the manifest, or the folder or file without one.
        files: the data files as delivered.
    """

    report: str
    month: str
    version: str
    account: str | None
    source: str
    files: tuple[SourceFile, ...]


def find_reports(path: Path, *, month: str | None = None) -> list[CurReport]:
    """The reports in a folder laid out as in S3, in a folder of data files, or in one data file.

    Args:
        path: the folder or file.
        month: only reports of this month. Files without rows are taken to be of it.

    Returns:
        The reports by month and name; none if there are reports, but not of the month.

    Raises:
        OctoError: there is no report at all, or one of the month is not whole.
    """
    reports, failures = search_reports(path, month=month)
    if failures:
        raise OctoError("\n".join(failures), code="several-problems")
    return reports


def search_reports(path: Path, *, month: str | None = None) -> tuple[list[CurReport], list[str]]:
    """As `find_reports`, with the sentences about reports that are not whole beside those that are.

    Raises:
        OctoError: there is no report at all, or loose files do not make one.
    """
    if month is not None:
        parse_month(month)
    reports: list[CurReport] = []
    failures: list[str] = []
    if path.is_dir() and (found := _manifests(path)):
        for manifests in found:
            try:
                report = _read_report(manifests, path, month)
            except OctoError as error:
                failures.append(str(error))
            else:
                reports += [report] if report else []
    elif path.exists():
        reports = _loose_reports(path, _loose_files(path) if path.is_dir() else [path], month)
    else:
        raise OctoError(
            f"{path} does not exist. Point to the folder or file of a Cost and Usage Report.", code="exports-missing"
        )
    return sorted(reports, key=lambda report: (report.month, report.report, report.source)), failures


def _manifests(root: Path) -> list[list[Path]]:
    """The manifests of each report and period: of the current refresh and maybe of old ones."""
    found: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for folder, _, names in os.walk(root, onerror=_refuse):
        for name in sorted(filter(is_manifest, names)):
            at = Path(folder) / name
            found[_period_folder(at, root) or at.parent, name].append(at)
    return [found[key] for key in sorted(found)]


def _current(manifests: Sequence[Path]) -> Path:
    depth = min(len(at.parts) for at in manifests)
    current = [at for at in manifests if len(at.parts) == depth]
    if len(current) > 1:
        raise OctoError(
            f"{current[0]} and {current[1]} are refreshes of one report, and the manifest above them that "
            "tells the current one is not there. Copy the whole folder of the period.",
            code="current-refresh-unknown",
        )
    return current[0]


def _period_folder(at: Path, root: Path) -> Path | None:
    """The folder of the billing period in which the file is, looking no higher than the root."""
    for folder in at.parents:
        if month_of_folder(folder.resolve().name):
            return folder
        if folder == root:
            break
    return None


def _read_report(manifests: Sequence[Path], root: Path, month: str | None) -> CurReport | None:
    """The current report of a period's manifests; None if it is of another month than is looked for."""
    period = _period_folder(manifests[0], root)
    folder_month = month_of_folder(period.resolve().name) if period else None
    if month is not None and folder_month not in (None, month):
        return None
    at = _current(manifests)
    text = inside(at, root, str(at)).read_bytes().decode("utf-8-sig", "replace")
    manifest = parse_manifest(text, name=at.name, folder_month=folder_month, place=str(at))
    if month not in (None, manifest.month):
        return None
    files = [_locate(key, at, root) for key in manifest.keys]
    _require_one_format(files, str(at))
    return CurReport(
        report=manifest.report or _folder_name(root),
        month=manifest.month,
        version=manifest.version,
        account=manifest.account,
        source=str(at),
        files=tuple(map(_source_file, files)),
    )


def _locate(key: Sequence[str], manifest: Path, root: Path) -> Path:
    """The file of a manifest's key: the longest end of the key that is a file, nearest to the manifest.

    The end must begin above the period's folder or right in it: further down, the file of that name may be
    another refresh's.
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
    found = [entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith((".", "_"))]
    return sorted(inside(entry, folder, str(entry)) for entry in found if data_format(entry.name))


def _loose_reports(path: Path, files: Sequence[Path], month: str | None) -> list[CurReport]:
    """One report of each month that the files say."""
    if not files or not all(data_format(file.name) for file in files):
        raise OctoError(
            f"{path} holds no Cost and Usage Report: neither a manifest nor data files (.parquet, .csv, "
            ".csv.gz, .csv.zip). Point to the report's folder as it is in S3, or to its data files.",
            code="exports-missing",
        )
    with duckdb.connect() as con:
        months = {file: _said_month(con, file) for file in files}
    by_month: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_month[months[file] or _month_of_silent(file, month, months)].append(file)
    return [
        _loose_report(path, found, same, [file for file in same if months[file] is None])
        for found, same in by_month.items()
        if month in (None, found)
    ]


def _said_month(con: duckdb.DuckDBPyConnection, file: Path) -> str | None:
    """The month by the file's first row; '' if that does not say it, None if there are no rows."""
    if file.stat().st_size == 0:
        raise OctoError(f"{file} is empty (0 bytes). Fetch it again.", code="file-empty")
    month = first_month(con, file, str(file))
    if month and not is_month(month):
        raise OctoError(
            f"{file}: the billing period of its first row begins {month!r}, which is no date.", code="value-wrong"
        )
    return month


def _month_of_silent(file: Path, month: str | None, months: dict[Path, str | None]) -> str:
    said = {one for one in months.values() if one}
    if month is None and len(said) != 1:
        raise OctoError(
            f"{file} does not say its month: it has no rows, or none with the begin of the billing period. "
            "Say of which month it is.",
            code="month-unknown",
        )
    return month or said.pop()


def _loose_report(path: Path, month: str, files: Sequence[Path], empty: Sequence[Path]) -> CurReport:
    _require_one_format(files, str(path))
    described = {file: describe(file) for file in files}
    filled = [file for file in files if file not in empty]
    for number, file in enumerate(filled):
        for other in filled[:number]:
            same_data = described[file].sha256 == described[other].sha256
            if same_data or bare_name(file.name) == bare_name(other.name):
                raise OctoError(
                    f"{file.name} and {other.name} in {path} are the same data, which would count twice. "
                    "Keep one of them.",
                    code="file-counted-twice",
                )
    listing = "\n".join(f"{file.name} {one.sha256}" for file, one in described.items())
    return CurReport(
        report=bare_name(path.name) if path.is_file() else _folder_name(path),
        month=month,
        version=hashlib.sha256(listing.encode()).hexdigest()[:32],
        account=None,
        source=str(path),
        files=tuple(_source_file(file, one.sha256) for file, one in described.items()),
    )


def _require_one_format(files: Sequence[Path], place: str) -> None:
    formats = {data_format(file.name) for file in files}
    if len(formats) > 1 or None in formats:
        names = ", ".join(file.name for file in files[:5])
        raise OctoError(
            f"{place} has files of several or unknown formats ({names}); a report is all Parquet (.parquet) "
            "or all CSV (.csv, .csv.gz, .csv.zip).",
            code="file-format-unknown",
        )


def _source_file(file: Path, sha256: str | None = None) -> SourceFile:
    return SourceFile(file.name, lambda: file.open("rb"), file.stat().st_size, sha256)


def _folder_name(folder: Path) -> str:
    return folder.resolve().name


def _refuse(error: OSError) -> None:
    raise OctoError(f"{error.filename} cannot be read ({reason(error)}).", code="file-unreadable") from error
