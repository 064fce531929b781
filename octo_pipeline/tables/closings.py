"""What is kept of a month when it is closed, beside its tables: ``closings/month=YYYY-MM/<id>/``.

- ``items.parquet``: the items that the month's allocations are of, as they were; they explain the closed month.
- ``bill.parquet``, ``invoices.parquet``: what the bill said by charge and invoice; the journal of the month posts it.
- ``usage.parquet``: what usage that no allocator touches cost, by account, service and currency.
- ``closing.json``: the rules that compute the month from now on, what it was computed from, and the fingerprints of its
  tables. It is written last, so a closing is there whole or not at all; the registry's event names the one that counts.
"""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

from octo_pipeline.allocation.balances import TAKEN_ITEM_COLUMNS, items_sql
from octo_pipeline.allocation.corrections import untouched_usage_sql
from octo_pipeline.lake.store import Location
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, literal, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.frozen import FrozenRules
from octo_pipeline.rules.metrics import Metric, Quantity
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.dues import origins_read, pinned_allocators
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.known import state_of
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.metrics import metric_months, quantities_of
from octo_pipeline.tables.table import KEPT
from octo_pipeline.workspace import CLOSING_FILE, CLOSINGS, Workspace

_ITEMS, _USAGE, _BILL, _INVOICES = "items.parquet", "usage.parquet", "bill.parquet", "invoices.parquet"


def write_closing(workspace: Workspace, month: str) -> str:
    """Keep what a month is to be computed and explained with from now on. Nothing is closed by it.

    Args:
        workspace: the lake, in which the month's tables are current.
        month: the month.

    Returns:
        The id of the closing, for the registry.
    """
    closing_id = uuid.uuid4().hex
    lake = workspace.lake
    with lake.staging_folder() as folder:
        made = folder / closing_id
        made.mkdir()
        # Rules and state are read before the month is found to be current of them (`services.periods`). So a decision that
        # comes in between is either in its tables, or is a difference to be booked later.
        document = {
            "rules": _rules(workspace, month).to_json(),
            "state": state_of(workspace, month),
            "fingerprints": {table: lake.fingerprint(table, month) for table in sorted(KEPT)},
        }
        _write_rows(workspace, month, made)
        (made / CLOSING_FILE).write_text(json.dumps(document, sort_keys=True, ensure_ascii=False))
        lake.publish_folder(made, CLOSINGS, f"month={month}", closing_id, last=CLOSING_FILE)
    return closing_id


def kept_fingerprints(workspace: Workspace, month: str, closing_id: str) -> dict[str, str]:
    """The fingerprints of the month's tables at a closing; none if another process removed what was kept."""
    text = workspace.lake.read_text(CLOSINGS, f"month={month}", closing_id, CLOSING_FILE)
    return dict(json.loads(text)["fingerprints"]) if text else {}


def remove_closings(workspace: Workspace, month: str) -> None:
    """Remove what was kept at earlier closings of a month and at those that did not come to an end: what counts stays."""
    period = workspace.registry.periods.all().get(month)
    counting = period.closing.closing if period and period.closing else ""
    for closing_id in workspace.lake.folders(CLOSINGS, f"month={month}"):
        if closing_id != counting:
            workspace.lake.remove_folder(CLOSINGS, f"month={month}", closing_id, first=CLOSING_FILE)


def closed_items(workspace: Workspace, months: Sequence[str]) -> Relation:
    """The items of closed months' allocations as they were: `TAKEN_ITEM_COLUMNS`, and ``booking_month``."""
    if not months:
        return Relation(f"({rows_sql(TAKEN_ITEM_COLUMNS | {'booking_month': 'VARCHAR'}, [])})")
    query = render(
        "tables/items_of_closings", partition_files=[str(file) for file in closed_item_files(workspace, months)]
    )
    return Relation(f"({query})")


def closed_item_files(workspace: Workspace, months: Sequence[str]) -> list[Location]:
    """The files of `closed_items`."""
    return [workspace.lake.path_of(*workspace.closing(month).folder, _ITEMS) for month in months]


def closed_usage(workspace: Workspace, month: str) -> Relation:
    """What usage that no allocator touches cost when the month was closed; columns of `untouched_usage_sql`."""
    return _kept(workspace, month, _USAGE)


def closed_bill(workspace: Workspace, month: str) -> Relation:
    """What the bill said by charge and invoice when the month was closed; columns of ``tables/bill``."""
    return _kept(workspace, month, _BILL)


def closed_invoices(workspace: Workspace, month: str) -> Relation:
    """The rows of ``invoice_costs`` when the month was closed."""
    return _kept(workspace, month, _INVOICES)


def _kept(workspace: Workspace, month: str, file: str) -> Relation:
    lake, folder = workspace.lake, workspace.closing(month).folder
    path = lake.path_of(*folder, file)
    if path not in lake.parquet_files(*folder):
        raise OctoError(
            f"{month} was closed by an earlier version of this program, which did not keep what it billed by invoice. Reopen it "
            "and close it again to post it.",
            code="closing-lacks-bill",
            place=month,
        )
    return Relation(f"read_parquet({literal(str(path))}, hive_partitioning = false)")


def _write_rows(workspace: Workspace, month: str, folder: Path) -> None:
    lake = workspace.lake
    with lake.connect() as connection:
        allocations = lake.scan(Allocations.name, [month], Allocations.columns, month_as="booking_month")
        matched = lake.scan(MatchedItems.name, origins_read(lake, month), MatchedItems.columns)
        items = Relation(f"({items_sql(matched, allocations)})")
        kept_items = render("tables/closed_items", items=items, allocations=allocations)
        connection.execute(f"COPY ({kept_items}) TO {literal(str(folder / _ITEMS))} (COMPRESSION zstd)")
        line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
        usage = untouched_usage_sql(line_items, items, month)
        connection.execute(f"COPY ({usage}) TO {literal(str(folder / _USAGE))} (COMPRESSION zstd)")
        bill = render("tables/bill", line_items=line_items)
        connection.execute(f"COPY ({bill}) TO {literal(str(folder / _BILL))} (COMPRESSION zstd)")
        invoices = lake.scan(InvoiceCosts.name, [month], InvoiceCosts.columns)
        connection.execute(f"COPY (FROM {invoices}) TO {literal(str(folder / _INVOICES))} (COMPRESSION zstd)")


def _rules(workspace: Workspace, month: str) -> FrozenRules:
    configuration = workspace.configuration
    pinned = pinned_allocators(workspace.lake, month)
    return FrozenRules(
        configuration.allocators,
        configuration.cost_groups,
        configuration.rates,
        configuration.base_currency,
        _metrics(workspace, [*configuration.allocators, *pinned], month),
        tuple(workspace.registry.accounts.payer_members()),
        configuration.cost_centres,
    )


def _metrics(workspace: Workspace, allocators: list[Allocator], month: str) -> dict[str, Metric]:
    """Of each metric that an allocator weighs by, the rows of the newest month that counts."""
    names = sorted({a.usage_of.id for a in allocators if a.weighs_by_metric})
    newest = {m.metric_id: m for m in metric_months(workspace, names) if m.month <= month}
    with workspace.lake.connect() as connection:
        relation = quantities_of(workspace, list(newest.values()), workspace.configuration.metrics)
        rows = connection.execute(render("tables/closed_quantities", quantities=relation)).fetchall()
    quantities: dict[str, list[Quantity]] = {name: [] for name in newest}
    for metric_id, metric_month, kind, target, quantity in rows:
        quantities[metric_id].append(Quantity(metric_month, kind, target, quantity))
    return {name: Metric(name, tuple(rows)) for name, rows in quantities.items()}
