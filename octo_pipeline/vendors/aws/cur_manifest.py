"""The manifest of an AWS Cost and Usage Report: its content, and whether it is of the expected report and month.

This module reads the text of both kinds of manifest (``reportKeys`` of legacy reports, ``dataFiles`` of the Data
Exports of CUR 2.0) and the folder names of months. Locating manifests and data files, and the data itself, belong
elsewhere.
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
# AWS writes these beside a report for loading it into databases.
_OTHER_MANIFEST = re.compile(r"(redshift|quicksight)-?manifest\.json$", re.IGNORECASE)
_BUCKET = re.compile(r"s3[an]?://[^/]*/", re.IGNORECASE)


# A billing view shows either what a reseller charges (pro forma) or what AWS invoices.
Domain = Literal["PRO_FORMA", "BILLABLE"]
_VIEWS: tuple[tuple[str, Domain], ...] = (
    ("billing-transfer-showback", "PRO_FORMA"),
    ("billing-group", "PRO_FORMA"),
    ("billing-transfer", "BILLABLE"),
    ("primary", "BILLABLE"),
)


@dataclass(frozen=True)
class Listing:
    """The files and columns that a manifest lists, for any export.

    Attributes:
        keys: of the data files, without the bucket, split at the slashes.
        columns: their names; empty if the manifest does not list them.
    """

    keys: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest.

    Attributes:
        report: name of the report or export.
        month: the billing period, YYYY-MM.
        version: the refresh; it changes with the manifest's text.
        account: the account that owns the report, None if the manifest does not name it.
        keys: of the data files, without the bucket, split at the slashes.
        domain: whether the billing view shows estimates or the invoice, None if the manifest does not say.
    """

    report: str
    month: str
    version: str
    account: str | None
    keys: tuple[tuple[str, ...], ...]
    domain: Domain | None = None


def is_manifest(name: str) -> bool:
    """Whether a file has the name of a manifest."""
    return _MANIFEST.fullmatch(name) is not None and _OTHER_MANIFEST.search(name) is None


def month_of_folder(name: str) -> str | None:
    """The month in a folder's name, such as ``20240101-20240201`` or ``BILLING_PERIOD=2024-01``; else None."""
    match = _PERIOD.fullmatch(name)
    if match is None:
        return None
    month = f"{match[1] or match[3]}-{match[2] or match[4]}"
    return month if is_month(month) else None


def parse_listing(text: str, origin: str) -> Listing:
    """Read the files and columns that a manifest lists, without checking its report and month.

    Raises:
        OctoError: it is not a manifest or lists no data files.
    """
    document = _document(text, origin)
    keys = tuple(_key_parts(key, origin) for key in _listed_files(document, origin))
    columns = document.get("columns")
    named = [column for column in columns if isinstance(column, dict)] if isinstance(columns, list) else []
    names = ["/".join(str(column[part]) for part in ("category", "name") if column.get(part)) for column in named]
    return Listing(keys, tuple(name for name in names if name))


def parse_manifest(text: str, *, name: str, folder_month: str | None, origin: str) -> Manifest:
    """Read a manifest and compare it with the names of its file and folder.

    Args:
        text: the manifest as delivered.
        name: the manifest's file name, which contains the report's.
        folder_month: the month in the name of the manifest's folder, if there is one.
        origin: what to call the manifest in messages.

    Raises:
        OctoError: it is not a manifest, lists no data files or one outside of the report's folder, or is of
            another report or month than the names say.
    """
    document = _document(text, origin)
    keys = tuple(_key_parts(key, origin) for key in _listed_files(document, origin))
    month = _month(document, folder_month, origin)
    for key in keys:
        for part in key[:-1]:
            _require_month(month_of_folder(part), month, origin, f"its data file {'/'.join(key)}")
    return Manifest(
        report=_report(document, name, origin),
        month=month,
        version=_version(document, text),
        account=_owner(document),
        keys=keys,
        domain=_domain(document),
    )


def _document(text: str, origin: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OctoError(
            f"{origin} is not JSON ({error}). Copy the report's folder again.", code="manifest-malformed"
        ) from error
    if not isinstance(document, dict):
        raise OctoError(
            f"{origin} is not a manifest: it is not a JSON object. Copy the report's folder again.",
            code="manifest-malformed",
        )
    return document


def _listed_files(document: dict[str, Any], origin: str) -> list[str]:
    files = document.get("reportKeys", document.get("dataFiles"))
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise OctoError(
            f"{origin} is not a manifest of a Cost and Usage Report: it lists its files neither in reportKeys "
            "nor in dataFiles. Point to the folder of the report, without other exports.",
            code="manifest-malformed",
        )
    if not files:
        raise OctoError(
            f"{origin} lists no data files. Even an empty month has a file without rows, so this report is incomplete. Wait "
            "for its next refresh.",
            code="report-incomplete",
        )
    if len(set(files)) < len(files):
        raise OctoError(
            f"{origin} lists a data file twice, so its cost would count twice. Fetch it again.",
            code="file-counted-twice",
        )
    return files


def _key_parts(key: str, origin: str) -> tuple[str, ...]:
    parts = tuple(part for part in _BUCKET.sub("", key, count=1).split("/") if part)
    if not parts or any(part in (".", "..") or "\\" in part or "\0" in part for part in parts):
        raise OctoError(
            f"{origin} lists {key!r}, which is not a file below the report's folder. Fetch it again.",
            code="manifest-malformed",
        )
    return parts


def _report(document: dict[str, Any], name: str, origin: str) -> str:
    match = _MANIFEST.fullmatch(name)
    named = match[1] if match else ""
    report = document.get("reportName") or document.get("exportName") or named
    if not isinstance(report, str) or (named and report != named):
        raise OctoError(
            f"{origin} is the manifest of another report: it says {report!r}, but its file is named after {named!r}. Copy "
            "the report's folder again.",
            code="manifest-of-another-report",
        )
    return report


def _month(document: dict[str, Any], folder_month: str | None, origin: str) -> str:
    period = document.get("billingPeriod")
    start = period.get("start") if isinstance(period, dict) else None
    if start is None and folder_month is not None:
        return folder_month
    match = _INSTANT.fullmatch(str(start))
    month = f"{match[1]}-{match[2]}" if match else ""
    if not is_month(month):
        raise OctoError(
            f"{origin} does not say its month: billingPeriod.start is {start!r}, and the name of its folder is not like "
            "20240101-20240201 or BILLING_PERIOD=2024-01. Keep the folders as they are in S3.",
            code="month-unknown",
        )
    _require_month(folder_month, month, origin, "its folder")
    return month


def _require_month(other_month: str | None, month: str, origin: str, part: str) -> None:
    if other_month not in (None, month):
        raise OctoError(
            f"{origin} is of {month}, but {part} is of {other_month}. Copy the report's folder again.",
            code="manifest-of-another-month",
        )


def _version(document: dict[str, Any], text: str) -> str:
    """The refresh's id with a digest, because a manifest can be rewritten under the same id."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    refresh = document.get("assemblyId") or document.get("executionId")
    return safe_name(f"{refresh}-{digest}", "version") if refresh else digest


def _domain(document: dict[str, Any]) -> Domain | None:
    domain = str(document.get("domain") or document.get("billingDomain") or "").upper().replace("-", "_")
    if domain in get_args(Domain):
        return cast(Domain, domain)
    view = str(document.get("billingViewArn") or "").lower()
    return next((view_domain for name, view_domain in _VIEWS if f"/{name}" in view), None)


def _owner(document: dict[str, Any]) -> str | None:
    arn = str(document.get("exportArn", "")).split(":")
    named = document.get("account") or (arn[4] if len(arn) > 5 else "")
    # A longer text is not an account; it is only displayed.
    return str(named).strip()[:100] or None
