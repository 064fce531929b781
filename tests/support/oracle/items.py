"""Items and who takes them (allocation.md §4 and §5)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tests.support.oracle.amounts import units
from tests.support.oracle.documents import Rule
from tests.support.oracle.lines import ATTRIBUTES, GRAIN, Line, greatest

FEE_GRAIN = (
    "billing_month", "vendor", "billing_account_id", "sub_account_id", "line_type", "service_code",
    "charge_description", "billing_currency", "publisher_name",
)  # fmt: skip
SAVINGS_GRAIN = (
    "billing_month", "vendor", "commitment_discount_type", "billing_account_id", "sub_account_id",
    "commitment_discount_id", "service_code", "offer_class", "billing_currency", "savings_kind",
)  # fmt: skip
COLUMNS = (*GRAIN, *ATTRIBUTES)

Owner = tuple[str, str]


@dataclass(eq=False)
class Item:
    """What an allocator allocates.

    Attributes:
        columns: its grain and attributes; what it does not have is null.
        cost: in units, as is effective_cost.
        lines: the line items that it is made of; a balance has none.
        owner: its own account; of a balance its owner.
        taker: the rule that takes it.
        criteria_columns: what criteria look at: of a balance not its columns.
    """

    category: str
    month: str
    columns: Mapping[str, object]
    cost: int
    effective_cost: int
    owner: Owner
    lines: Sequence[Line] = ()
    taker: Rule | None = None
    step: int | None = None
    criteria_columns: Mapping[str, object] = field(default_factory=dict)

    @property
    def currency(self) -> str:
        return self.columns["billing_currency"]

    @property
    def key(self) -> tuple[object, ...]:
        """What identifies it: category and grain, without the attributes, which change at any time."""
        values = [value for name, value in self.columns.items() if name not in ATTRIBUTES]
        grain = [tuple(sorted(v.items())) if isinstance(v, Mapping) else v for v in values]
        return (self.category, self.owner, self.step, *grain)


NO_COLUMNS: dict[str, object] = dict.fromkeys(COLUMNS) | {"tags": {}, "project_labels": {}}


def items_of(lines: Iterable[Line], rules: Sequence[Rule]) -> list[Item]:
    """The fee and savings items of a month's lines, and the account items that a rule takes."""
    groups: dict[tuple[object, ...], list[Line]] = defaultdict(list)
    for line in lines:
        if line.is_fee:
            groups["fee", *(getattr(line, name) for name in FEE_GRAIN)].append(line)
        else:
            groups["account", *line.grain].append(line)
        if line.savings_kind:
            groups["savings", *(getattr(line, name) for name in SAVINGS_GRAIN)].append(line)
    items = [_item(key[0], same) for key, same in groups.items()]
    for item in items:
        item.taker = taker_of(item, rules)
    return [item for item in items if _is_there(item)]


def taker_of(item: Item, rules: Sequence[Rule]) -> Rule | None:
    """The first rule of the item's category, in order, whose window and criteria it meets."""
    return next(
        (
            rule
            for rule in sorted(rules, key=lambda rule: rule.precedence)
            if rule.category == item.category
            and rule.applies_in(item.month)
            and rule.matches(item.criteria_columns or item.columns)
        ),
        None,
    )


def _item(category: str, lines: Sequence[Line]) -> Item:
    grain = {"fee": FEE_GRAIN, "savings": SAVINGS_GRAIN, "account": GRAIN}[category]
    first = lines[0]
    columns = NO_COLUMNS | {name: getattr(first, name) for name in grain}
    columns |= {name: greatest(getattr(line, name) for line in lines) for name in ATTRIBUTES}
    billed = _sum(lines, "billed_cost")
    effective = _sum(lines, "effective_cost")
    if category == "savings":
        saved = _sum(lines, "list_cost") - effective if first.savings_kind == "used" else -effective
        billed, effective = saved, 0
    return Item(
        category, first.billing_month, columns, billed, effective, ("account", first.sub_account_id), tuple(lines)
    )


def _sum(lines: Iterable[Line], name: str) -> int:
    return units(sum((getattr(line, name) for line in lines), Decimal(0)))


def _is_there(item: Item) -> bool:
    if item.category == "account":
        return item.taker is not None and (item.cost != 0 or item.effective_cost != 0)
    return item.category == "fee" or item.columns["savings_kind"] == "used" or item.cost != 0
