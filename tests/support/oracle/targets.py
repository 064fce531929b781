"""Who gets it, and with which weight (allocation.md §6)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from tests.support.oracle.amounts import converted, double_of, units
from tests.support.oracle.documents import WEIGHTS, Documents, Entry, Group, Rule, pattern
from tests.support.oracle.items import NO_COLUMNS, Owner
from tests.support.oracle.lines import Line

MOST_VALUES = 10_000
# Quantities have no currency.
NO_CURRENCY = ""

Weight = Mapping[str, int]


class TrancheFailed(Exception):
    """The tranche cannot be split; the message is the reason."""


@dataclass(frozen=True)
class Containers:
    """A row of container_usage."""

    billing_month: str
    vendor: str
    billing_account_id: str
    sub_account_id: str
    billing_currency: str
    parent_resource_id: str
    tags: Mapping[str, str] = field(hash=False)
    split_cost: Decimal
    unused_cost: Decimal

    @property
    def columns(self) -> dict[str, object]:
        return NO_COLUMNS | {name: value for name, value in vars(self).items() if name in NO_COLUMNS}


@dataclass(frozen=True)
class Share:
    """What a formula sees of a target."""

    entry_index: int
    target: Owner
    usage: float
    accounts: int
    active_accounts: int
    group_usage: float


@dataclass
class Month:
    """A booking month: its line items and what finance writes."""

    month: str
    lines: Sequence[Line]
    documents: Documents
    registered: frozenset[tuple[str, str]] = frozenset()
    containers: Sequence[Containers] = ()
    most_values: int = MOST_VALUES

    @cached_property
    def family_groups(self) -> dict[str, set[str]]:
        """The ids of the groups of each family that there are among the month's rows."""
        ids = {}
        for group in self.documents.groups.values():
            if group.by is not None:
                rows = [c.columns for c in self.containers] if group.of_containers else [vars(x) for x in self.lines]
                ids[group.id] = {f"{group.id}/{group.value_of(r)}" for r in rows if group.match(r)}
        return ids

    def document_of(self, group_id: str) -> tuple[Group | None, str | None]:
        """The document that a group's id is of; of a family also the value."""
        group = self.documents.groups.get(group_id)
        if group is not None and group.by is None:
            return group, None
        for family in self.documents.groups.values():
            if family.by is not None and group_id.startswith(f"{family.id}/"):
                return family, group_id.removeprefix(f"{family.id}/")
        return None, None

    def is_in(self, group_id: str, columns: Mapping[str, object]) -> bool:
        """Whether a group matches a charge."""
        group, value = self.document_of(group_id)
        return group is not None and group.match(columns) and (value is None or group.value_of(columns) == value)

    def targets(self, entry: Entry, own: Owner) -> list[Owner]:
        """The targets of an entry, in no order."""
        match entry.type:
            case "account":
                return [("account", entry.value)]
            case "owner":
                return [own]
            case "payer":
                accounts = {x.sub_account_id for x in self.lines if x.billing_account_id == entry.value}
                accounts |= {account for payer, account in self.registered if payer == entry.value}
            case "costgroup":
                accounts = {x.sub_account_id for x in self.lines if self.is_in(entry.value, vars(x))}
            case "group":
                return [("group", name) for name in self.groups_named(entry.value)]
        return [("account", account) for account in accounts]

    def groups_named(self, value: str) -> set[str]:
        """The groups that a value of a group entry names: an id, or those that a pattern hits and that are there."""
        if not value.startswith("re:"):
            return {value}
        plain = {
            group.id
            for group in self.documents.groups.values()
            if group.by is None and any(group.match(vars(line)) for line in self.lines)
        }
        ids = plain.union(*self.family_groups.values())
        return {name for name in ids if pattern(value[3:]).search(name)}

    def too_large(self, rule: Rule) -> bool:
        """Whether the rule names a group of a family with too many values."""
        values = [entry.value for entry in rule.entries if entry.type in ("group", "costgroup")]
        if isinstance(rule.usage_of, Mapping) and "costGroup" in rule.usage_of:
            values.append(rule.usage_of["costGroup"])
        for family, ids in self.family_groups.items():
            if len(ids) > self.most_values:
                for value in values:
                    hits = (
                        any(pattern(value[3:]).search(name) for name in ids)
                        if value.startswith("re:")
                        else value.startswith(f"{family}/")
                    )
                    if hits:
                        return True
        return False

    def shares(self, rule: Rule, own: Owner, tranche_index: int) -> list[Share]:
        """What the formulas of the entries that are due see, target by target.

        Raises:
            TrancheFailed: a family that the rule names is too large, or its metric has no row.
        """
        if self.too_large(rule):
            raise TrancheFailed("family_too_large")
        listed = [(i, entry, target) for i, entry in enumerate(rule.entries) for target in self.targets(entry, own)]
        needs_weights = any(WEIGHTS.search(e.formula or "usage") for e in rule.entries)
        if needs_weights and isinstance(rule.usage_of, Mapping) and "metric" in rule.usage_of:
            # The metric is missing whether or not anybody is listed.
            self._counting_month(rule.usage_of)
        weights = self._amounts([self._weight(rule, e, t) if needs_weights else {} for _, e, t in listed])
        by_target: dict[object, int] = {}
        for (index, _, target), weight in zip(listed, weights, strict=True):
            # With usageOf matched each pair of entry and target has a usage of its own.
            by_target[(index, target) if rule.usage_of == "matched" else target] = weight
        total = sum(by_target.values())
        shares = []
        for (index, _, target), weight in zip(listed, weights, strict=True):
            if tranche_index >= rule.entries[index].months:
                continue
            of_entry = [w for (i, _, _), w in zip(listed, weights, strict=True) if i == index]
            shares.append(
                Share(
                    index,
                    target,
                    _quotient(weight, total),
                    len(of_entry),
                    sum(w > 0 for w in of_entry),
                    _quotient(weight, sum(of_entry)),
                )
            )
        return shares

    def _amounts(self, weights: Sequence[Weight]) -> list[int]:
        """One number each: in the one currency that they have, or else in the base currency; not below 0."""
        currencies = {currency for weight in weights for currency, amount in weight.items() if amount != 0}
        if len(currencies) <= 1:
            return [max(sum(weight.values()), 0) for weight in weights]
        return [max(sum(converted(a, self.rate(c)) for c, a in w.items() if a != 0), 0) for w in weights]

    def rate(self, currency: str) -> Decimal:
        """The rate of the month, or of the newest earlier one.

        Raises:
            KeyError: there is none.
        """
        if currency == self.documents.base_currency:
            return Decimal(1)
        rates = {m: rate for m, c, rate in self.documents.rates if c == currency and m <= self.month}
        if not rates:
            raise KeyError(f"{currency} has no rate in {self.month}")
        return rates[max(rates)]

    def _weight(self, rule: Rule, entry: Entry, target: Owner) -> Weight:
        """The usage of a target by currency, or its quantity."""
        kind, name = target
        usage_of = rule.usage_of
        if isinstance(usage_of, Mapping) and "metric" in usage_of:
            return {NO_CURRENCY: self._quantity(usage_of, target)}
        only = usage_of["costGroup"] if isinstance(usage_of, Mapping) else None
        if kind == "group":
            document, _ = self.document_of(name)
            if document is not None and document.of_containers:
                return self._container_usage(name)
            return self._usage(
                x for x in self.lines if self.is_in(name, vars(x)) and (only is None or self.is_in(only, vars(x)))
            )
        lines = [x for x in self.lines if x.sub_account_id == name]
        if only is not None:
            lines = [x for x in lines if self.is_in(only, vars(x))]
        elif usage_of == "matched" and entry.type == "costgroup":
            lines = [x for x in lines if self.is_in(entry.value, vars(x))]
        elif usage_of == "matched" and entry.type == "payer":
            lines = [x for x in lines if x.billing_account_id == entry.value]
        return self._usage(lines)

    def _usage(self, lines: Sequence[Line]) -> Weight:
        sums: dict[str, int] = defaultdict(int)
        for line in lines:
            if line.is_weighed:
                sums[line.billing_currency] += units(line.effective_cost)
        return sums

    def _container_usage(self, group_id: str) -> Weight:
        sums: dict[str, int] = defaultdict(int)
        for row in self.containers:
            if self.is_in(group_id, row.columns):
                sums[row.billing_currency] += units(row.split_cost) + units(row.unused_cost)
        return sums

    def _quantity(self, usage_of: Mapping[str, object], target: Owner) -> int:
        month = self._counting_month(usage_of)
        rows = self.documents.metrics.get(usage_of["metric"], ())
        return sum(units(row.quantity) for row in rows if row.month == month and row.owner == target)

    def _counting_month(self, usage_of: Mapping[str, object]) -> str:
        """The month of a metric that counts."""
        rows = self.documents.metrics.get(usage_of["metric"], ())
        months = {row.month for row in rows if row.month <= self.month}
        if not usage_of.get("carryForward"):
            months &= {self.month}
        if not months:
            raise TrancheFailed("metric_missing")
        return max(months)


def _quotient(part: int, whole: int) -> float:
    return double_of(part) / double_of(whole) if whole else 0.0
