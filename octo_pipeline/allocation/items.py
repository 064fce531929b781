"""Items: what an allocator allocates, as relations over ``cost_line_items`` (allocation.md §4).

Only what an item is belongs here, and which items a decision names. Which allocator takes an item belongs in `matching`.
"""

from octo_pipeline.model.columns import BALANCE_COLUMNS, ITEM_GRAINS, LINE_ITEM_GRAIN, MONEY, TAGS
from octo_pipeline.model.sql import Relation, Sql, identifier, literal
from octo_pipeline.model.templates import render

# The columns of an item of any category: its grain columns, its two attributes and its cost in both measures.
ITEM_COLUMNS: dict[str, str] = (
    {"item_id": "VARCHAR", "category": "VARCHAR"}
    | {("origin_month" if name == "billing_month" else name): kind for name, kind in LINE_ITEM_GRAIN.items()}
    | {"sub_account_name": "VARCHAR", "service_name": "VARCHAR", "cost": MONEY, "effective_cost": MONEY}
)


def items_sql(category: str, line_items: Relation) -> Sql:
    """The query of all items of a category, one row per item, without their id.

    Args:
        category: fee, account or savings.
        line_items: relation with the columns of ``cost_line_items``, of one month.

    Returns:
        SQL with the category's grain columns, ``sub_account_name``, ``service_name``, ``cost`` and ``effective_cost``.
    """
    return render(f"allocation/items_{category}", grain=ITEM_GRAINS[category], line_items=line_items)


def item_id_sql(category: str, *, with_publisher: bool = True, month: str = "billing_month") -> Sql:
    """SQL of the item's id: 128 bits of SHA-256 over category and grain, as 32 hex digits.

    Every value is preceded by its length (null is ``~``), so no two grains share an encoding, whatever characters
    their values contain. The cost is not part of the id. The publisher came into the grain later: it stands at the
    end, and a null one is not written, so that items without it keep their ids.

    Args:
        category: any category.
        with_publisher: False for the id that the item had before the publisher was part of the grain.
        month: the column of the origin month.
    """
    parts = [literal(f"{category}|")]
    for name in ITEM_GRAINS[category]:
        if name == "publisher_name":
            continue
        column = identifier(month if name == "billing_month" else name)
        kind = (LINE_ITEM_GRAIN | BALANCE_COLUMNS)[name]
        if kind == TAGS:
            entry = f"{_counted_sql('e.key')}, {_counted_sql('e.value')}"
            parts.append(Sql(f"len(map_keys({column}))::varchar, '#'"))
            parts.append(
                Sql(f"array_to_string(list_transform(map_entries({column}), lambda e: concat({entry})), '')"),
            )
        else:
            parts.append(_counted_sql(column if kind == "VARCHAR" else f"{column}::varchar"))
    if with_publisher and "publisher_name" in ITEM_GRAINS[category]:
        parts.append(_counted_sql("publisher_name", null=""))
    # One concatenation of all parts: a chain of || copies the text again for every part.
    return Sql(f"sha256(concat({', '.join(parts)}))[:32]")


def former_item_id_sql() -> Sql:
    """SQL over `ITEM_COLUMNS` of the id by which earlier editions named the item.

    Items that differ in their publisher alone were one item, and share it.
    """
    former_ids = [
        f"when category = {literal(category)} then {item_id_sql(category, with_publisher=False, month='origin_month')}"
        for category, grain in ITEM_GRAINS.items()
        if "publisher_name" in grain
    ]
    # Without a publisher the two are the same, and hashing takes most of the time.
    return Sql(f"case when publisher_name is null then item_id {' '.join(former_ids)} else item_id end")


def restored_items_sql(matched_items: Relation, decided_items: Relation) -> Sql:
    """The query of the items that restore decisions hold for.

    A decision that an earlier edition recorded holds for every item that its item has become.

    Args:
        matched_items: relation with `ITEM_COLUMNS`.
        decided_items: relation with the item_id and origin_month of each decision.

    Returns:
        SQL of (item_id, decided_item_id): the item, and the id in the decision.
    """
    return render(
        "allocation/restored_items",
        former_item_id=former_item_id_sql(),
        matched_items=matched_items,
        decided_items=decided_items,
    )


def _counted_sql(value: str, *, null: str = "~") -> Sql:
    """SQL of two texts to be concatenated; the second is null for a null, which concat treats as ''."""
    return Sql(f"coalesce(strlen({value})::varchar || ':', {literal(null)}), {value}")


def uniform_item_sql(category: str) -> Sql:
    """SQL select list that brings the items of a category to `ITEM_COLUMNS`; absent grain columns are null."""
    grain = set(ITEM_GRAINS[category])
    selected = []
    for name, kind in ITEM_COLUMNS.items():
        source = "billing_month" if name == "origin_month" else name
        if name == "item_id":
            selected.append(f"{item_id_sql(category)} as item_id")
        elif name == "category":
            selected.append(f"{literal(category)} as category")
        elif source in LINE_ITEM_GRAIN and source not in grain:
            selected.append(f"map {{}}::{kind} as {name}" if kind == TAGS else f"null::{kind} as {name}")
        else:
            selected.append(f"{source} as {name}")
    return Sql(", ".join(selected))
