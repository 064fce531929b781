"""Allocators and cost groups as the oracle reads them: valid documents only, each value as allocation.md says."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

import re2

from tests.support.oracle.lines import trimmed

FEE_KEYS = {
    "account": "sub_account_id", "payer": "billing_account_id", "vendor": "vendor", "seller": "publisher_name",
    "lineType": "line_type", "productCode": "service_code", "description": "charge_description",
    "productName": "service_name", "currency": "billing_currency",
}  # fmt: skip
USAGE_KEYS = FEE_KEYS | {"operation": "operation", "usageType": "usage_type", "region": "region_id"}
SAVINGS_KEYS = {
    "type": "commitment_discount_type", "payer": "billing_account_id", "account": "sub_account_id",
    "arn": "commitment_discount_id", "productCode": "service_code", "offerClass": "offer_class", "vendor": "vendor",
    "currency": "billing_currency",
}  # fmt: skip
BALANCE_KEYS = {name: name for name in ("account", "group", "payer", "vendor", "currency")}
KEYS = {"fee": FEE_KEYS, "account": USAGE_KEYS, "savings": SAVINGS_KEYS, "balance": BALANCE_KEYS}
GROUP_KEYS = {
    "account": "sub_account_id", "payer": "billing_account_id", "productCode": "service_code",
    "productName": "service_name", "region": "region_id", "usageType": "usage_type", "operation": "operation",
    "description": "charge_description", "lineType": "line_type", "currency": "billing_currency",
}  # fmt: skip
LABEL_FILTERS = {"tagFilters": "tags", "labelFilters": "tags", "projectLabelFilters": "project_labels"}
FAMILY_COLUMNS = {"tag": "tags", "label": "tags", "projectLabel": "project_labels"}
WEIGHTS = re.compile(r"\b(usage|active_accounts|group_usage)\b")
VENDOR_OPTIONS = {"awsOptions": "aws", "azureOptions": "azure", "gcpOptions": "gcp"}

Columns = Mapping[str, object]

pattern = cache(re2.compile)


def holds(condition: str, value: str | None) -> bool:
    """Whether a written condition holds; null is the empty string."""
    text = value or ""
    if condition.startswith("re:"):
        return pattern(condition[3:]).search(text) is not None
    if condition.startswith("!re:"):
        return pattern(condition[4:]).search(text) is None
    return text == condition.removeprefix("eq:")


@dataclass(frozen=True)
class Entry:
    type: str
    value: str
    formula: str
    months: int


@dataclass(frozen=True)
class Rule:
    """An allocator.

    Attributes:
        version: the document that it is of.
        usage_of: "account", "matched", {"costGroup": id} or {"metric": id, "carryForward": bool}.
    """

    id: str
    version: str
    category: str
    criteria: Sequence[Mapping[str, str]]
    entries: Sequence[Entry]
    created: datetime | None
    start: str
    end: str
    priority: int
    default: tuple[str, str] | None
    usage_of: str | Mapping[str, object]
    step: int

    @property
    def created_month(self) -> str | None:
        return f"{self.created:%Y-%m}" if self.created else None

    @property
    def precedence(self) -> tuple[int, bool, datetime, str]:
        created = self.created or datetime.min.replace(tzinfo=UTC)
        return (self.priority, self.created is not None, created, self.id)

    @property
    def tranche_count(self) -> int:
        return max(entry.months for entry in self.entries)

    def applies_in(self, origin: str) -> bool:
        spreads = self.tranche_count > 1
        first = min(self.created_month or self.start, self.start) if spreads else self.start
        return first <= origin <= self.end

    def first_booking_month(self, origin: str) -> str:
        return max(origin, self.start) if self.tranche_count > 1 else origin

    def matches(self, columns: Columns) -> bool:
        return any(all(self._holds(key, condition, columns) for key, condition in c.items()) for c in self.criteria)

    def _holds(self, key: str, condition: str, columns: Columns) -> bool:
        if self.category == "account":
            for prefix, column in (("tag:", "tags"), ("projectLabel:", "project_labels")):
                if key.startswith(prefix):
                    return holds(condition, columns[column].get(key.removeprefix(prefix)))
        value = columns[KEYS[self.category][key]]
        # An owner of several payers or vendors matches if any of them does.
        return any(holds(condition, v) for v in value) if isinstance(value, tuple) else holds(condition, value)


def add_months(month: str, count: int) -> str:
    year, index = divmod(int(month[:4]) * 12 + int(month[5:]) - 1 + count, 12)
    return f"{year:04d}-{index + 1:02d}"


def months_between(first: str, last: str) -> int:
    return (int(last[:4]) - int(first[:4])) * 12 + int(last[5:]) - int(first[5:])


def read_rule(document: Mapping[str, object], stem: str) -> Rule:
    """A valid allocator document."""
    values = {key: value for key, value in document.items() if value not in ("", None)}
    created = _time(values["createTime"]) if "createTime" in values else None
    created_month = f"{created:%Y-%m}" if created else None
    start = values.get("startMonth") or created_month
    end = min(
        add_months(created_month or start, int(values["expiration"]) - 1) if "expiration" in values else "9999-12",
        values.get("endMonth", "9999-12"),
    )
    entries = [
        Entry(e["type"], (e.get("value") or "").strip(), e.get("formula") or "", int(e.get("months") or 1))
        for e in values["allocator"]
    ]
    default = None
    if (values.get("defaultAccount") or "").strip():
        default = ("account", values["defaultAccount"].strip())
    elif values.get("defaultGroup"):
        default = ("group", values["defaultGroup"])
    return Rule(
        values.get("id", stem), json.dumps(document, sort_keys=True), values.get("category", "fee"), [c["and"] for c in values["criteria"]], entries, created,
        start, end, int(values.get("priority", 0)), default, values.get("usageOf", "account"),
        int(values.get("step", 1)),
    )  # fmt: skip


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)


@dataclass(frozen=True)
class VendorOptions:
    vendor: str
    filters: Sequence[Mapping[str, str]]
    labels: Sequence[tuple[str, Sequence[Mapping[str, str]]]]

    @property
    def is_empty(self) -> bool:
        return not self.filters and not self.labels

    def match(self, columns: Columns) -> bool:
        """Whether the filters that there are hold for a charge of the vendor."""
        return (
            not self.filters
            or any(all(holds(c, columns[GROUP_KEYS[k]]) for k, c in f.items()) for f in self.filters)
        ) and all(
            any(all(holds(c, columns[column].get(k)) for k, c in f.items()) for f in maps)
            for column, maps in self.labels
        )  # fmt: skip

    def names_account(self, account: str) -> bool:
        """Whether a map whose only key is the account matches it, and no tag or label is asked for."""
        return not self.labels and any(list(f) == ["account"] and holds(f["account"], account) for f in self.filters)


@dataclass(frozen=True)
class Group:
    """A cost group, or a family of them.

    Attributes:
        by: the kind and the key of a family, such as ("tag", "team") or ("account", None).
    """

    id: str
    options: Sequence[VendorOptions]
    by: tuple[str, str | None] | None = None
    of_containers: bool = False

    def match(self, columns: Columns) -> bool:
        """Whether the document's filters match a charge."""
        return any(
            (self.by is not None if o.is_empty else o.match(columns))
            for o in self.options
            if o.vendor == columns["vendor"]
        )

    def names_account(self, vendor: str | None, account: str) -> bool:
        """Whether a row's account belongs to the group even without a line item; a balance has no vendor."""
        return any(
            (self.by is not None if o.is_empty else o.names_account(account))
            for o in self.options
            if vendor is None or o.vendor == vendor
        )

    def value_of(self, columns: Columns) -> str:
        """The family's value of a charge; empty where it has none."""
        kind, key = self.by
        if kind == "account":
            return columns["sub_account_id"] or ""
        if kind == "payer":
            return columns["billing_account_id"] or ""
        return trimmed(columns[FAMILY_COLUMNS[kind]].get(key) or "") or ""


def read_group(document: Mapping[str, object], stem: str) -> Group:
    """A valid cost-group document."""
    combinations = document.get("combinations") or {}
    named = [(VENDOR_OPTIONS[key], options) for key, options in combinations.items() if key != "options"]
    named += [(options["vendor"], options) for options in combinations.get("options", [])]
    by = None
    if document.get("by"):
        ((kind, key),) = document["by"].items()
        by = (kind, key if isinstance(key, str) else None)
    return Group(
        document.get("id") or stem,
        [_options(vendor, options) for vendor, options in named],
        by,
        document.get("of") == "containers",
    )


def _options(vendor: str, options: Mapping[str, object]) -> VendorOptions:
    def maps(key: str) -> list[Mapping[str, str]]:
        return [f["andFilters"] for f in options.get(key) or []]

    labels = [(column, maps(key)) for key, column in LABEL_FILTERS.items() if maps(key)]
    return VendorOptions(vendor, maps("filters"), labels)


@dataclass(frozen=True)
class Quantity:
    """A row of a metric."""

    month: str
    owner: tuple[str, str]
    quantity: Decimal


@dataclass(frozen=True)
class Documents:
    """What finance writes."""

    rules: Sequence[Rule] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    metrics: Mapping[str, Sequence[Quantity]] = field(default_factory=dict)
    rates: Sequence[tuple[str, str, Decimal]] = ()
    base_currency: str = "USD"
