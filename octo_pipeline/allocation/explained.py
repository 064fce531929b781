"""Allocations as people read them: every row with everything that explains it (allocation.md §10).

A stored row is narrow; here it is joined with its item, its pinned allocator and the shares of its account.
"""

from octo_pipeline.model.columns import ACCOUNT_GRAIN
from octo_pipeline.model.sql import Sql
from octo_pipeline.model.templates import render

_ITEM_COLUMNS = [name for name in ACCOUNT_GRAIN if name not in ("billing_month", "vendor", "billing_account_id")]


def explained_sql(allocations: str, items: str, usage_shares: str) -> Sql:
    """SQL of the explained allocations.

    Args:
        allocations: relation with `splits.ALLOCATION_COLUMNS` and ``booking_month``.
        items: relation with `balances.TAKEN_ITEM_COLUMNS` of all origin months of these allocations.
        usage_shares: relation with `shares.USAGE_SHARE_COLUMNS` and ``booking_month``.

    Returns:
        One row per allocation row. ``source_account`` is the item's account; the grain's ``sub_account_id`` is the
        same and is left out.
    """
    return render(
        "allocation/explained",
        grain=[name for name in _ITEM_COLUMNS if name != "sub_account_id"],
        allocations=allocations,
        items=items,
        usage_shares=usage_shares,
    )
