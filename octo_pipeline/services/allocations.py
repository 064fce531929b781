"""The allocations of a month, as a list and as a file."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import origin_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.spreadsheet import csv_column_sql, write_xlsx
from octo_pipeline.model.sql import Relation, Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.closings import closed_items
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.limited import LimitedWorkspace
from octo_pipeline.workspace import Workspace

# Up to so many rows are read, joined and sorted for a page in less than a second.
LARGE_ROWS = 1_000_000
# What rows of a larger month can be sorted by without reading all of their items: names in the list and in the file.
LARGE_SORTS = {"cost": "cost", "target_account": "target_account_id"}


@dataclass(frozen=True)
class Filters:
    """Which rows of a month are asked for; what is None is not asked.

    Attributes:
        status: rows of this status.
        category: rows of this category.
        account: rows whose source or target, an account or a cost group, this is.
        cost_group: rows whose source or target this cost group is, one of its family, or an account that it has costs of.
        allocator: rows of items that it took.
        service: rows of this service code.
        text: rows in whose description or service code this is, in any case.
        item: rows of the item with this id.
    """

    status: str | None = None
    category: str | None = None
    account: str | None = None
    cost_group: str | None = None
    allocator: str | None = None
    service: str | None = None
    text: str | None = None
    item: str | None = None


_EVERYTHING = Filters()


def listed_allocations(
    workspace: Workspace, month: str, filters: Filters = _EVERYTHING, *, is_ordered: bool = True
) -> Sql:
    """A query of the items of a month and the rows booked in it; the rows of an item are next to each other.

    Args:
        workspace: whose lake.
        month: the booking month.
        filters: which rows.
        is_ordered: whether the rows are in their order, which is total; else in any.

    Raises:
        OctoError: the month was not run.
    """
    return render(
        "services/listed_allocations",
        explained_allocations=_explained(workspace, month),
        asked_for=filters,
        group_accounts=_accounts_of_group(workspace, month, filters),
        is_ordered=is_ordered,
    )


def allocation_totals(workspace: Workspace, month: str, filters: Filters = _EVERYTHING) -> Rows:
    """What the rows of `listed_allocations` add up to, by status and currency: row_count, cost and effective_cost.

    Raises:
        OctoError: the month was not run.
    """
    listed = listed_allocations(workspace, month, filters, is_ordered=False)
    with workspace.lake.connect() as connection:
        return Rows.fetched(connection, render("services/allocation_totals", listed=listed))


def is_large(workspace: Workspace, month: str) -> bool:
    """Whether a month has so many rows that people would wait for a page of `listed_allocations`, and `large_page` has it.

    A month that corrects closed ones is read whole, as is a file of an earlier edition, and for a limited reader.
    """
    lake = workspace.lake
    return (
        not isinstance(workspace, LimitedWorkspace)
        and lake.rows(Allocations.name, month) > LARGE_ROWS
        and not lake.rows(Corrections.name, month)
        and not lake.later_columns(Allocations.name, Allocations.columns)
    )


def large_page(
    workspace: Workspace, month: str, filters: Filters, *, sort: str | None, start: int, length: int
) -> Rows:
    """Some of the rows of `listed_allocations` of a large month, which are found in its file without reading the others.

    Args:
        workspace: whose lake.
        month: the booking month.
        filters: which rows.
        sort: one of `LARGE_SORTS`, with a minus in front descending. None is the order of the file, items first.
        start: how many rows are before the page.
        length: how many the page has at most.
    """
    lake = workspace.lake
    items = _items_of(workspace, month)
    # Names the file for the check that it is not replaced meanwhile; the rows are read with their positions.
    lake.scan(Allocations.name, [month], Allocations.columns)
    rows = Relation(f"read_parquet({literal(str(lake.path(Allocations.name, month)))}, hive_partitioning = false)")
    asked_of_items = (filters.category, filters.allocator, filters.service, filters.text, filters.item)
    with lake.connect() as connection:
        query = render(
            "services/large_list_positions",
            items=items,
            rows=rows,
            asked_for=filters,
            group_accounts=_accounts_of_group(workspace, month, filters),
            is_of_items=any(asked_of_items),
            order_by=[(LARGE_SORTS[sort.removeprefix("-")], "desc" if sort.startswith("-") else "asc")] if sort else [],
            row_count=length,
            row_offset=start,
        )
        positions = [position for (position,) in connection.execute(query).fetchall()]
        page = render("services/large_list_page", positions=positions or [-1], rows=rows, items=items, month=month)
        return Rows.fetched(connection, page)


def large_totals(workspace: Workspace, month: str, filters: Filters) -> Rows:
    """What `allocation_totals` returns, of a large month, without what explains its rows."""
    query = render(
        "services/large_list_totals",
        items=_items_of(workspace, month),
        rows=workspace.lake.scan(Allocations.name, [month], Allocations.columns),
        asked_for=filters,
        group_accounts=_accounts_of_group(workspace, month, filters),
    )
    with workspace.lake.connect() as connection:
        return Rows.fetched(connection, query)


def _items_of(workspace: Workspace, month: str) -> Relation:
    """The items that the rows of a month are of."""
    if workspace.is_closed(month):
        return closed_items(workspace, [month])
    return scan_items(workspace.lake, origin_months(month))


def _accounts_of_group(workspace: Workspace, month: str, filters: Filters) -> Sql | None:
    """A query of the accounts of the cost group that is asked for."""
    if filters.cost_group is None:
        return None
    costs = workspace.lake.scan(CostGroupCosts.name, [month], CostGroupCosts.columns)
    return render("services/group_accounts", cost_group_costs=costs, cost_group=filters.cost_group)


def fetched(workspace: Workspace, query: Sql) -> Rows:
    """The rows of a list, for people."""
    with workspace.lake.connect() as connection:
        return Rows.fetched(connection, query)


def export_allocations(workspace: Workspace, month: str, file: Path, *, is_raw: bool = False) -> None:
    """Write a month's allocations, each row with everything that explains it, in the format of the file's ending.

    Args:
        workspace: the lake.
        month: the booking month.
        file: where to.
        is_raw: whether CSV has the texts as they are, for programs; else none of them becomes a formula.

    Raises:
        OctoError: the month was not run, the ending is unknown, the folder does not exist, or the rows do not fit on a
            sheet.
    """
    explained = _explained(workspace, month)
    kind = file.suffix.removeprefix(".").lower()
    if kind not in ("csv", "parquet", "xlsx"):
        raise OctoError(
            f"The file {file} must end in .csv, .parquet or .xlsx.",
            code="export-format-unknown",
        )
    if not file.absolute().parent.is_dir():
        raise OctoError(
            f"The folder {file.absolute().parent} for {file.name} does not exist.", code="export-folder-missing"
        )
    query = render("services/exported_allocations", explained_allocations=explained)
    with workspace.lake.connect() as connection:
        if kind == "xlsx":
            write_xlsx(connection.execute(query), file, "allocations")
        else:
            options = "format csv, header" if kind == "csv" else "format parquet"
            if kind == "csv" and not is_raw:
                query = _without_formulas(connection, query)
            connection.execute(f"copy ({query}) to {literal(str(file))} ({options})")


def _without_formulas(connection: duckdb.DuckDBPyConnection, query: Sql) -> Sql:
    described = connection.execute(f"describe {query}").fetchall()
    texts = {name: csv_column_sql(name) for name, kind, *_ in described if kind == "VARCHAR"}
    return render("services/exported_texts", exported_allocations=query, texts=texts)


def _explained(workspace: Workspace, month: str) -> Sql:
    workspace.lake.require([month], Allocations.name)
    return explained_allocations(workspace, [month])
