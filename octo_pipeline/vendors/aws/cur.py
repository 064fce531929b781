"""AWS Cost and Usage Reports: found and landed.

This module copies a report into the landing. Its parts have modules of their own: which files make a report
(`cur_reports`, `cur_manifest`), whether it may be landed (`cur_inspection`), whether a file is complete (`data_files`).
How landed files are read is in `cur_relations`.

A report is read to its end before it becomes a delivery: a month is made of the newest delivery, so a bad one would
replace the good one before it.

Two reports of one payer and month, such as a legacy report beside a Data Export, count once if they bill every account
the same. If they differ, nothing shows which of them is complete, so neither is landed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from octo_pipeline.lake.store import Location, store_of
from octo_pipeline.model.errors import OctoError, Remedy, combined
from octo_pipeline.vendors.aws.cur_agreement import digest_of, disagreements
from octo_pipeline.vendors.aws.cur_inspection import StagedFile, inspect_report
from octo_pipeline.vendors.aws.cur_options import CurOptions
from octo_pipeline.vendors.aws.cur_relations import relations
from octo_pipeline.vendors.aws.cur_reports import CurReport, Search, search_reports
from octo_pipeline.vendors.content import with_content
from octo_pipeline.vendors.data_files import data_format, unify_line_ends, unzip
from octo_pipeline.vendors.downloads import DeliveredFile, fetch, file_place
from octo_pipeline.vendors.landing import (
    Delivery,
    Landed,
    delivery_path,
    describe,
    find_delivery,
    newest_deliveries,
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
        fetched_at: when the reports were read, with a time zone.

    Returns:
        A delivery for each report; none if there are reports, but not of the month.

    Raises:
        OctoError: a report is incomplete or wrong, or two of one payer differ; the others are still landed.
    """
    search = search_reports(path, month=month)
    return land_reports(root, search.reports, search.failures, fetched_at)


def land_reports(
    root: Location, reports: Iterable[CurReport], failures: Iterable[OctoError], fetched_at: datetime
) -> list[Landed]:
    """Land reports and raise the errors of all that failed.

    Args:
        root: the lake.
        reports: the reports to land.
        failures: the errors of reports that could not be read; raised together with those of the landing.
        fetched_at: when the reports were read, with a time zone.

    Raises:
        OctoError: all errors; the other reports are still landed.
    """
    landed: list[Landed] = []
    errors = list(failures)
    for report in reports:
        try:
            landed.append(land_report(root, report, fetched_at=fetched_at))
        except OctoError as error:
            errors.append(error)
    errors += disagreements(root, landed)
    if errors:
        raise combined(errors)
    return landed


def land_report(root: Location, report: CurReport, *, fetched_at: datetime) -> Landed:
    """Fetch a report, check all of its rows, and publish it as a delivery of its payer.

    Raises:
        OctoError: a file is missing, empty, cut off or damaged; a CSV row has too few or too many fields or
            a broken quote; a required column is missing or empty in a row; an amount or date cannot be read;
            rows are of another month or of several payers, or the payer is not the account that owns the
            report. Nothing of the report is landed.
    """
    version = version_of(report)
    if known := known_report(root, report.month, version, report.account):
        return Landed(known, is_new=False)
    with staging(root) as folder:
        fetched = fetch(report.files, folder, report.source, resume=store_of(root).scratch)
        staged = [staged_file for file in fetched for staged_file in _unpacked(file, folder, report)]
        inspection = inspect_report(staged, report)
        _refuse_other_domain(root, inspection.payer, report)
        for repeated in inspection.left_out:
            repeated.path.unlink()
        files = tuple(staged_file.file for staged_file in staged if staged_file not in inspection.left_out)
        delivery = Delivery(
            vendor=_VENDOR,
            account=inspection.payer,
            month=report.month,
            version=version,
            format=data_format(files[0].name) or "",
            report=report.report,
            files=files,
            fetched_at=fetched_at,
            source=report.source,
            path=delivery_path(root, vendor=_VENDOR, account=inspection.payer, month=report.month, version=version),
            details={
                "rows": inspection.rows,
                "delivered_files": [_as_json(file) for file in fetched],
                "left_out": [repeated.file.name for repeated in inspection.left_out],
                "costs": report.costs,
                "domain": report.domain,
                "account_costs": digest_of(inspection.costs),
                "split_rows": inspection.split_count,
            },
        )
        return publish(root, folder, with_content(root, delivery, folder, relations))


def _refuse_other_domain(root: Location, payer: str, report: CurReport) -> None:
    """Refuse a report of another domain than the landed one: estimates and invoiced costs must not mix in a month."""
    landed = {delivery.account: delivery for delivery in newest_deliveries(root, report.month, _VENDOR)}
    domain = landed[payer].details.get("domain") if payer in landed else None
    if domain and report.domain and domain != report.domain:
        raise OctoError(
            f"{report.source} has the domain {report.domain}, but payer {payer} has a delivery of {report.month} with the "
            f"domain {domain}, and these must not be mixed. Remove that delivery if the billing view has changed.",
            code="domains-mixed",
            place=report.source,
            remedy=Remedy("deliveries remove", landed[payer].version, to="remove it"),
        )


def version_of(report: CurReport) -> str:
    """The version of the delivery: the refresh, and the costs that count if they are not the default."""
    return report.version if report.costs == "unblended" else f"{report.version}-{report.costs}"


def known_report(root: Location, month: str, version: str, account: str | None) -> Delivery | None:
    """The refresh in the landing, if all its files are in place."""
    return find_delivery(root, vendor=_VENDOR, month=month, version=version, account=account)


@dataclass(frozen=True)
class CurFolderSource:
    """Reports in a folder laid out as their bucket, or in one data file; a `vendors.source.Source`.

    Attributes:
        path: the folder or file.
        document: the document of the configuration that describes them, if there is one.
    """

    path: Path
    document: CurOptions | None = None
    _passed_over: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)

    vendor = "aws"

    @property
    def account(self) -> str | None:
        """The payer of the document."""
        return self.document.account if self.document else None

    @property
    def name(self) -> str:
        """The folder or file."""
        return f"aws {self.document.label} at {self.path}" if self.document else f"aws at {self.path}"

    def available(self, month: str) -> list[Available]:
        """The current refresh of each report of the month; data files are read only if there is no manifest.

        Raises:
            OctoError: there is no report at all, or one of the month is incomplete.
        """
        search = self._search(month)
        if search.failures:
            raise combined(search.failures)
        return [
            Available(self.vendor, report.account, month, report.report, version_of(report))
            for report in search.reports
        ]

    def months(self) -> list[str]:
        """The months of the complete reports."""
        return sorted({report.month for report in search_reports(self.path).reports})

    def passed_over(self, month: str) -> list[str]:
        """A message for each export that the last landing of the month left to another kind of source."""
        return self._passed_over.get(month, [])

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """As `land_cur`."""
        search = self._search(month)
        self._passed_over[month] = [str(other) for other in search.passed_over]
        return land_reports(root, search.reports, search.failures, fetched_at)

    def _search(self, month: str) -> Search:
        if self.document is None:
            return search_reports(self.path, month=month)
        if not self.document.is_of(month):
            return Search([], [], [])
        search = search_reports(self.path, month=month)
        reports = [self.document.applied(report) for report in search.reports if self.document.wants(report.report)]
        return replace(search, reports=reports)


def _unpacked(file: DeliveredFile, folder: Path, report: CurReport) -> list[StagedFile]:
    path, origin = folder / file.name, file_place(file.name, report.source)
    is_archive = file.name.lower().endswith(".zip")
    staged = []
    for unpacked in unzip(path, origin, may_repeat=not report.is_listed) if is_archive else [path]:
        is_rewritten = data_format(unpacked.name) == "csv" and unify_line_ends(unpacked, origin)
        staged.append(StagedFile(describe(unpacked) if is_archive or is_rewritten else file, unpacked, origin))
    return staged


def _as_json(file: DeliveredFile) -> dict[str, str | int]:
    return {"name": file.name, "size": file.size, "sha256": file.sha256}
