"""A folder of exported Google Cloud billing tables, so that the pipeline can be tried without Google.

Layout: ``<root>/<billing account id>/<table>/*.parquet``, where the table is called as Google calls it
(``gcp_billing_export_resource_v1_…`` or ``gcp_billing_export_v1_…``) and the files hold its rows with their
nested columns, as BigQuery's ``EXPORT DATA`` writes them. Files may be split in any way: the rows of a month
are picked by ``invoice.month``.

A delivery has, for each file with rows of the month, a file of these rows with all their columns. Of two
tables of an account the detailed one is read if it has rows of the month.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.model.wording import reason
from octo_pipeline.vendors.data_files import read_parquet, translate_read_errors
from octo_pipeline.vendors.downloads import inside
from octo_pipeline.vendors.gcp.billing_columns import schema_problem, table_names
from octo_pipeline.vendors.gcp.billing_document import BILLING_ACCOUNT_ID
from octo_pipeline.vendors.gcp.billing_rows import file_schema, inspect_file
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
from octo_pipeline.vendors.source import Available

_VENDOR = "gcp"


@dataclass(frozen=True)
class _Export:
    """The files of a table that have rows of one month."""

    account: str
    month: str
    table: Path
    files: tuple[Path, ...]

    @property
    def version(self) -> str:
        """Of what the file system tells, so that asking for it reads no rows."""
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        return hashlib.sha256(json.dumps([self.table.name, stats]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class GcpFolderSource:
    """The billing exports in a folder; a `Source`."""

    root: Path

    vendor = _VENDOR
    account = None

    @property
    def name(self) -> str:
        """What sentences and sensors call it."""
        return f"{_VENDOR} at {self.root}"

    def available(self, month: str) -> list[Available]:
        """The version of each billing account's month; reads one column of the files.

        Raises:
            OctoError: the folder holds no exports, or a file is damaged or no billing export.
        """
        found = [_find(folder, month) for folder in self._accounts()]
        return [Available(_VENDOR, one.account, month, one.table.name, one.version) for one in found if one]

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land the month of each billing account that is not landed yet.

        Raises:
            OctoError: a file is damaged or no billing export, or a month has no rows any more; the other
                accounts are landed all the same.
        """

        def land_account(folder: Path) -> Landed | None:
            export = _find(folder, month)
            if export is not None:
                return _land(root, export, fetched_at)
            if _was_landed(root, folder, month):
                raise OctoError(
                    f"There are no rows of {month} any more in {folder}. Nothing was landed and the last "
                    "delivery stays; put the files back, or remove that delivery.",
                    code="month-lost",
                )
            return None

        return land_each(self._accounts(), land_account)

    def _accounts(self) -> list[Path]:
        try:
            folders = sorted(one for one in self.root.iterdir() if one.is_dir())
        except OSError as error:
            raise OctoError(
                f"The folder {self.root} cannot be read ({reason(error)}).", code="folder-unreadable"
            ) from error
        found = [one for one in folders if re.fullmatch(BILLING_ACCOUNT_ID, one.name)]
        if not found:
            raise OctoError(
                f"The folder {self.root} holds no Google Cloud billing export. Expected is "
                "<billing account id>/<table>/*.parquet, with an id such as 0D1DR5-ADE21G-RF09W1.",
                code="exports-missing",
            )
        return found


def _find(folder: Path, month: str) -> _Export | None:
    """The month in the detailed table, or else in the standard one."""
    for name in table_names(folder.name).values():
        found = [inside(file, folder.parent, str(file)) for file in sorted((folder / name).glob("*.parquet"))]
        files = tuple(file for file in found if _has_rows(file, month))
        if files:
            return _Export(folder.name, month, folder / name, files)
    return None


def _has_rows(file: Path, month: str) -> bool:
    if problem := schema_problem(file_schema(file, str(file))):
        raise OctoError(
            f"{file} {problem}. Export the table again with all its columns; nothing was landed.",
            code="table-columns-wrong",
        )
    with duckdb.connect() as con, translate_read_errors(str(file)):
        return bool(con.execute(f"SELECT EXISTS ({_rows_of(file, month)})").fetchall()[0][0])


def _rows_of(file: Path, month: str) -> str:
    return f"SELECT * FROM {read_parquet([file])} WHERE invoice.month = {literal(month.replace('-', ''))}"


def _land(root: Location, export: _Export, fetched_at: datetime) -> Landed:
    place = {"vendor": _VENDOR, "account": export.account, "month": export.month, "version": export.version}
    known = find_delivery(root, **place)
    if known is not None:
        return Landed(known, is_new=False)
    with staging(root) as folder, duckdb.connect() as con:
        rows = 0
        for file in export.files:
            target = folder / file.name
            with translate_read_errors(str(file)):
                con.execute(f"COPY ({_rows_of(file, export.month)}) TO {literal(str(target))} (FORMAT parquet)")
            rows += inspect_file(con, target, str(file), export.month).rows
        delivery = Delivery(
            **place,
            format="parquet",
            report=export.table.name,
            files=tuple(describe(folder / file.name) for file in export.files),
            fetched_at=fetched_at,
            source=str(export.table),
            path=delivery_path(root, **place),
            details={"rows": rows},
        )
        return publish(root, folder, delivery)


def _was_landed(root: Location, folder: Path, month: str) -> bool:
    found = deliveries(root, vendor=_VENDOR, account=folder.name, month=month)
    return any(Path(one.source).parent == folder for one in found)
