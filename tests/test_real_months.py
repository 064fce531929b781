"""The figures that real bills must give (the data's own README says them)."""

from decimal import Decimal

import pytest

from octo_pipeline.services.landing import land_month
from octo_pipeline.settings import Settings
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import CurFolderSource
from octo_pipeline.workspace import Workspace


@pytest.mark.slow
@pytest.mark.parametrize(
    ("month", "lines", "billed", "ri_fee", "used", "unused", "upfront"),
    [
        ("2018-10", 119_307, "4064.4831315379", "149.7754", "232.2538", "48.9956", "131.4740"),
        ("2018-11", 124_340, "3505.3269681268", "147.3840", "231.4004", "43.2164", "127.2329"),
    ],
)
def test_figures(shared_data, tmp_path, month, lines, billed, ri_fee, used, unused, upfront):
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path))
    source = CurFolderSource(shared_data / "aws" / f"cur-{month}.snappy.parquet")
    land_month(workspace, "aws", [source], month)
    materialise(workspace, CostLineItems(), month)
    with workspace.lake.connect() as connection:
        table = workspace.lake.scan("cost_line_items", [month], CostLineItems.columns)
        total = connection.execute(f"SELECT sum(line_count), sum(billed_cost), count(DISTINCT vendor) FROM {table}")
        assert total.fetchone() == (lines, Decimal(billed), 1)
        fee, unused_cost = connection.execute(
            f"SELECT sum(billed_cost), sum(effective_cost) FROM {table} WHERE line_type = 'RIFee'"
        ).fetchone()
        used_cost = connection.execute(
            f"SELECT sum(effective_cost) FROM {table} WHERE savings_kind = 'used'"
        ).fetchone()[0]
        tags = connection.execute(f"SELECT DISTINCT unnest(map_keys(tags)) AS key FROM {table} ORDER BY key").fetchall()
    near = Decimal("0.0001")
    assert abs(fee - Decimal(ri_fee)) < near
    assert abs(unused_cost - Decimal(unused)) < near
    assert abs(used_cost - Decimal(used)) < near
    assert abs(used_cost + unused_cost - Decimal(ri_fee) - Decimal(upfront)) < Decimal("0.0002")
    assert {"cost_center", "department", "environment", "name", "workload"} <= {key for (key,) in tags}
