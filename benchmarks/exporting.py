"""The FOCUS export, against a query by hand that writes the same rows to the same kind of file and proves nothing."""

import json
from pathlib import Path

import duckdb

from benchmarks.matching import MONTH, synthetic_line_items
from benchmarks.measure import Row, compared
from octo_pipeline.lake.lake import PartitionMetadata
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.outputs.focus.columns import written_columns
from octo_pipeline.outputs.focus.export import export_focus
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace

# One line in a hundred is distributed to four accounts.
_RULE = {
    "category": "account",
    "startMonth": MONTH,
    "criteria": [{"and": {"usageType": "re:^Type00[0-9][0-9]$"}}],
    "allocator": [{"type": "account", "value": f"{100000000000 + i}", "formula": "cost*usage"} for i in range(4)],
}


def exporting(folder: Path, lines: int, runs: int) -> Row:
    workspace = _made(folder, lines)
    file, by_hand = folder / "focus.parquet", folder / "by_hand.parquet"

    def theirs() -> None:
        with workspace.lake.connect() as connection:
            connection.execute(
                f"COPY ({_query_by_hand(workspace)}) TO '{by_hand}' "
                "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
            )

    def ours() -> None:
        export_focus(workspace, [MONTH], file, "1.4")

    ours()
    theirs()
    with duckdb.connect() as connection:
        sums = "count(*), sum(BilledCost), sum(EffectiveCost)"
        rows = [connection.execute(f"SELECT {sums} FROM '{written}'").fetchall() for written in (file, by_hand)]
    if rows[0] != rows[1]:
        raise AssertionError(f"the export and the query by hand write other rows: {rows}")
    return compared(f"FOCUS export with its proofs, {lines:,} line items", ours, theirs, runs, "≤ 1.5")


def _made(folder: Path, lines: int) -> Workspace:
    config = folder / "config"
    (config / "allocators").mkdir(parents=True)
    (config / "allocators" / "shared.json").write_text(json.dumps(_RULE))
    workspace = Workspace(Settings(lake=folder / "lake", config=config))
    lake = workspace.lake
    with lake.connect() as connection, lake.stage(LINE_ITEMS, MONTH) as staged:
        # Lines of a grain are one line item.
        measures = {"consumed_quantity", "billed_cost", "effective_cost", "list_cost", "line_count"}
        values = ", ".join(f"sum({n})::{k} AS {n}" if n in measures else n for n, k in LINE_ITEM_COLUMNS.items())
        lake.copy(
            connection,
            f"SELECT {values} FROM ({synthetic_line_items(lines)}) GROUP BY ALL",
            staged,
            PartitionMetadata({"drawn": str(lines)}, "bench"),
        )
        lake.publish(staged, still_current=lambda: {"drawn": str(lines)})
    for table in order():
        if table.name not in (LINE_ITEMS, "container_usage", "invoice_costs", "cost_group_costs", "prepayments"):
            materialise(workspace, table, MONTH)
    return workspace


def _query_by_hand(workspace: Workspace) -> str:
    lake = workspace.lake
    line_items, items = (
        lake.scan(table, [MONTH], columns)
        for table, columns in (
            (LINE_ITEMS, LINE_ITEM_COLUMNS),
            (MatchedItems.name, MatchedItems.columns),
        )
    )
    allocations = lake.scan(
        "allocations",
        [MONTH],
        {
            "item_id": "VARCHAR",
            "kind": "VARCHAR",
            "target_account_id": "VARCHAR",
            "cost": "DECIMAL(38,10)",
            "effective_cost": "DECIMAL(38,10)",
        },
    )
    key = (
        "sub_account_id", "usage_date", "service_code", "charge_description", "operation", "usage_type", "region_id", "line_type",
    )  # fmt: skip
    on = " AND ".join(f"lines.{name} IS NOT DISTINCT FROM items.{name}" for name in key)
    filled = {
        "BilledCost": ("billed_cost", "booked.cost"),
        "EffectiveCost": ("effective_cost", "booked.effective_cost"),
        "ListCost": ("list_cost", "booked.cost"),
        "ContractedCost": ("billed_cost", "booked.cost"),
        "PricingCurrencyEffectiveCost": ("effective_cost", "booked.effective_cost"),
        "ConsumedQuantity": ("consumed_quantity", "booked.cost"),
        "PricingQuantity": ("consumed_quantity", "booked.cost"),
        "BillingPeriodStart": (f"TIMESTAMP '{MONTH}-01'",) * 2,
        "BillingPeriodEnd": ("TIMESTAMP '2024-02-01'",) * 2,
        "ChargePeriodStart": ("usage_date::TIMESTAMP", f"TIMESTAMP '{MONTH}-01'"),
        "ChargePeriodEnd": ("(usage_date + 1)::TIMESTAMP", "TIMESTAMP '2024-02-01'"),
        "Tags": ("to_json(tags)::VARCHAR", "to_json(items.tags)::VARCHAR"),
        "x_ProjectLabels": ("to_json(project_labels)::VARCHAR", "to_json(items.project_labels)::VARCHAR"),
        "AllocatedMethodId": ("NULL::VARCHAR", "items.allocator_id || '@' || items.allocator_version"),
        "AllocatedResourceId": ("NULL::VARCHAR", "booked.target_account_id"),
        "x_OriginChargeId": ("NULL::VARCHAR", "booked.item_id"),
        "x_ItemId": ("NULL::VARCHAR", "booked.item_id"),
        "x_FinalSubAccountId": ("lines.sub_account_id", "booked.target_account_id"),
        "AllocatedMethodDetails": (
            "NULL::VARCHAR",
            """'{"Elements": [{"AllocatedRatio": ' || (booked.cost / nullif(items.cost, 0))::DECIMAL(38,15)::VARCHAR || '}]}'""",
        ),
        "x_EffectiveRatio": ("NULL::DECIMAL(38,15)", "(booked.cost / nullif(items.cost, 0))::DECIMAL(38,15)"),
        **{
            name: (f"lines.{column}", f"items.{column}")
            for name, column in {
                "BillingAccountId": "billing_account_id", "BillingAccountName": "billing_account_id",
                "BillingCurrency": "billing_currency", "PricingCurrency": "billing_currency", "ChargeCategory": "charge_category",
                "ChargeDescription": "charge_description", "RegionId": "region_id", "RegionName": "region_id",
                "ServiceName": "service_code", "SubAccountId": "sub_account_id", "SubAccountName": "sub_account_id",
                "x_LineType": "line_type", "x_Operation": "operation", "x_ServiceCode": "service_code",
                "x_UsageType": "usage_type",
            }.items()
        },
        **dict.fromkeys(("ServiceProviderName", "HostProviderName", "InvoiceIssuerName", "x_PublisherName"), ("'AWS'",) * 2),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), ("'Units'",) * 2),
        **dict.fromkeys(("x_BookingMonth", "x_OriginMonth"), (f"'{MONTH}'",) * 2),
        "ServiceCategory": ("'Other'",) * 2,
        "ServiceSubcategory": ("'Other (Other)'",) * 2,
        "ChargeFrequency": ("'Usage-Based'",) * 2,
        "PricingCategory": ("'Standard'",) * 2,
        "SubAccountType": ("'Linked Account'",) * 2,
        "BillingAccountType": ("'Billing Account'",) * 2,
        "x_Kind": ("'charge'", "booked.kind"),
    }  # fmt: skip
    lines, splits = (
        ", ".join(f"{filled.get(name, ('NULL::VARCHAR',) * 2)[i]} AS {name}" for name in written_columns("1.4"))
        for i in range(2)
    )
    return (
        f"SELECT {lines} FROM {line_items} AS lines ANTI JOIN (FROM {items} WHERE allocator_id IS NOT NULL) AS items ON {on} "
        f"UNION ALL SELECT {splits} FROM {allocations} AS booked JOIN {items} AS items USING (item_id) "
        "WHERE booked.kind <> 'item'"
    )
