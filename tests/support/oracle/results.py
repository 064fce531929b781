"""The tables that are made of allocations (allocation.md §11 and §12), keyed by the columns of a case's files.

Each function returns amounts in units; a key whose amounts are all 0 is left out.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from tests.support.oracle.amounts import units
from tests.support.oracle.documents import Group, Rule, months_between
from tests.support.oracle.items import Item, Owner
from tests.support.oracle.months import Amounts, Result, Row, due
from tests.support.oracle.targets import Month


def allocations(result: Result) -> Amounts:
    """(cost, effective_cost) by the columns of expected_allocations.csv."""
    sums = _Sums(2)
    for rows in result.rows.values():
        for row in rows:
            item = row.item
            key = (
                row.month, item.month, item.category, row.status, row.kind, row.allocator_id,
                *_split(item.owner), *(_split(row.target) if row.target else ("", "")),
                item.columns["service_code"], item.columns["charge_description"], item.currency,
                str(item.step) if item.step else "", row.corrected_month,
            )  # fmt: skip
            sums.add(key, row.cost, row.effective_cost)
    return sums.there()


def _split(owner: Owner) -> tuple[str, str]:
    """The account and the group of an owner, one of them empty."""
    kind, name = owner
    return (name, "") if kind == "account" else ("", name)


class _Sums:
    def __init__(self, width: int) -> None:
        self.amounts: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * width)

    def add(self, key: Iterable[str | None], *amounts: int) -> None:
        sums = self.amounts[tuple(text or "" for text in key)]
        for i, amount in enumerate(amounts):
            sums[i] += amount

    def there(self) -> Amounts:
        return {key: tuple(amounts) for key, amounts in self.amounts.items() if any(amounts)}


ACCOUNT_COST_MEASURES = (
    "billed", "effective", "allocated_out", "allocated_in", "effective_out", "effective_in", "savings_out",
    "savings_in", "step_out", "step_in", "step_effective_out", "step_effective_in", "corrections_out",
    "corrections_in", "corrections_effective_out", "corrections_effective_in", "corrections_savings_out",
    "corrections_savings_in", "final_cost", "amortised_final_cost",
)  # fmt: skip


def account_costs(result: Result) -> Amounts:
    """`ACCOUNT_COST_MEASURES` by month, owner_type, owner_id and currency."""
    sums = _Sums(len(ACCOUNT_COST_MEASURES))

    def add(month: str, owner: Owner, currency: str, amounts: Mapping[str, int]) -> None:
        a = defaultdict(int, amounts)
        a["final_cost"] = (
            a["billed"] - a["allocated_out"] + a["allocated_in"] - a["step_out"] + a["step_in"]
            - a["corrections_out"] + a["corrections_in"]
        )  # fmt: skip
        a["amortised_final_cost"] = (
            a["effective"] - a["effective_out"] + a["effective_in"] - a["step_effective_out"] + a["step_effective_in"]
            - a["corrections_effective_out"] + a["corrections_effective_in"] + a["savings_out"] - a["savings_in"]
            + a["corrections_savings_out"] - a["corrections_savings_in"]
        )  # fmt: skip
        sums.add((month, *owner, currency), *(a[name] for name in ACCOUNT_COST_MEASURES))

    for name, month in result.months.items():
        for line in month.lines:
            costs = {"billed": units(line.billed_cost), "effective": units(line.effective_cost)}
            add(name, ("account", line.sub_account_id), line.billing_currency, costs)
        for row in result.rows[name]:
            for amounts in _moved(row):
                add(name, row.owner, row.item.currency, amounts)
    return sums.there()


def _moved(row: Row) -> Iterator[Mapping[str, int]]:
    """What a row does to its owner."""
    category = row.item.category
    if row.kind == "correction":
        yield from _corrected(row)
    elif row.status != "unchecked_allocated":
        prefixes = {"savings": ("savings", None), "balance": ("step", "step_effective")}
        yield _way(row, "out" if row.kind == "item" else "in", *prefixes.get(category, ("allocated", "effective")))


def _corrected(row: Row) -> Iterator[Mapping[str, int]]:
    """What a correction does to its owner.

    An item of fee, account or usage changes the bill of its account, and one that is distributed is handed on. Savings
    and balances are in no bill, so that their items count only where they are handed on.
    """
    category = row.item.category
    prefixes = ("corrections_savings", None) if category == "savings" else ("corrections", "corrections_effective")
    if row.corrected_kind != "item":
        yield _way(row, "in", *prefixes)
        return
    if category in ("fee", "account", "usage"):
        yield _way(row, "in", *prefixes)
    if row.status == "checked_allocated":
        yield _way(row, "out", *prefixes)


def _way(row: Row, way: str, cost: str, effective: str | None) -> Mapping[str, int]:
    amounts = {f"{cost}_{way}": row.cost}
    return amounts | {f"{effective}_{way}": row.effective_cost} if effective else amounts


def prepayments(result: Result) -> Amounts:
    """opening, billed, booked, closing, and the same of the effective cost, by the columns of a case's file."""
    sums = _Sums(8)
    for month in result.months:
        if month in result.kept:
            for key, amounts in result.kept[month].prepayments.items():
                sums.add(key, *amounts)
            continue
        for reasons in result.distributed.values():
            for item, reason in reasons.items():
                if reason is None and item.month <= month and _is_prepaid(item, item.taker):
                    rolls = _roll(item, month, item.cost), _roll(item, month, item.effective_cost)
                    sums.add(_prepaid_key(month, item), *rolls[0], *rolls[1])
        for row in result.rows[month]:
            if row.kind == "correction" and row.rule is not None and _is_prepaid(row.item, row.rule):
                rolls = _corrected_roll(row, row.cost), _corrected_roll(row, row.effective_cost)
                sums.add(_prepaid_key(month, row.item), *rolls[0], *rolls[1])
    return sums.there()


def _is_prepaid(item: Item, rule: Rule) -> bool:
    return item.category in ("fee", "account") and rule.tranche_count > 1


def _prepaid_key(month: str, item: Item) -> tuple[str, ...]:
    columns = item.columns
    return (
        month, item.category, columns["sub_account_id"], columns["service_code"], columns["charge_description"],
        item.currency,
    )  # fmt: skip


def _corrected_roll(row: Row, cost: int) -> tuple[int, int, int, int]:
    """What a correction adds to the roll of the month that books it.

    The plan of the item is that of today, so what is due after the month is right without it. It was not known at the
    start of the month: what the correction adds to what is billed or booked, the opening does not have yet.
    """
    return (-cost, cost, 0, 0) if row.corrected_kind == "item" else (cost, 0, cost, 0)


def _roll(item: Item, month: str, cost: int) -> tuple[int, int, int, int]:
    rule = item.taker
    index = months_between(rule.first_booking_month(item.month), month)
    booked = [due(cost, k, rule.tranche_count) for k in range(rule.tranche_count)]
    opening = 0 if item.month == month else cost - sum(booked[: max(index, 0)])
    billed = cost if item.month == month else 0
    of_month = booked[index] if 0 <= index < rule.tranche_count else 0
    return opening, billed, of_month, opening + billed - of_month


def cost_group_costs(result: Result) -> Amounts:
    """(cost, effective_cost) by month, cost_group_id, section, account, service_code, currency and corrected_month."""
    sums = _Sums(2)
    tables = [
        result.kept[name].cost_groups if name in result.kept else group_costs_of(month, result.rows[name])
        for name, month in result.months.items()
    ]
    for table in (*tables, result.group_corrections):
        for key, amounts in table.items():
            sums.add(key, *amounts)
    return sums.there()


def group_costs_of(month: Month, rows: Iterable[Row]) -> Amounts:
    """The cost groups of a month without its corrections, keyed as `cost_group_costs`."""
    sums = _Sums(2)
    own = [row for row in rows if row.kind != "correction"]
    for group in month.documents.groups.values():
        _add_group(sums, month, own, group)
    for row in own:
        # What is booked on a group is in its table and in no other's.
        if row.status != "unchecked_allocated" and row.owner[0] == "group":
            sign = -1 if row.kind == "item" else 1
            key = (
                month.month,
                row.owner[1],
                _section(row),
                "",
                row.item.columns["service_code"],
                row.item.currency,
                "",
            )
            sums.add(key, sign * row.cost, sign * row.effective_cost)
    return sums.there()


def _section(row: Row) -> str:
    return row.item.category


def _add_group(sums: _Sums, month: Month, rows: Iterable[Row], group: Group) -> None:
    """The sections of a group, or of every group of a family."""
    if group.of_containers:
        return

    def add(section: str, group_id: str, account: str, service: str | None, currency: str, *amounts: int) -> None:
        sums.add((month.month, group_id, section, account, service, currency, ""), *amounts)

    for line in month.lines:
        columns = vars(line)
        if group.match(columns) and not line.is_fee:
            costs = (units(line.billed_cost), units(line.effective_cost))
            add(
                "direct",
                _id(month, group, columns),
                line.sub_account_id,
                line.service_code,
                line.billing_currency,
                *costs,
            )
    members = _members(month, rows, group)
    for row in rows:
        kind, account = row.owner
        item = row.item
        columns = {**item.columns, "sub_account_id": account}
        costs = (row.cost, row.effective_cost)
        place = (account, item.columns["service_code"], item.currency)
        if kind == "group":
            continue
        if item.category == "account":
            if row.kind == "item" and row.status == "checked_allocated" and group.match(item.columns):
                add("direct", _id(month, group, columns), *place, *(-cost for cost in costs))
            if row.kind != "item" and group.match(columns):
                add("account", _id(month, group, columns), *place, *costs)
        elif account in members:
            group_id = _id_by_account(month, group, columns)
            if item.category == "balance":
                if row.status != "unchecked_allocated":
                    sign = -1 if row.kind == "item" else 1
                    add("balance", group_id, *place, *(sign * cost for cost in costs))
            elif row.kind != "item" or row.status == "unchecked_allocated":
                add(item.category, group_id, *place, *costs)


def _members(month: Month, rows: Iterable[Row], group: Group) -> set[str]:
    """The accounts of a group, or of a family as a whole."""
    members = {line.sub_account_id for line in month.lines if group.match(vars(line))}
    for row in rows:
        if row.kind != "item" and row.owner[0] == "account":
            vendor = None if row.item.category == "balance" else row.item.columns["vendor"]
            if group.names_account(vendor, row.owner[1]):
                members.add(row.owner[1])
    return members


def _id(month: Month, group: Group, columns: Mapping[str, object]) -> str:
    """The id of the group that shows a charge."""
    if group.by is None or _is_too_large(month, group):
        return group.id
    return f"{group.id}/{group.value_of(columns)}"


def _id_by_account(month: Month, group: Group, columns: Mapping[str, object]) -> str:
    """The id of the group that shows a fee, a saving or a balance: in a family by tag or label the one without value."""
    if group.by is None or _is_too_large(month, group):
        return group.id
    return f"{group.id}/{group.value_of(columns) if group.by[0] in ('account', 'payer') else ''}"


def _is_too_large(month: Month, group: Group) -> bool:
    return len(month.family_groups[group.id]) > month.most_values
