"""Allocation in plain Python, row by row, from the text of allocation.md: what the columns are held against.

Slow and simple on purpose; it shares no SQL with the core. Only the documents (allocators, cost groups,
formulas' reference evaluation) are the core's own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from octo_pipeline.model.months import add_months, months_between
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.formula import FormulaFailed, evaluate, parse_formula

UNIT = Decimal("1e-10")


@dataclass(frozen=True)
class Line:
    """The columns of a line item that the oracle looks at."""

    billing_month: str
    sub_account_id: str
    charge_category: str
    line_type: str
    service_code: str | None
    charge_description: str | None
    billed_cost: Decimal
    effective_cost: Decimal
    list_cost: Decimal
    savings_kind: str | None = None
    billing_account_id: str = "999999999999"
    billing_currency: str = "USD"
    commitment_discount_type: str | None = None
    commitment_discount_id: str | None = None
    publisher_name: str | None = None

    @property
    def is_fee(self) -> bool:
        return self.charge_category != "Usage" or (self.service_code or "").startswith("AWSSupport")


@dataclass
class Item:
    category: str
    month: str
    account: str
    columns: dict[str, str | None]
    cost: Decimal
    taker: Allocator | None = None


Row = tuple[str, str, str, str, str, str, str, str, str]


def items_of(lines: Iterable[Line], allocators: Sequence[Allocator]) -> list[Item]:
    groups: dict[tuple, Decimal] = defaultdict(Decimal)
    for line in lines:
        base = (line.billing_month, line.billing_account_id, line.sub_account_id, line.billing_currency)
        charge = (line.line_type, line.service_code, line.charge_description, line.publisher_name)
        groups["fee" if line.is_fee else "account", *base, *charge] += line.billed_cost
        if line.savings_kind:
            saved = line.list_cost - line.effective_cost if line.savings_kind == "used" else -line.effective_cost
            key = (
                line.commitment_discount_type,
                line.commitment_discount_id,
                line.service_code,
                line.savings_kind,
            )
            groups["savings", *base, *key] += saved
    found = []
    for key, cost in groups.items():
        category, month, payer, account, currency, *rest = key
        if category == "savings":
            kind, arn, service, savings_kind = rest
            if savings_kind == "unused" and cost == 0:
                continue
            columns = {
                "commitment_discount_type": kind, "commitment_discount_id": arn, "service_code": service,
                "offer_class": None, "charge_description": None,
            }  # fmt: skip
        else:
            columns = dict(
                zip(("line_type", "service_code", "charge_description", "publisher_name"), rest, strict=True)
            )
        columns |= {"sub_account_id": account, "billing_account_id": payer, "billing_currency": currency}
        item = Item(category, month, account, columns, cost)
        item.taker = next((a for a in allocators if takes(a, item)), None)
        if category != "account" or item.taker:
            found.append(item)
    return found


def takes(allocator: Allocator, item: Item) -> bool:
    return (
        allocator.category == item.category
        and allocator.matches_month(item.month)
        and any(
            all(condition.holds(item.columns.get(column)) for column, condition in dict(criteria).items())
            for criteria in allocator.criteria
        )
    )


def usage_of(lines: Iterable[Line], month: str) -> dict[str, Decimal]:
    usage: dict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        if line.billing_month == month and not line.is_fee:
            usage[line.sub_account_id] += line.effective_cost
    return {account: max(cost, Decimal(0)) for account, cost in usage.items()}


def resolve(lines: Sequence[Line], allocator: Allocator, month: str) -> list[list[str]]:
    """The accounts of each entry; account and payer entries only."""
    accounts = []
    for entry in allocator.entries:
        if entry.type == "account":
            accounts.append([entry.value])
        else:
            accounts.append(
                sorted(
                    {
                        line.sub_account_id
                        for line in lines
                        if line.billing_month == month and line.billing_account_id == entry.value
                    }
                )
            )
    return accounts


def truncated(numerator: int, denominator: int) -> int:
    return abs(numerator) // denominator * (1 if numerator >= 0 else -1)


def allocate(lines: Sequence[Line], allocators: Sequence[Allocator], month: str) -> dict[Row, Decimal]:
    """The rows of a booking month, keyed by the columns of expected_allocations.csv without the month."""
    rows: dict[Row, Decimal] = defaultdict(Decimal)
    usage = usage_of(lines, month)

    def add(item: Item, status: str, kind: str, allocator_id: str, target: str, cost: Decimal) -> None:
        key = (
            item.month, item.category, status, kind, allocator_id, item.account, target,
            item.columns["service_code"] or "", item.columns["charge_description"] or "",
        )  # fmt: skip
        rows[key] += cost

    for item in items_of(lines, allocators):
        taker = item.taker
        failed_whole = False
        if taker:
            k = months_between(taker.first_booking_month(item.month), month)
            n = taker.tranche_count
            if 0 <= k < n:
                booked, failed = _tranche(item, taker, resolve(lines, taker, month), usage, k, n)
                failed_whole = failed and n == 1
                if not failed_whole:
                    for kind, target, cost in booked:
                        add(item, "checked_splitted", kind, taker.id, target, cost)
        if item.month == month:
            distributed = taker is not None and not failed_whole
            status = "checked_allocated" if distributed else "unchecked_allocated"
            add(item, status, "item", taker.id if taker and distributed else "", "", item.cost)
    return {key: cost for key, cost in rows.items() if cost != 0}


def _tranche(
    item: Item, taker: Allocator, accounts: list[list[str]], usage: dict[str, Decimal], k: int, n: int
) -> tuple[list[tuple[str, str, Decimal]], bool]:
    c = int(item.cost / UNIT)
    due = (truncated(c * (k + 1), n) - truncated(c * k, n)) * UNIT
    listed = {a for entry in accounts for a in entry}
    total = float(sum((usage.get(a, Decimal(0)) for a in listed), Decimal(0)))
    results: list[tuple[str, int, Decimal]] = []
    for index, entry in enumerate(taker.entries):
        if k >= (entry.months or 1):
            continue
        group = float(sum((usage.get(a, Decimal(0)) for a in accounts[index]), Decimal(0)))
        for account in accounts[index]:
            own = float(usage.get(account, Decimal(0)))
            try:
                value = evaluate(
                    parse_formula(entry.formula),
                    cost=float(item.cost) / (entry.months or 1),
                    usage=own / total if total else 0.0,
                    accounts=float(len(accounts[index])),
                    group_usage=own / group if group else 0.0,
                )
            except FormulaFailed:
                return [("remainder", item.account, due)], True
            if abs(value) >= 1e17:
                return [("remainder", item.account, due)], True
            results.append((account, index, Decimal(value).quantize(UNIT, ROUND_HALF_EVEN)))
    splits = [r for r in results if r[2] != 0]
    rest = due - sum((cost for _, _, cost in splits), Decimal(0))
    if splits and abs(rest) <= (len(results) + 1) * UNIT + abs(due) * Decimal("1e-12"):
        largest = min(splits, key=lambda r: (-abs(r[2]), r[0], r[1]))
        booked = [("split", a, cost + (rest if (a, i, cost) == largest else 0)) for a, i, cost in splits]
    else:
        booked = [("split", a, cost) for a, _, cost in splits]
        if rest != 0:
            booked.append(("remainder", taker.default_account or item.account, rest))
    return booked, False


def next_months(first: str, count: int) -> list[str]:
    return [add_months(first, i) for i in range(count)]
