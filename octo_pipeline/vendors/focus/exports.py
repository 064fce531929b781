"""Which files of a place make a month of FOCUS: with manifests of AWS and Azure, in folders by period, or loose.

1. Where a manifest governs an export's folder, the files that it lists count and no others: AWS leaves empty surplus
   files, and an Azure run that is still being written has no manifest yet.
2. Of Azure runs the one that was submitted last counts on the days that it covers. An earlier run counts on the rest.
3. A folder such as ``billing_period=2024-03`` says the month. Otherwise the rows do, so the file is looked into once.
4. Files without a manifest that share rows are told apart from parts by `shared_rows`, when they are landed.

Exports that are no FOCUS costs are passed over where a manifest or their columns say what they are. A data file that is
nothing known, or of a form that is not read, is refused by name: its costs could be missing.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, is_month
from octo_pipeline.vendors.data_columns import folded
from octo_pipeline.vendors.data_files import data_format
from octo_pipeline.vendors.listing import ListedFile

_PERIOD_FOLDER = re.compile(r"billing[_-]?period(?:[_-]?start)?=(\d{4}-\d{2})", re.IGNORECASE)
_RUN_FOLDER = re.compile(r"\d{8}-\d{8}")
_MANIFEST = re.compile(r"(?:.*/)?(?:[^/]*-)?manifest\.json", re.IGNORECASE)
# Data in a form that is not read.
_OTHER_FORMS = re.compile(
    r".+\.(xlsx?|xlsb|ods|jsonl|ndjson|json\.gz|tsv|tsv\.gz|txt\.gz|avro|orc|7z|rar|tar|tgz|tar\.gz|bz2|zst|xz)",
    re.IGNORECASE,
)
# FOCUS has data sets beside charges since 1.3: commitments, billing periods, invoices.
_OTHER_DATASETS = ({"contractcommitmentid"}, {"billingperiodstatus"}, {"invoicedetailid", "invoiceissuestatus"})


@dataclass(frozen=True)
class MonthFile:
    """A data file with rows of a month.

    Attributes:
        listed: where it is.
        days: spans of first and last day that count; () for all.
        is_listed_once: whether a manifest says that it is no copy of another.
    """

    listed: ListedFile
    days: tuple[tuple[date, date], ...] = ()
    is_listed_once: bool = False


@dataclass(frozen=True)
class _Run:
    """What a manifest lists."""

    export: str
    files: tuple[ListedFile, ...]
    submitted: str = ""
    span: tuple[date, date] | None = None


def files_of_month(
    files: Sequence[ListedFile], place: str, month: str, months_of: Callable[[ListedFile], Sequence[str]]
) -> list[MonthFile]:
    """The data files with rows of the month.

    Args:
        files: all files of the place.
        place: what sentences call it.
        month: the billing month.
        months_of: of which months a file has rows; none if it is no export of costs.

    Raises:
        OctoError: a manifest cannot be understood or lists a file that is not there; a file is of a form that is not
            read; there is no data file at all.
    """
    manifests = [one for one in files if _MANIFEST.fullmatch(one.name)]
    others = [one for one in files if one not in manifests]
    if unread := [one.name for one in others if _OTHER_FORMS.fullmatch(one.name)]:
        raise OctoError(
            f"{place} has {', '.join(unread[:3])}, which is not read: FOCUS files are CSV, plain or packed, or Parquet. "
            "Convert it, or take it away.",
            code="file-form-unknown",
            place=unread[0],
        )
    data = [one for one in others if data_format(one.name)]
    if not data:
        raise OctoError(
            f"{place} has no FOCUS file. Expected are CSV, plain or packed, or Parquet files; an export takes up to a "
            "day to appear.",
            code="exports-missing",
            place=place,
        )
    governed: set[str] = set()
    runs: dict[str, list[_Run]] = defaultdict(list)
    for manifest in _current(manifests):
        export, is_month_s, read = _read(manifest, data, place, month)
        governed |= {one.name for one in data if one.name.startswith(export)}
        if is_month_s and read is not None:
            runs[read.export].append(read)
    found = [one for export in sorted(runs) for one in _days_that_count(runs[export])]
    for one in data:
        if one.name in governed:
            continue
        hint = _PERIOD_FOLDER.search(one.name)
        if (hint is None or hint[1] == month) and month in months_of(one):
            found.append(MonthFile(one))
    # A manifest's export need not be FOCUS: the same container may hold others.
    return [one for one in found if not one.is_listed_once or month in months_of(one.listed)]


def is_cost_export(names: Sequence[str], place: str) -> bool:
    """Whether a file with these columns has FOCUS charges; False for what is known to be something else.

    Raises:
        OctoError: it is nothing known.
    """
    columns = {folded(name) for name in names}
    if any(dataset <= columns for dataset in _OTHER_DATASETS):
        return False
    if {"billedcost", "chargecategory"} <= columns:
        return True
    raise OctoError(
        f"{place} is not a FOCUS file: it has no columns BilledCost and ChargeCategory. Point the source to FOCUS exports, "
        "or take the file away.",
        code="file-not-focus",
        place=place,
    )


def _current(manifests: Iterable[ListedFile]) -> list[ListedFile]:
    """The manifests but AWS's copies beside old refreshes: the one that stands highest in a period is the newest."""
    highest: dict[str, ListedFile] = {}
    current = []
    for manifest in manifests:
        period = _PERIOD_FOLDER.search(manifest.name)
        if period is None:
            current.append(manifest)
            continue
        key = f"{manifest.name[: period.end()]}/{manifest.name.rsplit('/', 1)[-1]}"
        if key not in highest or manifest.name.count("/") < highest[key].name.count("/"):
            highest[key] = manifest
    return [*current, *highest.values()]


def _read(manifest: ListedFile, data: Sequence[ListedFile], place: str, month: str) -> tuple[str, bool, _Run | None]:
    """The folder that a manifest governs, whether it is of the month, and what it lists."""
    where = f"{place}/{manifest.name}"
    try:
        document = json.loads(manifest.read())
        if isinstance(document, dict) and "exportConfig" in document:
            return _azure_run(document, manifest, data, where, month)
        if isinstance(document, dict) and "dataFiles" in document:
            return _aws_run(document, manifest, data, where, month)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise OctoError(
            f"{where} is not a manifest that can be understood ({type(error).__name__}: {error}). Export again.",
            code="manifest-malformed",
            place=where,
        ) from error
    # A manifest of another program says nothing about the files beside it.
    return f"{manifest.name}\0", False, None


def _aws_run(
    document: Mapping[str, Any], manifest: ListedFile, data: Sequence[ListedFile], where: str, month: str
) -> tuple[str, bool, _Run | None]:
    root = manifest.name.partition("metadata/")[0] if "metadata/" in manifest.name else _folder(manifest.name)
    period = _PERIOD_FOLDER.search(manifest.name)
    if period is None or period[1] != month:
        return root, False, None
    listed = [_located(str(name), data, where) for name in document["dataFiles"]]
    return root, True, _Run(where, tuple(listed))


def _azure_run(
    document: Mapping[str, Any], manifest: ListedFile, data: Sequence[ListedFile], where: str, month: str
) -> tuple[str, bool, _Run | None]:
    config, run = document["exportConfig"], document["runInfo"]
    parts = manifest.name.split("/")
    dated = next((at for at, part in enumerate(parts) if _RUN_FOLDER.fullmatch(part)), len(parts) - 1)
    root = "".join(f"{part}/" for part in parts[:dated])
    first, last = (date.fromisoformat(str(run[key])[:10]) for key in ("startDate", "endDate"))
    if "focus" not in str(config["type"]).lower() or not is_month(f"{first:%Y-%m}") or f"{first:%Y-%m}" != month:
        return root, False, None
    blobs = document["blobs"]
    if int(document.get("blobCount", len(blobs))) != len(blobs):
        raise OctoError(
            f"{where} announces {document['blobCount']} blobs and lists {len(blobs)}, so the export is not whole. Run it "
            "again.",
            code="export-incomplete",
            place=where,
        )
    listed = [_located(str(blob["blobName"]), data, where) for blob in blobs]
    span = first, max(first, min(last, _last_day(month)))
    return root, True, _Run(str(config["resourceId"]).lower(), tuple(listed), str(run.get("submittedTime", "")), span)


def _located(name: str, data: Sequence[ListedFile], where: str) -> ListedFile:
    """The file of a name that may begin above or below the listed place."""
    name = re.sub(r"^s3://[^/]+/", "", name)
    same = [one for one in data if one.name == name] or [
        one for one in data if one.name.endswith(f"/{name}") or name.endswith(f"/{one.name}")
    ]
    if len(same) != 1:
        raise OctoError(
            f"{where} lists {name}, which is there {len(same) or 'no'} times. Copy the whole folder of the export, once.",
            code="export-incomplete",
            place=where,
        )
    return same[0]


def _days_that_count(runs: Sequence[_Run]) -> list[MonthFile]:
    """The files of one export's runs, each with the days on which no later run is told."""
    found: list[MonthFile] = []
    told: set[date] = set()
    for run in sorted(runs, key=lambda run: run.submitted, reverse=True):
        days = set(_days(*run.span)) if run.span else set()
        left = sorted(days - told)
        if run.span and not left:
            continue
        counted = _spans(left) if told & days else ()
        found += [MonthFile(one, counted, is_listed_once=True) for one in run.files]
        told |= days
    return found


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(number) for number in range((last - first).days + 1)]


def _spans(days: Sequence[date]) -> tuple[tuple[date, date], ...]:
    spans: list[tuple[date, date]] = []
    for day in days:
        if spans and day - spans[-1][1] == timedelta(1):
            spans[-1] = spans[-1][0], day
        else:
            spans.append((day, day))
    return tuple(spans)


def _last_day(month: str) -> date:
    return date.fromisoformat(f"{add_months(month, 1)}-01") - timedelta(1)


def _folder(name: str) -> str:
    return f"{name.rsplit('/', 1)[0]}/" if "/" in name else ""
