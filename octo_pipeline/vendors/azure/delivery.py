"""One month of one Azure payer as a delivery: fetched, read to its end, compared with the last one, published.

This module holds what partner billing exports and Cost Management exports have in common once their files are known.
Finding the files and the meaning of rows belong elsewhere.

A month is made of the newest delivery, so nothing may become one that should not replace a good one: a row that cannot
be read, rows of another payer, fewer files or rows than were announced, or no rows where there were some.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.azure.days import days_between, spans_of
from octo_pipeline.vendors.azure.usage import REPEATS_USAGE, relations, rows_that_count
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
from octo_pipeline.vendors.content import with_content
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

# What `exports` begins the name of a run's file with.
_NUMBER = re.compile(r"^\d{4}-")


@dataclass(frozen=True)
class Part:
    """An export that is a part of the month.

    Attributes:
        shape: the columns of its files.
        dataset: its content: usage, reconciliation, actual, amortised or focus.
        label: a prefix of the names of its files in the delivery, so that parts do not clash.
        files: the data files as delivered.
        rows: the announced number of rows; None if unknown.
        source: what messages call the export; None uses the name of the month's source.
        days: the days for which it is the current export; None if unknown.
        span: the first and last day that it covers, if it is one of several exports of the month: then only its rows on
            `days` count.
        payer: who is billed for rows that do not name the payer; None uses `Month.account`.
        subscription: only rows of this subscription count; None counts all.
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
    """A version of one payer's month at its source.

    Attributes:
        account: partner tenant or billing account; None if only the data names it.
        payer: the value that the rows must have in the account's column; None allows any.
        month: the billing month, YYYY-MM.
        version: changes with the exports.
        report: what deliveries call the export.
        source: what messages call the source.
        parts: the exports that make the month.
    """

    account: str | None
    payer: str | None
    month: str
    version: str
    report: str
    source: str
    parts: tuple[Part, ...]


def version_of(facts: Iterable[str]) -> str:
    """The version made of these facts (eTags, run ids, checksums) in any order."""
    return hashlib.sha256("\n".join(sorted(facts)).encode()).hexdigest()[:32]


def land_month(root: Location, payer_month: Month, *, fetched_at: datetime) -> Landed | None:
    """Fetch a month, check all of its rows and publish it as a delivery; None if it is empty and always was.

    Raises:
        OctoError: a file is missing, cut off, damaged or not as announced; a value cannot be read; rows are of another
            payer; there are no rows where there were some. Nothing is landed.
    """
    known = find_delivery(
        root, vendor=VENDOR, month=payer_month.month, version=payer_month.version, account=payer_month.account
    )
    if known is not None:
        return Landed(known, is_new=False)
    with staging(root) as folder, shared_connection({}) as con:
        files = [(part, file) for part in payer_month.parts for file in part.files]
        delivered = fetch([_labelled(part, file) for part, file in files], folder, payer_month.source)
        origins = [_origin(file, part, payer_month) for part, file in files]
        fetched = [_as_landed(file, folder, origin) for file, origin in zip(delivered, origins, strict=True)]
        contents: dict[str, dict[str, Any]] = {}
        opened: list[AzureFile] = []
        for part in payer_month.parts:
            inspected = _inspect(con, folder, part, payer_month)
            contents |= inspected[0]
            opened += inspected[1]
        _record_combined_days(con, payer_month, contents, opened)
        account = payer_month.account or _only_account(con, opened, payer_month)
        rows = _rows_by_dataset(contents)
        last = _last(root, account, payer_month.month)
        _refuse_emptiness(last, rows, account, payer_month)
        _refuse_lost_invoices(last, account, payer_month)
        _refuse_missing_usage(con, opened, rows, payer_month)
        if last is None and not sum(rows.values()):
            return None
        delivery = Delivery(
            vendor=VENDOR,
            account=account,
            month=payer_month.month,
            version=payer_month.version,
            format="+".join(sorted({file_format(file.name) for file in fetched})),
            report=payer_month.report,
            files=tuple(fetched),
            fetched_at=fetched_at,
            source=payer_month.source,
            path=delivery_path(
                root, vendor=VENDOR, account=account, month=payer_month.month, version=payer_month.version
            ),
            details={"contents": contents},
        )
        return publish(root, folder, with_content(root, delivery, folder, relations))


def _labelled(part: Part, file: SourceFile) -> SourceFile:
    return replace(file, name=f"{part.label}-{file.name}" if part.label else file.name)


def _origin(file: SourceFile, part: Part, payer_month: Month) -> str:
    """What sentences call a file: by its own name, without the number that keeps the names of a run apart."""
    return file_place(_NUMBER.sub("", file.name) if part.source else file.name, part.source or payer_month.source)


def _as_landed(file: DeliveredFile, folder: Path, origin: str) -> DeliveredFile:
    """The file, after its line ends were unified."""
    path = folder / file.name
    if file_format(file.name) == "csv" and unify_line_ends(path, origin):
        return describe(path)
    return file


def _inspect(
    con: duckdb.DuckDBPyConnection, folder: Path, part: Part, payer_month: Month
) -> tuple[dict[str, dict[str, Any]], list[AzureFile]]:
    contents: dict[str, dict[str, Any]] = {}
    opened = []
    for file in part.files:
        name = _labelled(part, file).name
        path, origin = folder / name, _origin(file, part, payer_month)
        rows = count_rows(con, path, origin)
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
            names = column_names(con, path, origin)
            opened_file = open_file(con, path, origin, part.shape, names)
            _check_rows(con, opened_file, rows, part, payer_month)
            if rows and (payer := _missing_payer(con, opened_file, part, payer_month)):
                opened_file = replace(opened_file, payer=payer)
                content["payer"] = payer
            opened.append(opened_file)
            if opened_file.format == "jsonl":
                content["columns"] = [column.name for column in opened_file.columns]
        contents[name] = content
    total = sum(content["rows"] for content in contents.values())
    if part.rows is not None and part.rows != total:
        raise OctoError(
            f"{part.source or payer_month.source}: the {part.dataset} export was announced with {part.rows} rows but has "
            f"{total}. Fetch it again; nothing was landed.",
            code="export-incomplete",
        )
    return contents, opened


def _check_rows(con: duckdb.DuckDBPyConnection, file: AzureFile, rows: int, part: Part, payer_month: Month) -> None:
    read = check_values(con, file)
    if read != rows:
        raise OctoError(
            f"{file.origin}: only {read} of {rows} rows could be read. Fetch it again; nothing was landed.",
            code="rows-unreadable",
        )
    check_dates(con, file)
    _check_period(con, file, payer_month.month)
    if part.span is not None:
        first, last = part.span
        is_bad = f"{file.shape.usage_day} NOT BETWEEN DATE '{first}' AND DATE '{last}'"
        if bad := first_row(con, file, file.shape.usage_day, is_bad):
            raise OctoError(
                f"{bad}, but the run is of {first} to {last}, and the rest of {payer_month.month} is from other runs. Export "
                "the whole month in one run; nothing was landed.",
                code="rows-of-another-month",
                place=file.origin,
            )
    if payer_month.payer is not None:
        is_bad = f"lower({file.shape.account}) <> {literal(payer_month.payer.lower())}"
        if bad := first_row(con, file, file.shape.account, is_bad):
            raise OctoError(
                f"{bad}, but the export is of {payer_month.payer}. Nothing was landed.", code="rows-of-another-month"
            )


def _check_period(con: duckdb.DuckDBPyConnection, file: AzureFile, month: str) -> None:
    """Refuse rows of another billing period.

    Under some agreements, periods begin in the middle of a month. Such a period belongs to the months of its days.
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
            f"{bad}, so the row is of another billing period, but the export is of {month}. Export each month by itself; "
            "nothing was landed.",
            code="rows-of-another-month",
            place=file.origin,
        )


def _missing_payer(con: duckdb.DuckDBPyConnection, file: AzureFile, part: Part, payer_month: Month) -> str | None:
    """Who is billed if the rows do not name the payer: pay as you go and partners' customers have no billing account."""
    if file.shape.account in file.shape.required:
        return None
    if not accounts_of(con, file):
        return part.payer or payer_month.account
    if bad := first_row(con, file, file.shape.account, f"{file.shape.account} IS NULL"):
        raise OctoError(
            f"{bad}, but other rows name a billing account. Fetch the file again; nothing was landed.",
            code="value-wrong",
            place=file.origin,
        )
    return None


def _record_combined_days(
    con: duckdb.DuckDBPyConnection, payer_month: Month, contents: dict[str, dict[str, Any]], files: Sequence[AzureFile]
) -> None:
    """Record the days that have both actual and amortised cost, if the two exports cover different days."""
    days: dict[str, set[date]] = defaultdict(set)
    for part in payer_month.parts:
        days[part.dataset] |= part.days or set()
    if not days.keys() >= {"actual", "amortised"} or days["actual"] == days["amortised"] or not all(days.values()):
        return
    for file in files:
        content = contents[file.path.name]
        rows = f"({relation([file], '', rows_that_count(file.shape, content))})"
        query = render("vendors/azure/usage_days", usage_day=file.shape.usage_day, rows=rows)
        usage_days = con.execute(query).fetchall()
        days[content["dataset"]] |= {day for (day,) in usage_days}
    combined = spans_of(days["actual"] & days["amortised"])
    for content in contents.values():
        content["combined_days"] = combined


def _only_account(con: duckdb.DuckDBPyConnection, files: Sequence[AzureFile], payer_month: Month) -> str:
    accounts = sorted({account for file in files for account in accounts_of(con, file)})
    if len(accounts) != 1:
        listed = f"{len(accounts)} billing accounts ({', '.join(accounts[:3])})" if accounts else "no billing account"
        raise OctoError(
            f"{payer_month.source} names {listed} in {payer_month.month}. Land the export of each one by itself.",
            code="account-not-one",
        )
    return accounts[0]


def accounts_of(con: duckdb.DuckDBPyConnection, file: AzureFile) -> list[str]:
    """The billing accounts that the rows of a file name, spelled as in the landing."""
    query = render("vendors/azure/accounts", account_column=file.shape.account, rows=f"({relation([file])})")
    return [account for (account,) in con.execute(query).fetchall()]


def _rows_by_dataset(contents: dict[str, dict[str, Any]]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for content in contents.values():
        rows[content["dataset"]] = rows.get(content["dataset"], 0) + content["rows"]
    return rows


def _last(root: Location, account: str, month: str) -> Delivery | None:
    return next((delivery for delivery in newest_deliveries(root, month, VENDOR) if delivery.account == account), None)


def _refuse_emptiness(last: Delivery | None, rows: dict[str, int], account: str, payer_month: Month) -> None:
    """Refuse an export without rows if the last delivery had some: it must not replace them."""
    if last is None:
        return
    before = _rows_by_dataset(last.details["contents"])
    for dataset, count in before.items():
        # A billed month stays billed, because unbilled usage lacks all purchases.
        must_be_there = dataset in rows or dataset == "reconciliation" or not sum(rows.values())
        if count and not rows.get(dataset) and must_be_there:
            raise OctoError(
                f"Azure {account} no longer has {dataset} rows for {payer_month.month}, but {count} were landed on "
                f"{last.fetched_at:%Y-%m-%d}. That delivery ({last.version}) stays. If the month is really empty, "
                "remove the delivery and land the month again.",
                code="month-became-empty",
                place=last.version,
                remedy=Remedy("deliveries remove", last.version),
            )


def _refuse_lost_invoices(last: Delivery | None, account: str, payer_month: Month) -> None:
    """Refuse a month that lost an invoice: without it, a part of the bill would be missing."""
    contents = last.details["contents"].values() if last else []
    billed = {
        content.get("label") for content in contents if content["dataset"] == "reconciliation" and content["rows"]
    } - {None}
    if last and (lost := sorted(billed - {part.label for part in payer_month.parts})):
        raise OctoError(
            f"Azure {account} no longer lists {', '.join(lost)} for {payer_month.month}, but it was landed on "
            f"{last.fetched_at:%Y-%m-%d}. That delivery ({last.version}) stays. If the invoice was withdrawn, remove the "
            "delivery and land the month again.",
            code="invoice-lost",
            place=last.version,
            remedy=Remedy("deliveries remove", last.version),
        )


def _refuse_missing_usage(
    con: duckdb.DuckDBPyConnection, files: Sequence[AzureFile], rows: dict[str, int], payer_month: Month
) -> None:
    """Refuse a reconciliation without daily usage, because its lines of usage do not count."""
    if rows.get("usage") or "reconciliation" not in rows:
        return
    repeated = sum(count_fulfilling(con, file, REPEATS_USAGE) for file in files if file.shape is CSP_RECONCILIATION)
    if repeated:
        raise OctoError(
            f"{payer_month.source}: the invoices of {payer_month.month} have {repeated} lines of usage, but their daily usage has no "
            "rows. Nothing was landed, and the earlier delivery stays. Export it again.",
            code="usage-missing",
        )
