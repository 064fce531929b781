"""A folder of exported Google Cloud billing tables, so that the pipeline can be tried without Google.

Layout: ``<root>/<billing account id>/<table>/…``, where the table has Google's name (``gcp_billing_export_resource_v1_…``
or ``gcp_billing_export_v1_…``) and the files below it, at any depth, hold its rows with their nested columns, as
BigQuery's ``EXPORT DATA`` writes them (`export_files` lists the formats). Rows may be split into files in any way: the
rows of a month are selected by ``invoice.month``.

How a month is landed:

1. Of an account's two tables, the one that covers the month is read (`_parts`).
2. The month's rows of each file become a Parquet file of the delivery.
3. Files that repeat the rows of others, such as copies and older exports, do not count (`shared_rows`).

Data in other places or formats is not read but refused by name.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, literal
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import reason
from octo_pipeline.vendors.content import with_content
from octo_pipeline.vendors.data_files import read_parquet, translate_read_errors
from octo_pipeline.vendors.gcp.billing_columns import comparable_values, expressions, table_names
from octo_pipeline.vendors.gcp.billing_document import BILLING_ACCOUNT_ID
from octo_pipeline.vendors.gcp.billing_relations import relations
from octo_pipeline.vendors.gcp.billing_rows import file_schema, inspect_file
from octo_pipeline.vendors.gcp.export_files import ExportFile, connect, export_files, refuse_unread
from octo_pipeline.vendors.landing import (
    Delivery,
    Landed,
    deliveries,
    delivery_path,
    describe,
    find_delivery,
    land_each,
    publish,
    staging,
)
from octo_pipeline.vendors.listing import is_hidden
from octo_pipeline.vendors.shared_rows import FileRows, files_that_count
from octo_pipeline.vendors.source import Available

_VENDOR = "gcp"


# The two tables have the same costs, but split rows differently and so round differently.
_ROUNDING = Decimal("0.005")
# Other tables that Google writes beside the billing export.
_OTHER_TABLES = ("cloud_pricing_export", "cud_subscriptions_export", "gcp_billing_export_focus")

# The coverage of a month by a table: (hour of usage, currency) -> billed cost.
_Coverage = dict[tuple[datetime, str], Decimal]


@dataclass(frozen=True)
class _Part:
    """Files of one table, all of which have rows of the month.

    Attributes:
        table: the table's folder.
        files: the files.
        days: the days of usage that are read from them; empty for all days.
    """

    table: Path
    files: tuple[ExportFile, ...]
    days: tuple[date, ...] = ()


@dataclass(frozen=True)
class _Export:
    """The files from which an account's month is read."""

    account: str
    month: str
    parts: tuple[_Part, ...]

    @property
    def table(self) -> Path:
        """The folder of the first table."""
        return self.parts[0].table

    @property
    def version(self) -> str:
        """A digest of the files' names, sizes and times, so that it does not read them."""
        states: list[object] = []
        for part in self.parts:
            stats = [(file.name, (stat := file.path.stat()).st_size, stat.st_mtime_ns) for file in part.files]
            states += [part.table.name, stats, *([[str(day) for day in part.days]] if part.days else [])]
        return hashlib.sha256(json.dumps(states).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class GcpFolderSource:
    """The billing exports in a folder; a `Source`."""

    root: Path

    vendor = _VENDOR
    account = None

    @property
    def name(self) -> str:
        """What messages and sensors call it."""
        return f"{_VENDOR} at {self.root}"

    def available(self, month: str) -> list[Available]:
        """The version of each billing account's month; reads only one column of the files if there is one table.

        Raises:
            OctoError: the folder has no exports, or a file is damaged or not a billing export.
        """
        exports = [_find(folder, month) for folder in self._accounts()]
        return [
            Available(_VENDOR, export.account, month, export.table.name, export.version) for export in exports if export
        ]

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land the month of each billing account that is not landed yet.

        Raises:
            OctoError: a file is damaged, has an unsupported format or is not a billing export, or a month no longer has
                any rows; the other accounts are still landed.
        """

        def land_account(folder: Path) -> Landed | None:
            if folder == self.root:
                _refuse_stray_files(self.root)
                return None
            export = _find(folder, month)
            if export is not None:
                return _land(root, export, fetched_at)
            if _was_landed(root, folder, month):
                raise OctoError(
                    f"There are no longer any rows of {month} in {folder}. Nothing was landed and the last delivery stays. "
                    "Put the files back, or remove that delivery.",
                    code="month-lost",
                )
            return None

        return land_each([*self._accounts(), self.root], land_account)

    def _accounts(self) -> list[Path]:
        try:
            folders = sorted(folder for folder in self.root.iterdir() if folder.is_dir())
        except OSError as error:
            raise OctoError(
                f"The folder {self.root} cannot be read ({reason(error)}).", code="folder-unreadable"
            ) from error
        accounts = [folder for folder in folders if re.fullmatch(BILLING_ACCOUNT_ID, folder.name)]
        if not accounts:
            raise OctoError(
                f"The folder {self.root} holds no Google Cloud billing export. The expected files are "
                "<billing account id>/<table>/*.parquet, with an id such as 0D1DR5-ADE21G-RF09W1.",
                code="exports-missing",
            )
        return accounts


def _refuse_stray_files(root: Path) -> None:
    """Refuse exports in the source's folder that are not in an account's folder."""
    for path in sorted(root.iterdir()):
        if is_hidden([path.name]) or re.fullmatch(BILLING_ACCOUNT_ID, path.name):
            continue
        if path.is_file() or path.name.startswith("gcp_billing_export") or _looks_like_account(path.name):
            refuse_unread(path, root, "<billing account id>/<table>")


def _looks_like_account(name: str) -> bool:
    return re.fullmatch(BILLING_ACCOUNT_ID, name.strip().upper().replace("_", "-")) is not None


def _find(folder: Path, month: str) -> _Export | None:
    """The export of an account's month; None if it has no rows.

    Raises:
        OctoError: a file is damaged, has an unsupported format or is not a billing export, or no table covers the month.
    """
    names = list(table_names(folder.name).values())
    for path in sorted(folder.iterdir()):
        if path.name not in names and not path.name.startswith(_OTHER_TABLES) and not is_hidden([path.name]):
            refuse_unread(path, folder.parent, f"the table's folder, {names[0]} or {names[1]}")
    parts = []
    for name in names:
        files = [file for file in export_files(folder / name, folder.parent) if _has_rows(file, month)]
        if files:
            parts.append(_Part(folder / name, tuple(files)))
    if len(parts) == 2:
        parts = _parts(month, *parts)
    return _Export(folder.name, month, tuple(parts)) if parts else None


def _parts(month: str, detailed: _Part, standard: _Part) -> list[_Part]:
    """The table that covers the month; if neither does, the days that are read from each table.

    An export begins when it is enabled and ends when it is disabled, and the two are enabled separately. The detailed
    one is preferred where both have the same usage, because only it has resources and their labels.
    """
    in_detailed, in_standard = _coverage(detailed, month), _coverage(standard, month)
    if _covers(in_detailed, in_standard):
        return [detailed]
    if _covers(in_standard, in_detailed):
        return [standard]
    days: dict[bool, list[date]] = {True: [], False: []}
    for day in sorted({hour.date() for hour, _ in in_detailed | in_standard}):
        of_detailed, of_standard = (
            {key: net for key, net in of.items() if key[0].date() == day} for of in (in_detailed, in_standard)
        )
        is_detailed = _covers(of_detailed, of_standard)
        if not is_detailed and not _covers(of_standard, of_detailed):
            raise OctoError(
                f"{detailed.table} and {standard.table} each lack hours of {day} that the other has, so the costs of that "
                "day are unknown. Export the tables again; nothing was landed.",
                code="month-not-covered",
                place=str(detailed.table),
            )
        days[is_detailed].append(day)
    return [replace(detailed, days=tuple(days[True])), replace(standard, days=tuple(days[False]))]


def _covers(first: _Coverage, second: _Coverage) -> bool:
    """Whether the first table has all hours of usage of the second, or the same costs."""
    if {hour for hour, _ in second} <= {hour for hour, _ in first}:
        return True
    nets = [defaultdict[str, Decimal](Decimal), defaultdict[str, Decimal](Decimal)]
    for net, coverage in zip(nets, (first, second), strict=True):
        for (_, currency), amount in coverage.items():
            net[currency] += amount
    return all(abs(nets[0][currency] - nets[1][currency]) <= _ROUNDING for currency in {*nets[0], *nets[1]})


def _coverage(part: _Part, month: str) -> _Coverage:
    coverage: _Coverage = defaultdict(Decimal)
    for file in part.files:
        query = render(
            "vendors/gcp/coverage",
            expressions=expressions(file.schema()),
            files=file.rows,
            invoice_month=_invoice_month(month),
        )
        with connect() as con, translate_read_errors(str(file.path)):
            for hour, currency, net in con.execute(query).fetchall():
                if hour is not None:
                    coverage[hour, currency] += net or 0
    return coverage


def _has_rows(file: ExportFile, month: str) -> bool:
    if file.form == "parquet":
        # Reading the columns is cheap, so a file that is not an export is refused even without rows of the month.
        file.schema()
    query = render("vendors/gcp/has_month", files=file.rows, invoice_month=_invoice_month(month))
    with connect() as con, translate_read_errors(str(file.path)):
        return bool(con.execute(query).fetchall()[0][0])


def _invoice_month(month: str) -> str:
    return month.replace("-", "")


def _land(root: Location, export: _Export, fetched_at: datetime) -> Landed:
    identity = {"vendor": _VENDOR, "account": export.account, "month": export.month, "version": export.version}
    known = find_delivery(root, **identity)
    if known is not None:
        return Landed(known, is_new=False)
    with staging(root) as folder, connect() as con:
        files: dict[str, int] = {}
        for part in export.parts:
            files |= _land_part(con, part, export.month, folder)
        delivery = Delivery(
            **identity,
            format="parquet",
            report=export.table.name,
            files=tuple(describe(folder / name) for name in files),
            fetched_at=fetched_at,
            source=str(export.table),
            path=delivery_path(root, **identity),
            details={"rows": sum(files.values())} | _days_by_table(export),
        )
        return publish(root, folder, with_content(root, delivery, folder, relations))


def _land_part(con: duckdb.DuckDBPyConnection, part: _Part, month: str, folder: Path) -> dict[str, int]:
    """Write the rows of a part's files to the folder; returns name -> number of rows of the files that count."""
    landed: list[tuple[Path, str, int]] = []
    for file in part.files:
        file.verify()
        file.schema()
        target = folder / (file.landed_name if not part.days else f"{part.table.name}__{file.landed_name}")
        query = render(
            "vendors/gcp/month_rows",
            files=file.rows,
            invoice_month=_invoice_month(month),
            usage_days=[str(day) for day in part.days],
        )
        with translate_read_errors(str(file.path)):
            con.execute(f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet)")
        landed.append((target, str(file.path), inspect_file(con, target, str(file.path), month).rows))
    counting = files_that_count(con, _comparable_files(landed), str(part.table))
    for index, (target, _, _) in enumerate(landed):
        if index not in counting:
            target.unlink()
    return {landed[index][0].name: landed[index][2] for index in counting}


def _comparable_files(landed: Sequence[tuple[Path, str, int]]) -> list[FileRows]:
    if len(landed) < 2:
        return [FileRows(origin, Relation("")) for _, origin, _ in landed]
    schemas = [file_schema(path, origin) for path, origin, _ in landed]
    values = comparable_values(schemas)
    return [
        FileRows(
            Path(origin).name,
            Relation(
                "("
                + render(
                    "vendors/gcp/comparable_rows",
                    comparable_values=values,
                    expressions=expressions(schema),
                    files=read_parquet([path]),
                )
                + ")"
            ),
        )
        for (path, origin, _), schema in zip(landed, schemas, strict=True)
    ]


def _days_by_table(export: _Export) -> dict[str, dict[str, list[str]]]:
    """The days of usage by table if two tables are read; else empty."""
    if len(export.parts) < 2:
        return {}
    return {"days": {part.table.name: [str(day) for day in part.days] for part in export.parts}}


def _was_landed(root: Location, folder: Path, month: str) -> bool:
    landed = deliveries(root, vendor=_VENDOR, account=folder.name, month=month)
    return any(Path(delivery.source).parent == folder for delivery in landed)
