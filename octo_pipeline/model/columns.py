"""The columns of the normalised tables: the one place that lists them (allocation.md §3 and §4).

Tests compare the dbt contract of ``cost_line_items`` and the SQL of the core with these lists.
"""

MONEY = "DECIMAL(38,10)"
TAGS = "MAP(VARCHAR, VARCHAR)"

# The table that all others are made from.
LINE_ITEMS = "cost_line_items"

# Grain of cost_line_items, in the table's column order.
LINE_ITEM_GRAIN: dict[str, str] = {
    "billing_month": "VARCHAR",
    "vendor": "VARCHAR",
    "billing_account_id": "VARCHAR",
    "sub_account_id": "VARCHAR",
    "usage_date": "DATE",
    "line_type": "VARCHAR",
    "charge_category": "VARCHAR",
    "service_code": "VARCHAR",
    "charge_description": "VARCHAR",
    "operation": "VARCHAR",
    "usage_type": "VARCHAR",
    "region_id": "VARCHAR",
    "billing_currency": "VARCHAR",
    "commitment_discount_type": "VARCHAR",
    "commitment_discount_id": "VARCHAR",
    "offer_class": "VARCHAR",
    "savings_kind": "VARCHAR",
    "tags": TAGS,
    "project_labels": TAGS,
    "publisher_name": "VARCHAR",
}
# Values that can change at any time are never part of a key. A row has the greatest one of its lines.
LINE_ITEM_ATTRIBUTES: dict[str, str] = {
    "sub_account_name": "VARCHAR",
    "service_name": "VARCHAR",
    "invoice_id": "VARCHAR",
    "invoice_issuer_name": "VARCHAR",
}
LINE_ITEM_MEASURES: dict[str, str] = {
    "consumed_quantity": MONEY,
    "billed_cost": MONEY,
    "effective_cost": MONEY,
    "list_cost": MONEY,
    "line_count": "BIGINT",
}
LINE_ITEM_COLUMNS: dict[str, str] = LINE_ITEM_GRAIN | LINE_ITEM_ATTRIBUTES | LINE_ITEM_MEASURES

# What a partition of the first edition has instead of columns that were renamed: table -> column -> SQL.
FORMER_COLUMNS: dict[str, dict[str, str]] = {
    "account_costs": {"owner_type": "'account'", "owner_id": "account"},
}

# Grain of an item per category. billing_month is the item's origin month.
FEE_GRAIN = (
    "billing_month",
    "vendor",
    "billing_account_id",
    "sub_account_id",
    "line_type",
    "service_code",
    "charge_description",
    "billing_currency",
    "publisher_name",
)
ACCOUNT_GRAIN = tuple(LINE_ITEM_GRAIN)
SAVINGS_GRAIN = (
    "billing_month",
    "vendor",
    "commitment_discount_type",
    "billing_account_id",
    "sub_account_id",
    "commitment_discount_id",
    "service_code",
    "offer_class",
    "billing_currency",
    "savings_kind",
)
# A balance is of an account or of a cost group; the other of the two columns is null.
BALANCE_GRAIN = ("billing_month", "sub_account_id", "own_group_id", "billing_currency", "step")
ITEM_GRAINS: dict[str, tuple[str, ...]] = {
    "fee": FEE_GRAIN,
    "account": ACCOUNT_GRAIN,
    "savings": SAVINGS_GRAIN,
    "balance": BALANCE_GRAIN,
}
# What only balances have in their grain.
BALANCE_COLUMNS: dict[str, str] = {"own_group_id": "VARCHAR", "step": "INTEGER"}

# Criteria keys of the allocator document and the item columns they match (allocation.md §5).
CRITERIA_COLUMNS: dict[str, dict[str, str]] = {
    "fee": {
        "account": "sub_account_id",
        "payer": "billing_account_id",
        "vendor": "vendor",
        "seller": "publisher_name",
        "lineType": "line_type",
        "productCode": "service_code",
        "productName": "service_name",
        "description": "charge_description",
        "currency": "billing_currency",
    },
    "account": {
        "account": "sub_account_id",
        "payer": "billing_account_id",
        "vendor": "vendor",
        "seller": "publisher_name",
        "lineType": "line_type",
        "productCode": "service_code",
        "productName": "service_name",
        "description": "charge_description",
        "operation": "operation",
        "usageType": "usage_type",
        "region": "region_id",
        "currency": "billing_currency",
    },
    "savings": {
        "type": "commitment_discount_type",
        "account": "sub_account_id",
        "payer": "billing_account_id",
        "vendor": "vendor",
        "arn": "commitment_discount_id",
        "productCode": "service_code",
        "offerClass": "offer_class",
        "currency": "billing_currency",
    },
    "balance": {
        "account": "sub_account_id",
        "group": "own_group_id",
        "payer": "billing_account_id",
        "vendor": "vendor",
        "currency": "billing_currency",
    },
}
# Prefixes of criteria keys that name a tag, and the columns that hold the tags: ``tag:team`` is the value of team.
CRITERIA_TAGS: dict[str, dict[str, str]] = {"account": {"tag:": "tags", "projectLabel:": "project_labels"}}

# Filter keys of a cost group (allocation.md §11).
COST_GROUP_COLUMNS: dict[str, str] = {
    "account": "sub_account_id",
    "payer": "billing_account_id",
    "productCode": "service_code",
    "productName": "service_name",
    "region": "region_id",
    "usageType": "usage_type",
    "operation": "operation",
    "description": "charge_description",
    "lineType": "line_type",
    "currency": "billing_currency",
}
