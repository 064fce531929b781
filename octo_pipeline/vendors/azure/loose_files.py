"""Data files of Cost Management in a folder without a manifest, as months of their payers.

This module finds out the kind, month and payers of files, and which files repeat each other. Runs with a manifest belong
in `exports`.

1. A file is FOCUS if it has FOCUS columns. Otherwise it is amortised if its name contains ``amortized`` or
   ``amortised``, or a row has the unused part of a commitment; else it is actual.
2. Files of one kind that share rows are copies or refreshes, and count once (`shared_rows`); others are parts.
3. All rows name one billing account, or none names any, as for pay as you go and a partner's customers. Then each
   subscription is a payer.

Price sheets and exports about reservations have no costs and are skipped. Data in an unsupported format is refused by
name.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Sql
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.azure.blobs import Entry
from octo_pipeline.vendors.azure.delivery import Month, Part, accounts_of, version_of
from octo_pipeline.vendors.azure.usage_columns import COST_DETAILS, FOCUS
from octo_pipeline.vendors.azure.usage_rows import (
    AzureFile,
    check_dates,
    check_values,
    column_names,
    comparable_rows,
    file_format,
    open_file,
    relation,
)
from octo_pipeline.vendors.data_columns import folded
from octo_pipeline.vendors.data_files import unify_line_ends
from octo_pipeline.vendors.downloads import SourceFile, file_place
from octo_pipeline.vendors.focus_columns import is_focus
from octo_pipeline.vendors.landing import describe
from octo_pipeline.vendors.shared_rows import FileRows, files_that_count

# The columns by which exports without costs are recognised.
_NOT_COSTS = (
    # Price sheets of Enterprise Agreements, older and newer, and of Microsoft Customer Agreements.
    {"unitprice", "includedquantity"},
    {"unitprice", "baseprice"},
    {"unitprice", "tierminimumunits"},
    {"reservationid", "reservedhours", "usedhours"},
    {"recommendedquantity", "netsavings"},
    {"reservationordername", "purchasingsubscriptionguid"},
)
_COST_NAMES = {folded(name) for name in ("cost", *COST_DETAILS.spellings["cost"])}
_OTHER_FORMS = re.compile(
    r".+\.(xlsx?|xlsb|ods|json|jsonl|ndjson|tsv|avro|orc|zip|7z|rar|tar|tgz|bz2|zst|xz|gz)", re.IGNORECASE
)


@dataclass(frozen=True)
class _LooseFile:
    """A file with rows of the month.

    Attributes:
        source: the file as it is fetched.
        opened: the file as it is read.
        dataset: actual, amortised or focus.
        last_day: the last day with a row.
        accounts: the billing accounts that its rows name.
        subscriptions: the subscriptions that its rows name, in lower case.
        lacks_payer: whether a row names neither.
    """

    source: SourceFile
    opened: AzureFile
    dataset: str
    last_day: date
    accounts: frozenset[str]
    subscriptions: frozenset[str]
    lacks_payer: bool


def has_data_files(entries: Sequence[Entry]) -> bool:
    """Whether any file may have costs."""
    return any(_is_read(entry.name) or _OTHER_FORMS.fullmatch(entry.name) for entry in entries)


def months_of_files(root: Path, entries: Sequence[Entry], folder: str, report: str, month: str) -> list[Month]:
    """The month of each payer with rows in the files.

    Args:
        root: the folder.
        entries: the files in it.
        folder: what messages call it.
        report: what deliveries call the export.
        month: the billing month.

    Raises:
        OctoError: a file has an unsupported format, cannot be read, or has rows of several months; files share rows but
            differ; the payer is unknown.
    """
    others = [entry.name for entry in entries if not _is_read(entry.name) and _OTHER_FORMS.fullmatch(entry.name)]
    if others:
        raise OctoError(
            f"{folder} has {', '.join(others[:3])}, which is not read: exports are CSV, plain or as .csv.gz, or Parquet. "
            "Unpack or convert it, or remove it.",
            code="file-form-unknown",
            place=others[0],
        )
    with TemporaryDirectory() as copies, shared_connection({}) as con:
        by_dataset: dict[str, list[_LooseFile]] = defaultdict(list)
        for entry in entries:
            if _is_read(entry.name) and (loose := _inspect(con, root, entry, Path(copies), folder, month)):
                by_dataset[loose.dataset].append(loose)
        counted = {dataset: _without_copies(con, files, folder) for dataset, files in sorted(by_dataset.items())}
    counted = _without_repeats(counted)
    files = [file for files in counted.values() for file in files]
    return [_month_of(payer, counted, folder, report, month) for payer in _payers(files, folder, month)]


def _is_read(name: str) -> bool:
    return file_format(name) in ("csv", "parquet") and not name.lower().endswith(".zip")


def _inspect(
    con: duckdb.DuckDBPyConnection, root: Path, entry: Entry, copies: Path, folder: str, month: str
) -> _LooseFile | None:
    """The facts of a file; None if it has no rows of the month or is not an export of costs."""
    path, where = root / entry.name, file_place(entry.name, folder)
    copy = copies / entry.name
    # DuckDB can read a file only if all its lines end in the same way.
    readable = copy if file_format(entry.name) == "csv" and unify_line_ends(path, where, copy) else path
    names = column_names(con, readable, where)
    folded_names = {folded(name) for name in names}
    if not folded_names & _COST_NAMES and any(columns <= folded_names for columns in _NOT_COSTS):
        return None
    focus = is_focus(names)
    file = open_file(con, readable, where, FOCUS if focus else COST_DETAILS, names)
    dates = {column for column, kind in file.shape.columns.items() if kind == "DATE"}
    check_values(con, file, dates)
    check_dates(con, file)
    months, last_day, subscriptions, lacks_payer, has_unused = con.execute(_facts(file)).fetchall()[0]
    if month not in months:
        return None
    if len(months) > 1:
        raise OctoError(
            f"{entry.name} of {folder} has rows of several billing periods ({', '.join(sorted(months))}). "
            "Export each month to a file of its own.",
            code="rows-of-another-month",
            place=where,
        )
    is_amortised = has_unused or re.search("amorti[sz]ed", entry.name, re.IGNORECASE)
    return _LooseFile(
        source=SourceFile(entry.name, entry.open, entry.size, describe(path).sha256),
        opened=file,
        dataset="focus" if focus else "amortised" if is_amortised else "actual",
        last_day=last_day,
        accounts=frozenset(accounts_of(con, file)),
        subscriptions=frozenset(subscriptions),
        lacks_payer=lacks_payer,
    )


def _facts(file: AzureFile) -> Sql:
    is_focus_file = file.shape is FOCUS
    return render(
        "vendors/azure/loose_file_facts",
        rows=f"({relation([file])})",
        period_start=file.shape.period_start,
        usage_day=file.shape.usage_day,
        account_column=file.shape.account,
        subscription="sub_account_id" if is_focus_file else "subscription_id",
        charge_type="commitment_discount_status" if is_focus_file else "charge_type",
    )


def _without_copies(con: duckdb.DuckDBPyConnection, files: Sequence[_LooseFile], folder: str) -> list[_LooseFile]:
    """The files of one kind whose rows count."""
    rows = comparable_rows([file.opened for file in files])
    named = [FileRows(file.source.name, relation) for file, relation in zip(files, rows, strict=True)]
    return [files[index] for index in files_that_count(con, named, folder)]


def _without_repeats(counted: dict[str, list[_LooseFile]]) -> dict[str, list[_LooseFile]]:
    """FOCUS alone, which has billed and amortised cost, unless the others reach a later day."""
    if "focus" not in counted or len(counted) == 1:
        return counted
    focus = {"focus": counted["focus"]}
    others = {dataset: files for dataset, files in counted.items() if dataset != "focus"}
    return focus if _last_day(focus) >= _last_day(others) else others


def _last_day(counted: dict[str, list[_LooseFile]]) -> date:
    return max(file.last_day for files in counted.values() for file in files)


def _payers(files: Sequence[_LooseFile], folder: str, month: str) -> list[str]:
    """Who is billed: a billing account, or the subscriptions if there is none."""
    accounts = frozenset[str]().union(*(file.accounts for file in files))
    unnamed = [file for file in files if not file.accounts]
    subscriptions = frozenset[str]().union(*(file.subscriptions for file in unnamed))
    if len(accounts) > 1 or (accounts and unnamed):
        listed = [*sorted(accounts), *sorted(subscriptions)][:3]
        raise OctoError(
            f"{folder} has rows of several billing accounts ({', '.join(listed)}) in {month}. Land the "
            "export of each one by itself.",
            code="account-not-one",
        )
    if nameless := [file.source.name for file in unnamed if file.lacks_payer]:
        raise OctoError(
            f"{nameless[0]} of {folder} has rows that name neither a billing account nor a subscription, so the payer is "
            "unknown. Put the file back beside the manifest.json of its export.",
            code="account-not-one",
            place=nameless[0],
        )
    return [*sorted(accounts), *sorted(subscriptions)]


def _month_of(payer: str, counted: dict[str, list[_LooseFile]], folder: str, report: str, month: str) -> Month:
    parts = []
    facts = []
    for dataset, files in counted.items():
        theirs = [file for file in files if file.accounts or payer in file.subscriptions]
        # Without a billing account each subscription is a payer, and a file may have several subscriptions.
        subscription = None if any(file.accounts for file in theirs) else payer
        sources = tuple(file.source for file in theirs)
        facts += [f"{source.name} {source.sha256}" for source in sources]
        shape = FOCUS if dataset == "focus" else COST_DETAILS
        if sources:
            parts.append(Part(shape, dataset, dataset, sources, payer=subscription, subscription=subscription))
    return Month(payer, None, month, version_of(facts), report, folder, tuple(parts))
