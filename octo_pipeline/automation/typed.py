"""Types of the launchpad's configuration: what the launchpad underlines before there is a run.

Dagster checks a configuration by its types alone, in a process that does not know our code. So months, categories, keys and
the shape of a rule are checked while somebody types, and a formula only by the run.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args

import dagster as dg
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from octo_pipeline.model.columns import CRITERIA_COLUMNS
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.rules.allocator import Allocator, Category, Entry, EntryType
from octo_pipeline.settings import load_settings

# Code locations are seldom loaded again, so the months that begin meanwhile are offered too; a run refuses those that have
# not begun.
_MONTHS_AHEAD = 24
_LAST_MONTH = add_months(datetime.now(UTC).strftime("%Y-%m"), _MONTHS_AHEAD)
_MONTHS = month_range(load_settings().start_month, _LAST_MONTH)
# A rule may begin before the lake does, as the launchpad's own example in a lake that began last month.
_MONTHS_OF_RULES = month_range(min("2006-01", _MONTHS[0]), _LAST_MONTH)

if TYPE_CHECKING:

    class Month(Enum):
        """A month of the lake, YYYY-MM."""

        value: str

else:
    Month = Enum("Month", {month: month for month in _MONTHS})


def _choice(name: str, values: Iterable[str]) -> dg.Noneable:
    """One of the values; an empty string and null mean "not set" in a document."""
    return dg.Noneable(dg.Enum(name, [dg.EnumValue(value) for value in ("", *values)]))


def _shape(model: type[BaseModel], types: Mapping[str, Any]) -> dg.Shape:
    """The shape of a document's object: all of its keys, with these types; others are texts or anything."""
    return _object(
        {
            alias: dg.Field(
                types.get(alias, _type(field)),
                # Without an id, the file's name is the id.
                is_required=field.is_required() and alias != "id",
                description=field.description,
            )
            for name, field in model.model_fields.items()
            for alias in [field.alias or name]
        }
    )


def _object(fields: dict[str, dg.Field]) -> dg.Shape:
    return dg.Shape(fields)  # type: ignore[no-untyped-call]


def _type(field: FieldInfo) -> Any:
    return dg.Noneable(str) if field.annotation in (str, str | None) else dg.Any


_CRITERIA = _object({key: dg.Field(str, is_required=False) for keys in CRITERIA_COLUMNS.values() for key in keys})
ALLOCATOR = _shape(
    Allocator,
    {
        "category": _choice("AllocatorCategory", get_args(Category)),
        "startMonth": _choice("StartMonth", _MONTHS_OF_RULES),
        "criteria": [_object({"and": dg.Field(_CRITERIA)})],
        "allocator": [_shape(Entry, {"type": _choice("EntryType", get_args(EntryType))})],
    },
)
