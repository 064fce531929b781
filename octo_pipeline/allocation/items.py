"""Items: what an allocator allocates, as relations over ``cost_line_items`` (allocation.md §4).

Only what an item is belongs here. Which allocator takes it is matching's.
"""

from octo_pipeline.model.columns import (
    ACCOUNT_GRAIN,
    FEE_GRAIN,
    ITEM_GRAINS,
    LINE_ITEM_GRAIN,
    MONEY,
    SAVINGS_GRAIN,
    TAGS,
)
from octo_pipeline.model.sql import identifier, literal

# AWS bills support as Usage since about 2023-10, so support is a fee by product, not by charge category.
_SUPPORT_PRODUCTS = ("AWSDeveloperSupport", "AWSEnterpriseOnRamp", "OCBPremiumSupport")

# Every column an item has, whatever its category: its grain columns, its two attributes and its cost.
ITEM_COLUMNS: dict[str, str] = (
    {"item_id": "VARCHAR", "category": "VARCHAR"}
    | {("origin_month" if name == "billing_month" else name): kind for name, kind in LINE_ITEM_GRAIN.items()}
    | {"sub_account_name": "VARCHAR", "service_name": "VARCHAR", "cost": MONEY}
)


def is_fee_line() -> str:
    """SQL condition: the line item belongs to a fee item."""
    products = ", ".join(literal(code) for code in _SUPPORT_PRODUCTS)
    return (
        "(charge_category <> 'Usage' OR (vendor = 'aws' AND coalesce("
        f"starts_with(service_code, 'AWSSupport') OR service_code IN ({products}), false)))"
    )


def items_sql(category: str, line_items: str) -> str:
    """The query of all items of a category, one row each, without their id.

    Args:
        category: fee, account or savings.
        line_items: relation with the columns of ``cost_line_items``, of one month.

    Returns:
        SQL with the category's grain columns, ``sub_account_name``, ``service_name`` and ``cost``.
    """
    if category == "account":
        grain = ", ".join(ACCOUNT_GRAIN)
        return (
            f"SELECT {grain}, sub_account_name, service_name, billed_cost AS cost "
            f"FROM {line_items} WHERE NOT {is_fee_line()}"
        )
    if category == "fee":
        return _aggregated(FEE_GRAIN, "sum(billed_cost)", f"{line_items} WHERE {is_fee_line()}")
    used = _aggregated(
        SAVINGS_GRAIN, "sum(list_cost) - sum(effective_cost)", f"{line_items} WHERE savings_kind = 'used'"
    )
    unused = _aggregated(SAVINGS_GRAIN, "-sum(effective_cost)", f"{line_items} WHERE savings_kind = 'unused'")
    return f"{used} UNION ALL SELECT * FROM ({unused}) WHERE cost <> 0"


def _aggregated(grain: tuple[str, ...], cost: str, source: str) -> str:
    columns = ", ".join(grain)
    # An item has one cost whatever the order its lines come in: sums are DECIMAL, hence exact.
    return (
        f"SELECT {columns}, max(sub_account_name) AS sub_account_name, max(service_name) AS service_name, "
        f"({cost})::{MONEY} AS cost FROM {source} GROUP BY {columns}"
    )


def item_id_sql(category: str) -> str:
    """SQL of the item's id: 128 bits of SHA-256 over category and grain, as 32 hex digits.

    Every value is written with its length before it (null as ``~``), so no two grains share an encoding
    whatever characters their values hold. The cost is not part of it.
    """
    parts = [literal(f"{category}|")]
    for name in ITEM_GRAINS[category]:
        column = identifier(name)
        kind = LINE_ITEM_GRAIN[name]
        if kind == TAGS:
            entry = f"{_counted('e.key')}, {_counted('e.value')}"
            parts.append(
                f"len(map_keys({column}))::VARCHAR, '#', "
                f"array_to_string(list_transform(map_entries({column}), lambda e: concat({entry})), '')"
            )
        else:
            parts.append(_counted(column if kind == "VARCHAR" else f"{column}::VARCHAR"))
    # One concatenation of all parts: a chain of || copies the text again for every part.
    return f"sha256(concat({', '.join(parts)}))[:32]"


def _counted(value: str) -> str:
    """SQL of two texts to be concatenated; concat takes a null, which the second is then, for ''."""
    return f"coalesce(strlen({value})::VARCHAR || ':', '~'), {value}"


def uniform_item(category: str) -> str:
    """SQL select list that brings the items of a category to `ITEM_COLUMNS`, absent grain columns null."""
    grain = set(ITEM_GRAINS[category])
    selected = []
    for name, kind in ITEM_COLUMNS.items():
        source = "billing_month" if name == "origin_month" else name
        if name == "item_id":
            selected.append(f"{item_id_sql(category)} AS item_id")
        elif name == "category":
            selected.append(f"{literal(category)} AS category")
        elif source in LINE_ITEM_GRAIN and source not in grain:
            selected.append(f"MAP {{}}::{kind} AS {name}" if kind == TAGS else f"NULL::{kind} AS {name}")
        else:
            selected.append(f"{source} AS {name}")
    return ", ".join(selected)
