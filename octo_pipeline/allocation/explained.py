"""Allocations as people read them: every row with all it takes to explain it (allocation.md §10).

At rest a row is narrow; here it is joined with its item, its pinned allocator and the shares of its account.
"""

from octo_pipeline.allocation.splits import tranche_sql
from octo_pipeline.model.columns import ACCOUNT_GRAIN, MONEY

_ITEM_COLUMNS = [name for name in ACCOUNT_GRAIN if name not in ("billing_month", "vendor", "billing_account_id")]


def explained_sql(allocations: str, matched_items: str, usage_shares: str) -> str:
    """SQL of the explained allocations.

    Args:
        allocations: relation with `splits.ALLOCATION_COLUMNS` and ``booking_month``.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of all origin months that are booked.
        usage_shares: relation with `shares.USAGE_SHARE_COLUMNS` and ``booking_month``.

    Returns:
        One row an allocation row. ``source_account`` is the item's account; ``sub_account_id`` of the grain is
        the same and left out.
    """
    grain = ", ".join(f"m.{name}" for name in _ITEM_COLUMNS if name != "sub_account_id")
    tranche = tranche_sql("m.cost", "a.tranche_index", "m.tranche_count")
    return (
        "SELECT a.booking_month, a.origin_month, a.item_id, m.category, a.status, a.kind, a.reason, m.vendor, "
        "m.billing_account_id AS payer, m.sub_account_id AS source_account, "
        "m.sub_account_name AS source_account_name, "
        f"a.target_account_id AS target_account, {grain}, m.service_name, m.billing_currency AS currency, "
        "m.cost AS item_cost, a.tranche_index, "
        "CASE WHEN a.kind <> 'item' THEN m.tranche_count END AS tranche_count, "
        # Nearly every item has one tranche, its cost; the division for the others takes 128 bits and a microsecond.
        f"CASE WHEN a.kind = 'item' THEN NULL WHEN m.tranche_count = 1 THEN m.cost ELSE {tranche} END::{MONEY} "
        "AS tranche_cost, "
        "a.entry_index, u.entry_type, u.entry_value, u.formula, u.usage_share, u.usage_cost, u.usage_currency, "
        "a.cost, "
        "CASE WHEN a.status <> 'unchecked_allocated' THEN m.allocator_id END AS allocator_id, "
        "CASE WHEN a.status <> 'unchecked_allocated' THEN m.allocator_version END AS allocator_version "
        f"FROM {allocations} AS a JOIN {matched_items} AS m USING (item_id, origin_month) "
        f"LEFT JOIN {usage_shares} AS u ON u.booking_month = a.booking_month "
        "AND u.allocator_version = m.allocator_version AND u.entry_index = a.entry_index "
        # Only splits have an entry, so nothing else finds a share; a condition on the left side alone would make this
        # a nested loop.
        "AND u.account_id = a.target_account_id"
    )
