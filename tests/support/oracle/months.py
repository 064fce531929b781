"""Splitting the items of all months (allocation.md §8 and §9)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from octo_pipeline.rules.formula import FormulaFailed, evaluate, parse_formula
from tests.support.oracle.amounts import double_of, truncated, units, units_of
from tests.support.oracle.documents import Documents, Rule, months_between
from tests.support.oracle.items import NO_COLUMNS, Item, Owner, items_of, taker_of
from tests.support.oracle.lines import Line, by_grain
from tests.support.oracle.targets import MOST_VALUES, Containers, Month, Share, TrancheFailed

STEPS = range(1, 10)
TOO_LARGE = 1e17


@dataclass(frozen=True)
class Row:
    """A row of the allocations of a booking month; amounts in units.

    Attributes:
        rule: the allocator's version; none on an item that is not distributed.
        corrected_month: of a correction the closed month whose row it corrects.
        corrected_kind: the kind of that row.
    """

    month: str
    item: Item
    status: str
    kind: str
    reason: str | None
    rule: Rule | None
    target: Owner | None
    entry_index: int | None
    cost: int
    effective_cost: int
    corrected_month: str | None = None
    corrected_kind: str | None = None

    @property
    def allocator_id(self) -> str | None:
        return self.rule.id if self.rule else None

    @property
    def owner(self) -> Owner:
        """Whom the row is booked on: its target; of an item its own account."""
        return self.target or self.item.owner


@dataclass
class World:
    """All that allocations are made from.

    Attributes:
        months: those that are run.
        restored: the keys of the items that are restored.
        documents_of: the documents of the months that were run with other ones. What is pinned stays: an item keeps the
            rule that took it in its origin month.
        registered_of: the registered accounts of the months that have other ones.
    """

    lines: Sequence[Line]
    documents: Documents = field(default_factory=Documents)
    months: Sequence[str] = ()
    registered: frozenset[tuple[str, str]] = frozenset()
    containers: Sequence[Containers] = ()
    restored: set[tuple[object, ...]] = field(default_factory=set)
    most_values: int = MOST_VALUES
    documents_of: Mapping[str, Documents] = field(default_factory=dict)
    registered_of: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)


# The amounts of a table by the columns of its key.
Amounts = dict[tuple[str, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Kept:
    """The tables of a closed month that are not made of its rows any more."""

    cost_groups: Amounts
    prepayments: Amounts


@dataclass(frozen=True)
class Result:
    """The months as they were, the items by origin month and the rows by booking month.

    Attributes:
        distributed: by origin month its items with why they are not distributed; None if they are.
        kept: what closed months keep; their months and rows are those of the closing, their items as known now.
        group_corrections: the corrections of cost groups that open months book, keyed as `cost_group_costs`.
    """

    months: Mapping[str, Month]
    items: Mapping[str, Sequence[Item]]
    rows: Mapping[str, Sequence[Row]]
    distributed: Mapping[str, Mapping[Item, str | None]]
    kept: Mapping[str, Kept] = field(default_factory=dict)
    group_corrections: Amounts = field(default_factory=dict)


def allocate(world: World) -> Result:
    """Allocate every month that is run."""
    lines = by_grain(world.lines)
    months = {}
    items: dict[str, list[Item]] = {}
    for name in world.months:
        of_month = [line for line in lines if line.billing_month == name]
        containers = [row for row in world.containers if row.billing_month == name]
        documents = world.documents_of.get(name, world.documents)
        registered = world.registered_of.get(name, world.registered)
        months[name] = Month(name, of_month, documents, registered, containers, world.most_values)
        items[name] = items_of(of_month, documents.rules)
    distributed = {name: _distributed(world, months[name], items[name]) for name in months}
    rows = {}
    for name, month in months.items():
        booked = _rows_of(month, items[name], distributed)
        rows[name] = booked + _balance_rows(world, month, booked, items, distributed)
    return Result(months, items, rows, distributed)


def _distributed(world: World, month: Month, items: Sequence[Item]) -> dict[Item, str | None]:
    """The items of an origin month with why they are not distributed; None if they are."""
    reasons: dict[Item, str | None] = {}
    moved: set[int] = set()
    for item in sorted(items, key=lambda item: item.category == "savings"):
        reasons[item] = _reason(world, month, item, moved)
        if reasons[item] is None and item.category in ("fee", "account"):
            moved |= {id(line) for line in item.lines}
    return reasons


def _reason(world: World, month: Month, item: Item, moved: set[int]) -> str | None:
    if item.taker is None:
        return "no_allocator"
    if item.key in world.restored:
        return "restored"
    is_unused = item.category == "savings" and item.columns["savings_kind"] == "unused"
    if is_unused and any(id(line) in moved for line in item.lines):
        return "moved_as_cost"
    if item.taker.tranche_count == 1:
        # Such a rule books in the origin month alone.
        _, reason = _tranche(month, item, item.taker, 0)
        return reason
    return None


def _rows_of(month: Month, items: Sequence[Item], distributed: Mapping[str, Mapping[Item, str | None]]) -> list[Row]:
    rows = [_item_row(month, item, distributed[item.month][item]) for item in items]
    for reasons in distributed.values():
        for item, reason in reasons.items():
            if reason is None:
                rows += _booked(month, item)
    return rows


def _item_row(month: Month, item: Item, reason: str | None) -> Row:
    status = "unchecked_allocated" if reason else "checked_allocated"
    rule = None if reason else item.taker
    return Row(month.month, item, status, "item", reason, rule, None, None, item.cost, item.effective_cost)


def _booked(month: Month, item: Item) -> list[Row]:
    """The splits and remainders of a distributed item in a month."""
    rule = item.taker
    index = months_between(rule.first_booking_month(item.month), month.month)
    if not 0 <= index < rule.tranche_count:
        return []
    booked, reason = _tranche(month, item, rule, index)
    return [
        Row(month.month, item, "checked_splitted", kind, reason, rule, target, entry_index, cost, effective)
        for kind, target, entry_index, cost, effective in booked
        if cost != 0 or effective != 0
    ]


def due(amount: int, index: int, count: int) -> int:
    """D_k of an amount."""
    return truncated(amount * (index + 1), count) - truncated(amount * index, count)


_Booked = tuple[str, Owner, int | None, int, int]


def _tranche(month: Month, item: Item, rule: Rule, index: int) -> tuple[list[_Booked], str | None]:
    """(kind, target, entry, cost, effective cost) of a tranche; if it fails its one remainder, and the reason."""
    costs = (item.cost, item.effective_cost)
    dues = [due(cost, index, rule.tranche_count) for cost in costs]
    try:
        shares = month.shares(rule, item.owner, index)
        results = [_results(rule, shares, costs[0], "formula_failed")]
        # Savings have no amortised cost, and no formula is evaluated for it.
        results.append(
            [0] * len(shares)
            if item.category == "savings"
            else _results(rule, shares, costs[1], "formula_failed (effective)")
        )
    except TrancheFailed as failed:
        return [("remainder", item.owner, None, *dues)], str(failed)
    booked: dict[tuple[str, Owner, int | None], list[int]] = defaultdict(lambda: [0, 0])
    for measure, (due_cost, of_measure) in enumerate(zip(dues, results, strict=True)):
        splits, rest = _rounded(due_cost, shares, of_measure)
        for share, split in zip(shares, splits, strict=True):
            booked["split", share.target, share.entry_index][measure] += split
        booked["remainder", rule.default or item.owner, None][measure] += rest
    return [(*key, *amounts) for key, amounts in booked.items() if any(amounts)], None


def _results(rule: Rule, shares: Sequence[Share], cost: int, reason: str) -> list[int]:
    """The result of each formula, in units.

    Raises:
        TrancheFailed: one fails; with the reason.
    """
    results = []
    for share in shares:
        entry = rule.entries[share.entry_index]
        try:
            value = _value(entry.formula, double_of(cost) / entry.months, share)
        except FormulaFailed as error:
            raise TrancheFailed(reason) from error
        if abs(value) >= TOO_LARGE:
            raise TrancheFailed(reason)
        results.append(units_of(value))
    return results


_parsed = cache(parse_formula)


def _value(formula: str, cost: float, share: Share) -> float:
    return evaluate(
        _parsed(formula),
        cost=cost,
        usage=share.usage,
        accounts=float(share.accounts),
        group_usage=share.group_usage,
        active_accounts=float(share.active_accounts),
    )


def _rounded(due_cost: int, shares: Sequence[Share], results: Sequence[int]) -> tuple[list[int], int]:
    """The splits of one measure, and what they leave over."""
    splits = list(results)
    rest = due_cost - sum(splits)
    # |r| ≤ (m + 1)·10⁻¹⁰ + |D|·10⁻¹², in whole numbers.
    if any(splits) and abs(rest) * 10**12 <= (len(results) + 1) * 10**12 + abs(due_cost):
        largest = min(
            (i for i, split in enumerate(splits) if split != 0),
            key=lambda i: (-abs(splits[i]), shares[i].target, shares[i].entry_index),
        )
        splits[largest] += rest
        rest = 0
    return splits, rest


def _balance_rows(
    world: World,
    month: Month,
    booked: Sequence[Row],
    items: dict[str, list[Item]],
    distributed: dict[str, dict[Item, str | None]],
) -> list[Row]:
    """The rows of steps 1 to 9; the balance items are added to the month's."""
    balances = _balances_before(month, booked)
    rows: list[Row] = []
    for step in STEPS:
        rules = [rule for rule in month.documents.rules if rule.category == "balance" and rule.step == step]
        of_step: list[Row] = []
        for (owner, currency), (cost, effective) in balances.items():
            if cost == 0 and effective == 0:
                continue
            columns = NO_COLUMNS | {"billing_month": month.month, "billing_currency": currency}
            seen = _criteria_columns(month, owner, currency)
            item = Item("balance", month.month, columns, cost, effective, owner, (), None, step, seen)
            item.taker = taker_of(item, rules)
            if item.taker is None:
                continue
            reason = _reason(world, month, item, set())
            items[month.month].append(item)
            distributed[month.month][item] = reason
            of_step.append(_item_row(month, item, reason))
            if reason is None:
                of_step += _booked(month, item)
        for row in of_step:
            _add(balances, row)
        rows += of_step
    return rows


Balances = dict[tuple[Owner, str], list[int]]


def _balances_before(month: Month, booked: Iterable[Row]) -> Balances:
    balances: Balances = defaultdict(lambda: [0, 0])
    for line in month.lines:
        balance = balances[("account", line.sub_account_id), line.billing_currency]
        balance[0] += units(line.billed_cost)
        balance[1] += units(line.effective_cost)
    for row in booked:
        if row.item.category in ("fee", "account"):
            _add(balances, row)
    return balances


def _add(balances: Balances, row: Row) -> None:
    """Take a distributed item from its owner, and give its target what is booked."""
    if row.status == "unchecked_allocated":
        return
    balance = balances[row.owner, row.item.currency]
    sign = -1 if row.kind == "item" else 1
    balance[0] += sign * row.cost
    balance[1] += sign * row.effective_cost


def _criteria_columns(month: Month, owner: Owner, currency: str) -> dict[str, object]:
    kind, name = owner
    lines = [line for line in month.lines if kind == "account" and line.sub_account_id == name]
    return {
        "account": name if kind == "account" else None,
        "group": name if kind == "group" else None,
        "payer": tuple(sorted({line.billing_account_id for line in lines})) or None,
        "vendor": tuple(sorted({line.vendor for line in lines})) or None,
        "currency": currency,
    }
