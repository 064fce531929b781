"""The manifest of an AWS Cost and Usage Report: what it says, and whether that is of this report and month.

Here belongs the text of both kinds of manifest (``reportKeys`` of legacy reports, ``dataFiles`` of the Data
Exports of CUR 2.0) and the folder names that say a month. Where manifest and data files are, and what is in
the data, does not.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import is_month
from octo_pipeline.vendors.downloads import safe_name

_PERIOD = re.compile(r"(\d{4})(\d{2})\d{2}-\d{8}|billing_period=(\d{4})-(\d{2})", re.ASCII | re.IGNORECASE)
_INSTANT = re.compile(r"(\d{4})-?(\d{2})-?\d{2}([T ].*)?", re.ASCII)
_MANIFEST = re.compile(r"(.*?)-?manifest\.json", re.IGNORECASE | re.DOTALL)
# What AWS writes beside a report for those who load it.
_OTHER_MANIFEST = re.compile(r"(redshift|quicksight)-?manifest\.json$", re.IGNORECASE)
_BUCKET = re.compile(r"s3[an]?://[^/]*/", re.IGNORECASE)


# A billing view shows what a reseller charges (pro forma) or what AWS invoices.
Domain = Literal["PRO_FORMA", "BILLABLE"]
_VIEWS: tuple[tuple[str, Domain], ...] = (
    ("billing-transfer-showback", "PRO_FORMA"),
    ("billing-group", "PRO_FORMA"),
    ("billing-transfer", "BILLABLE"),
    ("primary", "BILLABLE"),
)


@dataclass(frozen=True)
class Listing:
    """What a manifest lists, whatever export it is of.

    Attributes:
        keys: of the data files, without the bucket, split at the slashes.
        columns: their names; none if the manifest does not list them.
    """

    keys: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes:
        report: name of the report or export.
        month: the billing period, YYYY-MM.
        version: the refresh; another text is another version.
        account: the account that owns the report, None if the manifest does not tell.
        keys: of the data files, without the bucket, split at the slashes.
        domain: whether the billing view is one of estimates or of the invoice, None if the manifest does not tell.
    """

    report: str
    month: str
    version: str
    account: str | None
    keys: tuple[tuple[str, ...], ...]
    domain: Domain | None = None


def is_manifest(name: str) -> bool:
    """Tell whether a file is called as AWS calls manifests."""
    return _MANIFEST.fullmatch(name) is not None and _OTHER_MANIFEST.search(name) is None


def month_of_folder(name: str) -> str | None:
    """The month in a folder's name, ``20240101-20240201`` or ``BILLING_PERIOD=2024-01``; None for any other name."""
    match = _PERIOD.fullmatch(name)
    if match is None:
        return None
    month = f"{match[1] or match[3]}-{match[2] or match[4]}"
    return month if is_month(month) else None


def parse_listing(text: str, place: str) -> Listing:
    """Read what a manifest lists, without holding it against anything.

    Raises:
        OctoError: it is no manifest or lists no data files.
    """
    document = _document(text, place)
    keys = tuple(_key_parts(key, place) for key in _listed_files(document, place))
    columns = document.get("columns")
    named = [one for one in columns if isinstance(one, dict)] if isinstance(columns, list) else []
    names = ["/".join(str(one[part]) for part in ("category", "name") if one.get(part)) for one in named]
    return Listing(keys, tuple(name for name in names if name))


def parse_manifest(text: str, *, name: str, folder_month: str | None, place: str) -> Manifest:
    """Read a manifest and hold it against the names of its file and folder.

    Args:
        text: the manifest as delivered.
        name: the manifest's file name; AWS calls it after the report.
        folder_month: the month that the manifest's folder says, if it says one.
        place: what to call the manifest in sentences.

    Raises:
        OctoError: it is no manifest, lists no data files or one outside of the report's folder, or is of
            another report or month than the names say.
    """
    document = _document(text, place)
    keys = tuple(_key_parts(key, place) for key in _listed_files(document, place))
    month = _month(document, folder_month, place)
    for key in keys:
        for part in key[:-1]:
            _require_month(month_of_folder(part), month, place, f"its data file {'/'.join(key)}")
    return Manifest(
        report=_report(document, name, place),
        month=month,
        version=_version(document, text),
        account=_owner(document),
        keys=keys,
        domain=_domain(document),
    )


def _document(text: str, place: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OctoError(
            f"{place} is not JSON ({error}). Copy the report's folder again.", code="manifest-malformed"
        ) from error
    if not isinstance(document, dict):
        raise OctoError(
            f"{place} is not a manifest: it is no JSON object. Copy the report's folder again.",
            code="manifest-malformed",
        )
    return document


def _listed_files(document: dict[str, Any], place: str) -> list[str]:
    files = document.get("reportKeys", document.get("dataFiles"))
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise OctoError(
            f"{place} is no manifest of a Cost and Usage Report: it lists its files neither in reportKeys "
            "nor in dataFiles. Point to the folder of the report, without other exports.",
            code="manifest-malformed",
        )
    if not files:
        raise OctoError(
            f"{place} lists no data files. An empty month has a file without rows, so this report is not "
            "whole: wait for its next refresh.",
            code="report-incomplete",
        )
    if len(set(files)) < len(files):
        raise OctoError(
            f"{place} lists a data file twice, so its cost would count twice. Fetch it again.",
            code="file-counted-twice",
        )
    return files


def _key_parts(key: str, place: str) -> tuple[str, ...]:
    parts = tuple(part for part in _BUCKET.sub("", key, count=1).split("/") if part)
    if not parts or any(part in (".", "..") or "\\" in part or "\0" in part for part in parts):
        raise OctoError(
            f"{place} lists {key!r}, which is no file below the report's folder. Fetch it again.",
            code="manifest-malformed",
        )
    return parts


def _report(document: dict[str, Any], name: str, place: str) -> str:
    match = _MANIFEST.fullmatch(name)
    named = match[1] if match else ""
    said = document.get("reportName") or document.get("exportName") or named
    if not isinstance(said, str) or (named and said != named):
        raise OctoError(
            f"{place} is the manifest of another report: it says {said!r}, its file is called after "
            f"{named!r}. Copy the report's folder again.",
            code="manifest-of-another-report",
        )
    return said


def _month(document: dict[str, Any], folder_month: str | None, place: str) -> str:
    period = document.get("billingPeriod")
    start = period.get("start") if isinstance(period, dict) else None
    if start is None and folder_month is not None:
        return folder_month
    match = _INSTANT.fullmatch(str(start))
    month = f"{match[1]}-{match[2]}" if match else ""
    if not is_month(month):
        raise OctoError(
            f"{place} does not say its month: billingPeriod.start is {start!r}, and its folder is not called "
            "like 20240101-20240201 or BILLING_PERIOD=2024-01. Keep the folders as they are in S3.",
            code="month-unknown",
        )
    _require_month(folder_month, month, place, "its folder")
    return month


def _require_month(said: str | None, month: str, place: str, what: str) -> None:
    if said not in (None, month):
        raise OctoError(
            f"{place} is of {month}, but {what} is of {said}. Copy the report's folder again.",
            code="manifest-of-another-month",
        )


def _version(document: dict[str, Any], text: str) -> str:
    """The refresh's id with a digest: nothing keeps a manifest from being rewritten under the same id."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    refresh = document.get("assemblyId") or document.get("executionId")
    return safe_name(f"{refresh}-{digest}", "version") if refresh else digest


def _domain(document: dict[str, Any]) -> Domain | None:
    said = str(document.get("domain") or document.get("billingDomain") or "").upper().replace("-", "_")
    if said in get_args(Domain):
        return cast(Domain, said)
    view = str(document.get("billingViewArn") or "").lower()
    return next((domain for name, domain in _VIEWS if f"/{name}" in view), None)


def _owner(document: dict[str, Any]) -> str | None:
    arn = str(document.get("exportArn", "")).split(":")
    named = document.get("account") or (arn[4] if len(arn) > 5 else "")
    # What is longer than any account is none, and only ever shown.
    return str(named).strip()[:100] or None
