"""A lake whose months close, as a sequence of what happens to it (closed months of allocation.md).

What is at rest is small: the deliveries, the decisions, the documents of today, and of each closed month what its
closing keeps. A run derives all else from that, so that reopening has nothing to take back: without its closing, a
month and the corrections of it are those of a lake that never closed it.

Where the text leaves a question open, the reading is:

- *Which rules are frozen*: those of the last run before the closing, by origin month, as one plan: each entry is the
  last origin month that it is for, and the rules. Origin months that the lake does not have (yet) are frozen as well.
  Reopening cuts the plan at the newest month that is still closed, also where a month before it was closed later.
- *As known*, a month has the groups, metrics, rates, base currency and registered accounts of its closing, whole: also
  values that nothing asked for then. Those of an open month are today's, for the tranches of frozen rules as well.
- *The key of a correction* has the rule's version, not only its id, and of a row the kind, but neither its entry nor
  its reason: what merely changes its reason is no correction.
- *Usage that no allocator touches*: the lines that are in no fee item and in no account item that is there. A
  correction of it has its account, service and currency, and nothing else; payers and vendors of one account are summed.
- *Savings* are in no bill. A saving's item corrects its account where it is handed on alone, as a balance's does.
- *Prepayments*: of the corrections of items those of distributed ones count as billed (those of a restored item take
  the other side), and only rows by rules of several instalments.
- *A month that closes* keeps the corrections that it has booked; they are not corrected, what they correct is.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.support.oracle.documents import Documents, Rule
from tests.support.oracle.items import NO_COLUMNS, Item
from tests.support.oracle.lines import Line
from tests.support.oracle.months import Amounts, Kept, Result, Row, World, allocate, units
from tests.support.oracle.results import cost_group_costs, group_costs_of, prepayments
from tests.support.oracle.targets import MOST_VALUES, Containers, Month

Accounts = frozenset[tuple[str, str]]
RowKey = tuple[object, ...]
# The month of what no open month can book yet.
WAITING = ""


class RefusedError(Exception):
    """A month cannot be closed or reopened."""


@dataclass(frozen=True)
class Closing:
    """What the closing of a month keeps.

    Attributes:
        made: the month as it was: its line items, and the documents and accounts that it was run with.
        items: its items as they were.
        rows: its allocations, the corrections that it has booked included.
    """

    made: Month
    items: Sequence[Item]
    rows: Sequence[Row]
    tables: Kept

    @property
    def own_rows(self) -> list[Row]:
        return [row for row in self.rows if row.kind != "correction"]


@dataclass(frozen=True)
class Run:
    """What the months are after a run.

    Attributes:
        result: the tables: closed months as they were closed, open ones with the corrections that they book.
        known: all months as known now, without any correction.
        waiting: the corrections that no open month books yet.
        waiting_groups: those of cost groups, keyed as `cost_group_costs`, with the month WAITING.
        documents: what the run was made with.
    """

    result: Result
    known: Result
    waiting: Sequence[Row]
    waiting_groups: Amounts
    documents: Documents
    registered: Accounts


@dataclass
class Lake:
    """The lake, and what has happened to it.

    Attributes:
        months: those that have been run.
        closings: by month, the closed ones.
        plan: the frozen rules: (the last origin month that they are for, the rules), in order.
        reopened: months that were closed once and are open.
        final: closed months that are never reopened.
    """

    documents: Documents = field(default_factory=Documents)
    registered: Accounts = frozenset()
    containers: Sequence[Containers] = ()
    most_values: int = MOST_VALUES
    lines: dict[str, Sequence[Line]] = field(default_factory=dict)
    restored: set[tuple[object, ...]] = field(default_factory=set)
    months: list[str] = field(default_factory=list)
    closings: dict[str, Closing] = field(default_factory=dict)
    plan: list[tuple[str, Sequence[Rule]]] = field(default_factory=list)
    reopened: set[str] = field(default_factory=set)
    final: set[str] = field(default_factory=set)
    last_run: Run | None = None
    _changed: bool = True

    def deliver(self, lines: Iterable[Line]) -> None:
        """Replace the months that there are lines of."""
        by_month: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            by_month[line.billing_month].append(line)
        self.lines |= by_month
        self._changed = True

    def edit(self, documents: Documents) -> None:
        """Replace all that finance writes."""
        self.documents = documents
        self._changed = True

    def register(self, accounts: Accounts) -> None:
        """Replace the registered accounts."""
        self.registered = accounts
        self._changed = True

    def restore(self, keys: Iterable[tuple[object, ...]]) -> None:
        self.restored |= set(keys)
        self._changed = True

    def reapply(self, keys: Iterable[tuple[object, ...]]) -> None:
        self.restored -= set(keys)
        self._changed = True

    def run(self, months: Iterable[str]) -> Run:
        """Run months in order, and with them all that the lake has."""
        self.months = sorted({*self.months, *months})
        known = allocate(self._world())
        corrections = self._corrections(known)
        groups = self._group_corrections(known)
        rows = {
            month: self.closings[month].rows if month in self.closings else [*known.rows[month], *corrections[month]]
            for month in self.months
        }
        result = replace(
            known,
            months=known.months | {month: closing.made for month, closing in self.closings.items()},
            rows=rows,
            kept={month: closing.tables for month, closing in self.closings.items()},
            group_corrections={key: amounts for key, amounts in groups.items() if key[0] != WAITING},
        )
        waiting_groups = {key: amounts for key, amounts in groups.items() if key[0] == WAITING}
        self.last_run = Run(result, known, corrections[WAITING], waiting_groups, self.documents, self.registered)
        self._changed = False
        return self.last_run

    def close(self, month: str) -> None:
        """Close a month as the last run made it.

        Raises:
            RefusedError: it is closed, was not run, is not as the last run made it, or an earlier month is open.
        """
        if month in self.closings:
            raise RefusedError(f"{month} is closed")
        if month not in self.months:
            raise RefusedError(f"{month} has no partitions")
        if self._changed:
            raise RefusedError(f"{month} is not made of what there is now")
        if any(other < month and other not in self.closings for other in self.months):
            raise RefusedError(f"a month before {month} is open")
        run = self.last_run
        of_month = {key: amounts for key, amounts in cost_group_costs(run.result).items() if key[0] == month}
        prepaid = {key: amounts for key, amounts in prepayments(run.result).items() if key[0] == month}
        self.closings[month] = Closing(
            run.result.months[month], run.result.items[month], run.result.rows[month], Kept(of_month, prepaid)
        )
        if not self.plan or self.plan[-1][0] < month:
            self.plan.append((month, run.documents.rules))
        self.reopened.discard(month)

    def reopen(self, month: str) -> None:
        """Open the newest closed month again.

        Raises:
            RefusedError: it is final, or not the newest closed month.
        """
        if month != max(self.closings, default=None):
            raise RefusedError(f"{month} is not the newest closed month")
        if month in self.final:
            raise RefusedError(f"{month} is final")
        del self.closings[month]
        newest = max(self.closings, default="")
        starts = ["", *(through for through, _ in self.plan)]
        self.plan = [
            (min(through, newest), rules)
            for start, (through, rules) in zip(starts, self.plan, strict=False)
            if start < newest
        ]
        self.reopened.add(month)
        self._changed = True

    def finalise(self, month: str) -> None:
        """Never reopen a closed month.

        Raises:
            RefusedError: it is not closed.
        """
        if month not in self.closings:
            raise RefusedError(f"{month} is not closed")
        self.final.add(month)

    def state(self, month: str) -> str:
        """open, closed, reopened or final."""
        if month in self.final:
            return "final"
        return "closed" if month in self.closings else "reopened" if month in self.reopened else "open"

    def open_month_after(self, month: str) -> str:
        """The month that books the corrections of a closed month; WAITING where there is none."""
        return next((m for m in self.months if m > month and m not in self.closings), WAITING)

    def booked_corrections(self, month: str) -> list[Row]:
        """The corrections of a month that closed months have booked."""
        rows = [row for closing in self.closings.values() for row in closing.rows]
        return [row for row in rows if row.corrected_month == month]

    def _world(self) -> World:
        documents = {}
        for month in self.months:
            frozen = next((rules for through, rules in self.plan if month <= through), None)
            of_month = self.closings[month].made.documents if month in self.closings else self.documents
            documents[month] = of_month if frozen is None else replace(of_month, rules=frozen)
        return World(
            [line for lines in self.lines.values() for line in lines],
            self.documents,
            self.months,
            self.registered,
            self.containers,
            self.restored,
            self.most_values,
            documents,
            {month: closing.made.registered for month, closing in self.closings.items()},
        )

    def _corrections(self, known: Result) -> Mapping[str, list[Row]]:
        """The corrections that open months book, by the month that books them."""
        corrections = defaultdict(list)
        for month, closing in self.closings.items():
            booking_month = self.open_month_after(month)
            due: dict[RowKey, list[tuple[int, Row]]] = defaultdict(list)
            for row in (*known.rows[month], *usage_rows(known.months[month], known.items[month])):
                due[key_of(row)].append((1, row))
            booked = (*closing.own_rows, *usage_rows(closing.made, closing.items), *self.booked_corrections(month))
            for row in booked:
                due[key_of(row)].append((-1, row))
            for signed in due.values():
                # As it is known, where it is: its attributes may be others than they were.
                first = signed[0][1]
                cost = sum(sign * row.cost for sign, row in signed)
                effective = sum(sign * row.effective_cost for sign, row in signed)
                if cost or effective:
                    amounts = {"cost": cost, "effective_cost": effective, "reason": None, "entry_index": None}
                    corrected = {"corrected_month": month, "corrected_kind": first.corrected_kind or first.kind}
                    row = replace(first, month=booking_month, kind="correction", **amounts, **corrected)
                    corrections[booking_month].append(row)
        return corrections

    def _group_corrections(self, known: Result) -> Amounts:
        """The corrections of cost groups that open months book, keyed as `cost_group_costs`."""
        sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])

        def add(key: tuple[str, ...], corrected_month: str, sign: int, amounts: Sequence[int]) -> None:
            _, group, section, *rest, _ = key
            corrected = "savings_correction" if section in ("savings", "savings_correction") else "correction"
            total = sums[self.open_month_after(corrected_month), group, corrected, *rest, corrected_month]
            for i, amount in enumerate(amounts):
                total[i] += sign * amount

        for month in self.closings:
            for key, amounts in group_costs_of(known.months[month], known.rows[month]).items():
                add(key, month, 1, amounts)
        for month, closing in self.closings.items():
            for key, amounts in closing.tables.cost_groups.items():
                add(key, key[-1] or month, -1, amounts)
        return {key: tuple(amounts) for key, amounts in sums.items() if any(amounts)}


def key_of(row: Row) -> RowKey:
    """What a correction is taken by; the item's key has its category and step."""
    rule = (row.rule.id, row.rule.version) if row.rule else None
    return (row.item.key, row.item.month, row.status, row.corrected_kind or row.kind, rule, row.target)


def usage_rows(month: Month, items: Iterable[Item]) -> list[Row]:
    """The usage of a month that no allocator touches, per payer, account, service and currency.

    The payer and its vendor are told apart, so that a bill of a payer can be drawn up.
    """
    touched = {id(line) for item in items if item.category == "account" for line in item.lines}
    sums: dict[tuple[str, str, str, str | None, str], list[int]] = defaultdict(lambda: [0, 0])
    for line in month.lines:
        if not line.is_fee and id(line) not in touched:
            key = (
                line.vendor, line.billing_account_id, line.sub_account_id, line.service_code, line.billing_currency,
            )  # fmt: skip
            total = sums[key]
            total[0] += units(line.billed_cost)
            total[1] += units(line.effective_cost)
    rows = []
    for (vendor, payer, account, service, currency), (cost, effective) in sums.items():
        columns = NO_COLUMNS | {
            "billing_month": month.month, "vendor": vendor, "billing_account_id": payer, "sub_account_id": account,
            "service_code": service, "billing_currency": currency,
        }  # fmt: skip
        item = Item("usage", month.month, columns, cost, effective, ("account", account))
        rows.append(Row(month.month, item, "unchecked_allocated", "item", None, None, None, None, cost, effective))
    return rows
