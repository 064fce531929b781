"""AWS Cost and Usage Reports: found and landed.

This module takes a report from where it lies into the landing. Its parts have modules of their own: which files
make a report (`cur_reports`, `cur_manifest`), whether it may be landed (`cur_inspection`), whether a file is whole
(`data_files`). How landed files are read is in `cur_relations`.

A report is read to its end before it becomes a delivery: the newest delivery is what a month is made of, so a
bad one would shut out the good one before it.

Assumption: a payer's reports are whole. A second report of the same payer and month (another name, or a Data
Export) replaces the first as the newest delivery, so an export whose query leaves rows out must not be
landed.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from octo_pipeline.lake.store import Location, store_of
from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.aws.cur_inspection import StagedFile, inspect_report
from octo_pipeline.vendors.aws.cur_reports import CurReport, find_reports, search_reports
from octo_pipeline.vendors.data_files import data_format, unify_line_ends, unzip
from octo_pipeline.vendors.downloads import DeliveredFile, fetch, file_place
from octo_pipeline.vendors.landing import (
    Delivery,
    Landed,
    delivery_path,
    describe,
    find_delivery,
    publish,
    staging,
)
from octo_pipeline.vendors.source import Available

_VENDOR = "aws"


def land_cur(root: Location, path: Path, *, month: str | None = None, fetched_at: datetime) -> list[Landed]:
    """Land every report at the path.

    Args:
        root: the lake.
        path: a folder laid out as in S3, a folder of data files, or one data file.
        month: only reports of this month; YYYY-MM.
        fetched_at: when the reports were looked at, with a time zone.

    Returns:
        A delivery for each report; none if there are reports, but not of the month.

    Raises:
        OctoError: a report is not whole or not right; the others are landed all the same.
    """
    landed = []
    reports, failures = search_reports(path, month=month)
    for report in reports:
        try:
            landed.append(land_report(root, report, fetched_at=fetched_at))
        except OctoError as error:
            failures.append(str(error))
    if failures:
        raise OctoError("\n".join(failures), code="several-problems")
    return landed


def land_report(root: Location, report: CurReport, *, fetched_at: datetime) -> Landed:
    """Fetch a report, look through all of it, and make it a delivery of its payer.

    Raises:
        OctoError: a file is missing, empty, cut off or damaged; a CSV row has too few or too many fields or
            a broken quote; a required column is missing or empty in a row; an amount or date cannot be read;
            rows are of another month or of several payers, or the payer is not the account that owns the
            report. Nothing of the report is landed then.
    """
    if known := known_report(root, report.month, report.version, report.account):
        return Landed(known, is_new=False)
    with staging(root) as folder:
        fetched = fetch(report.files, folder, report.source, resume=store_of(root).scratch)
        staged = [one for file in fetched for one in _unpacked(file, folder, report.source)]
        payer, rows = inspect_report(staged, report)
        files = tuple(one.file for one in staged)
        delivery = Delivery(
            vendor=_VENDOR,
            account=payer,
            month=report.month,
            version=report.version,
            format=data_format(files[0].name) or "",
            report=report.report,
            files=files,
            fetched_at=fetched_at,
            source=report.source,
            path=delivery_path(root, vendor=_VENDOR, account=payer, month=report.month, version=report.version),
            details={"rows": rows, "delivered_files": [_as_json(file) for file in fetched]},
        )
        return publish(root, folder, delivery)


def known_report(root: Location, month: str, version: str, account: str | None) -> Delivery | None:
    """The refresh in the landing, if it is there with all its files."""
    return find_delivery(root, vendor=_VENDOR, month=month, version=version, account=account)


@dataclass(frozen=True)
class CurFolderSource:
    """Reports in a folder laid out as their bucket, or in one data file; a `sources.source.Source`."""

    path: Path

    vendor = "aws"
    account = None

    @property
    def name(self) -> str:
        """The folder or file."""
        return f"aws at {self.path}"

    def available(self, month: str) -> list[Available]:
        """The current refresh of each report of the month; only data without a manifest is read for it.

        Raises:
            OctoError: there is no report at all, or one of the month is not whole.
        """
        return [
            Available(self.vendor, found.account, month, found.report, found.version)
            for found in find_reports(self.path, month=month)
        ]

    def months(self) -> list[str]:
        """The months of the reports that are whole."""
        return sorted({report.month for report in search_reports(self.path)[0]})

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """As `land_cur`."""
        return land_cur(root, self.path, month=month, fetched_at=fetched_at)


def _unpacked(file: DeliveredFile, folder: Path, source: str) -> list[StagedFile]:
    path, place = folder / file.name, file_place(file.name, source)
    is_archive = file.name.lower().endswith(".zip")
    staged = []
    for one in unzip(path, place) if is_archive else [path]:
        is_rewritten = data_format(one.name) == "csv" and unify_line_ends(one, place)
        staged.append(StagedFile(describe(one) if is_archive or is_rewritten else file, one, place))
    return staged


def _as_json(file: DeliveredFile) -> dict[str, str | int]:
    return {"name": file.name, "size": file.size, "sha256": file.sha256}
