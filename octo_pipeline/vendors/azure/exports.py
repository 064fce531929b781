"""Azure Cost Management exports (EA, MCA, pay as you go): in a container or a folder, with manifests or loose.

This module decides which runs make a month, and which exports of one payer make its month. Reading storage (`blobs`),
files without a manifest (`loose_files`) and which rows count (`usage`) belong elsewhere.

With manifests, an export is ``…/<export>/<YYYYMMDD-YYYYMMDD>/[<run>/]manifest.json`` and the blobs that it lists, CSV
(plain or gzip) or Parquet. Price sheets and other exports without costs are skipped. Of the runs of one scope, type and
month:

1. If any runs cover the whole month, only the last submitted of them counts. A later run of some days, such as "export
   selected dates", never replaces the month.
2. Otherwise each day comes from the last submitted run that covers it: month-to-date runs, weeks, single days. A run
   covers the days that were over when it was submitted. A day that no run covers comes from the last run that includes
   it.

A month of one payer is its FOCUS export; otherwise the actual export with the amortised one, or one of them alone. A
FOCUS export that covers fewer days than the others does not count.

Assumption: the exports of an installation do not overlap. An export of a billing account and one of a subscription in
it make the months of two payers, and would count that subscription twice.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, parse_month
from octo_pipeline.vendors.azure.blobs import Entry, FolderListing, Listing
from octo_pipeline.vendors.azure.days import days_between, spans_of
from octo_pipeline.vendors.azure.delivery import VENDOR, Month, Part, land_month, version_of
from octo_pipeline.vendors.azure.loose_files import has_data_files, months_of_files
from octo_pipeline.vendors.azure.usage_columns import COST_DETAILS, FOCUS
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.landing import Landed, land_each
from octo_pipeline.vendors.listing import is_litter
from octo_pipeline.vendors.source import Available

REPORT = "Cost Management"

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_DATASETS = {"ActualCost": "actual", "Usage": "actual", "AmortizedCost": "amortised", "FocusCost": "focus"}
_SCOPE = re.compile(r"(?P<scope>.*?)/providers/Microsoft\.CostManagement/", re.IGNORECASE)


class AzureExportDocument(BaseModel):
    """The configuration of one place of Cost Management exports; the SAS is named, never written.

    Attributes:
        folder: the folder with copies of the exports; or
        container: the address of the container, without SAS, with
        prefix: the folder in it, and
        sas_variable: the environment variable with the SAS (permissions read and list).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: Literal["azure"]
    kind: Literal["cost_management"]
    folder: Path | None = None
    container: str | None = Field(default=None, pattern=r"^https?://[^?\s]+$")
    prefix: str = ""
    sas_variable: str | None = Field(default=None, pattern=_VARIABLE)

    @model_validator(mode="after")
    def _one_place(self) -> "AzureExportDocument":
        if (self.folder is None) == (self.container is None):
            raise ValueError("give either folder or container")
        if (self.container is None) != (self.sas_variable is None):
            raise ValueError("sas_variable goes with container")
        return self


@dataclass(frozen=True)
class _Run:
    """A run of an export, as its manifest describes it.

    Attributes:
        scope: the billing account, profile or subscription.
        dataset: actual, amortised or focus.
        month: the month, YYYY-MM.
        first: the first requested day of the month.
        last: the last requested day of the month.
        submitted: the time in the manifest as text; '' if there is none.
        run_id: the run's id; '' if there is none.
        manifest: the manifest's address, for messages.
        document: the manifest.
    """

    scope: str
    dataset: str
    month: str
    first: date
    last: date
    submitted: str
    run_id: str
    manifest: str
    document: dict[str, Any]

    @property
    def days(self) -> frozenset[date]:
        """The requested days of the month."""
        return frozenset(days_between(self.first, self.last))

    @property
    def covered_days(self) -> frozenset[date]:
        """The requested days that were over when the run was submitted."""
        submitted = self.submitted[:10]
        return frozenset(day for day in self.days if not submitted or day.isoformat() < submitted)

    @property
    def is_whole(self) -> bool:
        """Whether it covers the month."""
        return self.covered_days == frozenset(days_between(*_span(self.month)))


@dataclass(frozen=True)
class AzureExportSource:
    """The Cost Management exports of a container or folder."""

    listing: Listing

    vendor = VENDOR
    account = None

    @property
    def name(self) -> str:
        """What messages and sensors call it."""
        return f"azure at {self.listing.place}"

    def available(self, month: str) -> list[Available]:
        """The version of each payer's month; for exports with manifests, this reads no data.

        Raises:
            OctoError: the listing cannot be read, or an export is incomplete.
        """
        return [
            Available(VENDOR, payer_month.account, payer_month.month, payer_month.report, payer_month.version)
            for payer_month in self._months(parse_month(month))
        ]

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land each payer's month.

        Raises:
            OctoError: an export is incomplete or wrong; those of other payers are still landed.
        """
        return land_each(self._months(parse_month(month)), partial(land_month, root, fetched_at=fetched_at))

    def _months(self, month: str) -> list[Month]:
        entries = [entry for entry in self.listing.entries() if not is_litter(entry.name.split("/"))]
        manifests = [entry for entry in entries if entry.name.split("/")[-1] == "manifest.json"]
        if manifests:
            runs = [run for entry in manifests if (run := _run(entry, self.listing.place, month))]
            return _months_of_runs(runs, entries, self.listing.place)
        loose = [entry for entry in entries if "/" not in entry.name]
        if not isinstance(self.listing, FolderListing) or not has_data_files(loose):
            raise OctoError(
                f"{self.listing.place} has no manifest.json of a Cost Management export, and no data files to read "
                "without one. Point to the export's folder, or create the export with file partitioning on.",
                code="exports-missing",
            )
        return months_of_files(self.listing.root, loose, self.listing.place, REPORT, month)


def _run(entry: Entry, origin: str, month: str) -> _Run | None:
    """The run that a manifest describes; None if it has no day of the month or is not an export of costs."""
    manifest = f"{origin}/{entry.name}"
    with _translate_manifest_errors(manifest):
        document = json.loads(entry.read())
        config, info = document["exportConfig"], document["runInfo"]
        dataset = _DATASETS.get(config["type"])
        first, last = _requested_days(info)
        month_first, month_last = _span(month)
        if dataset is None or last < month_first or month_last < first:
            return None
        scope = _SCOPE.match(config["resourceId"])
        return _Run(
            scope=scope["scope"] if scope else "",
            dataset=dataset,
            month=month,
            first=max(first, month_first),
            last=min(last, month_last),
            submitted=str(info.get("submittedTime", "")),
            run_id=str(info.get("runId", "")),
            manifest=manifest,
            document=document,
        )


@contextmanager
def _translate_manifest_errors(manifest: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise OctoError(
            f"{manifest} cannot be read as the manifest of a Cost Management export ({type(error).__name__}: {error}). Run "
            "the export again.",
            code="manifest-malformed",
            place=manifest,
        ) from error


def _requested_days(info: dict[str, Any]) -> tuple[date, date]:
    """The first and last requested day of a run; without an end, the rest of the month."""
    first = _day(info["startDate"], "start")
    if "endDate" not in info:
        return first, _span(f"{first:%Y-%m}")[1]
    last = _day(info["endDate"], "end")
    if first.day == last.day == 1 and first < last:
        # Here the end is the first day that is no longer exported.
        last -= timedelta(days=1)
    return first, last


def _day(value: object, bound: str) -> date:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError as error:
        raise ValueError(f"the {bound} {value!r} is not a date") from error


def _span(month: str) -> tuple[date, date]:
    """The first and last day of a month."""
    return date.fromisoformat(f"{month}-01"), date.fromisoformat(f"{add_months(month, 1)}-01") - timedelta(days=1)


def _months_of_runs(runs: Iterable[_Run], entries: Sequence[Entry], origin: str) -> list[Month]:
    by_scope: dict[str, dict[str, list[_Run]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(runs, key=lambda run: (run.submitted, run.manifest)):
        by_scope[run.scope.lower()][run.dataset].append(run)
    return [_month_of_runs(by_scope[scope], entries, origin) for scope in sorted(by_scope)]


def _month_of_runs(runs_by_dataset: dict[str, list[_Run]], entries: Sequence[Entry], origin: str) -> Month:
    current = _without_repeats({dataset: _current_runs(runs) for dataset, runs in runs_by_dataset.items()})
    run = next(iter(current.values()))[0][0]
    # The last part of a scope is the id of the billing account, profile or subscription.
    account = run.scope.rstrip("/").split("/")[-1] or None
    payer = account.lower() if account and "/subscriptions/" in run.scope.lower() else account
    parts = []
    facts = []
    for runs in current.values():
        for number, (run, days) in enumerate(runs):
            part, version = _part(run, entries)
            if len(runs) > 1:
                label = f"{run.dataset}-{run.first:%Y%m%d}-{number:02d}"
                part = replace(part, label=label, span=(run.first, run.last))
            parts.append(replace(part, days=days, payer=payer))
            facts.append(version)
    return Month(account, None, run.month, version_of(facts), REPORT, origin, tuple(parts))


def _current_runs(runs: Sequence[_Run]) -> list[tuple[_Run, frozenset[date]]]:
    """The runs that count, each with the days that come from it.

    Args:
        runs: of one scope, type and month, in the order of submission.
    """
    if whole := [run for run in runs if run.is_whole]:
        return [(whole[-1], whole[-1].days)]
    source_of_day: dict[date, _Run] = {}
    # For a day that no run covers, the last run that includes it has the most usage.
    for run in runs:
        source_of_day |= dict.fromkeys(run.days, run)
    for run in runs:
        source_of_day |= dict.fromkeys(run.covered_days, run)
    current = [(run, frozenset(day for day, source in source_of_day.items() if source is run)) for run in runs]
    return [(run, days) for run, days in current if days]


def _without_repeats(
    current: dict[str, list[tuple[_Run, frozenset[date]]]],
) -> dict[str, list[tuple[_Run, frozenset[date]]]]:
    """FOCUS alone, which has billed and amortised cost, or the others if they cover more days."""
    if "focus" not in current or len(current) == 1:
        return current
    covered = {
        dataset: frozenset[date]().union(*(run.covered_days for run, _ in runs)) for dataset, runs in current.items()
    }
    focus = covered.pop("focus")
    others = frozenset[date]().union(*covered.values())
    if others <= focus:
        return {"focus": current["focus"]}
    if focus <= others:
        return {dataset: runs for dataset, runs in current.items() if dataset != "focus"}
    run = current["focus"][0][0]
    missing = ", ".join(f"{first} to {last}" for first, last in spans_of(others - focus))
    raise OctoError(
        f"{run.manifest} and the other FOCUS exports do not cover {missing} of {run.month}, which other exports of the same "
        "scope cover, but those lack days that the FOCUS exports cover. Run one of them for the whole month.",
        code="export-incomplete",
        place=run.manifest,
    )


def _part(run: _Run, entries: Sequence[Entry]) -> tuple[Part, str]:
    """A run as a part of its month, and its version."""
    with _translate_manifest_errors(run.manifest):
        blobs = run.document["blobs"]
        announced = int(run.document.get("blobCount", len(blobs)))
        files = tuple(_blob(blob, number, entries, run.manifest) for number, blob in enumerate(blobs))
        rows = sum(int(blob["dataRowCount"]) for blob in blobs) if all("dataRowCount" in b for b in blobs) else None
    if announced != len(blobs):
        raise OctoError(
            f"{run.manifest} announces {announced} blobs but lists {len(blobs)}, so the export is incomplete. Run it again.",
            code="export-incomplete",
        )
    shape = FOCUS if run.dataset == "focus" else COST_DETAILS
    facts = [run.manifest, run.submitted, run.run_id, *(f"{file.name} {file.size}" for file in files)]
    return Part(shape, run.dataset, run.dataset, files, rows, source=run.manifest), version_of(facts)


def _blob(blob: dict[str, Any], number: int, entries: Sequence[Entry], manifest: str) -> SourceFile:
    """The file of a blob, whose name may start above or below the listed folder."""
    name = str(blob["blobName"])
    same = [entry for entry in entries if entry.name == name] or [
        entry for entry in entries if entry.name.endswith(f"/{name}") or name.endswith(f"/{entry.name}")
    ]
    if len(same) != 1:
        count = f"exists {len(same)} times" if same else "does not exist"
        raise OctoError(
            f"{manifest} lists {name}, which {count}. Copy the whole folder of the run, once.",
            code="export-incomplete",
        )
    size = int(blob["byteCount"]) if "byteCount" in blob else same[0].size
    return SourceFile(f"{number:04d}-{name.split('/')[-1]}", same[0].open, size, md5=same[0].md5)
