"""One payer's AWS Cost and Usage Reports in an S3 bucket, where AWS writes them.

This module knows the layout of reports in a bucket and which objects make the current refresh of a month. The content
of a manifest belongs in `cur_manifest`, landing a report in `cur`.

A month's manifest is searched from the prefix downwards. Folders of other months, and data folders beside metadata, are
skipped, so a search costs a few listings whatever the bucket holds.

Assumption: AWS writes the manifest after the data. While AWS overwrites a report, its data can be newer than the
manifest. Such a report is left to the next run, unless the data is more than an hour old, as in a copied bucket.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from pydantic import Field

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.aws.cur import known_report, land_reports, version_of
from octo_pipeline.vendors.aws.cur_columns import export_kind
from octo_pipeline.vendors.aws.cur_manifest import (
    Manifest,
    is_manifest,
    month_of_folder,
    parse_listing,
    parse_manifest,
)
from octo_pipeline.vendors.aws.cur_options import CurOptions
from octo_pipeline.vendors.aws.cur_reports import CurReport, OtherExportError
from octo_pipeline.vendors.bucket import Bucket, StoredObject
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.landing import Landed
from octo_pipeline.vendors.source import Available

# prefix/report/period/assembly, and a prefix may have folders of its own.
_DEEPEST = 8
_REFRESH_TAKES = timedelta(hours=1)


class CurDocument(CurOptions):
    """Where a payer's reports are in a bucket, and with which role they are read."""

    bucket: str = Field(min_length=3)
    prefix: str = ""
    role_arn: str | None = Field(default=None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$")
    external_id: str | None = Field(default=None, min_length=2)
    region: str = "us-east-1"


@dataclass(frozen=True)
class CurBucketSource:
    """The reports of one payer in a bucket; a `vendors.source.Source`."""

    document: CurDocument
    bucket: Bucket
    _passed_over: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)

    vendor = "aws"

    @property
    def account(self) -> str:
        """The payer."""
        return self.document.account

    @property
    def name(self) -> str:
        """The payer and the address of its reports."""
        return f"aws {self.document.label} at {self._address}"

    @property
    def _address(self) -> str:
        return self.bucket.url(_as_folder(self.document.prefix))

    def available(self, month: str) -> list[Available]:
        """The current refresh of each report of the month.

        Raises:
            OctoError: the bucket refuses, has no report at all, or a manifest is wrong.
        """
        reports = (self._report(current, ()) for current in self._read_manifests(month))
        return [Available(self.vendor, self.account, month, report.report, version_of(report)) for report in reports]

    def passed_over(self, month: str) -> list[str]:
        """A message for each export that the last landing of the month left to another kind of source."""
        return self._passed_over.get(month, [])

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land the current refresh of each report of the month.

        Raises:
            OctoError: a report cannot be read or is wrong; the others are still landed.
        """
        reports: list[CurReport] = []
        failures: list[OctoError] = []
        for current in self._read_manifests(month):
            try:
                reports.append(self._to_land(root, current))
            except OctoError as error:
                failures.append(error)
        return land_reports(root, reports, failures, fetched_at)

    def _to_land(self, root: Location, current: "_StoredManifest") -> CurReport:
        """A report with its files, which are located only if the report is not landed yet."""
        report = self._report(current, ())
        if known_report(root, report.month, version_of(report), self.account):
            return report
        objects = [self._locate(key, current) for key in current.manifest.keys]
        self._refuse_half_refreshed(current, objects)
        return self._report(current, objects)

    def _report(self, current: "_StoredManifest", objects: Sequence[StoredObject]) -> CurReport:
        manifest = current.manifest
        return self.document.applied(
            CurReport(
                report=manifest.report,
                month=manifest.month,
                version=manifest.version,
                account=manifest.account,
                source=self.bucket.url(current.stored.key),
                files=tuple(map(self._source_file, objects)),
                domain=manifest.domain,
            )
        )

    def _source_file(self, stored: StoredObject) -> SourceFile:
        return SourceFile(
            name=stored.key.rsplit("/", 1)[-1],
            open=partial(self.bucket.open, stored),
            size=stored.size,
            open_at=partial(self.bucket.open, stored),
            etag=stored.etag,
            digest_parts=partial(self.bucket.digest_parts, stored),
        )

    def _read_manifests(self, month: str) -> list["_StoredManifest"]:
        if not self.document.is_of(month):
            return []
        manifests, periods = self._manifests(month)
        others: list[OtherExportError] = []
        current = []
        for stored in manifests:
            try:
                current += self._read_manifest(stored, month)
            except OtherExportError as other:
                others.append(other)
        self._passed_over[month] = [str(other) for other in others if other.kind == "focus"]
        if others and not current and all(other.kind == "focus" for other in others):
            raise others[0]
        if not periods:
            raise OctoError(
                f"AWS account {self.account}: there is no Cost and Usage Report below {self._address}. "
                "Check bucket and prefix in the source's configuration; a new report takes up to a day to appear.",
                code="report-missing",
            )
        return sorted(current, key=lambda current: current.manifest.report)

    def _read_manifest(self, stored: StoredObject, month: str) -> list["_StoredManifest"]:
        address = self.bucket.url(stored.key)
        text = self.bucket.read(stored.key).decode("utf-8-sig", "replace")
        columns = parse_listing(text, address).columns
        kind = export_kind(columns) if columns else "cur"
        if kind != "cur":
            raise OtherExportError(address, kind)
        manifest = parse_manifest(text, name=stored.key.rsplit("/", 1)[-1], folder_month=month, origin=address)
        return [_StoredManifest(stored, manifest)] if self.document.wants(manifest.report) else []

    def _manifests(self, month: str) -> tuple[list[StoredObject], bool]:
        """The current manifest of each report of the month, and whether there are reports of any month."""
        manifests: list[StoredObject] = []
        has_periods = False
        folders = [_as_folder(self.document.prefix)]
        for _ in range(_DEEPEST):
            below: list[str] = []
            for folder in folders:
                for inner in self._to_search(folder):
                    folder_month = month_of_folder(_last(inner))
                    has_periods |= folder_month is not None
                    if folder_month is None:
                        below.append(inner)
                    elif folder_month == month:
                        manifests += self._current(inner)
            folders = below
        return manifests, has_periods

    def _to_search(self, folder: str) -> list[str]:
        inner, _ = self.bucket.folder(folder)
        names = {_last(subfolder) for subfolder in inner}
        return [subfolder for subfolder in inner if not (_last(subfolder) == "data" and "metadata" in names)]

    def _current(self, period: str) -> list[StoredObject]:
        """The manifests of a period's folder; if only its refreshes have any, those of the latest refresh."""
        refreshes, objects = self.bucket.folder(period)
        if manifests := [stored for stored in objects if is_manifest(_last(stored.key))]:
            return manifests
        older: dict[str, StoredObject] = {}
        for refresh in refreshes:
            for stored in self.bucket.folder(refresh)[1]:
                name = _last(stored.key)
                if is_manifest(name) and (name not in older or older[name].modified < stored.modified):
                    older[name] = stored
        return list(older.values())

    def _locate(self, key: tuple[str, ...], current: "_StoredManifest") -> StoredObject:
        """The object of a manifest's key: at the key itself, or beside the manifest if the bucket was copied."""
        for candidate in _candidates(key, current.stored.key):
            folder, name = candidate.rsplit("/", 1) if "/" in candidate else ("", candidate)
            objects: list[StoredObject] = self.bucket.folder(_as_folder(folder))[1]
            if located := next((stored for stored in objects if _last(stored.key) == name), None):
                return located
        raise OctoError(
            f"AWS account {self.account}: {'/'.join(key)} is listed in {self.bucket.url(current.stored.key)}, but is not in "
            "the bucket. Wait for the next refresh of the report; nothing of it was landed.",
            code="report-incomplete",
        )

    def _refuse_half_refreshed(self, current: "_StoredManifest", objects: list[StoredObject]) -> None:
        newest = max(stored.modified for stored in objects)
        if newest > current.stored.modified and datetime.now(UTC) - newest < _REFRESH_TAKES:
            raise OctoError(
                f"AWS account {self.account}: {self.bucket.url(current.stored.key)} is being refreshed: its data is newer "
                "than the manifest. The next run will land it; nothing of it was landed.",
                code="report-being-refreshed",
            )


@dataclass(frozen=True)
class _StoredManifest:
    """A report's current manifest and its object."""

    stored: StoredObject
    manifest: Manifest


def _candidates(key: tuple[str, ...], manifest: str) -> Iterator[str]:
    path = "/".join(key)
    yield path
    # AWS writes a report without a prefix below a folder with an empty name.
    yield f"/{path}"
    period = next((index for index, part in enumerate(key) if month_of_folder(part)), None)
    parts = manifest.split("/")
    own = next((index for index, part in enumerate(parts) if month_of_folder(part)), None)
    if period is not None and own is not None:
        # A Data Export has its data and metadata in sibling folders.
        above = 1 if "metadata" in parts[:own] else 0
        yield "/".join((*parts[: own - above], *key[period - above :]))


def _as_folder(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/" if prefix else ""


def _last(key: str) -> str:
    return key.rstrip("/").rsplit("/", 1)[-1]
