"""Restore and re-apply: record a decision, then make the partitions again in which the items are booked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import duckdb

from octo_pipeline.allocation.balances import TAKEN_ITEM_COLUMNS
from octo_pipeline.allocation.items import former_item_id_sql
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months, booking_months, month_range
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import LEFT_REASONS, counted
from octo_pipeline.registry.records import Actor, Decision, RestoredItem
from octo_pipeline.rules.conditions import Condition
from octo_pipeline.services.months import Event, make_months
from octo_pipeline.tables.closings import closed_items
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.graph import downstream_of
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.known import first_open_month
from octo_pipeline.tables.limited import LimitedWorkspace, limited_error
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.restored_items import create_restored_items
from octo_pipeline.workspace import Workspace

Action = Literal["restore", "reapply"]
# Of a decision on many items the others are counted.
_NAMED_ITEMS = 5


@dataclass(frozen=True)
class DecidedItem:
    """An item that a decision is about.

    Attributes:
        months: those from its origin month to the last in which it is, or was, booked, and those of a saving that is
            distributed only while the item is not.
    """

    item_id: str
    origin_month: str
    category: str
    months: tuple[str, ...]
    allocator_id: str


def require_named_items(item: str | None, allocator: str | None, month: str | None) -> None:
    """Refuse a call that does not say which items it is about, before anything is looked up.

    Raises:
        OctoError: an item and an allocator are both named, neither is, or an allocator is named without a month.
    """
    if (item is None) == (allocator is None):
        raise OctoError(
            "Name either an item by its id, or an allocator and the month in which its items were billed.",
            code="decision-items-missing",
        )
    if allocator is not None and month is None:
        raise OctoError(
            "Name the month in which the allocator's items were billed, too.", code="decision-month-missing"
        )


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
        item: an item id, or its beginning, also one that an earlier edition gave the item; or else:
        allocator: all items that this allocator took,
        month: of this origin month,
        account: and of this source account; None for all accounts.

    Raises:
        OctoError: the items are not named clearly, there are none, or several ids begin with `item`.
    """
    require_named_items(item, allocator, month)
    lake = workspace.lake
    items = scan_items(lake, [month] if month else None)
    rows: list[Any] = []
    with lake.connect() as connection:
        # Former ids are computed for every item of the lake, so they are asked last.
        for item_column in ("item_id", "former_item_id"):
            query = render(
                "services/decided_items",
                former_item_id=former_item_id_sql(),
                items=items,
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
        on_account = f" on {account}" if account else ""
        raise OctoError(
            f"No distributed item has an id that begins with {item}."
            if item
            else f"There are no distributed items of {allocator} in {month}{on_account}.",
            code="no-such-items",
            remedy=Remedy("allocations list", month=month or "YYYY-MM", to="see what there is"),
        )
    if item is not None:
        names = {item_id if item_id.startswith(item) else former for item_id, *_, former in rows}
        if len(names) > 1:
            raise OctoError(
                f"{len(names)} items have an id that begins with {item}; give more of the id.", code="item-ambiguous"
            )
    made = set(lake.months("allocations"))
    saved = _months_of_moved_savings(workspace, sorted({origin for _, origin, *_ in rows}))
    return [
        DecidedItem(
            i, o, c, tuple(m for m in {*_carried_months(o, first, n), *saved.get(i, ())} if m in made), allocator
        )
        for i, o, c, first, n, allocator, _ in rows
    ]


@dataclass(frozen=True)
class Chosen:
    """What a decision is about.

    Attributes:
        items: the items to decide on.
        left_out: those of a rule that are as the decision would make them already.
    """

    items: list[DecidedItem]
    left_out: list[DecidedItem]


def choose_items(
    workspace: Workspace,
    action: Action,
    *,
    item: str | None = None,
    allocator: str | None = None,
    month: str | None = None,
    account: str | None = None,
) -> Chosen:
    """The items that are meant, without those of a rule that are decided on already.

    An item that is named by its id is never left out, so that the decision says what stands against it.

    Raises:
        OctoError: as `find_items`.
    """
    items = find_items(workspace, item=item, allocator=allocator, month=month, account=account)
    if item is not None:
        return Chosen(items, [])
    left_out = contradicted(workspace, action, items)
    left_out_ids = {decided.item_id for decided in left_out}
    return Chosen([decided for decided in items if decided.item_id not in left_out_ids], left_out)


def left_out_sentence(action: Action, count: int) -> str:
    """How many items a decision leaves out, for people; nothing if none."""
    if not count:
        return ""
    verb, they = ("is", "it") if count == 1 else ("are", "they")
    state = "restored already" if action == "restore" else "not restored"
    return f"{counted(count, 'item')} {verb} left out, because {they} {verb} {state}."


def contradicted(workspace: Workspace, action: Action, items: Sequence[DecidedItem]) -> list[DecidedItem]:
    """The items that are as a decision would make them already, also by a decision under a former id."""
    restored = workspace.registry.restored_items(sorted({item.origin_month for item in items}))
    ids = {item.item_id for item in restored}
    ids |= {item.item_id for item in _renamed_items(workspace, restored)} if restored else set()
    return [item for item in items if (item.item_id in ids) == (action == "restore")]


def decided_costs(workspace: Workspace, items: Sequence[DecidedItem]) -> Rows:
    """What the items of a decision cost, by currency: item_count, cost and effective_cost."""
    origins = sorted({item.origin_month for item in items})
    # There can be a million of them, so they are bound as lists instead of written out.
    values = [[item.item_id for item in items], [item.origin_month for item in items]]
    with workspace.lake.connect() as connection:
        decided = create_temp_table(connection, "decided_items", render("tables/restore_decisions"), values)
        query = render("services/decided_costs", items=scan_items(workspace.lake, origins), decided_items=decided)
        return Rows.fetched(connection, query)


def _months_of_moved_savings(workspace: Workspace, origins: Sequence[str]) -> dict[str, set[str]]:
    """Item id -> the months in which savings would be booked that stay where they are while the item is distributed."""
    matched_items = workspace.lake.scan(MatchedItems.name, origins, MatchedItems.columns)
    months: dict[str, set[str]] = {}
    with workspace.lake.connect() as connection:
        query = render("services/moved_savings", matched_items=matched_items)
        for item_id, origin, first, tranches in connection.execute(query).fetchall():
            months.setdefault(item_id, set()).update(_carried_months(origin, first, tranches))
    return months


def _carried_months(origin: str, first: str, tranches: int) -> list[str]:
    """From the month in which an item is billed to the last one in which it is booked: it is a prepayment in between."""
    return month_range(origin, add_months(first, tranches - 1))


def cause(action: Action, items: Sequence[DecidedItem], reason: str, actor: Actor) -> dict[str, str]:
    """Why partitions are made again after a decision, for who records them: action, items, rules, reason and actor."""
    ids = [item.item_id for item in items]
    named = ", ".join(ids[:_NAMED_ITEMS])
    return {
        "action": action,
        "items": named if len(ids) <= _NAMED_ITEMS else f"{named} and {len(ids) - _NAMED_ITEMS:,} more",
        "rules": ", ".join(sorted({item.allocator_id for item in items})),
        "reason": reason,
        "actor": actor,
    }


def decide(
    workspace: Workspace, action: Action, items: Sequence[DecidedItem], *, reason: str, actor: Actor
) -> Iterator[Event]:
    """Record the decision on all items at once.

    Returns:
        An iterator that makes the affected partitions again as it is read, and yields their events.

    Raises:
        OctoError: an item is already restored, or is not restored and cannot be re-applied, or there are no items,
            because all of a rule's are as they would be made. Nothing is recorded then.
    """
    if not items:
        state = "restored already" if action == "restore" else "not restored"
        raise OctoError(f"All of these items are {state}. Nothing was recorded.", code="decision-contradicts")
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


def corrected_months(workspace: Workspace, items: Sequence[DecidedItem]) -> tuple[list[str], str | None]:
    """The closed months in which the items are booked, and the open month that a decision on them is booked in as corrections.

    The open month is None where the lake has none yet.
    """
    closed = sorted({month for item in items for month in item.months if workspace.is_closed(month)})
    return closed, first_open_month(workspace) if closed else None


def closed_sentence(closed: Sequence[str], corrected_in: str | None) -> str:
    """What happens to closed months of a decision, for people; nothing if there are none. Arguments as `corrected_months` returns."""
    if not closed:
        return ""
    verb, stays = ("is", "stays") if len(closed) == 1 else ("are", "stay")
    where = f"in {corrected_in}" if corrected_in else "once the lake has a later month"
    return f"{', '.join(closed)} {verb} closed and {stays} as invoiced; the difference is booked {where}."


def _made_again(workspace: Workspace, items: Sequence[DecidedItem]) -> Iterator[Event]:
    _, corrected_in = corrected_months(workspace, items)
    months = {month for item in items for month in item.months if not workspace.is_closed(month)}
    for month in sorted(months | ({corrected_in} if corrected_in else set())):
        tables = [table for table in downstream_of("decisions") if month in workspace.lake.months(table.name)]
        yield from make_months(workspace, [month], tables)


def story(workspace: Workspace, item: str) -> list[str]:
    """Everything that is known about one item, in plain sentences.

    Raises:
        OctoError: as `story_of`.
    """
    item_story = story_of(workspace, item)
    return [*item_story.about, *item_story.bookings, *item_story.decided]


@dataclass(frozen=True)
class Story:
    """What is known about one item.

    Attributes:
        facts: the columns of the item.
        months: what is booked of it by month and currency: splits, split, remainder, correction.
        about: sentences about the item and who takes it.
        bookings: sentences about where it is booked.
        decided: a sentence for each decision on it, in order.
        is_restored: whether the last decision is to restore it.
    """

    facts: Mapping[str, Any]
    months: Rows
    about: list[str]
    bookings: list[str]
    decided: list[str]
    is_restored: bool


def story_of(workspace: Workspace, item: str, months: Sequence[str] | None = None) -> Story:
    """What is known about one item.

    A limited reader is told the story of an item that is booked on what they may see alone.

    Args:
        workspace: whose lake.
        item: its id, or the beginning of it.
        months: the months in which its bookings are told; None for all.

    Raises:
        OctoError: no id begins with `item`, or several do, or a part of it belongs to others.
    """
    if isinstance(workspace, LimitedWorkspace):
        item, workspace = _require_seen(workspace, item), workspace.whole
    lake = workspace.lake
    with lake.connect() as connection:
        facts = _item_facts(connection, scan_items(lake), item)
        is_gone = facts is None
        # An item of a closed month stays there, whatever was delivered since.
        facts = facts or _item_facts(connection, _newest_closed_items(workspace), item)
        if facts is None:
            raise _no_item(item)
        explained = explained_allocations(workspace, _months_of(workspace, facts))
        by_month = Rows.fetched(
            connection,
            render("services/item_months", explained_allocations=explained, item=facts["item_id"]),
        )
        if months is not None:
            explained = explained_allocations(workspace, months)
        query = render("services/item_bookings", explained_allocations=explained, item=facts["item_id"])
        rows = connection.execute(query).fetchall()
        if facts["category"] == "balance":
            facts |= _payers_and_vendors(connection, lake, facts)
    gone = "No current delivery has it; this is what it was when its last month was closed."
    decisions = _decisions_on(workspace, {str(facts["item_id"]), str(facts["former_item_id"])})
    return Story(
        facts,
        by_month,
        [*_item_sentences(facts), *([gone] if is_gone else [])],
        _booking_sentences(rows, str(facts["category"])),
        [f"{d.decided_at:%Y-%m-%d %H:%M} UTC, {d.actor}: {d.action}, because {d.reason}" for d in decisions],
        bool(decisions) and decisions[-1].action == "restore",
    )


def _require_seen(workspace: LimitedWorkspace, item: str) -> str:
    """The id of an item all of whose rows a limited reader sees.

    Raises:
        OctoError: as `story_of`.
    """
    whole, lake = workspace.whole, workspace.whole.lake
    with lake.connect() as connection:
        try:
            candidates = (
                _item_facts(connection, items, item) for items in (scan_items(lake), _newest_closed_items(whole))
            )
            facts = next((facts for facts in candidates if facts is not None), None)
        except OctoError:
            # Which items begin so is not told, because they may be anybody's.
            raise _no_item(item) from None
        counts = [0, 0]
        if facts is not None:
            months = _months_of(whole, facts)
            for number, reader in enumerate((workspace, whole)):
                query = render(
                    "services/item_bookings",
                    explained_allocations=explained_allocations(reader, months),
                    item=facts["item_id"],
                )
                counts[number] = len(connection.execute(query).fetchall())
    if not counts[0]:
        # That somebody else has it is not told either.
        raise _no_item(item)
    if counts[0] < counts[1]:
        raise limited_error(f"the story of the item {item}")
    return str(facts["item_id"] if facts else item)


def _no_item(item: str) -> OctoError:
    return OctoError(f"No item has an id that begins with {item}.", code="item-unknown")


def _newest_closed_items(workspace: Workspace) -> Relation:
    """The items of closed months, each as the newest of them has it."""
    kept = closed_items(workspace, workspace.closed_months)
    return Relation(f"({render('services/newest_closed_items', items=kept)})")


def _item_facts(connection: duckdb.DuckDBPyConnection, items: Relation, item: str) -> dict[str, object] | None:
    """The facts of the item whose id begins so; None if there is none.

    Raises:
        OctoError: there are several.
    """
    columns = (*TAKEN_ITEM_COLUMNS, "former_item_id")
    rows: list[tuple[object, ...]] = []
    for item_column in ("item_id", "former_item_id"):
        query = render(
            "services/item_facts",
            item_facts=TAKEN_ITEM_COLUMNS,
            former_item_id=former_item_id_sql(),
            items=items,
            item_column=item_column,
            item=item,
        )
        if rows := connection.execute(query).fetchall():
            break
    matching = [dict(zip(columns, row, strict=True)) for row in rows]
    if not matching:
        return None
    if len(matching) == 1:
        return matching[0]
    if len({facts["former_item_id"] for facts in matching}) == 1:
        names = ", ".join(f"{facts['item_id']} ({facts['publisher_name'] or 'no seller'})" for facts in matching)
        raise OctoError(
            f"Item {item} is several items since sellers are told apart: {names}. Name one of them.",
            code="item-ambiguous",
        )
    raise OctoError(f"Several items have an id that begins with {item}.", code="item-ambiguous")


def _payers_and_vendors(
    connection: duckdb.DuckDBPyConnection, lake: Lake, facts: dict[str, object]
) -> dict[str, list[str]]:
    """What the criteria on payer and vendor of a balance look at; empty without line items."""
    line_items = lake.scan(LINE_ITEMS, [str(facts["origin_month"])], LINE_ITEM_COLUMNS)
    query = render("services/payers_and_vendors", line_items=line_items, account=facts["sub_account_id"] or "")
    payers, vendors = connection.execute(query).fetchall()[0]
    return {"billing_account_id": payers, "vendor": vendors}


def _months_of(workspace: Workspace, facts: dict[str, object]) -> list[str]:
    origin = str(facts["origin_month"])
    made = set(workspace.lake.months("allocations"))
    return [m for m in booking_months(origin) if m in made]


def _item_sentences(facts: dict[str, object]) -> list[str]:
    from octo_pipeline.rules.allocator import Allocator

    lines = [f"Item {facts['item_id']}: {_described(facts)}."]
    if facts["allocator_id"] is None:
        return [*lines, "No rule's criteria match it, so it stays where it was billed."]
    allocator = Allocator.from_document(str(facts["allocator_document"]))
    for criteria in allocator.criteria:
        values = {column: _fitting(condition, column, facts) for column, condition in criteria.items()}
        if all(condition.holds(values[column]) for column, condition in criteria.items()):
            tests = " and ".join(f"{c} is {v!r}, which fits {criteria[c].written!r}" for c, v in values.items())
            lines.append(f"The rule {allocator.id} (version {allocator.version[:8]}) takes it: {tests}.")
            break
    else:
        lines.append(f"The rule {allocator.id} (version {allocator.version[:8]}) takes it.")
    if facts["conflicting_allocator_ids"]:
        others = ", ".join(facts["conflicting_allocator_ids"])  # type: ignore[arg-type]
        lines.append(f"{others} would match it too; the first by priority, createTime and id takes it.")
    if facts["moving_item_ids"]:
        moving = ", ".join(facts["moving_item_ids"])  # type: ignore[arg-type]
        lines.append(f"Its cost is distributed by {moving}; while one of these is distributed, the saving is not.")
    if allocator.is_spreading:
        lines.append(
            f"It is spread over {facts['tranche_count']} months from {facts['first_booking_month']}. Each month splits its "
            "instalment by its own accounts and usage."
        )
    return lines


def _described(facts: dict[str, object]) -> str:
    category = facts["category"]
    if category == "balance":
        group = facts["own_group_id"]
        owner = f"cost group {group}" if group else f"account {facts['sub_account_id']}"
        return f"the balance of {owner} in {facts['origin_month']} before step {facts['step']}, {_costs(facts)}"
    description = facts["charge_description"] or facts["commitment_discount_id"] or facts["service_code"]
    return (
        f"{'an' if category == 'account' else 'a'} {category} item of {facts['origin_month']}, "
        f"{description or 'no description'}, {_costs(facts)}, on account "
        f"{facts['sub_account_id']} of payer {facts['billing_account_id']} ({facts['vendor']})"
    )


def _fitting(condition: Condition, column: str, facts: dict[str, object]) -> str | None:
    """The value of the item that the condition is about; of several the first that it holds for, if there is one."""
    from octo_pipeline.rules.allocator import criterion_value

    if isinstance(several := facts.get(column), list):
        return next((value for value in several if condition.holds(value)), next(iter(several), None))
    return criterion_value(column, facts)


def _costs(facts: dict[str, object]) -> str:
    """An item's cost, and its amortised cost where that is another."""
    cost, effective, currency = facts["cost"], facts["effective_cost"], facts["billing_currency"]
    text = f"{cost:,.10f} {currency}"
    if facts["category"] == "savings" or effective in (None, cost):
        return text
    return f"{text} (amortised {effective:,.10f})"


def _booking_sentences(rows: Sequence[tuple[object, ...]], category: str) -> list[str]:
    lines = []
    month = None
    for row in rows:
        booked, kind, status, reason, target, entry, entry_type, value, formula, share, usage, usage_currency = row[:12]
        quantity, index, count, tranche, effective_tranche, cost, effective_cost, currency = row[12:20]
        corrected_month, corrected_kind = row[20:]
        if kind == "correction":
            is_same = effective_cost == cost or category == "savings"
            amortised = "" if is_same else f" (amortised {effective_cost:+,.10f})"
            what = f"the {corrected_kind} on {target}" if target else f"the item, listed as {status}"
            lines.append(
                f"In {booked} it is corrected for {corrected_month}, which is closed: {what}, {cost:+,.10f} {currency}{amortised}."
            )
            continue
        if kind == "item":
            lines.append(f"In {booked} it is listed as {status}" + (f", with the reason {reason}." if reason else "."))
            continue
        is_same = effective_cost == cost or category == "savings"
        amortised = "" if is_same else f" (amortised {effective_cost:,.10f})"
        if booked != month:
            month = booked
            is_same = effective_tranche == tranche or category == "savings"
            also = "" if is_same else f" (amortised {effective_tranche:,.10f})"
            lines.append(
                f"In {booked}, instalment {int(str(index)) + 1} of {count} is due: {tranche:,.10f} {currency}{also}."
            )
        if kind == "split":
            by = {
                "account": "by name",
                "owner": "its owner" if category == "balance" else "the item's own account",
            }.get(str(entry_type), f"{entry_type} {value}")
            weight = ""
            if quantity is not None:
                weight = f"quantity {quantity:,.2f}"
            elif usage is not None:
                weight = f"usage {usage:,.2f} {usage_currency or ''}".rstrip()
            if weight:
                weight += f" is a share of {float(str(share)):.6f}; "
            lines.append(
                f"  {target} ({by}, entry {int(str(entry)) + 1}): {weight}{formula} gives {cost:,.10f} "
                f"{currency}{amortised}, including rounding."
            )
        else:
            why = LEFT_REASONS[str(reason)] if reason else "what the splits left over"
            lines.append(f"  {target}: remainder {cost:,.10f} {currency}{amortised}, {why}.")
    return lines


def _decisions_on(workspace: Workspace, item_ids: set[str]) -> list[Decision]:
    decisions = [d for item_id in item_ids for d in workspace.registry.decisions(item_id=item_id)]
    return sorted(decisions, key=lambda decision: decision.decided_at)
