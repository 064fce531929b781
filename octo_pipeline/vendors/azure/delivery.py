"""One month of one Azure payer as a delivery: fetched, read to its end, held against the last one, published.

Here belongs what the partner billing export and Cost Management exports have in common once it is known which
files they are. How those are found does not, nor what the rows mean.

The newest delivery is what a month is made of, so everything that could shut out a good one is refused before it
becomes one: a row that cannot be read, rows of another payer, fewer files or rows than were announced,
and an answer without rows where there were some.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.azure.days import days_between, spans_of
from octo_pipeline.vendors.azure.usage import REPEATS_USAGE, rows_that_count
from octo_pipeline.vendors.azure.usage_columns import CSP_RECONCILIATION, Shape
from octo_pipeline.vendors.azure.usage_rows import (
    AzureFile,
    check_dates,
    check_values,
    column_names,
    count_fulfilling,
    count_rows,
    file_format,
    first_row,
    open_file,
    relation,
)
from octo_pipeline.vendors.data_files import unify_line_ends
from octo_pipeline.vendors.downloads import DeliveredFile, SourceFile, fetch, file_place
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

VENDOR = "azure"


@dataclass(frozen=True)
class Part:
    """An export that is a part of the month.

    Attributes:
        shape: what its files look like.
        dataset: what it tells, in this project's words: usage, reconciliation, actual, amortised or focus.
        label: begins the names of its files in the delivery, so that parts do not clash.
        files: the data files as delivered.
        rows: how many rows it was announced to have; None if that is not known.
        source: what sentences call the export; None calls it as the month.
        days: of which it is the current export; None if nothing says so.
        span: the first and last day that it covers, if it is one of several exports that make the month: its rows
            count on `days` alone then.
        payer: who is billed, of rows that do not say it; None leaves it to `Month.account`.
        subscription: whose rows count alone; None counts all.
    """

    shape: Shape
    dataset: str
    label: str
    files: tuple[SourceFile, ...]
    rows: int | None = None
    source: str | None = None
    days: frozenset[date] | None = None
    span: tuple[date, date] | None = None
    payer: str | None = None
    subscription: str | None = None


@dataclass(frozen=True)
class Month:
    """A version of one payer's month, where it was found.

    Attributes:
        account: partner tenant or billing account; None if only the data can tell.
        payer: what the rows must say in the account's column; None if they may say anything.
    """

    account: str | None
    payer: str | None
    month: str
    version: str
    report: str
    source: str
    parts: tuple[Part, ...]


def version_of(facts: Iterable[str]) -> str:
    """The version that these facts (eTags, run ids, checksums) make up, in any order."""
    return hashlib.sha256("\n".join(sorted(facts)).encode()).hexdigest()[:32]


def land_found(root: Location, found: Month, *, fetched_at: datetime) -> Landed | None:
    """Fetch a month, look through all of it, and make it a delivery; None if it is empty and always was.

    Raises:
        OctoError: a file is missing, cut off, damaged or not what was announced; a value cannot be read; rows
            are of another payer; there are no rows where there were some. Nothing is landed then.
    """
    known = find_delivery(root, vendor=VENDOR, month=found.month, version=found.version, account=found.account)
    if known is not None:
        return Landed(known, is_new=False)
    with staging(root) as folder, duckdb.connect() as con:
        files = [_labelled(part, file) for part in found.parts for file in part.files]
        fetched = [_as_landed(file, folder, found.source) for file in fetch(files, folder, found.source)]
        contents: dict[str, dict[str, Any]] = {}
        opened: list[AzureFile] = []
        for part in found.parts:
            inspected = _inspect(con, folder, part, found)
            contents |= inspected[0]
            opened += inspected[1]
        _note_combined_days(con, found, contents, opened)
        account = found.account or _said_account(con, opened, found)
        rows = _rows_by_dataset(contents)
        last = _last(root, account, found.month)
        _refuse_emptiness(last, rows, account, found)
        _refuse_lost_invoices(last, account, found)
        _refuse_missing_usage(con, opened, rows, found)
        if last is None and not sum(rows.values()):
            return None
        delivery = Delivery(
            vendor=VENDOR,
            account=account,
            month=found.month,
            version=found.version,
            format="+".join(sorted({file_format(file.name) for file in fetched})),
            report=found.report,
            files=tuple(fetched),
            fetched_at=fetched_at,
            source=found.source,
            path=delivery_path(root, vendor=VENDOR, account=account, month=found.month, version=found.version),
            details={"contents": contents},
        )
        return publish(root, folder, delivery)


def _labelled(part: Part, file: SourceFile) -> SourceFile:
    return replace(file, name=f"{part.label}-{file.name}" if part.label else file.name)


def _as_landed(file: DeliveredFile, folder: Path, source: str) -> DeliveredFile:
    """The file, of whose lines all end alike."""
    path = folder / file.name
    if file_format(file.name) == "csv" and unify_line_ends(path, file_place(file.name, source)):
        return describe(path)
    return file


def _inspect(
    con: duckdb.DuckDBPyConnection, folder: Path, part: Part, found: Month
) -> tuple[dict[str, dict[str, Any]], list[AzureFile]]:
    contents: dict[str, dict[str, Any]] = {}
    opened = []
    for file in part.files:
        name = _labelled(part, file).name
        path, place = folder / name, file_place(file.name, part.source or found.source)
        rows = count_rows(con, path, place)
        content: dict[str, Any] = {
            "shape": part.shape.name,
            "dataset": part.dataset,
            "label": part.label,
            "rows": rows,
        }
        if part.span is not None and part.days != frozenset(days_between(*part.span)):
            content["days"] = spans_of(part.days or ())
        if part.subscription is not None:
            content["subscription"] = part.subscription
        if rows or file_format(name) != "jsonl":
            names = column_names(con, path, place)
            one = open_file(con, path, place, part.shape, names)
            _check_rows(con, one, rows, part, found)
            if rows and (payer := _unsaid_payer(con, one, part, found)):
                one = replace(one, payer=payer)
                content["payer"] = payer
            opened.append(one)
            if one.format == "jsonl":
                content["columns"] = [column.name for column in one.columns]
        contents[name] = content
    total = sum(content["rows"] for content in contents.values())
    if part.rows is not None and part.rows != total:
        raise OctoError(
            f"{part.source or found.source}: the {part.dataset} export was announced with {part.rows} rows and has {total}. "
            "Fetch it again; nothing was landed.",
            code="export-incomplete",
        )
    return contents, opened


def _check_rows(con: duckdb.DuckDBPyConnection, file: AzureFile, rows: int, part: Part, found: Month) -> None:
    read = check_values(con, file)
    if read != rows:
        raise OctoError(
            f"{file.place}: {read} rows could be read of {rows}. Fetch it again; nothing was landed.",
            code="rows-unreadable",
        )
    check_dates(con, file)
    _check_period(con, file, found.month)
    if part.span is not None:
        first, last = part.span
        is_bad = f"{file.shape.usage_day} NOT BETWEEN DATE '{first}' AND DATE '{last}'"
        if bad := first_row(con, file, file.shape.usage_day, is_bad):
            raise OctoError(
                f"{bad}, but the run is of {first} to {last}, and other runs make the rest of {found.month}. Export the "
                "whole month in one run; nothing was landed.",
                code="rows-of-another-month",
                place=file.place,
            )
    if found.payer is not None:
        is_bad = f"lower({file.shape.account}) <> {literal(found.payer.lower())}"
        if bad := first_row(con, file, file.shape.account, is_bad):
            raise OctoError(
                f"{bad}, but the export is of {found.payer}. Nothing was landed.", code="rows-of-another-month"
            )


def _check_period(con: duckdb.DuckDBPyConnection, file: AzureFile, month: str) -> None:
    """Refuse rows of another billing period.

    A period that begins in the middle of a month, as some agreements have them, belongs to the months of its days.
    """
    column = file.shape.period_start
    if column is None:
        return
    is_bad = (
        f"strftime({column}, '%Y-%m') <> {literal(month)} "
        f"AND (day({column}) = 1 OR strftime({file.shape.usage_day}, '%Y-%m') <> {literal(month)})"
    )
    if bad := first_row(con, file, column, is_bad):
        raise OctoError(
            f"{bad}, which is a row of another billing period, but the export is of {month}. Export each month by itself; "
            "nothing was landed.",
            code="rows-of-another-month",
            place=file.place,
        )


def _unsaid_payer(con: duckdb.DuckDBPyConnection, file: AzureFile, part: Part, found: Month) -> str | None:
    """Who is billed, if the rows do not say it: pay as you go and customers of partners have no billing account."""
    if file.shape.account in file.shape.required:
        return None
    if not accounts_of(con, file):
        return part.payer or found.account
    if bad := first_row(con, file, file.shape.account, f"{file.shape.account} IS NULL"):
        raise OctoError(
            f"{bad}, though other rows name a billing account. Fetch the file again; nothing was landed.",
            code="value-wrong",
            place=file.place,
        )
    return None


def _note_combined_days(
    con: duckdb.DuckDBPyConnection, found: Month, contents: dict[str, dict[str, Any]], files: Sequence[AzureFile]
) -> None:
    """Note on which days actual and amortised cost are told together, if the two exports cover different days."""
    days: dict[str, set[date]] = defaultdict(set)
    for part in found.parts:
        days[part.dataset] |= part.days or set()
    if not days.keys() >= {"actual", "amortised"} or days["actual"] == days["amortised"] or not all(days.values()):
        return
    for file in files:
        content = contents[file.path.name]
        rows = f"({relation([file], '', rows_that_count(file.shape, content))})"
        query = render("vendors/azure/usage_days", usage_day=file.shape.usage_day, rows=rows)
        found_days = con.execute(query).fetchall()
        days[content["dataset"]] |= {day for (day,) in found_days}
    combined = spans_of(days["actual"] & days["amortised"])
    for content in contents.values():
        content["combined_days"] = combined


def _said_account(con: duckdb.DuckDBPyConnection, files: Sequence[AzureFile], found: Month) -> str:
    accounts = sorted({account for file in files for account in accounts_of(con, file)})
    if len(accounts) != 1:
        said = f"{len(accounts)} billing accounts ({', '.join(accounts[:3])})" if accounts else "no billing account"
        raise OctoError(
            f"{found.source} names {said} in {found.month}. Land the export of each one by itself.",
            code="account-not-one",
        )
    return accounts[0]


def accounts_of(con: duckdb.DuckDBPyConnection, file: AzureFile) -> list[str]:
    """The billing accounts that the rows of a file name, as the landing calls them."""
    query = render("vendors/azure/accounts", account_column=file.shape.account, rows=f"({relation([file])})")
    return [account for (account,) in con.execute(query).fetchall()]


def _rows_by_dataset(contents: dict[str, dict[str, Any]]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for content in contents.values():
        rows[content["dataset"]] = rows.get(content["dataset"], 0) + content["rows"]
    return rows


def _last(root: Location, account: str, month: str) -> Delivery | None:
    return next((one for one in newest_deliveries(root, month, VENDOR) if one.account == account), None)


def _refuse_emptiness(last: Delivery | None, rows: dict[str, int], account: str, found: Month) -> None:
    """Refuse a delivery without rows where the last one had some: an empty answer must not remove costs from the bill."""
    if last is None:
        return
    before = _rows_by_dataset(last.details["contents"])
    for dataset, count in before.items():
        # A month that was billed stays billed: what is unbilled of it lacks all purchases.
        must_be_there = dataset in rows or dataset == "reconciliation" or not sum(rows.values())
        if count and not rows.get(dataset) and must_be_there:
            raise OctoError(
                f"Azure {account} has no {dataset} rows for {found.month} any more, though {count} were landed on "
                f"{last.fetched_at:%Y-%m-%d}. That delivery ({last.version}) stays. If the month is really empty, "
                "remove the delivery and land the month again.",
                code="month-became-empty",
                place=last.version,
                remedy=Remedy("deliveries remove", last.version),
            )


def _refuse_lost_invoices(last: Delivery | None, account: str, found: Month) -> None:
    """A month has at least the invoices it had: a list that names fewer would take a part of the bill away."""
    contents = last.details["contents"].values() if last else []
    billed = {one.get("label") for one in contents if one["dataset"] == "reconciliation" and one["rows"]} - {None}
    if last and (lost := sorted(billed - {part.label for part in found.parts})):
        raise OctoError(
            f"Azure {account} no longer lists {', '.join(lost)} for {found.month}, which was landed on "
            f"{last.fetched_at:%Y-%m-%d}. That delivery ({last.version}) stays. If the invoice was withdrawn, remove the "
            "delivery and land the month again.",
            code="invoice-lost",
            place=last.version,
            remedy=Remedy("deliveries remove", last.version),
        )


def _refuse_missing_usage(
    con: duckdb.DuckDBPyConnection, files: Sequence[AzureFile], rows: dict[str, int], found: Month
) -> None:
    """What the reconciliation repeats does not count, so the daily usage must be there."""
    if rows.get("usage") or "reconciliation" not in rows:
        return
    repeated = sum(count_fulfilling(con, file, REPEATS_USAGE) for file in files if file.shape is CSP_RECONCILIATION)
    if repeated:
        raise OctoError(
            f"{found.source}: the invoices of {found.month} have {repeated} lines of usage, but their daily usage has no "
            "rows. Nothing was landed, and what was landed before stays; export it again.",
            code="usage-missing",
        )
