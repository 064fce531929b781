"""What FOCUS rows mean: dates in any form, commitments that are bought and used, list costs, the preview's columns."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import materialise
from tests.support.focus_files import (
    MONTH,
    PLAN_BOUGHT,
    PLAN_UNUSED,
    PLAN_USED,
    RESERVED,
    ROW,
    line_items,
    write_csv,
)
from tests.support.workspaces import write_allocators

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def land(workspace, folder, *rows):
    write_csv(folder / "focus.csv", *rows)
    folder_source("azure", folder).land(workspace.lake.root, MONTH, NOW)


def preview(row, subcategory, **changes):
    """A row as version 1.0-preview has it."""
    later = ("ChargeClass", "CommitmentDiscountStatus", "ConsumedQuantity", "RegionId")
    earlier = {name: value for name, value in row.items() if name not in later}
    return earlier | {"ChargeSubcategory": subcategory, "Region": "EU West", "UsageQuantity": ""} | changes


# -- dates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "period"),
    [
        ("2024-03-05T00:00Z", "2024-03-01T00:00Z"),
        ("2024-03-05T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2024-03-05T07Z", "2024-03-01T00Z"),
        ("2024-03-05T23:59:59.9999999Z", "2024-03-01T00:00:00.0000000Z"),
        ("2024-03-05", "2024-03-01"),
        ("2024-03-05 00:00", "2024-03-01 00:00"),
        ("2024-03-05 13:00:00 UTC", "2024-03-01 00:00:00 UTC"),
        ("2024-03-05t00:00:00z", "2024-03-01t00:00:00z"),
        ("20240305T000000Z", "20240301T000000Z"),
        ("2024-03-05T00:00:00+00:00", "2024-03-01T00:00:00.000+0000"),
        # The same instants, written with the offset of where the file was made.
        ("2024-03-04T19:00-05:00", "2024-02-29T19:00:00-05:00"),
        ("2024-03-06T01:00+0200", "2024-03-01T02:00+02"),
    ],
)
def test_dates_of_any_iso_form_are_read(workspace, tmp_path, start, period):
    """Regression: Microsoft's dates of 1.0 and 1.0-preview have no seconds, and were refused."""
    land(workspace, tmp_path / "in", ROW | {"ChargePeriodStart": start, "BillingPeriodStart": period})

    assert line_items(workspace, "usage_date, billed_cost") == [(date(2024, 3, 5), Decimal(10))]


@pytest.mark.parametrize("start", ["2024-02-30T00:00Z", "soon", "2024-03-05T99Z", "13/03/2024"])
def test_what_is_no_date_is_refused_by_file_and_line(workspace, tmp_path, start):
    with pytest.raises(OctoError, match=rf"focus\.csv.*line 3: ChargePeriodStart is '{start}', which is not a date"):
        land(workspace, tmp_path / "in", ROW, ROW | {"ChargePeriodStart": start})


# -- commitments ----------------------------------------------------------------------------------------------


def test_the_purchase_of_a_commitment_costs_nothing_amortised(workspace, tmp_path):
    """Regression: exports that give purchases an effective cost counted the commitment twice."""
    land(workspace, tmp_path / "in", ROW, PLAN_BOUGHT, PLAN_USED, PLAN_UNUSED)

    assert line_items(workspace, "sum(billed_cost), sum(effective_cost)") == [(Decimal(110), Decimal(110))]


def test_other_purchases_keep_their_effective_cost(workspace, tmp_path):
    refunded = PLAN_BOUGHT | {"BilledCost": "-40", "EffectiveCost": "-40", "ChargeClass": "Correction"}
    licence = ROW | {"ChargeCategory": "Purchase", "BilledCost": "7", "EffectiveCost": "7", "ListCost": "7"}
    credit = PLAN_BOUGHT | {"ChargeCategory": "Credit", "BilledCost": "-1", "EffectiveCost": "-1", "ListCost": "0"}
    land(workspace, tmp_path / "in", PLAN_BOUGHT, refunded, licence, credit)

    assert line_items(workspace, "line_type, billed_cost, effective_cost") == [
        ("Credit", Decimal(-1), Decimal(-1)),
        ("Purchase", Decimal(7), Decimal(7)),
        ("Purchase", Decimal(100), Decimal(0)),
        ("Purchase Correction", Decimal(-40), Decimal(0)),
    ]


# -- list cost ------------------------------------------------------------------------------------------------


def savings(workspace):
    write_allocators(
        workspace.settings.config,
        [{"category": "savings", "startMonth": "2024-01", "criteria": [{"and": {"type": "re:."}}],
          "allocator": [{"type": "account", "value": "other", "formula": "cost"}]}],
    )  # fmt: skip
    for table in order():
        materialise(workspace, table, MONTH)
    with workspace.lake.connect() as connection:
        items = workspace.lake.scan("matched_items", [MONTH], {"category": "VARCHAR", "cost": "DECIMAL(38,10)"})
        return connection.execute(f"SELECT sum(cost) FROM {items} WHERE category = 'savings'").fetchall()[0][0]


def test_a_list_cost_of_0_is_not_a_price(workspace, tmp_path):
    """Regression: 80 of reservation usage without a list cost became -80 of savings."""
    known = RESERVED | {"EffectiveCost": "30", "ListCost": "45", "ChargePeriodStart": "2024-03-06T00:00:00Z"}
    land(workspace, tmp_path / "in", ROW, RESERVED | {"ListCost": "0"}, known)

    assert savings(workspace) == Decimal(15)
    assert line_items(workspace, "usage_date, savings_kind, effective_cost, list_cost") == [
        (date(2024, 3, 5), None, Decimal(10), Decimal(10)),
        (date(2024, 3, 5), None, Decimal(80), Decimal(80)),
        (date(2024, 3, 6), "used", Decimal(30), Decimal(45)),
    ]


@pytest.mark.parametrize("list_cost", ["", "0.00", "0E-10", "NULL"])
def test_a_list_cost_that_was_left_out_saves_nothing(workspace, tmp_path, list_cost):
    land(workspace, tmp_path / "in", ROW, RESERVED | {"ListCost": list_cost})

    assert line_items(workspace, "savings_kind, list_cost - effective_cost") == [(None, Decimal(0)), (None, Decimal(0))]


def test_a_file_without_list_costs_saves_nothing(workspace, tmp_path):
    bare = [{name: value for name, value in row.items() if name != "ListCost"} for row in (ROW, RESERVED)]
    land(workspace, tmp_path / "in", *bare)

    assert line_items(workspace, "billed_cost, list_cost") == [(Decimal(0), Decimal(80)), (Decimal(10), Decimal(10))]


def test_marketplace_charges_without_a_list_cost_are_listed_as_billed(workspace, tmp_path):
    land(workspace, tmp_path / "in", ROW | {"ListCost": "0", "ServiceName": "Somebody's product"})

    assert line_items(workspace, "list_cost") == [(Decimal(10),)]


# -- version 1.0-preview --------------------------------------------------------------------------------------


def test_the_preview_says_in_the_subcategory_what_is_unused_and_a_credit(workspace, tmp_path):
    land(
        workspace,
        tmp_path / "in",
        preview(ROW, "On-Demand", UsageQuantity="2"),
        preview(RESERVED, "Used Commitment", UsageQuantity="3"),
        preview(RESERVED, "Unused Commitment", UsageQuantity="1", EffectiveCost="20", ListCost="0"),
        preview(ROW, "Refund", ChargeCategory="Purchase", BilledCost="-5", EffectiveCost="-5", ListCost="-5"),
        preview(ROW, "Credit", ChargeCategory="Adjustment", BilledCost="-2", EffectiveCost="-2", ListCost="-2"),
    )

    assert line_items(
        workspace, "line_type, charge_category, savings_kind, region_id, consumed_quantity, billed_cost, effective_cost"
    ) == [
        ("Credit", "Credit", None, "EU West", Decimal(0), Decimal(-2), Decimal(-2)),
        ("Refund", "Credit", None, "EU West", Decimal(0), Decimal(-5), Decimal(-5)),
        ("Usage", "Usage", "unused", "EU West", Decimal(1), Decimal(0), Decimal(20)),
        ("Usage", "Usage", "used", "EU West", Decimal(3), Decimal(0), Decimal(80)),
        ("Usage", "Usage", None, "EU West", Decimal(2), Decimal(10), Decimal(10)),
    ]
    assert savings(workspace) == Decimal(20)
