"""Restore and re-apply: a decision is recorded, then the partitions in which the item is booked are made again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months, booking_months, month_range
from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.registry.records import Actor, Decision
from octo_pipeline.services.months import Event, make_months
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import downstream_of
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.workspace import Workspace

Action = Literal["restore", "reapply"]


@dataclass(frozen=True)
class DecidedItem:
    """An item that a decision is about, and the months in which it is or was booked."""

    item_id: str
    origin_month: str
    category: str
    months: tuple[str, ...]


def require_named_items(item: str | None, allocator: str | None, month: str | None) -> None:
    """Refuse a call that does not say which items it is about, before anything is looked up.

    Raises:
        OctoError: neither or both of an item and an allocator are named, or an allocator without a month.
    """
    if (item is None) == (allocator is None):
        raise OctoError(
            "Name either an item by its id, or an allocator and the month its items were billed in.",
            code="decision-items-missing",
        )
    if allocator is not None and month is None:
        raise OctoError("An allocator needs the month its items were billed in.", code="decision-month-missing")


def find_items(
    workspace: Workspace,
    *,
    item: str | None = None,
    allocator: str | None = None,
    month: str | None = None,
    account: str | None = None,
) -> list[DecidedItem]:
    """The taken items that a decision can be about.

    Args:
        workspace: whose lake is searched.
        item: an item id, or its beginning; or else:
        allocator: all items this allocator takes,
        month: of this origin month,
        account: of this source account (any if not given).

    Raises:
        OctoError: it is not clear which items are meant, nothing is found, or the beginning of an id fits several.
    """
    require_named_items(item, allocator, month)
    lake = workspace.lake
    query = render(
        "services/decided_items",
        matched_items=lake.scan(MatchedItems.name, [month] if month else None, MatchedItems.columns),
        item=item,
        allocator=allocator,
        month=month,
        account=account,
    )
    with lake.connect() as connection:
        rows = connection.execute(query).fetchall()
    if not rows:
        sought = f"item {item}" if item else f"items of {allocator} in {month}" + (f" on {account}" if account else "")
        raise OctoError(
            f"There are no distributed {sought}.",
            code="no-such-items",
            remedy=Remedy("allocations list", month=month or "YYYY-MM", to="see what there is"),
        )
    if item is not None and len(rows) > 1:
        raise OctoError(
            f"{len(rows)} items have an id that begins with {item}; give more of it.", code="item-ambiguous"
        )
    made = set(lake.months("allocations"))
    return [
        DecidedItem(i, o, c, tuple(m for m in {*month_range(first, add_months(first, n - 1)), o} if m in made))
        for i, o, c, first, n in rows
    ]


def decide(
    workspace: Workspace, action: Action, items: Sequence[DecidedItem], *, reason: str, actor: Actor
) -> Iterator[Event]:
    """Record the decision on all items at once; then the partitions concerned can be made again.

    Returns:
        Makes these partitions and tells what happens to them, as it is read.

    Raises:
        OctoError: an item is already restored (or not restored, to re-apply); nothing is recorded then.
    """
    now = datetime.now(UTC)
    workspace.registry.record_decisions(
        [Decision(action, i.item_id, i.origin_month, i.category, actor, reason, now) for i in items]
    )
    return _made_again(workspace, items)


def _made_again(workspace: Workspace, items: Sequence[DecidedItem]) -> Iterator[Event]:
    for month in sorted({month for item in items for month in item.months}):
        tables = [table for table in downstream_of("decisions") if month in workspace.lake.months(table.name)]
        yield from make_months(workspace, [month], tables)


def story(workspace: Workspace, item: str) -> list[str]:
    """The whole story of one item, in plain sentences.

    Raises:
        OctoError: no item, or several, have an id that begins so.
    """
    lake = workspace.lake
    columns = ", ".join(("item_id", "origin_month", "category", *_ITEM_FACTS))
    with lake.connect() as connection:
        items = connection.execute(
            f"SELECT {columns} FROM {lake.scan(MatchedItems.name, None, MatchedItems.columns)} "
            f"WHERE starts_with(item_id, {literal(item)}) LIMIT 2"
        ).fetchall()
        if len(items) != 1:
            raise OctoError(
                f"{'Several items have' if items else 'No item has'} an id that begins with {item}.",
                code="item-ambiguous",
            )
        found = dict(zip(("item_id", "origin_month", "category", *_ITEM_FACTS), items[0], strict=True))
        rows = connection.execute(
            "SELECT booking_month, kind, status, reason, target_account, entry_index, entry_type, entry_value, formula, "
            "usage_share, usage_cost, usage_currency, tranche_index, tranche_count, tranche_cost, cost, currency "
            f"FROM ({explained_allocations(lake, _months_of(workspace, found))}) "
            f"WHERE item_id = {literal(found['item_id'])} "
            "ORDER BY booking_month, kind DESC, target_account, entry_index"
        ).fetchall()
    return [
        *_item_sentences(found),
        *_booking_sentences(found, rows),
        *_decision_sentences(workspace, found["item_id"]),
    ]


_ITEM_FACTS = (
    "vendor", "billing_account_id", "sub_account_id", "service_code", "charge_description", "line_type",
    "commitment_discount_id", "billing_currency", "cost", "allocator_id", "allocator_version", "allocator_document",
    "first_booking_month", "tranche_count", "conflicting_allocator_ids",
)  # fmt: skip


def _months_of(workspace: Workspace, found: dict[str, object]) -> list[str]:
    origin = str(found["origin_month"])
    made = set(workspace.lake.months("allocations"))
    return [m for m in booking_months(origin) if m in made]


def _item_sentences(found: dict[str, object]) -> list[str]:
    from octo_pipeline.rules.allocator import Allocator

    what = found["charge_description"] or found["commitment_discount_id"] or found["service_code"] or "no description"
    lines = [
        f"Item {found['item_id']}: {'an' if found['category'] == 'account' else 'a'} {found['category']} item of {found['origin_month']}, {what}, "
        f"{found['cost']:,.10f} {found['billing_currency']}, on account {found['sub_account_id']} of payer "
        f"{found['billing_account_id']} ({found['vendor']})."
    ]
    if found["allocator_id"] is None:
        return [*lines, "No allocator's criteria match it, so it stays where it was billed."]
    allocator = Allocator.from_document(str(found["allocator_document"]))
    for criteria in allocator.criteria:
        shown = {column: found.get(column) for column in criteria}
        if all(condition.holds(_text(found.get(column))) for column, condition in criteria.items()):
            tests = " and ".join(f"{c} is {_text(v)!r}, which fits {criteria[c].written!r}" for c, v in shown.items())
            lines.append(f"Allocator {allocator.id} (version {allocator.version[:8]}) takes it: {tests}.")
            break
    else:
        lines.append(f"Allocator {allocator.id} (version {allocator.version[:8]}) takes it.")
    if found["conflicting_allocator_ids"]:
        others = ", ".join(found["conflicting_allocator_ids"])  # type: ignore[arg-type]
        lines.append(f"It is matched by {others} too; the first by createTime and id takes it.")
    if allocator.is_spreading:
        lines.append(
            f"It is spread over {found['tranche_count']} months from {found['first_booking_month']}, "
            "each with the accounts and the usage of that month."
        )
    return lines


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _booking_sentences(found: dict[str, object], rows: Sequence[tuple[object, ...]]) -> list[str]:
    lines = []
    month = None
    for row in rows:
        booked, kind, status, reason, target, entry, entry_type, value, formula, share, usage, usage_currency = row[:12]
        index, count, tranche, cost, currency = row[12:]
        if kind == "item":
            lines.append(f"In {booked} it is listed as {status}" + (f", because of {reason}." if reason else "."))
            continue
        if booked != month:
            month = booked
            lines.append(f"In {booked} instalment {int(str(index)) + 1} of {count} is due: {tranche:,.10f} {currency}.")
        if kind == "split":
            by = f"{entry_type} {value}" if entry_type != "account" else "by name"
            lines.append(
                f"  {target} ({by}, entry {int(str(entry)) + 1}): usage {usage:,.2f} {usage_currency or ''} is a share of "
                f"{float(str(share)):.6f}; {formula} gives {cost:,.10f} {currency}, rounding included."
            )
        else:
            why = "its formula failed" if reason == "formula_failed" else "what the splits left over"
            lines.append(f"  {target}: remainder {cost:,.10f} {currency}, {why}.")
    return lines


def _decision_sentences(workspace: Workspace, item_id: str) -> list[str]:
    return [
        f"{d.decided_at:%Y-%m-%d %H:%M} UTC, {d.actor}: {d.action}, because {d.reason}"
        for d in workspace.registry.decisions(item_id=item_id)
    ]
