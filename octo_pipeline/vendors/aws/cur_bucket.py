"""AWS Cost and Usage Reports where AWS writes them: in an S3 bucket, one payer's.

Here belongs the layout of reports in a bucket and which objects make the current refresh of a month. What a
manifest says is `aws_cur_manifest`'s matter, landing a found report `aws_cur`'s.

A month's manifest is looked for from the prefix downwards: folders that are named as another month, and data
folders beside metadata, are not gone into, so a look costs a handful of listings whatever the bucket holds.

Assumption: AWS writes the manifest after the data. In an overwriting report data can be newer than the
manifest while a refresh is being written; such a report is left to the next run, unless it stays so for an
hour, as copied buckets do.
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
    """Where a payer's reports are in a bucket, and as whom they are read."""

    bucket: str = Field(min_length=3)
    prefix: str = ""
    role_arn: str | None = Field(default=None, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$")
    external_id: str | None = Field(default=None, min_length=2)
    region: str = "us-east-1"


@dataclass(frozen=True)
class CurBucketSource:
    """The reports of one payer in a bucket; a `sources.source.Source`."""

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
        """Payer and place."""
        return f"aws {self.document.label} at {self._place}"

    @property
    def _place(self) -> str:
        return self.bucket.url(_as_folder(self.document.prefix))

    def available(self, month: str) -> list[Available]:
        """The current refresh of each report of the month.

        Raises:
            OctoError: the bucket refuses, holds no report at all, or a manifest is not right.
        """
        reports = (self._report(found, ()) for found in self._found(month))
        return [Available(self.vendor, self.account, month, report.report, version_of(report)) for report in reports]

    def passed_over(self, month: str) -> list[str]:
        """A sentence for each export that the last landing of the month left to another kind of source."""
        return self._passed_over.get(month, [])

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land the current refresh of each report of the month.

        Raises:
            OctoError: a report cannot be read or is not right; the others are landed all the same.
        """
        reports: list[CurReport] = []
        failures: list[OctoError] = []
        for found in self._found(month):
            try:
                reports.append(self._to_land(root, found))
            except OctoError as error:
                failures.append(error)
        return land_reports(root, reports, failures, fetched_at)

    def _to_land(self, root: Location, found: "_Found") -> CurReport:
        """A report with its files; what is landed already is not looked for."""
        report = self._report(found, ())
        if known_report(root, report.month, version_of(report), self.account):
            return report
        objects = [self._locate(key, found) for key in found.manifest.keys]
        self._refuse_half_refreshed(found, objects)
        return self._report(found, objects)

    def _report(self, found: "_Found", objects: Sequence[StoredObject]) -> CurReport:
        manifest = found.manifest
        return self.document.applied(
            CurReport(
                report=manifest.report,
                month=manifest.month,
                version=manifest.version,
                account=manifest.account,
                source=self.bucket.url(found.at.key),
                files=tuple(map(self._source_file, objects)),
                domain=manifest.domain,
            )
        )

    def _source_file(self, found: StoredObject) -> SourceFile:
        return SourceFile(
            name=found.key.rsplit("/", 1)[-1],
            open=partial(self.bucket.open, found),
            size=found.size,
            open_at=partial(self.bucket.open, found),
            etag=found.etag,
            digest_parts=partial(self.bucket.digest_parts, found),
        )

    def _found(self, month: str) -> list["_Found"]:
        if not self.document.is_of(month):
            return []
        manifests, periods = self._manifests(month)
        others: list[OtherExportError] = []
        found = []
        for at in manifests:
            try:
                found += self._read(at, month)
            except OtherExportError as other:
                others.append(other)
        self._passed_over[month] = [str(other) for other in others if other.kind == "focus"]
        if others and not found and all(other.kind == "focus" for other in others):
            raise others[0]
        if not periods:
            raise OctoError(
                f"AWS account {self.account}: there is no Cost and Usage Report below {self._place}. "
                "Check bucket and prefix in the source's configuration; a new report takes up to a day to appear.",
                code="report-missing",
            )
        return sorted(found, key=lambda one: one.manifest.report)

    def _read(self, at: StoredObject, month: str) -> list["_Found"]:
        place = self.bucket.url(at.key)
        text = self.bucket.read(at.key).decode("utf-8-sig", "replace")
        columns = parse_listing(text, place).columns
        kind = export_kind(columns) if columns else "cur"
        if kind != "cur":
            raise OtherExportError(place, kind)
        manifest = parse_manifest(text, name=at.key.rsplit("/", 1)[-1], folder_month=month, place=place)
        return [_Found(at, manifest)] if self.document.wants(manifest.report) else []

    def _manifests(self, month: str) -> tuple[list[StoredObject], bool]:
        """The current manifest of each report of the month, and whether there are reports of any month."""
        manifests: list[StoredObject] = []
        has_periods = False
        folders = [_as_folder(self.document.prefix)]
        for _ in range(_DEEPEST):
            below: list[str] = []
            for folder in folders:
                for inner in self._to_search(folder):
                    of = month_of_folder(_last(inner))
                    has_periods |= of is not None
                    if of is None:
                        below.append(inner)
                    elif of == month:
                        manifests += self._current(inner)
            folders = below
        return manifests, has_periods

    def _to_search(self, folder: str) -> list[str]:
        inner, _ = self.bucket.folder(folder)
        names = {_last(one) for one in inner}
        return [one for one in inner if not (_last(one) == "data" and "metadata" in names)]

    def _current(self, period: str) -> list[StoredObject]:
        """The manifests of a period's folder; where only its refreshes have them, those of the latest."""
        refreshes, objects = self.bucket.folder(period)
        if found := [one for one in objects if is_manifest(_last(one.key))]:
            return found
        older: dict[str, StoredObject] = {}
        for refresh in refreshes:
            for one in self.bucket.folder(refresh)[1]:
                name = _last(one.key)
                if is_manifest(name) and (name not in older or older[name].modified < one.modified):
                    older[name] = one
        return list(older.values())

    def _locate(self, key: tuple[str, ...], found: "_Found") -> StoredObject:
        """The object of a manifest's key: where it says, or beside the manifest in a bucket that was copied."""
        for candidate in _candidates(key, found.at.key):
            folder, name = candidate.rsplit("/", 1) if "/" in candidate else ("", candidate)
            objects: list[StoredObject] = self.bucket.folder(_as_folder(folder))[1]
            if at := next((one for one in objects if _last(one.key) == name), None):
                return at
        raise OctoError(
            f"AWS account {self.account}: {'/'.join(key)} is listed in {self.bucket.url(found.at.key)}, but is not in "
            "the bucket. Wait for the report's next refresh; nothing of it was landed.",
            code="report-incomplete",
        )

    def _refuse_half_refreshed(self, found: "_Found", objects: list[StoredObject]) -> None:
        newest = max(one.modified for one in objects)
        if newest > found.at.modified and datetime.now(UTC) - newest < _REFRESH_TAKES:
            raise OctoError(
                f"AWS account {self.account}: {self.bucket.url(found.at.key)} is being refreshed right now: its data "
                "is newer than the manifest. The next run takes it; nothing of it was landed.",
                code="report-being-refreshed",
            )


@dataclass(frozen=True)
class _Found:
    """A report's current manifest and where it is."""

    at: StoredObject
    manifest: Manifest


def _candidates(key: tuple[str, ...], manifest: str) -> Iterator[str]:
    said = "/".join(key)
    yield said
    # A report without a prefix is written below a folder without a name.
    yield f"/{said}"
    period = next((at for at, part in enumerate(key) if month_of_folder(part)), None)
    parts = manifest.split("/")
    own = next((at for at, part in enumerate(parts) if month_of_folder(part)), None)
    if period is not None and own is not None:
        # Of a Data Export, data and metadata are folders beside each other.
        above = 1 if "metadata" in parts[:own] else 0
        yield "/".join((*parts[: own - above], *key[period - above :]))


def _as_folder(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/" if prefix else ""


def _last(key: str) -> str:
    return key.rstrip("/").rsplit("/", 1)[-1]
