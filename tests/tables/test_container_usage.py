"""Rows of AWS that split costs by container: kept in `container_usage`, and never in the cost."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.graph import stale
from octo_pipeline.tables.table import Table, materialise
from octo_pipeline.vendors.aws.cur import CurFolderSource, land_cur
from octo_pipeline.vendors.aws.cur_options import CurFolderDocument
from octo_pipeline.vendors.landing import deliveries
from octo_pipeline.workspace import Workspace
from tests.support.reports import NOW, PAYER, ROW, csv_text, write_csv

MONTH = "2024-01"
INSTANCE = ROW | {"lineItem/ResourceId": "i-1", "lineItem/UnblendedCost": "8"}
POD = INSTANCE | {
    "lineItem/Operation": "EKSPod-EC2",
    "lineItem/ResourceId": "arn:aws:eks:us-east-1:1:pod/shop/a",
    "splitLineItem/ParentResourceId": "i-1",
    "splitLineItem/SplitCost": "2.5",
    "splitLineItem/UnusedCost": "0.5",
    "resourceTags/aws:eks:namespace": "shop",
}
TASK = POD | {"lineItem/Operation": "ECSTask-EC2", "resourceTags/aws:eks:namespace": "", "splitLineItem/SplitCost": "5"}


def report(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    folder.mkdir(exist_ok=True)
    return write_csv(folder / "cur.csv", csv_text([dict.fromkeys(names, "") | row for row in rows]))


def read(workspace: Workspace, table: Table) -> list[dict[str, Any]]:
    for made in (CostLineItems(), table):
        materialise(workspace, made, MONTH)
    with workspace.lake.connect() as connection:
        rows = connection.execute(f"FROM {workspace.lake.scan(table.name, [MONTH], table.columns)} ORDER BY ALL")
        names = [column[0] for column in rows.description]
        return [dict(zip(names, values, strict=True)) for values in rows.fetchall()]


def test_split_rows_are_kept_by_what_their_containers_have_in_common(workspace, tmp_path):
    land_cur(workspace.lake.root, report(tmp_path / "cur", [INSTANCE, POD, POD, TASK]), fetched_at=NOW)

    usage = read(workspace, ContainerUsage())

    common = {
        "billing_month": MONTH,
        "vendor": "aws",
        "billing_account_id": PAYER,
        "sub_account_id": ROW["lineItem/UsageAccountId"],
        "billing_currency": "USD",
        "parent_resource_id": "i-1",
    }
    assert sorted(usage, key=lambda row: len(row["tags"])) == [
        common | {"tags": {}, "split_cost": Decimal(5), "unused_cost": Decimal("0.5")},
        common | {"tags": {"aws:eks:namespace": "shop"}, "split_cost": Decimal(5), "unused_cost": Decimal(1)},
    ]
    assert [item["billed_cost"] for item in read(workspace, CostLineItems())] == [Decimal(8)]


@pytest.mark.parametrize(
    ("net_columns", "weights"),
    [
        ({"splitLineItem/NetSplitCost": "2", "splitLineItem/NetUnusedCost": "0.25"}, ("2", "0.25")),
        ({}, ("2.5", "0.5")),
    ],
)
def test_with_net_costs_containers_weigh_what_is_left_after_discounts_where_it_is_known(
    workspace, tmp_path, net_columns, weights
):
    net = {"lineItem/NetUnblendedCost": "6"}
    report(tmp_path / "cur", [INSTANCE | net, POD | net | net_columns])
    document = CurFolderDocument(vendor="aws", account=PAYER, costs="net", folder=tmp_path / "cur")
    CurFolderSource(tmp_path / "cur", document).land(workspace.lake.root, MONTH, NOW)

    [usage] = read(workspace, ContainerUsage())

    assert (usage["split_cost"], usage["unused_cost"]) == tuple(map(Decimal, weights))
    assert [item["billed_cost"] for item in read(workspace, CostLineItems())] == [Decimal(6)]


def test_a_report_without_split_rows_is_not_read_for_them(workspace, tmp_path):
    land_cur(workspace.lake.root, report(tmp_path / "cur", [INSTANCE]), fetched_at=NOW)
    materialise(workspace, CostLineItems(), MONTH)
    [delivery] = deliveries(workspace.lake.root)
    for path in delivery.file_paths:
        path.unlink()

    assert read(workspace, ContainerUsage()) == []
    assert stale(workspace, [ContainerUsage()]) == []


def test_a_delivery_of_an_earlier_edition_that_did_not_count_its_split_rows_is_read(workspace, tmp_path):
    land_cur(workspace.lake.root, report(tmp_path / "cur", [INSTANCE, POD]), fetched_at=NOW)
    [path] = Path(str(workspace.lake.root)).rglob("_delivery.json")
    delivery = json.loads(path.read_text())
    del delivery["details"]["split_rows"]
    path.write_text(json.dumps(delivery))

    assert len(read(workspace, ContainerUsage())) == 1


def test_a_landed_file_that_is_gone_is_a_sentence(workspace, tmp_path):
    land_cur(workspace.lake.root, report(tmp_path / "cur", [INSTANCE, POD]), fetched_at=NOW)
    materialise(workspace, CostLineItems(), MONTH)
    [delivery] = deliveries(workspace.lake.root)
    for path in delivery.file_paths:
        path.unlink()

    with pytest.raises(OctoError, match="gone since it was landed"):
        materialise(workspace, ContainerUsage(), MONTH)
