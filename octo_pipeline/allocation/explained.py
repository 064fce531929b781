"""Allocations as people read them: every row with everything that explains it (allocation.md §10).

A stored row is narrow; here it is joined with its item, its pinned allocator and the shares of its account.
"""

from octo_pipeline.model.columns import ACCOUNT_GRAIN, LINE_ITEM_GRAIN
from octo_pipeline.model.sql import Sql
from octo_pipeline.model.templates import render

_GRAIN = [
    name
    for name in ACCOUNT_GRAIN
    if name not in ("billing_month", "vendor", "billing_account_id", "sub_account_id", "billing_currency")
]

# The columns of a row that describe its item.
EXPLAINED_ITEM_COLUMNS: dict[str, str] = {
    "vendor": "VARCHAR",
    "payer": "VARCHAR",
    "source_account": "VARCHAR",
    "source_account_name": "VARCHAR",
    "source_group": "VARCHAR",
    **{name: LINE_ITEM_GRAIN[name] for name in _GRAIN},
    "service_name": "VARCHAR",
    "currency": "VARCHAR",
}


def explained_sql(
    allocations: str, items: str, usage_shares: str, *, is_kept: bool = False, is_compared: bool = False
) -> Sql:
    """SQL of the explained allocations.

    Args:
        allocations: relation with `splits.ALLOCATION_COLUMNS` and ``booking_month``.
        items: relation with `balances.TAKEN_ITEM_COLUMNS` of all origin months of these allocations.
        usage_shares: relation with `shares.USAGE_SHARE_COLUMNS` and ``booking_month``.

        is_kept: the items are those that closings kept, with the ``booking_month`` of each.

        is_compared: the rows of items have their number of instalments too, for corrections.

    Returns:
        One row per allocation row. ``source_account`` is the item's account; the grain's ``sub_account_id`` is the
        same and is left out.
    """
    return render(
        "allocation/explained",
        grain=_GRAIN,
        allocations=allocations,
        items=items,
        usage_shares=usage_shares,
        is_kept=is_kept,
        is_compared=is_compared,
    )
