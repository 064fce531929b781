"""The tables of a Google Cloud billing export: which exist, which one is read for a month, and what it has of it.

This module inspects a dataset before anything is fetched. Reaching the dataset belongs in `client`, landing its rows in
`billing`.

Which table: the detailed export is preferred to the standard one, because only it has the labels of GKE's cost
allocation. An export begins when it is enabled and ends when it is disabled, and the two are enabled separately. So a
month is read from the standard table if that has hours of usage that the detailed one lacks, or was exported more than
two days longer. Google writes the two hours apart, so the last hours of a month that has not ended are not compared.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months
from octo_pipeline.vendors.gcp.billing_columns import Schema, schema_problem, table_names
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.billing_queries import PartitionQuery

Parameter = str | date | datetime

# The two exports of an account are written hours apart.
_EXPORT_DELAY = timedelta(days=2)
_RECENT_DAYS = 35
_NAMED_DAYS = 5


class BillingDataset(Protocol):
    """A BigQuery dataset; every method raises OctoError if BigQuery refuses or cannot be reached."""

    def location(self) -> str:
        """Where the dataset is, such as EU."""
        ...

    def schema(self, table: str) -> Schema | None:
        """The columns of a table of the dataset; None if there is no such table."""
        ...

    def rows(self, sql: str, parameters: Mapping[str, Parameter]) -> list[Mapping[str, Any]]:
        """The few rows of an aggregating query."""
        ...

    def batches(self, sql: str, parameters: Mapping[str, Parameter]) -> AbstractContextManager[Iterator[Any]]:
        """The rows of a query as a stream of Arrow record batches."""
        ...


@dataclass(frozen=True)
class Partition:
    """The rows of one month that were ingested on one day.

    Attributes:
        day: the ingestion partition.
        exported_at: the latest export time; new rows have a later one.
        rows: the number of rows.
        hours: the hours with usage.
        net: Σ cost + credits in NUMERIC by BigQuery; None if it was not requested.
    """

    day: date
    exported_at: datetime
    rows: int
    hours: frozenset[datetime]
    net: Decimal | None = None


@dataclass(frozen=True)
class ExportedMonth:
    """The current state of a month in one table of the export."""

    table: str
    query: PartitionQuery
    partitions: tuple[Partition, ...]


@dataclass(frozen=True)
class ExportTable:
    """A table of the export, described for the user who registers the account.

    Attributes:
        name: the table's name.
        kind: detailed or standard.
        problem: a sentence about missing or wrong columns; None if there are none.
        last_export: the latest export of the last weeks, None if there was none.
    """

    name: str
    kind: str
    problem: str | None
    last_export: datetime | None


@dataclass(frozen=True)
class ExportInspection:
    """The tables in a dataset of an account's billing export."""

    location: str
    tables: tuple[ExportTable, ...]

    @property
    def is_ok(self) -> bool:
        """Whether there is a table, and every table can be read."""
        return bool(self.tables) and not any(table.problem for table in self.tables)


def inspect_export(dataset: BillingDataset, document: GcpSourceDocument) -> ExportInspection:
    """Inspect a dataset before its account is confirmed.

    Raises:
        OctoError: BigQuery refuses or cannot be reached.
    """
    since = datetime.now(UTC).date() - timedelta(days=_RECENT_DAYS)
    tables = []
    for kind, name in table_names(document.billing_account_id).items():
        schema = dataset.schema(name)
        if schema is None:
            continue
        problem = schema_problem(schema)
        exported_at = None
        if problem is None:
            query = PartitionQuery(_full_name(document, name), schema)
            exported_at = dataset.rows(query.last_export(), {"since": since})[0]["exported_at"]
        tables.append(ExportTable(name, kind, problem and f"{_place(document, name)} {problem}.", exported_at))
    return ExportInspection(dataset.location(), tuple(tables))


def exported_month(
    dataset: BillingDataset, document: GcpSourceDocument, month: str, *, with_net: bool
) -> ExportedMonth | None:
    """The current state of a month in the export; None if it has no rows of the month.

    Args:
        dataset: has the tables.
        document: the account and its dataset.
        month: the invoice month, YYYY-MM.
        with_net: also have BigQuery sum the net costs.

    Raises:
        OctoError: there is no export table, one is not a billing export, or none has the whole month; BigQuery refuses
            or cannot be reached.
    """
    exports = [
        ExportedMonth(name, query, partitions)
        for name, query in _queries(dataset, document)
        if (partitions := _partitions(dataset, query, month, with_net=with_net))
    ]
    return _covering(document, month, *exports) if len(exports) == 2 else exports[0] if exports else None


def _queries(dataset: BillingDataset, document: GcpSourceDocument) -> list[tuple[str, PartitionQuery]]:
    names = table_names(document.billing_account_id).values()
    queries = []
    for name in names:
        schema = dataset.schema(name)
        if schema is None:
            continue
        if problem := schema_problem(schema):
            raise OctoError(
                f"{_place(document, name)} {problem}. Nothing was landed. Check whether Google still writes that table, and "
                "if not, enable the export again in Cloud Billing.",
                code="table-columns-wrong",
            )
        queries.append((name, PartitionQuery(_full_name(document, name), schema)))
    if not queries:
        raise OctoError(
            f"There is no billing export of {document.billing_account_id} in {document.project}.{document.dataset}: "
            f"neither table {' nor '.join(names)} exists. Check the dataset, or enable the export in Cloud Billing; Google "
            "creates the table some hours later.",
            code="billing-export-missing",
        )
    return queries


def _partitions(dataset: BillingDataset, query: PartitionQuery, month: str, *, with_net: bool) -> tuple[Partition, ...]:
    # Usage of a month is not ingested before the month begins; the month before is a margin for time zones and for the
    # rows that Google backfills when an export is enabled. There is no last day, because corrections may come any time.
    since = date.fromisoformat(f"{add_months(month, -1)}-01")
    rows = dataset.rows(query.partitions(with_net=with_net), {"month": month.replace("-", ""), "since": since})
    for row in rows:
        if None in (row["day"], row["exported_at"], row["used_from"]):
            raise OctoError(
                f"The table {query.table} has rows of {month} without an ingestion day, export_time or usage_start_time. "
                "Google does not export such rows. Nothing was landed; check who else writes to that table.",
                code="table-not-of-google",
            )
    return tuple(
        Partition(row["day"], row["exported_at"], row["row_count"], frozenset(row["hours"]), row.get("net"))
        for row in rows
    )


def _covering(
    document: GcpSourceDocument, month: str, detailed: ExportedMonth, standard: ExportedMonth
) -> ExportedMonth:
    """The table that has the whole month."""
    in_detailed, in_standard = (
        frozenset[datetime]().union(*(partition.hours for partition in export.partitions))
        for export in (detailed, standard)
    )
    delay = _exported_at(standard) - _exported_at(detailed)
    missing = in_standard - in_detailed
    is_over = max(in_standard).date() >= date.fromisoformat(f"{add_months(month, 1)}-01") - timedelta(days=1)
    if not is_over and delay <= _EXPORT_DELAY:
        missing = frozenset(hour for hour in missing if hour < max(in_detailed))
    if not missing and delay <= _EXPORT_DELAY:
        return detailed
    if not in_detailed - in_standard:
        return standard
    if not missing:
        return detailed
    raise OctoError(
        f"No table of {document.place} has the whole month {month}: {detailed.table} lacks usage of "
        f"{_days(missing)}, {standard.table} of {_days(in_detailed - in_standard)}. Nothing was landed; export both "
        "tables to files, which are read day by day.",
        code="month-not-covered",
    )


def _exported_at(export: ExportedMonth) -> datetime:
    return max(partition.exported_at for partition in export.partitions)


def _days(hours: Iterable[datetime]) -> str:
    days = sorted({hour.date() for hour in hours})
    return ", ".join(map(str, days)) if len(days) <= _NAMED_DAYS else f"{days[0]} to {days[-1]} ({len(days)} days)"


def _full_name(document: GcpSourceDocument, table: str) -> str:
    return f"{document.project}.{document.dataset}.{table}"


def _place(document: GcpSourceDocument, table: str) -> str:
    return f"The table {_full_name(document, table)}"
