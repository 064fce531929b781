"""Which files of a place make a month of FOCUS: with manifests of AWS and Azure, in folders by period, or loose.

1. Where a manifest governs an export's folder, the files that it lists count and no others: AWS leaves empty surplus
   files, and an Azure run that is still being written has no manifest yet.
2. Of Azure runs the one that was submitted last counts on the days that it covers. An earlier run counts on the rest.
3. A folder such as ``billing_period=2024-03`` says the month. Otherwise the rows do, so the file is looked into once.
4. Files without a manifest that share rows are told apart from parts by `shared_rows`, when they are landed.

Exports that are not FOCUS costs are skipped where a manifest or their columns say what they are. A data file that is not
recognised, or has a format that is not read, is refused by name: its costs could be missing.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months
from octo_pipeline.vendors.data_columns import folded
from octo_pipeline.vendors.data_files import data_format
from octo_pipeline.vendors.listing import ListedFile

_PERIOD_FOLDER = re.compile(r"billing[_-]?period(?:[_-]?start)?=(\d{4}-\d{2})", re.IGNORECASE)
_RUN_FOLDER = re.compile(r"(?:(?<=/)|^)\d{8}-\d{8}/")
_MANIFEST = re.compile(r"(?:.*/)?(?:[^/]*-)?manifest\.json", re.IGNORECASE)
# Data in a form that is not read.
_OTHER_FORMS = re.compile(r".+\.(xlsx?|xlsb|ods|jsonl|ndjson|tsv|avro|orc|7z|rar|tar|tgz|gz|bz2|zst|xz)", re.IGNORECASE)
# A column that every FOCUS file has, as far into a file as a header or a first row goes.
_TELLING_COLUMN = re.compile(rb"billed_?cost", re.IGNORECASE)
_BEGINNING = 1 << 16
# FOCUS has data sets beside charges since 1.3: commitments, billing periods, invoices.
_OTHER_DATASETS = ({"contractcommitmentid"}, {"billingperiodstatus"}, {"invoicedetailid", "invoiceissuestatus"})


@dataclass(frozen=True)
class MonthFile:
    """A data file with rows of a month.

    Attributes:
        listed: where it is.
        days: spans of first and last day that count; () for all.
        is_listed_once: whether a manifest says that it is not a copy of another file.
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
    files: Sequence[ListedFile], origin: str, month: str, months_of: Callable[[ListedFile], Sequence[str]]
) -> list[MonthFile]:
    """The data files with rows of the month.

    Args:
        files: all files of the place.
        origin: what sentences call it.
        month: the billing month.
        months_of: the months that a file has rows of; none if it is not a cost export.

    Raises:
        OctoError: a manifest cannot be understood or lists a file that is not there; a file is of a form that is not
            read; there is no data file at all.
    """
    manifests = [listed for listed in files if _MANIFEST.fullmatch(listed.name)]
    data = [listed for listed in files if data_format(listed.name)]
    unread = [listed.name for listed in files if listed not in manifests and listed not in data and _is_unread(listed)]
    if unread:
        raise OctoError(
            f"{origin} has {', '.join(unread[:3])}, which is not read: FOCUS files are CSV, plain or packed, or Parquet. "
            "Convert it, or take it away.",
            code="file-form-unknown",
            place=unread[0],
        )
    if not data:
        raise OctoError(
            f"{origin} has no FOCUS file. Expected are CSV, plain or packed, or Parquet files; an export takes up to a "
            "day to appear.",
            code="exports-missing",
            place=origin,
        )
    governed: set[str] = set()
    runs: dict[str, list[_Run]] = defaultdict(list)
    for manifest in _current(manifests):
        names, run = _read(manifest, data, origin, month)
        governed |= names
        if run is not None:
            runs[run.export].append(run)
    month_files = [month_file for export in sorted(runs) for month_file in _days_that_count(runs[export])]
    for listed in data:
        if listed.name in governed:
            continue
        hint = _PERIOD_FOLDER.search(listed.name)
        if (hint is None or hint[1] == month) and month in months_of(listed):
            month_files.append(MonthFile(listed))
    # A manifest's export need not be FOCUS: the same container may hold others.
    return [
        month_file
        for month_file in month_files
        if not month_file.is_listed_once or month in months_of(month_file.listed)
    ]


def _is_unread(listed: ListedFile) -> bool:
    """Whether a file has data in a form that is not read; notes and schemas beside the data have none."""
    if _OTHER_FORMS.fullmatch(listed.name):
        return True
    with listed.file.open() as stream:
        return _TELLING_COLUMN.search(stream.read(_BEGINNING)) is not None


def is_cost_export(names: Sequence[str], origin: str) -> bool:
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
        f"{origin} is not a FOCUS file: it has no columns BilledCost and ChargeCategory. Point the source to FOCUS exports, "
        "or take the file away.",
        code="file-not-focus",
        place=origin,
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


def _read(manifest: ListedFile, data: Sequence[ListedFile], origin: str, month: str) -> tuple[set[str], _Run | None]:
    """The names of the data files that a manifest governs, and what it lists if it is of the month."""
    where = f"{origin}/{manifest.name}"
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
    return set(), None


def _aws_run(
    document: Mapping[str, Any], manifest: ListedFile, data: Sequence[ListedFile], where: str, month: str
) -> tuple[set[str], _Run | None]:
    export, is_export, _ = manifest.name.partition("metadata/")
    names = [str(name) for name in document["dataFiles"]]
    governed = {listed.name for name in names for listed in _matching(name, data)}
    if is_export:
        governed |= {listed.name for listed in data if listed.name.startswith(f"{export}data/")}
    period = _PERIOD_FOLDER.search(manifest.name)
    if period is None or period[1] != month:
        return governed, None
    return governed, _Run(where, tuple(_located(name, data, where) for name in names))


def _azure_run(
    document: Mapping[str, Any], manifest: ListedFile, data: Sequence[ListedFile], where: str, month: str
) -> tuple[set[str], _Run | None]:
    config, run, blobs = document["exportConfig"], document["runInfo"], document["blobs"]
    names = [str(blob["blobName"]) for blob in blobs]
    governed = {listed.name for name in names for listed in _matching(name, data)}
    if dated := _RUN_FOLDER.search(manifest.name):
        export = manifest.name[: dated.start()]
        governed |= {
            listed.name
            for listed in data
            if _RUN_FOLDER.match(listed.name, len(export)) and listed.name.startswith(export)
        }
    first, last = (date.fromisoformat(str(run[key])[:10]) for key in ("startDate", "endDate"))
    if "focus" not in str(config["type"]).lower() or f"{first:%Y-%m}" != month:
        return governed, None
    if int(document.get("blobCount", len(blobs))) != len(blobs):
        raise OctoError(
            f"{where} announces {document['blobCount']} blobs and lists {len(blobs)}, so the export is not whole. Run it "
            "again.",
            code="export-incomplete",
            place=where,
        )
    span = first, max(first, min(last, _last_day(month)))
    files = tuple(_located(name, data, where) for name in names)
    return governed, _Run(str(config["resourceId"]).lower(), files, str(run.get("submittedTime", "")), span)


def _matching(name: str, data: Sequence[ListedFile]) -> list[ListedFile]:
    """The files of a name that may begin above or below the listed place."""
    name = re.sub(r"^s3://[^/]+/", "", name)
    return [listed for listed in data if listed.name == name] or [
        listed for listed in data if listed.name.endswith(f"/{name}") or name.endswith(f"/{listed.name}")
    ]


def _located(name: str, data: Sequence[ListedFile], where: str) -> ListedFile:
    matching = _matching(name, data)
    if len(matching) != 1:
        raise OctoError(
            f"{where} lists {name}, which is there {len(matching) or 'no'} times. Copy the whole folder of the export, once.",
            code="export-incomplete",
            place=where,
        )
    return matching[0]


def _days_that_count(runs: Sequence[_Run]) -> list[MonthFile]:
    """The files of one export's runs, each with the days on which no later run is told."""
    month_files: list[MonthFile] = []
    covered: set[date] = set()
    for run in sorted(runs, key=lambda run: run.submitted, reverse=True):
        days = set(_days(*run.span)) if run.span else set()
        left = sorted(days - covered)
        if run.span and not left:
            continue
        counted = _spans(left) if covered & days else ()
        month_files += [MonthFile(listed, counted, is_listed_once=True) for listed in run.files]
        covered |= days
    return month_files


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
