"""Restore and re-apply: a decision is recorded, then the partitions in which the item is booked are made again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import duckdb

from octo_pipeline.allocation.items import former_item_id_sql
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months, booking_months, month_range
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.registry.records import Actor, Decision, RestoredItem
from octo_pipeline.services.months import Event, make_months
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import downstream_of
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.restored_items import create_restored_items
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
        item: an item id, or its beginning, also one by which earlier editions named the item; or else:
        allocator: all items this allocator takes,
        month: of this origin month,
        account: of this source account (any if not given).

    Raises:
        OctoError: it is not clear which items are meant, nothing is found, or the beginning of an id fits several.
    """
    require_named_items(item, allocator, month)
    lake = workspace.lake
    matched_items = lake.scan(MatchedItems.name, [month] if month else None, MatchedItems.columns)
    rows: list[Any] = []
    with lake.connect() as connection:
        # Former ids are computed for every item of the lake, so they are asked last.
        for item_column in ("item_id", "former_item_id"):
            query = render(
                "services/decided_items",
                former_item_id=former_item_id_sql(),
                matched_items=matched_items,
                item_column=item_column,
                item=item,
                allocator=allocator,
                month=month,
                account=account,
            )
            rows = connection.execute(query).fetchall()
            if rows or item is None:
                break
    if not rows:
        sought = f"item {item}" if item else f"items of {allocator} in {month}" + (f" on {account}" if account else "")
        raise OctoError(
            f"There are no distributed {sought}.",
            code="no-such-items",
            remedy=Remedy("allocations list", month=month or "YYYY-MM", to="see what there is"),
        )
    if item is not None:
        names = {item_id if item_id.startswith(item) else former for item_id, *_, former in rows}
        if len(names) > 1:
            raise OctoError(
                f"{len(names)} items have an id that begins with {item}; give more of it.", code="item-ambiguous"
            )
    made = set(lake.months("allocations"))
    return [
        DecidedItem(i, o, c, tuple(m for m in {*month_range(first, add_months(first, n - 1)), o} if m in made))
        for i, o, c, first, n, _ in rows
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
    decisions = _decisions(workspace, action, items)
    workspace.registry.record_decisions([Decision(*decision, actor, reason, now) for decision in decisions])
    return _made_again(workspace, items)


class _RenamedItem(NamedTuple):
    """A restored item whose decision names it by its former id, which may still be the id of another item."""

    item_id: str
    origin_month: str
    category: str
    former_id: str
    is_shared: bool


def _decisions(
    workspace: Workspace, action: Action, items: Sequence[DecidedItem]
) -> list[tuple[Action, str, str, str]]:
    """Action, item id, origin month and category of the decisions to record.

    A decision under a former id is taken back as a whole. For the items that were not meant it is replaced by one under
    their own id.

    Raises:
        OctoError: an item is restored under its former id and is to be restored again, or can only be re-applied
            together with another item.
    """
    by_own_id = [(action, item.item_id, item.origin_month, item.category) for item in items]
    chosen_ids = {item.item_id for item in items}
    restored = workspace.registry.restored_items(sorted({item.origin_month for item in items}))
    renamed = _renamed_items(workspace, restored) if restored else []
    chosen = {item.former_id: item for item in renamed if item.item_id in chosen_ids}
    if not chosen:
        return by_own_id
    first = next(iter(chosen.values()))
    if action == "restore":
        raise OctoError(
            f"Cannot restore item {first.item_id} of {first.origin_month}: it is restored under its former id "
            f"{first.former_id}; leave it out. Nothing was recorded.",
            code="decision-contradicts",
        )
    if shared := next((item for item in chosen.values() if item.is_shared and item.former_id not in chosen_ids), None):
        raise OctoError(
            f"Item {shared.item_id} of {shared.origin_month} was restored together with item {shared.former_id}. Re-apply "
            "both. Nothing was recorded.",
            code="decision-contradicts",
            remedy=Remedy("allocations reapply", shared.former_id, to="re-apply both"),
        )
    restored_ids = {item.item_id for item in restored}
    renamed_ids = {item.item_id for item in renamed}
    left = [item for item in renamed if item.former_id in chosen and item.item_id not in chosen_ids | restored_ids]
    return [
        *(decision for decision in by_own_id if decision[1] in restored_ids or decision[1] not in renamed_ids),
        *(
            ("reapply", former_id, item.origin_month, item.category)
            for former_id, item in chosen.items()
            if former_id not in chosen_ids
        ),
        *(("restore", item.item_id, item.origin_month, item.category) for item in left),
    ]


def _renamed_items(workspace: Workspace, restored: Sequence[RestoredItem]) -> list[_RenamedItem]:
    lake = workspace.lake
    months = sorted({item.origin_month for item in restored})
    matched_items = lake.scan(MatchedItems.name, months, MatchedItems.columns)
    with lake.connect() as connection:
        restored_items = create_restored_items(connection, restored, matched_items)
        query = render("services/renamed_items", matched_items=matched_items, restored_items=restored_items)
        return [_RenamedItem(*row) for row in connection.execute(query).fetchall()]


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
    with lake.connect() as connection:
        found = _item_facts(connection, lake.scan(MatchedItems.name, None, MatchedItems.columns), item)
        query = render(
            "services/item_bookings",
            explained_allocations=explained_allocations(lake, _months_of(workspace, found)),
            item=found["item_id"],
        )
        rows = connection.execute(query).fetchall()
    return [
        *_item_sentences(found),
        *_booking_sentences(found, rows),
        *_decision_sentences(workspace, {str(found["item_id"]), str(found["former_item_id"])}),
    ]


_ITEM_FACTS = (
    "item_id", "origin_month", "category", "vendor", "billing_account_id", "sub_account_id", "service_code",
    "charge_description", "line_type", "commitment_discount_id", "publisher_name", "billing_currency", "cost",
    "allocator_id", "allocator_version", "allocator_document", "first_booking_month", "tranche_count",
    "conflicting_allocator_ids",
)  # fmt: skip


def _item_facts(connection: duckdb.DuckDBPyConnection, matched_items: Relation, item: str) -> dict[str, object]:
    columns = (*_ITEM_FACTS, "former_item_id")
    rows: list[tuple[object, ...]] = []
    for item_column in ("item_id", "former_item_id"):
        query = render(
            "services/item_facts",
            item_facts=_ITEM_FACTS,
            former_item_id=former_item_id_sql(),
            matched_items=matched_items,
            item_column=item_column,
            item=item,
        )
        if rows := connection.execute(query).fetchall():
            break
    facts = [dict(zip(columns, row, strict=True)) for row in rows]
    if len(facts) == 1:
        return facts[0]
    if facts and len({one["former_item_id"] for one in facts}) == 1:
        items = ", ".join(f"{one['item_id']} ({one['publisher_name'] or 'no seller'})" for one in facts)
        raise OctoError(
            f"Item {item} is several items since sellers are told apart: {items}. Name one of them.",
            code="item-ambiguous",
        )
    raise OctoError(
        f"{'Several items have' if facts else 'No item has'} an id that begins with {item}.", code="item-ambiguous"
    )


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


def _decision_sentences(workspace: Workspace, item_ids: set[str]) -> list[str]:
    decisions = [d for item_id in item_ids for d in workspace.registry.decisions(item_id=item_id)]
    return [
        f"{d.decided_at:%Y-%m-%d %H:%M} UTC, {d.actor}: {d.action}, because {d.reason}"
        for d in sorted(decisions, key=lambda d: d.decided_at)
    ]
