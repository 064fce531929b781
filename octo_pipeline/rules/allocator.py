"""The allocator document (allocation.md §5): what it may contain, and when it applies.

This module has its fields and their checks, its window of months and its canonical form. How items are matched, which
accounts the entries mean and how costs are split belongs in `matching`, `resolution` and `splits`.

Times are compared in UTC: the month of createTime is its UTC month, and a time without a zone is UTC.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo, field_validator

from octo_pipeline.model.columns import CRITERIA_COLUMNS, CRITERIA_TAGS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import MOST_MONTHS, add_months, is_month, month_spelling, months_between
from octo_pipeline.model.sql import Sql, identifier, map_value
from octo_pipeline.model.wording import quoted_json
from octo_pipeline.rules.conditions import (
    Conditions,
    parse_alternatives,
    parse_condition,
    pattern_hints,
    written_alternatives,
)
from octo_pipeline.rules.cost_group import CostGroup, group_flaw
from octo_pipeline.rules.documents import (
    Document,
    Location,
    Problem,
    Section,
    json_path,
    load_documents,
    parse_document,
    refuse,
)
from octo_pipeline.rules.formula import DEFAULT_FORMULA, names_usage, parse_formula, percentage_hints
from octo_pipeline.rules.usage_of import UsageOf, parse_usage_of

Category = Literal["fee", "account", "savings", "balance"]
EntryType = Literal["account", "payer", "costgroup", "group", "owner"]

MAX_EXPIRATION = 9_999
MAX_PRIORITY = 1_000
MAX_STEP = 9

_LAST_MONTH = "9999-12"
_ANY_VALUE = "an account id, a payer id or the id of a cost group"
# What the value of an entry is, by its type.
_VALUES = {
    "account": "an account id",
    "payer": "a payer id",
    "costgroup": "the id of a cost group",
    "group": "the id of a cost group, or re: and a pattern over ids",
}
# Narrower than datetime.fromisoformat, which accepts more with each version of Python.
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_DIGITS = re.compile(r"-?\d{1,9}", re.ASCII)


def _whole_number(value: object, lowest: int, highest: int) -> int:
    number = lowest - 1
    match value:
        case bool():
            pass
        case int() | float() if float(value).is_integer():
            number = int(value)
        case str() if _DIGITS.fullmatch(value):
            number = int(value)
    if not lowest <= number <= highest:
        raise ValueError(f"must be a whole number from {lowest} to {highest}, not {quoted_json(value)}")
    return number


def _time(value: object) -> datetime:
    text = value if isinstance(value, str) else ""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        # Other programs write nanoseconds; not every version of Python reads more than microseconds.
        time = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{quoted_json(value)} is not an ISO 8601 time; write it like 2024-01-05T00:00:00Z") from None


def created_month(create_time: object) -> str | None:
    """The month of a document's createTime; None if it is not a time."""
    try:
        return _month_of(_time(create_time))
    except ValueError:
        return None


def _month(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text in double quotes, not {quoted_json(value)}; {month_spelling(value)}")
    if not is_month(value):
        raise ValueError(f"{quoted_json(value)} is not a month; {month_spelling(value)}")
    return value


def _formula(value: str) -> str:
    try:
        parse_formula(value)
    except OctoError as error:
        raise ValueError(str(error)) from error
    return value if value.strip() else DEFAULT_FORMULA


def _written_time(time: datetime | None) -> str | None:
    return time.isoformat().replace("+00:00", "Z") if time else None


Time = Annotated[datetime, BeforeValidator(_time)]


class Entry(Section):
    """Who gets a part of an item, how much, and over how many months.

    Attributes:
        value: whom a type means; empty for the owner.
    """

    type: EntryType = Field(description="account, payer, costgroup, group or owner")
    value: str = Field(default="", validate_default=True)
    formula: Annotated[str, AfterValidator(_formula)] = DEFAULT_FORMULA
    months: Annotated[int, BeforeValidator(lambda value: _whole_number(value, 1, MOST_MONTHS))] = 1

    @field_validator("value", mode="after")
    @classmethod
    def _check_value(cls, value: str, info: ValidationInfo) -> str:
        entry_type = info.data.get("type")
        if entry_type == "owner":
            if value:
                raise ValueError("must be left out: the type owner is the item's own account")
        elif not value.strip():
            flaw = "is blank" if value else "is missing"
            raise ValueError(f"{flaw}; it must be {_VALUES.get(str(entry_type), _ANY_VALUE)}")
        elif entry_type == "group" and value.startswith("re:"):
            try:
                parse_condition(value)
            except OctoError as error:
                raise ValueError(str(error)) from error
        return value.strip()

    @property
    def pattern(self) -> str | None:
        """The RE2 pattern over the ids of cost groups; None if the entry is of another type or names an id."""
        return self.value.removeprefix("re:") if self.type == "group" and self.value.startswith("re:") else None


class Allocator(Document):
    """A rule that matches items and says where their cost goes.

    Attributes:
        criteria: alternatives; each maps a column of the items, or the key of a tag such as ``tag:team``, to the
            condition on it; see `criterion_sql`.
        step: of a balance rule, when it takes balances: those of a step see what the earlier steps have booked.
        priority: the place in the order in which allocators take items; the lowest comes first.
        entries: the document's ``allocator`` list.
        usage_of: what the targets are weighed by.
        default_account: who gets the remainder; at most one of it and `default_group` is set.
    """

    # A check across fields belongs to the later field and is skipped if the earlier one is itself wrong, so that
    # everything else in the file is still reported.
    category: Category = "fee"
    step: Annotated[int, BeforeValidator(lambda value: _whole_number(value, 1, MAX_STEP))] | None = Field(
        default=None, validate_default=True
    )
    criteria: tuple[Conditions, ...] = Field(description='a list of {"and": {key: value}}')
    entries: tuple[Entry, ...] = Field(alias="allocator", description="a list of allocator entries")
    create_time: Time | None = Field(default=None, alias="createTime")
    update_time: Time | None = Field(default=None, alias="updateTime")
    start_month: Annotated[str, BeforeValidator(_month)] | None = Field(
        default=None, alias="startMonth", validate_default=True
    )
    expiration: Annotated[int, BeforeValidator(lambda value: _whole_number(value, 1, MAX_EXPIRATION))] | None = None
    end_month: Annotated[str, BeforeValidator(_month)] | None = Field(default=None, alias="endMonth")
    priority: Annotated[int, BeforeValidator(lambda value: _whole_number(value, -MAX_PRIORITY, MAX_PRIORITY))] = 0
    usage_of: Annotated[UsageOf, PlainValidator(parse_usage_of)] = Field(default=UsageOf(), alias="usageOf")
    default_account: str | None = Field(default=None, alias="defaultAccount")
    default_group: str | None = Field(default=None, alias="defaultGroup")

    @field_validator("step", mode="after")
    @classmethod
    def _check_step(cls, value: int | None, info: ValidationInfo) -> int | None:
        category = info.data.get("category")
        if category == "balance":
            return value or 1
        if value is not None and category is not None:
            raise ValueError(
                f"is only for the category balance, whose rules take turns; leave it out of a rule of category {category}"
            )
        return None

    @field_validator("criteria", mode="plain")
    @classmethod
    def _parse_criteria(cls, value: object, info: ValidationInfo) -> tuple[Conditions, ...]:
        if value == []:
            raise ValueError('is empty, so it matches nothing; list at least one {"and": {key: value}}')
        # With an unknown category the keys of all categories are allowed: the category's own error is enough.
        categories = [category] if (category := info.data.get("category")) else list(CRITERIA_COLUMNS)
        keys = {key: column for known in categories for key, column in CRITERIA_COLUMNS[known].items()}
        prefixes = [prefix for known in categories for prefix in CRITERIA_TAGS.get(known, {})]
        alternatives = parse_alternatives(value, word="and", keys=keys, prefixes=prefixes)
        return tuple({keys.get(key, key): condition for key, condition in c.items()} for c in alternatives)

    @field_validator("entries", mode="after")
    @classmethod
    def _check_entries(cls, value: tuple[Entry, ...], info: ValidationInfo) -> tuple[Entry, ...]:
        if not value:
            raise ValueError("is empty, so it gives the cost to nobody; list at least one entry")
        if info.data.get("category") == "balance":
            spread = [i for i, entry in enumerate(value) if "months" in entry.model_fields_set]
            if spread:
                refuse([((i, "months"), "must be left out: a balance is of its month alone") for i in spread])
        return value

    @field_validator("start_month", mode="after")
    @classmethod
    def _check_start(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "create_time" not in info.data:
            return value
        created = _month_of(info.data["create_time"])
        if value is None and created is None:
            raise ValueError(
                "is not set and neither is createTime, so there is not a month to start in; set startMonth, "
                "or add the allocator instead of writing its file, which stamps createTime"
            )
        if value and created and "entries" in info.data:
            wait, longest = months_between(created, value), _longest(info.data["entries"])
            if wait + longest > MOST_MONTHS:
                raise ValueError(
                    f"{value} is {wait} months after createTime ({created}) and an entry takes {longest}; "
                    f"together they may be {MOST_MONTHS} months: start earlier or take fewer months"
                )
        return value

    @field_validator("expiration", mode="after")
    @classmethod
    def _check_end(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is None or not {"create_time", "start_month", "entries"} <= info.data.keys():
            return value
        start, created = info.data["start_month"], _month_of(info.data["create_time"])
        if start and created and _longest(info.data["entries"]) == 1 and _end(created, value) < start:
            raise ValueError(
                f"counts from createTime ({created}), so the last month {_end(created, value)} is before "
                f"startMonth ({start}); raise it to {months_between(created, start) + 1} or start earlier"
            )
        return value

    @field_validator("end_month", mode="after")
    @classmethod
    def _check_end_month(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or not {"create_time", "start_month", "entries"} <= info.data.keys():
            return value
        first = _first_origin(info.data["create_time"], info.data["start_month"], info.data["entries"])
        if value < first:
            raise ValueError(
                f"{value} is before {first}, the first month whose items it takes; end later or start earlier"
            )
        return value

    @field_validator("default_account", "default_group", mode="after")
    @classmethod
    def _trim(cls, value: str | None) -> str | None:
        return value.strip() or None if value else None

    @field_validator("default_group", mode="after")
    @classmethod
    def _check_one_default(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("default_account"):
            raise ValueError(
                "is set beside defaultAccount; keep one of them: the remainder goes to one account or group"
            )
        return value

    def normalised(self) -> dict[str, object]:
        """The document as JSON values, without what is not set and with the defaults written out."""
        keys = {column: key for key, column in CRITERIA_COLUMNS[self.category].items()}
        criteria = [{keys.get(column, column): condition for column, condition in c.items()} for c in self.criteria]
        unwritten = {"months"} if self.category == "balance" else set()
        values: dict[str, object] = {
            "id": self.id,
            "name": self.name or None,
            "description": self.description or None,
            "createTime": _written_time(self.create_time),
            "updateTime": _written_time(self.update_time),
            "category": self.category,
            "step": self.step,
            "expiration": self.expiration,
            "endMonth": self.end_month,
            # Not written where it is the default, so that documents of earlier editions keep their versions.
            "priority": self.priority or None,
            "startMonth": self.start_month,
            "usageOf": None if self.usage_of == UsageOf() else self.usage_of.written,
            "defaultAccount": self.default_account,
            "defaultGroup": self.default_group,
            "criteria": written_alternatives(criteria, word="and"),
            "allocator": [
                {key: value for key, value in entry.model_dump(exclude=unwritten).items() if value != ""}
                for entry in self.entries
            ],
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_document(cls, document: str) -> "Allocator":
        """Read a pinned canonical document again; its version is the one it was pinned with.

        Raises:
            DocumentError: the document is not valid.
        """
        return _pinned(document)

    @property
    def precedence(self) -> tuple[int, bool, datetime, str]:
        """The sort key: the first match of a category takes an item.

        Those without createTime come before the others of their priority.
        """
        time = self.create_time or datetime.min.replace(tzinfo=UTC)
        return (self.priority, self.create_time is not None, time, self.id)

    @property
    def created_month(self) -> str | None:
        """The month of createTime."""
        return _month_of(self.create_time)

    @cached_property
    def start(self) -> str:
        """The first month in which the allocator moves costs."""
        return cast(str, self.start_month or self.created_month)  # one of them is set: _check_start

    @cached_property
    def end(self) -> str | None:
        """The last origin month that the allocator matches; None if it never ends."""
        expired = _end(self.created_month or self.start, self.expiration) if self.expiration else None
        return min(filter(None, (expired, self.end_month)), default=None)

    @cached_property
    def first_origin(self) -> str:
        """The first origin month that the allocator matches."""
        return _first_origin(self.create_time, self.start_month, self.entries)

    @cached_property
    def needs_usage(self) -> bool:
        """Whether any of its formulas depends on what the targets are weighed by."""
        return any(names_usage(parse_formula(entry.formula)) for entry in self.entries)

    @cached_property
    def groups_named(self) -> tuple[str, ...]:
        """The ids of the cost groups by which its targets are found or weighed; patterns are not among them."""
        values = [e.value for e in self.entries if e.type in ("group", "costgroup") and e.pattern is None]
        return (*values, *([self.usage_of.id] if self.usage_of.kind == "costGroup" else []))

    @property
    def weighs_by_metric(self) -> bool:
        """Whether a metric is looked up for it."""
        return self.usage_of.kind == "metric" and self.needs_usage

    @property
    def has_owner(self) -> bool:
        """Whether an entry stands for the item's own account, so that each of these accounts has targets of its own."""
        return any(entry.type == "owner" for entry in self.entries)

    @property
    def is_spreading(self) -> bool:
        """Whether any entry spreads over two months or more."""
        return self.tranche_count > 1

    @cached_property
    def tranche_count(self) -> int:
        """The number of booking months of an item: the months of the longest entry."""
        return _longest(self.entries)

    def matches_month(self, origin: str) -> bool:
        """Whether the allocator can match items billed in the month."""
        return self.first_origin <= origin <= (self.end or _LAST_MONTH)

    def first_booking_month(self, origin: str) -> str:
        """The month in which an item billed in `origin` is first booked on accounts."""
        return max(origin, self.start) if self.is_spreading else origin


def hints_of(allocator: Allocator) -> list[tuple[str, str]]:
    """What the document may say and hardly means: paths in it, each with a sentence without its full stop."""
    formulas = [
        (f"allocator[{index}].formula", hint)
        for index, entry in enumerate(allocator.entries)
        for hint in percentage_hints(entry.formula)
    ]
    return [("criteria", hint) for hint in pattern_hints(allocator.criteria)] + formulas


@lru_cache(maxsize=2_000)
def _pinned(document: str) -> Allocator:
    # The months of a lake pin the same few documents again and again.
    return parse_allocator(document, file="pinned allocator")


def parse_allocator(text: str | bytes, *, file: str) -> Allocator:
    """Read one allocator.

    Args:
        text: the file's content.
        file: its name, for messages; its stem is the id of a document without one.

    Raises:
        DocumentError: with every problem in the file.
    """
    return parse_document(Allocator, text, file=file)


def load_allocators(
    folder: Path, groups: Mapping[str, CostGroup] = MappingProxyType({})
) -> tuple[tuple[Allocator, ...], tuple[Problem, ...]]:
    """Read every allocator of a folder; a bad file is left out and does not stop the others.

    Args:
        folder: the folder.
        groups: the cost groups that allocators can name.

    Returns:
        The valid allocators in the order in which they take items, and all problems of all files.

    Raises:
        OctoError: the folder cannot be read, or the configuration folder does not exist.
    """
    allocators, problems = load_documents(
        Allocator, folder, lambda allocator, file: group_problems(allocator, groups, file=file)
    )
    return tuple(sorted(allocators, key=lambda allocator: allocator.precedence)), problems


def group_problems(allocator: Allocator, groups: Mapping[str, CostGroup], *, file: str) -> list[Problem]:
    """What is wrong with the cost groups that an allocator names.

    Args:
        allocator: a valid allocator.
        groups: the cost groups and families of the configuration by id.
        file: its name, for messages.
    """
    flaws: list[tuple[Location, str]] = []
    for i, entry in enumerate(allocator.entries):
        if entry.type in ("group", "costgroup") and entry.pattern is None:
            # An entry of type costgroup stands for accounts; one without a document stands for nobody, as ever.
            flaw = group_flaw(groups, entry.value, takes_pattern=entry.type == "group")
            if entry.type == "group" or entry.value in groups:
                flaws.append((("allocator", i, "value"), flaw))
    if allocator.usage_of.kind == "costGroup":
        flaws.append((("usageOf", "costGroup"), group_flaw(groups, allocator.usage_of.id)))
    if allocator.default_group:
        flaws.append((("defaultGroup",), group_flaw(groups, allocator.default_group)))
    return [Problem(file, json_path(location), flaw) for location, flaw in flaws if flaw]


def values_named(allocators: Iterable[Allocator], entry_type: EntryType) -> list[str]:
    """The values of all entries of a type, such as all payers: sorted and distinct."""
    return sorted({entry.value for a in allocators for entry in a.entries if entry.type == entry_type})


def criterion_sql(column: str) -> Sql:
    """What a condition of `Allocator.criteria` looks at, as SQL over an item: a column, or the value of a tag."""
    tag = _tag(column)
    return map_value(Sql(tag[0]), tag[1]) if tag else identifier(column)


def criterion_value(column: str, item: Mapping[str, Any]) -> str | None:
    """The same of one item, whose columns are the keys of `item`."""
    tag = _tag(column)
    value = item[tag[0]].get(tag[1]) if tag else item[column]
    return None if value is None else str(value)


def _tag(column: str) -> tuple[str, str] | None:
    """The column that holds the tags, and the tag's key; None if it is a column itself."""
    for prefixes in CRITERIA_TAGS.values():
        for prefix, tags in prefixes.items():
            if column.startswith(prefix):
                return tags, column.removeprefix(prefix)
    return None


def _month_of(time: datetime | None) -> str | None:
    return f"{time.year:04d}-{time.month:02d}" if time else None


def _longest(entries: tuple[Entry, ...]) -> int:
    return max(entry.months for entry in entries)


def _first_origin(create_time: datetime | None, start_month: str | None, entries: tuple[Entry, ...]) -> str:
    # One of the two is set: _check_start.
    created, start = _month_of(create_time), start_month or cast(str, _month_of(create_time))
    return min(created or start, start) if _longest(entries) > 1 else start


def _end(first: str, months: int) -> str:
    # Months have four-digit years: an end after 9999-12 becomes 9999-12.
    return add_months(first, min(months - 1, months_between(first, _LAST_MONTH)))
