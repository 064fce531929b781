"""The sample months of an Azure partner: deterministic, complete, and read as they are meant."""

import gzip
import json
import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import folder_source
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.azure.sample import CURRENCY, partner_tenant, write_csp

MONTHS = ["2024-01", "2024-02", "2024-03"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    return folder, write_csp(folder, months=MONTHS, lines=500)


def lines(written, month, kind):
    (path,) = [p for p in written if p.suffix == ".gz" and p.parts[-3] == month and p.parts[-2].startswith(kind)]
    text = gzip.decompress(path.read_bytes()).decode()
    return [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in text.splitlines()]


def test_a_month_has_the_files_of_an_invoice(sample):
    folder, written = sample
    of_january = [path.relative_to(folder).as_posix() for path in written if "2024-01" in path.parts]
    pattern = (
        r"azure/csp/[0-9a-f-]{36}/2024-01/(usage|reconciliation)-billed-G\d{9}/(part-00000\.json\.gz|manifest\.json)"
    )
    assert [bool(re.fullmatch(pattern, name)) for name in of_january] == [True] * 4


def test_the_same_seed_gives_the_same_bytes(sample, tmp_path):
    _, written = sample
    again = write_csp(tmp_path, months=MONTHS, lines=500)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]
    other = write_csp(tmp_path / "other", months=MONTHS[:1], lines=500, seed=8)
    assert other[0].read_bytes() != written[0].read_bytes()
    assert partner_tenant(8) in str(other[0])


def test_the_reconciliation_repeats_the_usage_and_adds_purchases(sample):
    _, written = sample
    usage = sum(line["BillingPreTaxTotal"] for line in lines(written, "2024-01", "usage"))
    invoice = lines(written, "2024-01", "reconciliation")
    repeated = [line for line in invoice if "MeterDescription" in line]
    assert 0 <= usage - sum(line["Subtotal"] for line in repeated) < Decimal("0.01") * len(repeated)
    bought = {line["ProductName"]: line["Subtotal"] for line in invoice if "MeterDescription" not in line}
    assert bought == {
        "Azure savings plan for compute": Decimal("412.50"),
        "Reserved VM Instance": Decimal("7321.48"),
        "Windows Server Remote Desktop": Decimal("1875.00"),
    }


def test_all_months_come_out_as_they_were_written(sample, workspace):
    folder, written = sample
    source = folder_source("azure", folder / "azure")
    for month in MONTHS:
        (landed,) = source.land(workspace.lake.root, month, datetime(2024, 4, 1, tzinfo=UTC))
        assert landed.delivery.account == partner_tenant()
        materialise(workspace, CostLineItems(), month)
    with workspace.lake.connect() as con:
        table = workspace.lake.scan("cost_line_items", MONTHS, CostLineItems.columns)
        found = con.execute(
            f"SELECT billing_month, charge_category, billing_currency, sum(line_count), sum(billed_cost) FROM {table} "
            "GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        covered = con.execute(
            f"SELECT DISTINCT commitment_discount_type, billed_cost FROM {table} "
            "WHERE commitment_discount_id IS NOT NULL AND charge_category = 'Usage'"
        ).fetchall()
        accounts = con.execute(
            f"SELECT count(DISTINCT sub_account_id), count(DISTINCT tags['team']) FROM {table} WHERE cardinality(tags) > 0"
        ).fetchall()
    usage = {month: sum(line["BillingPreTaxTotal"] for line in lines(written, month, "usage")) for month in MONTHS}
    assert found == [
        ("2024-01", "Purchase", CURRENCY, 3, Decimal("9608.98")),
        ("2024-01", "Usage", CURRENCY, 500, usage["2024-01"]),
        ("2024-02", "Purchase", CURRENCY, 1, Decimal("412.5")),
        ("2024-02", "Usage", CURRENCY, 500, usage["2024-02"]),
        ("2024-03", "Credit", CURRENCY, 1, Decimal("-118.27")),
        ("2024-03", "Purchase", CURRENCY, 1, Decimal("412.5")),
        ("2024-03", "Usage", CURRENCY, 500, usage["2024-03"]),
    ]
    assert covered == [("RI", Decimal(0))]
    assert accounts == [(6, 6)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"months": []}, "at least one month"),
        ({"months": ["2024-13"]}, "'2024-13' is not a month"),
        ({"months": ["2024-01", "2024-01"]}, "each month once"),
        ({"subscriptions": 2}, "2 subscriptions is too small; give at least 3"),
        ({"lines": 99}, "99 usage lines a month is too small; give at least 100"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(tmp_path, arguments, sentence):
    with pytest.raises(OctoError, match=re.escape(sentence)):
        write_csp(tmp_path, **({"months": ["2024-01"]} | arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "azure").write_text("a file where the folder should be")
    with pytest.raises(OctoError, match=r"The sample of 2024-01 cannot be written to .*: "):
        write_csp(tmp_path, months=["2024-01"], lines=100)
