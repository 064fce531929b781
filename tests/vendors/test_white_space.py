"""White space around text, of any kind of Unicode, tells no two texts apart; tags stay as they were delivered."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.manual.charges import read_charges
from tests.support import azure_exports, billing_exports, focus_files, reports

NOW = datetime(2024, 7, 1, tzinfo=UTC)
SPACES = ["\t", "\u00a0", "\u2003", "\u3000", "\u0085", "\u200b", "\u2060", "\ufeff"]


def padded(row, names, space):
    return row | {name: f"{space}{row[name]}{space}" for name in names}


def write_aws(folder, space):
    names = ("bill/PayerAccountId", "lineItem/UsageAccountId", "lineItem/LineItemType", "lineItem/CurrencyCode")
    rows = [reports.ROW | {"resourceTags/user:team": value} for value in ("a", f"{space}a")]
    reports.write_csv(folder / "a.csv", reports.csv_text([rows[0], padded(rows[1], names, space)]))
    return "2024-01"


def write_azure(folder, space):
    names = ("BillingAccountId", "SubscriptionId", "ChargeType", "BillingCurrency", "MeterCategory")
    rows = [azure_exports.USAGE | {"Tags": json.dumps({"team": value})} for value in ("a", f"{space}a")]
    azure_exports.write(folder, {"a.csv": azure_exports.csv_bytes(rows[0], padded(rows[1], names, space))})
    return azure_exports.MONTH


def write_focus(folder, space):
    names = ("BillingAccountId", "SubAccountId", "ProviderName", "ChargeCategory", "BillingCurrency", "ServiceName")
    rows = [focus_files.ROW | {"Tags": json.dumps({"team": value})} for value in ("a", f"{space}a")]
    focus_files.write_csv(folder / "a.csv", rows[0], padded(rows[1], names, space))
    return focus_files.MONTH


def write_gcp(folder, space):
    rows = [billing_exports.row(labels=[{"key": "team", "value": value}]) for value in ("a", f"{space}a")]
    rows[1] = padded(rows[1], ("currency", "cost_type"), space)
    rows[1]["project"] = rows[1]["project"] | {"id": f"{space}shop-prod{space}"}
    rows[1]["service"] = {key: f"{space}{value}" for key, value in rows[1]["service"].items()}
    billing_exports.write_export(folder / billing_exports.ACCOUNT / billing_exports.DETAILED / "a.parquet", rows)
    return "2024-01"


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("vendor", "write"), [("aws", write_aws), ("azure", write_azure), ("focus", write_focus), ("gcp", write_gcp)]
)
def test_white_space_tells_no_two_texts_apart(workspace, tmp_path, vendor, write, space):
    (tmp_path / "in").mkdir()
    month = write(tmp_path / "in", space)
    folder_source(vendor, tmp_path / "in").land(workspace.lake.root, month, NOW)
    materialise(workspace, CostLineItems(), month)
    with workspace.lake.connect() as con:
        table = workspace.lake.scan("cost_line_items", [month], CostLineItems.columns)
        texts = "vendor, billing_account_id, sub_account_id, line_type, charge_category, service_code, billing_currency"
        assert con.execute(f"SELECT sum(line_count), count(DISTINCT ({texts})) FROM {table}").fetchone() == (2, 1)
        values = con.execute(f"SELECT unnest(repeat([tags['team']], line_count)) FROM {table}").fetchall()
    assert sorted(values) == sorted([("a",), (f"{space}a",)])


@pytest.mark.parametrize("space", SPACES)
def test_charges_by_hand_are_trimmed(tmp_path, space):
    path = tmp_path / "charges.csv"
    path.write_text(f"account,description,amount,currency\n{space}1111{space},Licence{space},{space}1.50,USD{space}\n")
    (charge,) = read_charges(path, "2024-03")
    assert (charge.account, charge.description, charge.amount, charge.currency) == (
        "1111",
        "Licence",
        Decimal("1.50"),
        "USD",
    )
