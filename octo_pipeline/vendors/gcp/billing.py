"""Google Cloud billing exports: landed from BigQuery partition by partition.

This module copies a month from an export table into the landing. Choosing the table is in `billing_tables`, the columns
are in `billing_columns`, the files in `billing_rows`; a folder of exported files instead of BigQuery is in
`billing_folder`. How landed files are read is in `billing_relations`.

Assumptions: the export is an append-only table that is partitioned by ingestion day, and a later row has a later
`export_time`. So a partition is unchanged if its latest export time and its number of rows are.

How a month is landed:

1. BigQuery gives the latest export time and the number of rows of each partition with rows of the month; the version
   of the delivery is made from these.
2. A version that is landed already is not fetched again. For a new version, partitions that the last delivery has
   unchanged are copied from it (as a hard link, if the file system allows), and the others are streamed from BigQuery
   as Arrow, one file each.
3. The rows and net cost of each fetched file must equal BigQuery's own count and sum in NUMERIC.

If a month no longer has any rows, or has lost a partition, rows or a column, it is refused and the last delivery stays.
An export never shrinks, so something else is wrong, such as tables that expire.

Known drawbacks: if Google changed a row in place and kept its export time, it would not be noticed. A delivery has only
the columns that line items are made of, because BigQuery bills by the column.
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.vendors.content import with_content
from octo_pipeline.vendors.downloads import DeliveredFile
from octo_pipeline.vendors.gcp.billing_columns import known, lost
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.billing_relations import relations
from octo_pipeline.vendors.gcp.billing_rows import FileFacts, inspect_file, write_batches
from octo_pipeline.vendors.gcp.billing_tables import (
    BillingDataset,
    ExportedMonth,
    Parameter,
    Partition,
    exported_month,
)
from octo_pipeline.vendors.landing import (
    Delivery,
    Landed,
    damage,
    deliveries,
    delivery_path,
    describe,
    find_delivery,
    publish,
    staging,
)
from octo_pipeline.vendors.source import Available

_VENDOR = "gcp"
# Part of every version. Increase it when other columns are selected, so that months are fetched again.
_SELECTION = 1


@dataclass(frozen=True)
class GcpBillingSource:
    """The billing export of one billing account in BigQuery; a `Source`."""

    document: GcpSourceDocument
    dataset: BillingDataset

    vendor = _VENDOR

    @property
    def account(self) -> str:
        """The billing account."""
        return self.document.billing_account_id

    @property
    def name(self) -> str:
        """What messages and sensors call it."""
        return f"{_VENDOR} {self.account} at {self.document.project}.{self.document.dataset}"

    def available(self, month: str) -> list[Available]:
        """The version of the month; one query over two narrow columns.

        Raises:
            OctoError: there is no export, or BigQuery refuses or cannot be reached.
        """
        export = exported_month(self.dataset, self.document, month, with_net=False)
        return [Available(_VENDOR, self.account, month, export.table, _version(export))] if export else []

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land the changes since the last delivery of the month.

        Raises:
            OctoError: there is no export, or BigQuery refuses or cannot be reached; the month is empty or
                smaller than before; rows do not add up to BigQuery's own sum. Nothing is landed.
        """
        previous = _newest(root, self.account, month)
        export = exported_month(self.dataset, self.document, month, with_net=False)
        self._refuse_loss(previous, export, month)
        if export is None:
            return []
        version = _version(export)
        present = find_delivery(root, vendor=_VENDOR, account=self.account, month=month, version=version)
        if present is not None:
            return [Landed(present, is_new=False)]
        export = exported_month(self.dataset, self.document, month, with_net=True) or export
        return [self._land(root, month, fetched_at, export, previous)]

    def _land(
        self, root: Location, month: str, fetched_at: datetime, export: ExportedMonth, previous: Delivery | None
    ) -> Landed:
        version = _version(export)
        kept = _kept_files(previous, export)
        with staging(root) as folder:
            files = []
            for partition in export.partitions:
                name = _file_name(partition)
                if name in kept:
                    file, path = kept[name]
                    _copy(path, folder / name)
                    files.append(file)
                else:
                    files.append(self._fetch(export, partition, month, folder / name))
            delivery = Delivery(
                vendor=_VENDOR,
                account=self.account,
                month=month,
                version=version,
                format="parquet",
                report=export.table,
                files=tuple(files),
                fetched_at=fetched_at,
                source=f"{self.document.project}.{self.document.dataset}.{export.table}",
                path=delivery_path(root, vendor=_VENDOR, account=self.account, month=month, version=version),
                details=_details(export, fetched=[file.name for file in files if file.name not in kept]),
            )
            return publish(root, folder, with_content(root, delivery, folder, relations))

    def _fetch(self, export: ExportedMonth, partition: Partition, month: str, path: Path) -> DeliveredFile:
        origin = f"The partition {partition.day} of {month} of {self.document.place}"
        parameters: dict[str, Parameter] = {
            "month": month.replace("-", ""),
            "day": partition.day,
            "exported_at": partition.exported_at,
        }
        with self.dataset.batches(export.query.rows(), parameters) as batches:
            write_batches(batches, path)
        with shared_connection({}) as con:
            facts = inspect_file(con, path, origin, month)
        announced = FileFacts(partition.rows, partition.net or Decimal(0))
        if facts != announced:
            raise OctoError(
                f"{origin} changed or was cut off while it was read: it has {facts.rows} rows with a cost of {facts.net}, but "
                f"BigQuery counts {announced.rows} rows with a cost of {announced.net}. Nothing was landed; run this again.",
                code="table-changed-while-read",
            )
        return describe(path)

    def _refuse_loss(self, previous: Delivery | None, export: ExportedMonth | None, month: str) -> None:
        if previous is None:
            return
        advice = (
            "Nothing was landed and the last delivery stays. Check whether the dataset's tables or partitions expire. If the "
            "loss is intended, remove the delivery and run this again."
        )
        remedy = Remedy("deliveries remove", previous.version)
        if export is None:
            raise OctoError(
                f"There are no longer any rows of {month} in {self.document.place}. {advice}",
                code="month-lost",
                place=previous.version,
                remedy=remedy,
            )
        if previous.report != export.table:
            return
        if columns := lost(previous.details["columns"], export.query.schema):
            raise OctoError(
                f"There is no longer a column {', '.join(columns)} in {self.document.place}. {advice}",
                code="columns-lost",
                place=previous.version,
                remedy=remedy,
            )
        now = {partition.day.isoformat(): partition.rows for partition in export.partitions}
        for day, facts in previous.details["partitions"].items():
            if now.get(day, 0) < facts["rows"]:
                raise OctoError(
                    f"Only {now.get(day, 0)} of {facts['rows']} rows of {month} are left in the partition {day} of "
                    f"{self.document.place}. {advice}",
                    code="rows-lost",
                    place=previous.version,
                    remedy=remedy,
                )


def _version(export: ExportedMonth) -> str:
    state = [
        [partition.day.isoformat(), _instant(partition.exported_at), partition.rows] for partition in export.partitions
    ]
    text = json.dumps([_SELECTION, export.table, known(export.query.schema), state])
    newest = max(partition.exported_at for partition in export.partitions).astimezone(UTC)
    return f"{newest:%Y%m%dT%H%M%SZ}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _file_name(partition: Partition) -> str:
    return f"{partition.day}.parquet"


def _details(export: ExportedMonth, fetched: list[str]) -> dict[str, Any]:
    return {
        "rows": sum(partition.rows for partition in export.partitions),
        "selection": _SELECTION,
        "columns": known(export.query.schema),
        "partitions": {partition.day.isoformat(): _state(partition) for partition in export.partitions},
        "fetched": fetched,
    }


def _state(partition: Partition) -> dict[str, Any]:
    return {"rows": partition.rows, "exported_at": _instant(partition.exported_at), "net": str(partition.net)}


def _newest(root: Location, account: str, month: str) -> Delivery | None:
    """The last delivery from BigQuery; one from a folder has no partitions to compare with."""
    landed = [
        delivery
        for delivery in deliveries(root, vendor=_VENDOR, account=account, month=month)
        if "partitions" in delivery.details
    ]
    return landed[-1] if landed else None


def _kept_files(previous: Delivery | None, export: ExportedMonth) -> dict[str, tuple[DeliveredFile, Location]]:
    """The files of the last delivery whose partition is unchanged: name -> the file and its path."""
    if previous is None or previous.report != export.table or damage(previous):
        return {}
    details = previous.details
    if (details["selection"], details["columns"]) != (_SELECTION, known(export.query.schema)):
        return {}
    unchanged = {
        _file_name(partition)
        for partition in export.partitions
        if details["partitions"].get(partition.day.isoformat()) == _state(partition)
    }
    return {file.name: (file, previous.path / file.name) for file in previous.files if file.name in unchanged}


def _copy(file: Location, target: Path) -> None:
    if isinstance(file, Path):
        with suppress(OSError):
            os.link(file, target)
            return
    with file.open("rb") as stream, target.open("xb") as copy:
        shutil.copyfileobj(stream, copy)
