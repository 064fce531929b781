"""The cost group document (allocation.md §11): which line items and accounts belong to a group.

This module has its fields, their checks and its meaning in SQL. What a cost group costs belongs in
`allocation.cost_groups`; which accounts it stands for in an allocator's entry belongs in `allocation.resolution`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import re2
from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, create_model, field_validator
from pydantic.alias_generators import to_camel

from octo_pipeline.model.columns import COST_GROUP_COLUMNS
from octo_pipeline.model.sql import Sql, literal, map_value, trimmed
from octo_pipeline.model.vendors import CLOUDS, VendorName
from octo_pipeline.model.wording import quoted_json
from octo_pipeline.rules.conditions import Conditions, equals_any_sql, parse_alternatives, written_alternatives
from octo_pipeline.rules.documents import (
    Document,
    Problem,
    Section,
    load_documents,
    not_text,
    parse_document,
    refuse,
)

_WORD = "andFilters"
# As FOCUS files make it of a provider's name.
_VENDOR = re.compile(r"[^\W_A-Z]+(-[^\W_A-Z]+)*")
# What a family can be by, and the columns of line items with its values. Google's labels are tags there.
_TAG_COLUMNS = {"tag": "tags", "label": "tags", "projectLabel": "project_labels"}
_ID_COLUMNS = {"account": "sub_account_id", "payer": "billing_account_id"}
# An error names no more ids than this.
_MOST_NAMED = 10
_ALLOWED_BY = '{"tag": KEY}, {"label": KEY}, {"projectLabel": KEY}, {"account": true} or {"payer": true}'

Filters = Annotated[
    tuple[Conditions, ...], PlainValidator(partial(parse_alternatives, word=_WORD, keys=COST_GROUP_COLUMNS))
]
TagFilters = Annotated[tuple[Conditions, ...], PlainValidator(partial(parse_alternatives, word=_WORD, keys=None))]


class VendorOptions(Section):
    """Which line items of one vendor match: at least one map (OR) of each list that is not empty (AND).

    Attributes:
        filters: maps of keys of `COST_GROUP_COLUMNS`.
        tag_filters: maps of tag keys.
    """

    label_columns: ClassVar[Mapping[str, str]] = {"tag_filters": "tags"}

    filters: Filters = ()
    tag_filters: TagFilters = Field(default=(), alias="tagFilters")

    def sql(self) -> Sql | None:
        """A truth value over a row of ``cost_line_items``; None if the options are empty."""
        lists = [_any_sql(self.filters, lambda key: Sql(COST_GROUP_COLUMNS[key]))]
        lists += [_any_sql(maps, partial(map_value, column)) for maps, column in self.label_lists()]
        return Sql(" AND ".join(part for part in lists if part)) or None

    def account_sql(self, account: Sql) -> Sql | None:
        """A truth value over an account column: the maps whose only key is the account."""
        if any(maps for maps, _ in self.label_lists()):
            return None
        return _any_sql([maps for maps in self.filters if list(maps) == ["account"]], lambda _: account)

    def normalised(self) -> dict[str, object]:
        """The options as JSON values, without empty lists."""
        fields = type(self).model_fields
        lists = {fields[name].alias or name: getattr(self, name) for name in ("filters", *self.label_columns)}
        return {key: written_alternatives(maps, word=_WORD) for key, maps in lists.items() if maps}

    def label_lists(self) -> list[tuple[tuple[Conditions, ...], Sql]]:
        """The label filters, each with the column of ``cost_line_items`` that it reads."""
        return [(getattr(self, name), Sql(column)) for name, column in self.label_columns.items()]


def _vendor_options(vendor: VendorName) -> type[VendorOptions]:
    """The options of a vendor: the common ones and its own label filters."""
    if not vendor.label_filters:
        return VendorOptions
    fields: dict[str, Any] = {
        name: (TagFilters, Field(default=(), alias=to_camel(name))) for name in vendor.label_filters
    }
    options = create_model(f"{vendor.name.title()}Options", __base__=VendorOptions, **fields)
    options.label_columns = {**VendorOptions.label_columns, **vendor.label_filters}
    return options


def _check_vendor(text: str) -> str:
    if text in CLOUDS:
        raise ValueError(f"{quoted_json(text)} has options of its own: use {text}Options")
    if not _VENDOR.fullmatch(text):
        raise ValueError(
            f"{quoted_json(text)} is not a vendor; it is written as in line items, in lower case without spaces, such as oci"
        )
    return text


class AnyVendorOptions(VendorOptions):
    """The options of a vendor without a field of its own.

    Attributes:
        vendor: its name in ``cost_line_items``.
    """

    vendor: Annotated[str, AfterValidator(_check_vendor)] = Field(
        description="a vendor's name as in line items, such as oci"
    )

    def normalised(self) -> dict[str, object]:
        """The options as JSON values; empty if they match nothing."""
        lists = super().normalised()
        return {"vendor": self.vendor, **lists} if lists else {}


@dataclass(frozen=True)
class By:
    """What a family has a group for each value of.

    Attributes:
        kind: ``tag``, ``label``, ``projectLabel``, ``account`` or ``payer``.
        key: the key of the tag or label; empty for accounts and payers.
    """

    kind: str
    key: str = ""

    @property
    def column(self) -> str:
        """The column of ``cost_line_items`` with the values, or with the map of them."""
        return (_TAG_COLUMNS | _ID_COLUMNS)[self.kind]

    def value_sql(self) -> Sql:
        """The value of a row of ``cost_line_items``, trimmed; the empty text where it has none."""
        value = map_value(Sql(self.column), self.key) if self.key else Sql(self.column)
        return Sql(f"coalesce({trimmed(value) if self.key else value}, '')")


def _by(value: object) -> By:
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"must be an object with one key, not {quoted_json(value)}; allowed: {_ALLOWED_BY}")
    ((kind, key),) = value.items()
    if kind in _TAG_COLUMNS:
        if not isinstance(key, str):
            refuse([((kind,), not_text(key))])
        if not key:
            refuse([((kind,), "a tag or label key cannot be empty")])
        return By(kind, key)
    if kind not in _ID_COLUMNS:
        refuse([((kind,), f"unknown key; allowed: {_ALLOWED_BY}")])
    if key is not True:
        refuse([((kind,), f"must be true, not {quoted_json(key)}")])
    return By(kind)


class _Combinations(Section):
    """The options of each vendor.

    Attributes:
        options: of vendors other than the clouds, several of one vendor being alternatives.
    """

    options: tuple[AnyVendorOptions, ...] = ()

    def by_vendor(self) -> list[tuple[str, VendorOptions]]:
        """The options that the document names, if only with empty options, each with its vendor's name."""
        clouds: list[tuple[str, VendorOptions]] = [
            (name, getattr(self, name)) for name in CLOUDS if name in self.model_fields_set
        ]
        return [*clouds, *((options.vendor, options) for options in self.options)]


if TYPE_CHECKING:
    Combinations = _Combinations
else:
    _OPTIONS = {vendor.name: _vendor_options(vendor) for vendor in CLOUDS.values()}
    Combinations = create_model(
        "Combinations",
        __base__=_Combinations,
        __doc__=_Combinations.__doc__,
        **{name: (options, Field(default=options(), alias=f"{name}Options")) for name, options in _OPTIONS.items()},
    )


class CostGroup(Document):
    """A named set of line items and accounts across vendors, or a family of such sets.

    Attributes:
        by: of a family, what it has a group for each value of. The groups' ids are ``<family>/<value>``.
        of: where a family takes its values and usage from, if not from line items.
    """

    combinations: Combinations = Combinations()
    by: Annotated[By, PlainValidator(_by)] | None = None
    of: Literal["containers"] | None = None

    @field_validator("of", mode="after")
    @classmethod
    def _check_of(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("by", True) is None:
            raise ValueError('is only for families; set by, such as {"tag": "aws:eks:namespace"}')
        return value

    def normalised(self) -> dict[str, object]:
        """The document as JSON values, without what is empty or not set."""
        combinations = self.combinations
        options: dict[str, object] = {
            f"{name}Options": vendor_options.normalised()
            for name, vendor_options in combinations.by_vendor()
            if name in CLOUDS
        }
        others = [o.normalised() or ({"vendor": o.vendor} if self.by else {}) for o in combinations.options]
        options["options"] = [other for other in others if other]
        values: dict[str, object] = {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "by": {self.by.kind: self.by.key or True} if self.by else None,
            "of": self.of,
            # In a family, a vendor that is named with empty options matches whole.
            "combinations": {key: value for key, value in options.items() if value or (self.by and key != "options")},
        }
        return {key: value for key, value in values.items() if value}

    def maps(self) -> Iterator[Conditions]:
        """Every map of every list of filters."""
        for _, options in self.combinations.by_vendor():
            yield from options.filters
            for maps, _ in options.label_lists():
                yield from maps

    def sql(self) -> Sql:
        """A truth value over a row of ``cost_line_items``: whether the group, or any of the family's, matches it."""
        return _by_vendor(Sql("vendor"), self._matching()) or Sql("FALSE")

    @property
    def vendors(self) -> list[str]:
        """The vendors of which it can match something."""
        return list(dict.fromkeys(vendor for vendor, condition in self._matching() if condition))

    def _matching(self) -> list[tuple[str, Sql | None]]:
        return [(vendor, self._whole(o) or o.sql()) for vendor, o in self.combinations.by_vendor()]

    def _whole(self, options: VendorOptions) -> Sql | None:
        """TRUE for the empty options of a family, which match everything of their vendor."""
        return Sql("TRUE") if self.by and options.sql() is None else None

    def account_sql(self, *, vendor: Sql, account: Sql) -> Sql | None:
        """A truth value: whether the account belongs to the group even without a line item of its own.

        These are the accounts matched by a filter map whose only key is ``account``, if its vendor has no
        tag or label filters (allocation.md §11).

        Args:
            vendor: SQL of the vendor's name; null is of every vendor.
            account: SQL of the account's id.

        Returns:
            None if the group has no such map.
        """
        options = [(name, self._whole(o) or o.account_sql(account)) for name, o in self.combinations.by_vendor()]
        return _by_vendor(vendor, options, takes_none=True)


def parse_cost_group(text: str | bytes, *, file: str) -> CostGroup:
    """Read one cost group.

    Args:
        text: the file's content.
        file: its name, for messages; its stem is the id of a document without one.

    Raises:
        DocumentError: with every problem in the file.
    """
    return parse_document(CostGroup, text, file=file)


def load_cost_groups(folder: Path) -> tuple[tuple[CostGroup, ...], tuple[Problem, ...]]:
    """Read every cost group of a folder; a bad file is left out and does not stop the others.

    Returns:
        The valid cost groups by id, and all problems of all files.

    Raises:
        OctoError: the folder cannot be read, or the configuration folder does not exist.
    """
    groups, problems = load_documents(CostGroup, folder)
    return tuple(sorted(groups, key=lambda group: group.id)), problems


def group_document(groups: Mapping[str, CostGroup], group_id: str) -> tuple[CostGroup, str | None] | None:
    """The document of a cost group.

    Returns:
        The document, and of a family the value that the group is for; None if the id names no group. The id of a
        family alone names none.
    """
    group = groups.get(group_id)
    if group and not group.by:
        return group, None
    # Ids of documents have no slash.
    family_id, slash, value = group_id.partition("/")
    family = groups.get(family_id)
    return (family, value) if slash and family and family.by else None


def group_sql(groups: Mapping[str, CostGroup], group_id: str) -> Sql:
    """A truth value over a row of ``cost_line_items``: whether the group of this id matches it."""
    named = group_document(groups, group_id)
    if named is None:
        return Sql("FALSE")
    group, value = named
    if value is None or group.by is None:
        return group.sql()
    return Sql(f"({group.sql()} AND {group.by.value_sql()} = {literal(value)})")


def group_flaw(groups: Mapping[str, CostGroup], group_id: str, *, takes_pattern: bool = False) -> str:
    """What is wrong with an id where a cost group is meant, as a part of a sentence; empty if nothing is."""
    group = groups.get(group_id)
    if group and group.by:
        remedy = (
            f"write {quoted_json(f're:^{re2.escape(group_id)}/')} for all of them, or name one of them"
            if takes_pattern
            else "name one of them"
        )
        return (
            f"{quoted_json(group_id)} is a family of cost groups, not one of them; {remedy}, such as {group_id}/VALUE"
        )
    if not group_document(groups, group_id):
        return f"{quoted_json(group_id)} is not a cost group; {_known(groups, group_id)}"
    return ""


def _known(groups: Mapping[str, CostGroup], group_id: str) -> str:
    """The ids that there are, not all of many, the one that is spelled most like the id first."""
    # What follows a slash is a value of a family.
    nearest = get_close_matches(group_id.partition("/")[0], groups, n=1)
    ids = [*nearest, *(known for known in sorted(groups) if known not in nearest)]
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    suggestion = f"did you mean {quoted_json(nearest[0])}? " if nearest else ""
    return f"{suggestion}known are: {', '.join(ids[:_MOST_NAMED]) or 'none'}{more}"


def _any_sql(maps: Sequence[Conditions], column: Callable[[str], Sql]) -> Sql | None:
    alternatives = []
    # Groups list thousands of accounts, one map per account. An OR tries every one of them on each row: 5,000 accounts
    # and 100,000 rows took 24 s. A list of values is looked up, which takes 0.1 s.
    listed: dict[str, list[str]] = defaultdict(list)
    for conditions in maps:
        (key, condition), *others = conditions.items()
        if condition.kind == "eq" and not others:
            listed[key].append(condition.text)
        else:
            alternatives.append(Sql(" AND ".join(c.sql(column(k)) for k, c in conditions.items())))
    alternatives += [equals_any_sql(column(key), texts) for key, texts in listed.items()]
    return Sql(f"({' OR '.join(alternatives)})") if alternatives else None


def _by_vendor(vendor: Sql, options: Sequence[tuple[str, Sql | None]], *, takes_none: bool = False) -> Sql | None:
    named = "({vendor} = {name} OR {vendor} IS NULL)" if takes_none else "{vendor} = {name}"
    parts = [f"{named.format(vendor=vendor, name=literal(name))} AND {sql}" for name, sql in options if sql]
    return Sql(f"({' OR '.join(parts)})") if parts else None
