"""Line items: their columns, and which of them are fees (allocation.md §3 and §4)."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

# Unicode's property White_Space.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
SUPPORT = ("AWSDeveloperSupport", "AWSEnterpriseOnRamp", "OCBPremiumSupport")

GRAIN = (
    "billing_month", "vendor", "billing_account_id", "sub_account_id", "usage_date", "line_type", "charge_category",
    "service_code", "charge_description", "operation", "usage_type", "region_id", "billing_currency",
    "commitment_discount_type", "commitment_discount_id", "offer_class", "savings_kind", "tags", "project_labels",
    "publisher_name",
)  # fmt: skip
ATTRIBUTES = ("sub_account_name", "service_name")
COSTS = ("billed_cost", "effective_cost", "list_cost")
MAPS = ("tags", "project_labels")


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
    vendor: str = "aws"
    usage_date: str = ""
    operation: str | None = None
    usage_type: str | None = None
    region_id: str | None = None
    offer_class: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    project_labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    sub_account_name: str | None = None
    service_name: str | None = None

    def __post_init__(self) -> None:
        if not self.usage_date:
            object.__setattr__(self, "usage_date", f"{self.billing_month}-01")

    @property
    def is_fee(self) -> bool:
        code = self.service_code or ""
        is_support = self.vendor == "aws" and (code.startswith("AWSSupport") or code in SUPPORT)
        return self.charge_category != "Usage" or is_support

    @property
    def is_weighed(self) -> bool:
        """Whether its amortised cost counts as usage (§6)."""
        return not self.is_fee and self.savings_kind != "unused"

    @property
    def grain(self) -> tuple[object, ...]:
        return tuple(tuple(sorted(getattr(self, n).items())) if n in MAPS else getattr(self, n) for n in GRAIN)


def trimmed(text: str) -> str | None:
    return text.strip(_SPACES) or None


def read_line(row: Mapping[str, str]) -> Line:
    """A row of a case's line_items.csv, where an empty value is null."""
    values: dict[str, object] = {
        name: trimmed(row.get(name) or "") for name in (*GRAIN, *ATTRIBUTES) if name not in MAPS
    }
    values |= {name: dict(json.loads(row.get(name) or "{}")) for name in MAPS}
    billed = Decimal(row.get("billed_cost") or 0)
    values |= {name: Decimal(row.get(name) or billed) for name in COSTS}
    values["sub_account_id"] = values["sub_account_id"] or values["billing_account_id"]
    values["usage_date"] = values["usage_date"] or ""
    return Line(**values)


def by_grain(lines: Iterable[Line]) -> list[Line]:
    """One line per grain, with the sums of its costs and the greatest of each attribute."""
    groups: dict[tuple[object, ...], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.grain].append(line)
    return [
        replace(
            same[0],
            **{name: sum((getattr(line, name) for line in same), Decimal(0)) for name in COSTS},
            **{name: greatest(getattr(line, name) for line in same) for name in ATTRIBUTES},
        )
        for same in groups.values()
    ]


def greatest(texts: Iterable[str | None]) -> str | None:
    return max((text for text in texts if text is not None), default=None)
