"""The export read again as a FOCUS source: the same totals of each account and currency, in both measures."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octo_pipeline.outputs.focus.export import export_focus
from octo_pipeline.services.sources import folder_source
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.focus_files import line_items
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator, line_item
from tests.support.workspaces import workspace_in


@pytest.mark.parametrize(("name", "version"), [("focus.parquet", "1.4"), ("focus.csv.gz", "1.2")])
def test_its_totals_are_the_same(tmp_path, name, version):
    unused = line_item(
        "9",
        "50",
        "RIFee",
        "Purchase",
        commitment_discount_type="RI",
        commitment_discount_id="r1",
        savings_kind="unused",
    )
    lines = [
        *USAGE_OF_10_AND_30,
        replace(FEE_OF_100, billed_cost=Decimal("-100.0000000001"), billing_currency="KWD"),
        replace(unused, effective_cost=Decimal("12.5")),
    ]
    workspace = workspace_in(tmp_path, lines, [fee_allocator("cost/3")])
    workspace = make(run(workspace, [MONTH]), AccountCosts(), [MONTH])
    (tmp_path / "exports").mkdir()
    export_focus(workspace, [MONTH], tmp_path / "exports" / name, version)

    reader = Workspace(Settings(lake=tmp_path / "read", config=workspace.settings.config))
    folder_source("focus", tmp_path / "exports").land(reader.lake.root, MONTH, datetime(2024, 6, 1, tzinfo=UTC))
    rows = line_items(reader, "vendor, sub_account_id, billing_currency, billed_cost, effective_cost", MONTH)

    totals: dict[tuple[str, ...], tuple[Decimal, Decimal]] = {}
    for *key, billed, effective in rows:
        before = totals.get(tuple(key), (Decimal(0), Decimal(0)))
        totals[tuple(key)] = (before[0] + billed, before[1] + effective)
    assert totals == {
        ("aws", "1", "USD"): (10, 10),
        ("aws", "2", "USD"): (30, 30),
        ("aws", "9", "KWD"): (Decimal("-100.0000000001"), 100),
        ("aws", "9", "USD"): (50, Decimal("12.5")),
    }
