"""What rules can look at: the keys of criteria and filters, and which values they have in a month.

The keys are those that documents are validated with. What a condition on a value means belongs in `rules.conditions`.
"""

from pydantic.alias_generators import to_camel

from octo_pipeline.model.columns import (
    COST_GROUP_COLUMNS,
    CRITERIA_COLUMNS,
    CRITERIA_TAGS,
    LINE_ITEM_COLUMNS,
    LINE_ITEMS,
)
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Sql, identifier, map_value, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.model.vendors import CLOUDS
from octo_pipeline.model.wording import quoted
from octo_pipeline.rules.cost_group import VendorOptions
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.graph import column_meaning
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.metrics import metric_months
from octo_pipeline.workspace import Workspace

# What a cost group's filters are listed under, beside the categories of allocators.
COST_GROUP = "cost_group"
# The names of what a column has ids of.
_NAMES = {"sub_account_id": "sub_account_name", "service_code": "service_name"}
# What entries of allocators name besides values of line items.
_GROUP, _METRIC = "group", "metric"


def attributes() -> Rows:
    """The keys that criteria of each category and filters of cost groups may have.

    Returns:
        category (or ``cost_group``), key, the column that it reads, its values (``text``; ``tag`` where the key continues
        with the name of a tag, or is a list of tags), and what the column means.
    """
    rows = [
        (category, key, column, "text") for category, keys in CRITERIA_COLUMNS.items() for key, column in keys.items()
    ]
    rows += [
        (category, prefix, column, "tag")
        for category, prefixes in CRITERIA_TAGS.items()
        for prefix, column in prefixes.items()
    ]
    rows += [(COST_GROUP, key, column, "text") for key, column in COST_GROUP_COLUMNS.items()]
    labels = dict(VendorOptions.label_columns)
    for vendor in CLOUDS.values():
        labels |= vendor.label_filters
    rows += [(COST_GROUP, to_camel(name), column, "tag") for name, column in labels.items()]
    return Rows(
        ("category", "key", "column", "values", "meaning"), tuple((*row, _meaning(column=row[2])) for row in rows)
    )


def _meaning(column: str) -> str:
    return column_meaning(CostLineItems() if column in LINE_ITEM_COLUMNS else MatchedItems(), column)


def values_query(
    workspace: Workspace,
    key: str,
    month: str,
    *,
    category: str | None = None,
    text: str | None = None,
    most: int | None = None,
) -> Sql:
    """A query for the values that a key has in a month.

    Args:
        workspace: the lake.
        key: a key of criteria or filters; with ``tag:`` and a name that tag's values, ``tag`` alone the names of tags,
            and the same of ``projectLabel``; ``group`` the cost groups; ``metric`` the metrics.
        month: the month.
        category: only values of line items that items of this category are made of; None for all.
        text: only values and names that contain it, in whatever case.
        most: no more rows than these; None for all.

    Returns:
        A query of (value, name, line_items), the values of most line items first. What is no value of line items has no
        count.

    Raises:
        OctoError: there is no such key, or the lake has no line items of the month.
    """
    lake = workspace.lake
    lake.require([month], LINE_ITEMS)
    if key == _GROUP:
        groups = workspace.configuration_of(month).cost_groups.values()
        listed = render(
            "services/cost_group_values",
            plain_values=_listed([(group.id, group.name or None) for group in groups if not group.by]),
            cost_group_costs=lake.scan(CostGroupCosts.name, [month], CostGroupCosts.columns),
        )
    elif key == _METRIC:
        listed = _listed([(metric_id, None) for metric_id in sorted({m.metric_id for m in metric_months(workspace)})])
    else:
        value, name = _value_of(key)
        listed = render(
            "services/line_item_values",
            line_items=lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
            value=value,
            name=name,
            category=category,
        )
    return render("services/listed_values", listed=listed, text=text or "", most=most)


def attribute_values(workspace: Workspace, query: Sql) -> Rows:
    """The rows of `values_query`."""
    with workspace.lake.connect() as connection:
        return Rows.fetched(connection, query)


def _value_of(key: str) -> tuple[Sql, Sql]:
    """SQL of a key's value and of its name over line items."""
    no_name = Sql("null::varchar")
    for prefixes in CRITERIA_TAGS.values():
        for prefix, tags in prefixes.items():
            if key == prefix.rstrip(":"):
                return Sql(f"unnest(map_keys({tags}))"), no_name
            if key.startswith(prefix) and key != prefix:
                return map_value(Sql(tags), key.removeprefix(prefix)), no_name
    columns = {key: column for keys in (*CRITERIA_COLUMNS.values(), COST_GROUP_COLUMNS) for key, column in keys.items()}
    column = columns.get(key)
    if column is None:
        tags_allowed = (f"{prefix}NAME" for prefixes in CRITERIA_TAGS.values() for prefix in prefixes)
        allowed = ", ".join(dict.fromkeys((*columns, _GROUP, _METRIC, *tags_allowed)))
        raise OctoError(f"There is no key {quoted(key)}; it is one of {allowed}.", code="attribute-unknown", place=key)
    return identifier(column), identifier(_NAMES[column]) if column in _NAMES else no_name


def _listed(rows: list[tuple[str, str | None]]) -> Sql:
    listed = [(value, name, None) for value, name in rows]
    return rows_sql({"value": "VARCHAR", "name": "VARCHAR", "line_items": "BIGINT"}, listed)
