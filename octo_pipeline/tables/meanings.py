"""What the tables and their columns mean, in a sentence each: for the asset graph and the reference.

Columns of dbt models are described there and read from the manifest; the same name means the same elsewhere.
"""

from dataclasses import dataclass

from octo_pipeline.tables.dbt import column_descriptions


@dataclass(frozen=True)
class TableMeaning:
    """A table in words.

    Attributes:
        grain: what one row is.
        made_from: the columns that its money comes from, column -> (table, column) each.
    """

    grain: str
    made_from: dict[str, tuple[tuple[str, str], ...]]


TABLE_MEANINGS: dict[str, TableMeaning] = {
    "cost_line_items": TableMeaning(
        "One row per grain, the columns up to project_labels; hourly lines of a day are one row.", {}
    ),
    "matched_items": TableMeaning(
        "One row an item: every fee and savings item, and the account-usage items that an allocator takes.",
        {
            "cost": (
                ("cost_line_items", "billed_cost"),
                ("cost_line_items", "list_cost"),
                ("cost_line_items", "effective_cost"),
            )
        },
    ),
    "resolved_accounts": TableMeaning(
        "One row an allocator entry and account that it means; one row without an account where it means nobody.",
        {
            "account_id": (("cost_line_items", "sub_account_id"),),
            "allocator_id": (("matched_items", "allocator_id"),),
            "allocator_version": (("matched_items", "allocator_version"),),
        },
    ),
    "usage_shares": TableMeaning(
        "One row an allocator entry and account.",
        {
            "usage_cost": (("cost_line_items", "billed_cost"),),
            "account_id": (("resolved_accounts", "account_id"),),
            "allocator_id": (("resolved_accounts", "allocator_id"),),
        },
    ),
    "allocations": TableMeaning(
        "One row an item billed in the month, and one a split or remainder booked in it.",
        {
            "cost": (("matched_items", "cost"), ("usage_shares", "usage_share")),
            "item_id": (("matched_items", "item_id"),),
            "origin_month": (("matched_items", "origin_month"),),
            "target_account_id": (("usage_shares", "account_id"),),
        },
    ),
    "account_costs": TableMeaning(
        "One row an account and currency.",
        {
            "billed": (("cost_line_items", "billed_cost"),),
            "effective": (("cost_line_items", "effective_cost"),),
            **dict.fromkeys(("allocated_out", "allocated_in", "savings_out", "savings_in"), (("allocations", "cost"),)),
            "final_cost": (("cost_line_items", "billed_cost"), ("allocations", "cost")),
            "amortised_final_cost": (("cost_line_items", "effective_cost"), ("allocations", "cost")),
        },
    ),
    "cost_group_costs": TableMeaning(
        "One row a cost group, section, vendor, account, service and currency.",
        {"cost": (("cost_line_items", "billed_cost"), ("allocations", "cost"))},
    ),
}

# Columns that no dbt model has; the others are described there.
_COLUMNS: dict[str, str] = {
    "account_id": "The account that the entry means; null: it means nobody in this month.",
    "account_rank": "Number of the row among its allocator's by account, then entry: the order that breaks ties of rounding.",
    "accounts": "How many accounts share the entry.",
    "allocator_document": "The allocator as it was when it took the item, as canonical JSON.",
    "allocator_id": "The allocator that takes the item; null: nobody.",
    "allocator_version": "Digest of the allocator's document.",
    "booking_month": "Month in which the row is booked, YYYY-MM.",
    "category": "fee, account or savings.",
    "conflicting_allocator_ids": "The allocators that match the item too and come later in the order.",
    "cost": "Billed or allocated cost.",
    "currency": "Currency of the amounts: the item's billing currency.",
    "entry_index": "Place of the entry in the allocator's list, from 0.",
    "entry_months": "Over how many months the entry spreads the item.",
    "entry_type": "account, payer or costgroup.",
    "entry_value": "What the entry names, as it is written in the document.",
    "first_booking_month": "The first month in which a part of the item is booked.",
    "formula": "The entry's formula as it is written in the document.",
    "group_usage_share": "Share of all accounts of the entry together, 0 to 1.",
    "item_cost": "Cost of the whole item.",
    "item_id": "128 bits of a digest over category and grain, the same in every run; it holds no cost.",
    "kind": "item, split or remainder.",
    "origin_month": "Month in which the item was billed, YYYY-MM.",
    "payer": "The billing account that the item was billed under.",
    "reason": "Why an item stays where it was billed, or what a remainder is.",
    "source_account": "The account that the item was billed on.",
    "source_account_name": "Its name, where the vendor gives one.",
    "status": "checked_allocated, checked_splitted or unchecked_allocated: the item was distributed, a part of it was booked, or it stays where it was billed.",
    "target_account": "The account that the split or remainder is booked on; null: the row is the item itself.",
    "target_account_id": "The account that the split or remainder is booked on.",
    "tranche_cost": "The part of the item's cost that is due in the booking month.",
    "tranche_count": "Over how many months the item is spread.",
    "tranche_index": "Which of these months this is, from 0.",
    "usage_cost": "What the account used in the month, in usage_currency.",
    "usage_currency": "Currency of usage_cost: the accounts' own if they share one, else the base currency.",
    "usage_share": "Share of the account among all accounts that the allocator lists, 0 to 1.",
}


def column_meaning(table: str, column: str) -> str:
    """What a column means, in a sentence.

    Raises:
        KeyError: nobody described it; a test looks for such columns.
    """
    for model in (table, "cost_line_items"):
        if told := column_descriptions(model).get(column):
            return told
        if column in _COLUMNS:
            return _COLUMNS[column]
    raise KeyError(f"{table}.{column}")
