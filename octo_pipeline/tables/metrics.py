"""The metrics that weigh targets: those of the configuration, and those that any pipeline delivers to the lake.

A metric of the lake is ``<root>/metrics/<id>/month=YYYY-MM/*.parquet`` with the columns account or group, and quantity
(allocation.md §15). The CSV files of the configuration belong in `octo_pipeline.rules.metrics`.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from octo_pipeline.allocation.shares import NO_QUANTITIES, QUANTITY_COLUMNS
from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import is_month
from octo_pipeline.model.sql import Relation, Sql, identifier, literal, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import counted
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.metrics import Metric
from octo_pipeline.workspace import Workspace

FOLDER = "metrics"


@dataclass(frozen=True)
class MetricMonth:
    """A month of a metric that has rows.

    Attributes:
        source: the CSV file of the configuration, or the folder of the lake.
        digest: of its rows.
    """

    metric_id: str
    month: str
    source: str
    rows: int
    digest: str


@dataclass(frozen=True)
class _Delivered:
    """The rows of a month of a metric in the lake."""

    query: Sql
    rows: int
    digest: str


# What is known of the files of a month, by their identities: they are read once per process.
_READ: dict[str, tuple[Hashable, _Delivered]] = {}


def metric_months(workspace: Workspace, metric_ids: Sequence[str] | None = None) -> list[MetricMonth]:
    """The months with rows of the metrics, or of all of them.

    Raises:
        OctoError: a file in the lake is not a metric, or a month is both in the configuration and in the lake.
    """
    lake, configured = workspace.lake, workspace.configuration.metrics
    names = sorted({*configured, *lake.folders(FOLDER)}) if metric_ids is None else metric_ids
    months = []
    for metric_id in names:
        delivered = set(_delivered_months(lake, metric_id))
        metric = configured.get(metric_id, Metric(metric_id, ()))
        for month, rows in metric.by_month.items():
            if month in delivered:
                raise OctoError(
                    f"The metric {metric_id} has {month} both in {FOLDER}/{metric_id}.csv and in the lake. Keep one of them.",
                    code="metric-repeated",
                    place=metric_id,
                )
            source = f"{FOLDER}/{metric_id}.csv"
            months.append(MetricMonth(metric_id, month, source, len(rows), metric.digest(month)))
        for month in delivered:
            partition = _delivered(lake, metric_id, month)
            if partition.rows:
                folder = str(lake.root / FOLDER / metric_id / f"month={month}")
                months.append(MetricMonth(metric_id, month, folder, partition.rows, partition.digest))
    return sorted(months, key=lambda month: (month.metric_id, month.month))


def counting_months(
    workspace: Workspace, allocators: Sequence[Allocator], month: str
) -> dict[tuple[str, bool], MetricMonth | None]:
    """The month of each metric that counts for the allocators in a booking month.

    Returns:
        (metric, whether it is carried forward) -> its month; None if it has none.
    """
    named = {(a.usage_of.id, a.usage_of.carry_forward) for a in allocators if a.weighs_by_metric}
    kept = workspace.configuration_of(month)
    if not named:
        months = []
    elif kept.closed_month:
        # What a closing kept stands for the metric, whatever is delivered later.
        months = [
            MetricMonth(
                metric_id, metric_month, f"the closing of {kept.closed_month}", len(rows), metric.digest(metric_month)
            )
            for metric_id, metric in kept.metrics.items()
            for metric_month, rows in metric.by_month.items()
        ]
    else:
        months = metric_months(workspace, sorted({metric_id for metric_id, _ in named}))
    counting: dict[tuple[str, bool], MetricMonth | None] = dict.fromkeys(sorted(named))
    for metric_month in months:
        for is_carried in (False, True):
            counts = metric_month.month <= month if is_carried else metric_month.month == month
            if counts and (metric_month.metric_id, is_carried) in counting:
                counting[metric_month.metric_id, is_carried] = metric_month
    return counting


def metric_inputs(workspace: Workspace, allocators: Sequence[Allocator], month: str) -> dict[str, str]:
    """The inputs of a table that weighs by metrics, for its fingerprint: the rows that count in the month."""
    counting = counting_months(workspace, allocators, month)
    return {
        f"{FOLDER}/{metric_id}{' or earlier' if is_carried else ''}": f"{counts.month} {counts.digest}"
        if counts
        else ""
        for (metric_id, is_carried), counts in counting.items()
    }


def quantities(workspace: Workspace, allocators: Sequence[Allocator], month: str) -> Relation:
    """The quantities that count for the allocators in a booking month, with the columns `QUANTITY_COLUMNS`."""
    months = {counts for counts in counting_months(workspace, allocators, month).values() if counts}
    metrics = workspace.configuration_of(month).metrics
    return quantities_of(workspace, sorted(months, key=lambda m: (m.metric_id, m.month)), metrics)


def quantities_of(workspace: Workspace, months: Sequence[MetricMonth], configured: Mapping[str, Metric]) -> Relation:
    """The quantities of months of metrics, with the columns `QUANTITY_COLUMNS`.

    Args:
        workspace: whose lake may have them.
        months: the months.
        configured: the metrics of the configuration, or those that a closing kept.
    """
    queries = []
    for metric_month in months:
        metric_id, month = metric_month.metric_id, metric_month.month
        metric = configured.get(metric_id)
        if metric and month in metric.by_month:
            rows = [(metric_id, month, q.target_type, q.target_id, str(q.quantity)) for q in metric.by_month[month]]
            queries.append(rows_sql(QUANTITY_COLUMNS, rows))
        else:
            queries.append(_delivered(workspace.lake, metric_id, month).query)
    return Relation(f"({' union all '.join(queries)})") if queries else NO_QUANTITIES


def _delivered_months(lake: Lake, metric_id: str) -> list[str]:
    folders = lake.folders(FOLDER, metric_id)
    months = [folder.removeprefix("month=") for folder in folders if folder.startswith("month=")]
    return sorted(month for month in months if is_month(month))


def _delivered(lake: Lake, metric_id: str, month: str) -> _Delivered:
    """The rows of a month of the lake.

    Raises:
        OctoError: a file cannot be read, or its rows are not quantities.
    """
    folder = (FOLDER, metric_id, f"month={month}")
    name = "/".join(folder)
    files = lake.parquet_files(*folder)
    known = _READ.get(f"{lake.root}/{name}")
    identities = tuple(sorted((str(path), identity) for path, identity in files.items()))
    if known is None or known[0] != identities:
        known = identities, _read(lake, metric_id, month, files, name)
        _READ[f"{lake.root}/{name}"] = known
    return known[1]


def _read(lake: Lake, metric_id: str, month: str, files: Mapping[Location, Hashable], name: str) -> _Delivered:
    if not files:
        return _Delivered(rows_sql(QUANTITY_COLUMNS, []), 0, "")
    paths = ", ".join(literal(str(path)) for path in files)
    relation = Relation(f"read_parquet([{paths}], hive_partitioning = false, union_by_name = true)")
    try:
        with lake.connect() as connection:
            described = connection.table_function("read_parquet", [[str(path) for path in files]]).columns
            # DuckDB adds the month of the folder's name.
            columns = [column for column in described if column != "month"]
            if "quantity" not in columns or not {"account", "group"} & set(columns):
                raise _wrong(name, f"has the columns {', '.join(columns)}; it needs quantity, and account or group")
            targets = {
                f"{name}_id": identifier(name) if name in columns else Sql("null") for name in ("account", "group")
            }
            query = render("tables/metric_rows", metric_id=metric_id, month=month, targets=targets, files=relation)
            row = connection.execute(render("tables/metric_flaws", metric_rows=query)).fetchone()
    except duckdb.Error as error:
        raise _wrong(name, f"cannot be read ({str(error).partition(chr(10))[0]})") from error
    count, wrong_quantities, without_target, repeated, digest = row or (0, 0, 0, 0, "")
    flaws = {
        "has no account or group": without_target,
        "has a quantity that is missing or negative": wrong_quantities,
        "has an account or group twice": repeated,
    }
    for flaw, number in flaws.items():
        if number:
            raise _wrong(name, f"{flaw} in {counted(number, 'row')}")
    return _Delivered(query, count, str(digest))


def _wrong(name: str, flaw: str) -> OctoError:
    return OctoError(f"The metric {name} in the lake {flaw}. Deliver it again.", code="metric-wrong", place=name)
