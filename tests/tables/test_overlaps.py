"""One account's month from two sources: counted once where they agree, refused by both names where they differ."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import folder_source, sources
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.graph import stale
from octo_pipeline.vendors.landing import deliveries
from tests.support.focus_files import ROW, line_items, write_csv
from tests.support.reports import PAYER, csv_text, row
from tests.support.reports import write_csv as write_report

MONTH = "2024-01"
NOW = datetime(2024, 6, 1, tzinfo=UTC)

FOCUS_ROW = ROW | {
    "ProviderName": "AWS", "BillingAccountId": PAYER, "SubAccountId": "222222222222", "BillingCurrency": "USD",
    "BillingPeriodStart": "2024-01-01T00:00:00Z", "ChargePeriodStart": "2024-01-15T13:00:00Z", "BilledCost": "1.5",
}  # fmt: skip
OTHER = FOCUS_ROW | {"ProviderName": "Snowflake", "BillingAccountId": "ORG", "BilledCost": "9"}


@pytest.fixture
def config(workspace):
    folder = workspace.settings.config / "sources"
    folder.mkdir()
    return folder


def declare(config, folder, name, *rows, **fields):
    write_csv(folder / name / "a.csv", *rows)
    document = {"kind": "focus", "name": name, "folder": str(folder / name)} | fields
    (config / f"{name}.json").write_text(json.dumps(document))


def land(workspace):
    for source in sources(workspace, "focus"):
        source.land(workspace.lake.root, MONTH, NOW)


def land_report(workspace, folder, *costs):
    rows = [row(identity_LineItemId=str(number), lineItem_UnblendedCost=cost) for number, cost in enumerate(costs)]
    write_report(folder / "report.csv", csv_text(rows))
    folder_source("aws", folder).land(workspace.lake.root, MONTH, NOW)


def bill(workspace):
    return line_items(workspace, "vendor, billing_account_id, billed_cost, line_count", MONTH)


def test_equal_amounts_of_a_report_and_of_focus_files_count_once(workspace, config, tmp_path):
    land_report(workspace, tmp_path / "cur", "1.0000000001", "0.5")
    declare(config, tmp_path, "focus-of-aws", FOCUS_ROW, OTHER)
    land(workspace)

    # The report's lines count, and the other account of the FOCUS file.
    assert bill(workspace) == [("aws", PAYER, Decimal("1.5000000001"), 2), ("snowflake", "ORG", Decimal(9), 1)]


def test_different_amounts_are_refused_by_both_names(workspace, config, tmp_path):
    land_report(workspace, tmp_path / "cur", "1.49")
    declare(config, tmp_path, "focus-of-aws", FOCUS_ROW)
    land(workspace)

    with pytest.raises(OctoError) as error:
        bill(workspace)
    sentence = str(error.value)
    assert f"The aws source {PAYER} at {tmp_path / 'cur'}" in sentence
    assert f"The focus source focus-of-aws at {tmp_path / 'focus-of-aws'}" in sentence
    assert "differ: 1.49 and 1.50 USD" in sentence
    assert error.value.code == "sources-differ"


def test_a_currency_that_only_one_has_is_a_difference(workspace, config, tmp_path):
    declare(config, tmp_path, "one", FOCUS_ROW)
    declare(config, tmp_path, "two", FOCUS_ROW, FOCUS_ROW | {"BillingCurrency": "EUR"})
    land(workspace)

    with pytest.raises(OctoError, match=r"source one at .* and The focus source two at .*differ: 0\.00 and 1\.50 EUR"):
        bill(workspace)


def test_two_focus_sources_of_one_account_count_once(workspace, config, tmp_path):
    declare(config, tmp_path, "one", FOCUS_ROW)
    declare(config, tmp_path, "two", FOCUS_ROW, OTHER)
    declare(config, tmp_path, "three", FOCUS_ROW | {"BillingAccountId": "999999999999"})
    land(workspace)

    assert bill(workspace) == [
        ("aws", PAYER, Decimal("1.5"), 1),
        ("aws", "999999999999", Decimal("1.5"), 1),
        ("snowflake", "ORG", Decimal(9), 1),
    ]


def test_an_account_of_azures_own_export_counts_once(workspace, config, tmp_path):
    charge = ROW | {"BillingPeriodStart": "2024-01-01", "ChargePeriodStart": "2024-01-05"}
    write_csv(tmp_path / "azure" / "focus.csv", charge)
    folder_source("azure", tmp_path / "azure").land(workspace.lake.root, MONTH, NOW)
    declare(config, tmp_path, "one", charge)
    land(workspace)

    assert line_items(workspace, "vendor, billed_cost, line_count", MONTH) == [("azure", Decimal(10), 1)]


def test_what_a_document_that_is_not_used_landed_does_not_count(workspace, config, tmp_path):
    declare(config, tmp_path, "one", FOCUS_ROW)
    declare(config, tmp_path, "two", FOCUS_ROW | {"BilledCost": "7"})
    land(workspace)
    with pytest.raises(OctoError, match="differ"):
        bill(workspace)

    declare(config, tmp_path, "one", FOCUS_ROW, use=False)
    assert [source.account for source in sources(workspace, "focus")] == ["two"]
    assert bill(workspace) == [("aws", PAYER, Decimal(7), 1)]

    # Both are still landed, and the month follows the documents.
    assert len(deliveries(workspace.lake.root)) == 2
    declare(config, tmp_path, "one", FOCUS_ROW)
    declare(config, tmp_path, "two", FOCUS_ROW | {"BilledCost": "7"}, use=False)
    assert [partition.month for partition in stale(workspace, [CostLineItems()])] == [MONTH]
    assert bill(workspace) == [("aws", PAYER, Decimal("1.5"), 1)]


def test_a_report_that_is_not_used_gives_way_to_focus_files(workspace, config, tmp_path):
    land_report(workspace, tmp_path / "company-cur", "1.49")
    declare(config, tmp_path, "focus-of-aws", FOCUS_ROW)
    (config / "cur.json").write_text(
        json.dumps({"vendor": "aws", "account": PAYER, "bucket": "company-cur", "use": False})
    )
    land(workspace)

    assert sources(workspace, "aws") == []
    assert bill(workspace) == [("aws", PAYER, Decimal("1.5"), 1)]
