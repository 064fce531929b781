"""The graph of the tables: the one list of them, and everything that follows from what each table declares to read.

A new table is a file in this folder and a line in `TABLES`. Code that needs one table imports that table's file,
because this module imports all of them.
"""

from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from typing import NamedTuple

from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.dbt import column_descriptions
from octo_pipeline.tables.explained_allocations import EXPLAINED_DESCRIPTIONS
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.landed_charges import landed_months
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.table import KEPT, OUTSIDE, Table
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

TABLES: tuple[Table, ...] = (
    CostLineItems(),
    ContainerUsage(),
    InvoiceCosts(),
    MatchedItems(),
    ResolvedAccounts(),
    Corrections(),
    UsageShares(),
    Allocations(),
    AccountCosts(),
    CostGroupCosts(),
    Prepayments(),
)


def order() -> tuple[Table, ...]:
    """All tables, each after the ones that it reads.

    Raises:
        KeyError: a table reads something that is neither a table nor in `OUTSIDE`.
        graphlib.CycleError: tables read each other.
    """
    tables = {table.name: table for table in TABLES}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for table in TABLES:
        sorter.add(table.name, *(read.name for read in table.reads if read.name not in OUTSIDE))
    return tuple(tables[name] for name in sorter.static_order())


def phases() -> tuple[tuple[Table, ...], tuple[Table, ...]]:
    """The tables whose months can be made in parallel, and the other tables.

    Returns:
        The tables that read only their own month, directly and indirectly; then the tables that read what is due from
        earlier months, and all tables made from these. Both are in order. The first phase of all months comes before
        the second.
    """
    later: set[str] = set()
    for table in order():
        if any(read.months != "this" or read.name in later for read in table.reads):
            later.add(table.name)
    return (
        tuple(table for table in order() if table.name not in later),
        tuple(table for table in order() if table.name in later),
    )


def downstream_of(name: str) -> tuple[Table, ...]:
    """The tables made from a table or from something outside such as decisions, directly or indirectly, in order.

    Args:
        name: a table (which is not in the result) or one of `octo_pipeline.tables.table.OUTSIDE`.
    """
    names = {name}
    tables = []
    for table in order():
        if any(read.name in names for read in table.reads):
            names.add(table.name)
            tables.append(table)
    return tuple(tables)


def column_meaning(table: Table, column: str) -> str:
    """The description of a column, as a sentence.

    A dbt model describes its own columns. A column name means the same in all tables, so a description may come from
    the table itself, from another table, from the view of explained allocations or from ``cost_line_items``.

    Raises:
        KeyError: the column has no description; a test looks for such columns.
    """
    declared = [described.descriptions for described in (table, *order())]
    for meanings in (
        column_descriptions(table.name),
        *declared,
        EXPLAINED_DESCRIPTIONS,
        column_descriptions(CostLineItems.name),
    ):
        if meaning := meanings.get(column):
            return meaning
    raise KeyError(f"{table.name}.{column}")


# What "changed" of a month that is landed and was never made, such as after a run that was killed.
NOT_MADE = "not made yet"


class StalePartition(NamedTuple):
    """A partition whose recorded inputs are no longer current, or that is missing although its month is landed.

    Attributes:
        changed: the names of the inputs that changed, were added or were removed; for a month that is landed and not
            made, `NOT_MADE` alone.
        fingerprint: the fingerprint that the partition would have if it were made now.
    """

    table: str
    month: str
    changed: list[str]
    fingerprint: str


def stale(workspace: Workspace, tables: Iterable[Table] | None = None) -> list[StalePartition]:
    """The stale partitions of the lake, of all tables in order or of the given ones.

    A partition made from a stale one becomes stale only when that one has been made again with another result. The results
    of a closed month are never stale: what changed in it makes the corrections of the first open month stale.
    """
    with workspace.lake.one_look():
        return list(_stale(workspace, order() if tables is None else tables))


def _stale(workspace: Workspace, tables: Iterable[Table]) -> Iterator[StalePartition]:
    landed = landed_months(workspace)
    for table in tables:
        made = workspace.lake.months(table.name)
        for month in sorted({*made, *landed}):
            if table.name in KEPT and workspace.is_closed(month):
                continue
            recorded = workspace.lake.metadata(table.name, month)
            now = table.inputs(workspace, month)
            if recorded is None:
                yield StalePartition(table.name, month, [NOT_MADE], fingerprint(now))
            elif recorded.fingerprint != fingerprint(now):
                names = now.keys() | recorded.inputs.keys()
                changed = sorted(n for n in names if now.get(n) != recorded.inputs.get(n))
                yield StalePartition(table.name, month, changed, fingerprint(now))
