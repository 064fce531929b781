"""Azure Cost Management exports (EA, MCA, pay as you go): in a container or a folder, with manifests or loose.

Here belongs which files make which export of which month, and which exports of one payer make its month. How
storage is read does not (`azure_blobs`), nor which rows count (`azure_usage`).

With manifests, an export is ``…/<export>/<YYYYMMDD-YYYYMMDD>/[<run>/]manifest.json`` and the blobs it lists, CSV
(plain or gzip) or Parquet. Of the runs of one scope, type and month the last submitted counts. Price sheets and
other exports that are no costs are passed over.

Without any manifest, the data files that lie in the folder itself make one month each billing period: amortised
where ``amortized`` or ``amortised`` is in the file's name, FOCUS by its columns, else actual.

A month of one payer is its FOCUS export if there is one; else the actual export with the amortised one beside it,
or either of them alone.

Assumption: the exports of an installation do not overlap. One of a billing account and one of a subscription in
it are two payers' months here, and would count that subscription twice.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, model_validator

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import is_month, parse_month
from octo_pipeline.vendors.azure.blobs import Entry, FolderListing, Listing
from octo_pipeline.vendors.azure.delivery import VENDOR, Month, Part, accounts_of, land_found, version_of
from octo_pipeline.vendors.azure.usage_columns import COST_DETAILS, FOCUS
from octo_pipeline.vendors.azure.usage_rows import column_names, file_format, open_file, relation
from octo_pipeline.vendors.data_files import unify_line_ends
from octo_pipeline.vendors.downloads import SourceFile, file_place
from octo_pipeline.vendors.focus_columns import is_focus
from octo_pipeline.vendors.landing import Landed, describe, land_each
from octo_pipeline.vendors.source import Available

REPORT = "Cost Management"

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_DATASETS = {"ActualCost": "actual", "Usage": "actual", "AmortizedCost": "amortised", "FocusCost": "focus"}
_SCOPE = re.compile(r"(?P<scope>.*?)/providers/Microsoft\.CostManagement/", re.IGNORECASE)


class AzureExportDocument(BaseModel):
    """The configuration of one place of Cost Management exports; the SAS is named, never written.

    Attributes:
        folder: where the exports were copied to; or
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
    """A run of an export, as its manifest describes it."""

    scope: str
    dataset: str
    month: str
    submitted: str
    version: str
    part: Part


@dataclass(frozen=True)
class AzureExportSource:
    """The Cost Management exports of a container or folder."""

    listing: Listing

    vendor = VENDOR
    account = None

    @property
    def name(self) -> str:
        """What sentences and sensors call it."""
        return f"azure at {self.listing.place}"

    def available(self, month: str) -> list[Available]:
        """The version of each payer's month; of exports with manifests no data is read for it.

        Raises:
            OctoError: the listing cannot be read, or an export is not whole.
        """
        return [
            Available(VENDOR, one.account, one.month, one.report, one.version)
            for one in self._months(parse_month(month))
        ]

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land each payer's month.

        Raises:
            OctoError: an export is not whole or not right; the other payers' are landed all the same.
        """
        return land_each(self._months(parse_month(month)), partial(land_found, root, fetched_at=fetched_at))

    def _months(self, month: str) -> list[Month]:
        entries = self.listing.entries()
        manifests = [entry for entry in entries if entry.name.split("/")[-1] == "manifest.json"]
        if manifests:
            runs = [run for entry in manifests if (run := _run(entry, entries, self.listing.place, month))]
            return _months_of_runs(runs, self.listing.place)
        loose = [entry for entry in entries if "/" not in entry.name and file_format(entry.name) in ("csv", "parquet")]
        if not loose or not isinstance(self.listing, FolderListing):
            raise OctoError(
                f"{self.listing.place} has no manifest.json of a Cost Management export, and no data files to read "
                "without one. Point to the export's folder, or create the export with file partitioning on.",
                code="exports-missing",
            )
        return _months_of_files(self.listing.root, loose, self.listing.place, month)


def _run(entry: Entry, entries: Sequence[Entry], place: str, month: str) -> _Run | None:
    """The run that a manifest describes; None if it is of another month or no export of costs."""
    source = f"{place}/{entry.name}"
    try:
        document = json.loads(entry.read())
        config, run = document["exportConfig"], document["runInfo"]
        dataset = _DATASETS.get(config["type"])
        found = str(run["startDate"])[:7]
        if not is_month(found):
            raise ValueError(f"the start {run['startDate']!r} is no date")
        if dataset is None or found != month:
            return None
        blobs = document["blobs"]
        announced = int(document.get("blobCount", len(blobs)))
        files = tuple(_blob(blob, number, entries, source) for number, blob in enumerate(blobs))
        scope = _SCOPE.match(config["resourceId"])
        rows = sum(int(blob["dataRowCount"]) for blob in blobs) if all("dataRowCount" in b for b in blobs) else None
        submitted = str(run.get("submittedTime", ""))
        facts = [source, submitted, str(run.get("runId", "")), *(f"{file.name} {file.size}" for file in files)]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise OctoError(
            f"{source} is no manifest of a Cost Management export that can be understood "
            f"({type(error).__name__}: {error}). Run the export again.",
            code="manifest-malformed",
        ) from error
    if announced != len(blobs):
        raise OctoError(
            f"{source} announces {announced} blobs and lists {len(blobs)}, so the export is not whole. Run it again.",
            code="export-incomplete",
        )
    shape = FOCUS if dataset == "focus" else COST_DETAILS
    part = Part(shape, dataset, dataset, files, rows)
    return _Run(scope["scope"] if scope else "", dataset, found, submitted, version_of(facts), part)


def _blob(blob: dict[str, Any], number: int, entries: Sequence[Entry], source: str) -> SourceFile:
    """The file of a blob, whose name may begin above or below the listed folder."""
    name = str(blob["blobName"])
    same = [one for one in entries if one.name == name] or [
        one for one in entries if one.name.endswith(f"/{name}") or name.endswith(f"/{one.name}")
    ]
    if len(same) != 1:
        raise OctoError(
            f"{source} lists {name}, which is there {len(same) or 'no'} times. Copy the whole folder of the run, once.",
            code="export-incomplete",
        )
    size = int(blob["byteCount"]) if "byteCount" in blob else same[0].size
    return SourceFile(f"{number:04d}-{name.split('/')[-1]}", same[0].open, size, md5=same[0].md5)


def _months_of_runs(runs: Iterable[_Run], place: str) -> list[Month]:
    by_scope: dict[str, dict[str, _Run]] = defaultdict(dict)
    for run in sorted(runs, key=lambda one: one.submitted):
        by_scope[run.scope.lower()][run.dataset] = run
    return [_month_of_runs(by_scope[scope], place) for scope in sorted(by_scope)]


def _month_of_runs(found: dict[str, _Run], place: str) -> Month:
    runs = [found["focus"]] if "focus" in found else list(found.values())
    # Scopes end in what they are the scope of: a billing account, a profile, a subscription.
    account = runs[0].scope.rstrip("/").split("/")[-1] or None
    parts = tuple(run.part for run in runs)
    version = version_of(run.version for run in runs)
    return Month(account, None, runs[0].month, version, REPORT, place, parts)


def _months_of_files(root: Path, loose: Sequence[Entry], place: str, month: str) -> list[Month]:
    """The month of the loose files of it, as one payer's; which one, their rows must say."""
    by_dataset: dict[str, list[SourceFile]] = defaultdict(list)
    facts: dict[str, str] = {}
    accounts: set[str] = set()
    with TemporaryDirectory() as copies, duckdb.connect() as con:
        for entry in loose:
            path = _readable_copy(root / entry.name, Path(copies), place)
            dataset, months, named = _look_into(con, path, place)
            if month not in months:
                continue
            if len(months) > 1:
                raise OctoError(
                    f"{entry.name} of {place} has rows of several billing periods ({', '.join(sorted(months))}). "
                    "Export each month to a file of its own.",
                    code="rows-of-another-month",
                )
            accounts |= named
            digest = describe(root / entry.name).sha256
            if digest in facts:
                raise OctoError(
                    f"{entry.name} and {facts[digest]} in {place} are the same data, which would count twice. Keep "
                    "one of them.",
                    code="file-counted-twice",
                )
            facts[digest] = entry.name
            by_dataset[dataset].append(SourceFile(entry.name, entry.open, entry.size, digest))
    if not by_dataset:
        return []
    counted = {"focus": by_dataset["focus"]} if "focus" in by_dataset else by_dataset
    parts = tuple(
        Part(FOCUS if dataset == "focus" else COST_DETAILS, dataset, dataset, tuple(files))
        for dataset, files in sorted(counted.items())
    )
    if len(accounts) > 1:
        raise OctoError(
            f"{place} has rows of several billing accounts ({', '.join(sorted(accounts)[:3])}) in {month}. Land the "
            "export of each one by itself.",
            code="account-not-one",
        )
    version = version_of(f"{name} {digest}" for digest, name in facts.items())
    return [Month(next(iter(accounts), None), None, month, version, REPORT, place, parts)]


def _readable_copy(path: Path, copies: Path, place: str) -> Path:
    """The file, or a copy of it of the same name whose lines all end alike."""
    copy = copies / path.name
    is_csv = file_format(path.name) == "csv"
    return copy if is_csv and unify_line_ends(path, file_place(path.name, place), copy) else path


def _look_into(con: duckdb.DuckDBPyConnection, path: Path, place: str) -> tuple[str, set[str], set[str]]:
    """What a loose file is, and the months and billing accounts of its rows."""
    where = file_place(path.name, place)
    names = column_names(con, path, where)
    focus = is_focus(names)
    file = open_file(con, path, where, FOCUS if focus else COST_DETAILS, names)
    period_start = "billing_period_start" if focus else "billing_period_start_date"
    query = f"SELECT DISTINCT strftime({period_start}, '%Y-%m') FROM ({relation([file])})"
    try:
        months = {said for (said,) in con.execute(query).fetchall() if said}
        accounts = set(accounts_of(con, file))
    except duckdb.Error as error:
        raise OctoError(
            f"{where} cannot be read ({str(error).splitlines()[0]}). Export it again.", code="file-unreadable"
        ) from error
    by_name = "amortised" if re.search("amorti[sz]ed", path.name, re.IGNORECASE) else "actual"
    return "focus" if focus else by_name, months, accounts
