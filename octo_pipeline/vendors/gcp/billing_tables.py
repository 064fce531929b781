"""The tables of a Google Cloud billing export: which there are, which is read for a month, what is in it.

This module holds what is asked of a dataset before anything is fetched. How it is reached belongs in
`octo_pipeline.vendors.gcp.client`, landing its rows in `billing`.

Which table: of a standard and a detailed export the detailed one is read, because only it has the labels of
GKE's cost allocation. An export begins when it is enabled and ends when it is disabled, and the two are
enabled one by one, so a month is read from the standard table if that has hours of usage that the detailed one lacks,
or was exported more than two days longer. The two are written hours apart: while the month goes on, the last hours are
no difference.
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
    """A BigQuery dataset; every method raises OctoError where BigQuery refuses or cannot be reached."""

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
        exported_at: the latest export time; rows are only ever added, with a later one.
        rows: how many there are.
        hours: the hours of usage.
        net: Σ cost + credits in NUMERIC by BigQuery; None if it was not asked for.
    """

    day: date
    exported_at: datetime
    rows: int
    hours: frozenset[datetime]
    net: Decimal | None = None


@dataclass(frozen=True)
class ExportedMonth:
    """A month as one table of the export has it now."""

    table: str
    query: PartitionQuery
    partitions: tuple[Partition, ...]


@dataclass(frozen=True)
class ExportTable:
    """A table of the export, as somebody who registers the account wants to know it.

    Attributes:
        kind: detailed or standard.
        problem: a sentence about what is wrong with its columns; None if nothing is.
        last_export: the latest export of the last weeks, None if there was none.
    """

    name: str
    kind: str
    problem: str | None
    last_export: datetime | None


@dataclass(frozen=True)
class ExportInspection:
    """What a dataset holds of an account's billing export."""

    location: str
    tables: tuple[ExportTable, ...]

    @property
    def is_ok(self) -> bool:
        """There is a table, and every one can be read."""
        return bool(self.tables) and not any(table.problem for table in self.tables)


def inspect_export(dataset: BillingDataset, document: GcpSourceDocument) -> ExportInspection:
    """Look at a dataset before its account is registered.

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
    """What the export has of a month now; None if it has no rows of it.

    Args:
        dataset: where the tables are.
        document: whose export it is.
        month: the invoice month, YYYY-MM.
        with_net: also let BigQuery add up the net costs.

    Raises:
        OctoError: there is no export table, one is no billing export, or none has the whole month; BigQuery refuses
            or cannot be reached.
    """
    found = [
        ExportedMonth(name, query, partitions)
        for name, query in _queries(dataset, document)
        if (partitions := _partitions(dataset, query, month, with_net=with_net))
    ]
    return _covering(document, month, *found) if len(found) == 2 else found[0] if found else None


def _queries(dataset: BillingDataset, document: GcpSourceDocument) -> list[tuple[str, PartitionQuery]]:
    names = table_names(document.billing_account_id).values()
    queries = []
    for name in names:
        schema = dataset.schema(name)
        if schema is None:
            continue
        if problem := schema_problem(schema):
            raise OctoError(
                f"{_place(document, name)} {problem}. Nothing was landed; look whether Google still writes that "
                "table, and enable the export again in Cloud Billing if not.",
                code="table-columns-wrong",
            )
        queries.append((name, PartitionQuery(_full_name(document, name), schema)))
    if not queries:
        raise OctoError(
            f"There is no billing export of {document.billing_account_id} in {document.project}.{document.dataset}: "
            f"neither table {' nor '.join(names)}. Check the dataset, or enable the export in Cloud Billing; "
            "Google creates the table some hours later.",
            code="billing-export-missing",
        )
    return queries


def _partitions(dataset: BillingDataset, query: PartitionQuery, month: str, *, with_net: bool) -> tuple[Partition, ...]:
    # What was used in a month is not ingested before it; the month before is a margin for time zones and for what
    # Google fills in when an export is enabled. Later days have no end, as corrections may come at any time.
    since = date.fromisoformat(f"{add_months(month, -1)}-01")
    rows = dataset.rows(query.partitions(with_net=with_net), {"month": month.replace("-", ""), "since": since})
    for row in rows:
        if None in (row["day"], row["exported_at"], row["used_from"]):
            raise OctoError(
                f"The table {query.table} has rows of {month} without any ingestion day, export_time or usage_start_time, "
                "as Google's own export has not. Nothing was landed; look who else writes to that table.",
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
