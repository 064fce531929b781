"""Landing exported billing tables from a folder."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource
from octo_pipeline.vendors.gcp.billing_relations import explain_failure, relations, source_costs
from octo_pipeline.vendors.landing import newest_deliveries
from octo_pipeline.vendors.source import Source
from tests.support.billing_exports import ACCOUNT, DETAILED, STANDARD, credit, row, without, write_export
from tests.support.reports import refused

MONTH = "2024-01"
NOW = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
LATER = datetime(2024, 2, 4, 4, 5, 6, tzinfo=UTC)
OTHER = "AAAAAA-BBBBBB-CCCCCC"


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    return tmp_path / "exports"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def costs(lake: Path, month: str = MONTH) -> list[Decimal]:
    with duckdb.connect() as con:
        sql = source_costs(relations(con, newest_deliveries(lake, month, "gcp")))
        return sorted(cost for (cost,) in con.execute(f"SELECT cost FROM ({sql})").fetchall())


def test_the_rows_of_a_month_are_picked_from_all_files(exports, lake):
    folder = exports / ACCOUNT / DETAILED
    write_export(folder / "0.parquet", [row(1, cost=1.0), row(1, cost=2.0, month="2024-02")])
    write_export(folder / "1.parquet", [row(2, cost=4.0, credits=[credit(-0.5)])])
    write_export(folder / "2.parquet", [row(2, cost=8.0, month="2024-02")])
    source: Source = GcpFolderSource(exports)
    (landed,) = source.land(lake, MONTH, NOW)

    delivery = landed.delivery
    assert (delivery.account, delivery.report, delivery.details["rows"]) == (ACCOUNT, DETAILED, 2)
    assert [file.name for file in delivery.files] == ["0.parquet", "1.parquet"]
    assert costs(lake) == [1, Decimal("3.5")]
    assert [(one.account, one.version) for one in source.available(MONTH)] == [(ACCOUNT, delivery.version)]
    assert explain_failure(duckdb.connect(), [delivery]) is None


def test_a_link_that_leads_out_is_refused(exports, lake):
    """Regression: whatever it led to was read."""
    write_export(exports / ACCOUNT / STANDARD / "a.parquet", [row(1, cost=1.0)])
    (exports / ACCOUNT / STANDARD / "a.parquet").rename(exports.parent / "elsewhere")
    (exports / ACCOUNT / STANDARD / "a.parquet").symlink_to(exports.parent / "elsewhere")
    with refused("is a link that leads out of"):
        GcpFolderSource(exports).land(lake, MONTH, NOW)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(exports, lake):
    write_export(exports / ACCOUNT / STANDARD / "a.parquet", [row(1, cost=1.0)])
    (exports / ACCOUNT / STANDARD / "a.parquet").rename(exports / ACCOUNT / STANDARD / "[ab].parquet")
    write_export(exports / ACCOUNT / STANDARD / "b.parquet", [row(1, cost=2.0)])
    GcpFolderSource(exports).land(lake, MONTH, NOW)

    assert costs(lake) == [1, 2]


def test_a_month_is_landed_again_only_when_a_file_of_it_changed(exports, lake):
    file = exports / ACCOUNT / STANDARD / "0.parquet"
    write_export(file, [row(1, cost=1.0)])
    write_export(file.with_name("1.parquet"), [row(1, month="2024-02")])
    source = GcpFolderSource(exports)
    source.land(lake, MONTH, NOW)
    write_export(file.with_name("1.parquet"), [row(1, month="2024-02"), row(1, month="2024-02")])
    (unchanged,) = source.land(lake, MONTH, LATER)
    write_export(file, [row(1, cost=1.0), row(1, cost=2.0)])
    (changed,) = source.land(lake, MONTH, LATER)

    assert (unchanged.is_new, changed.is_new) == (False, True)
    assert costs(lake) == [1, 2]


def test_the_detailed_table_goes_before_the_standard_one_where_it_has_the_month(exports, lake):
    write_export(exports / ACCOUNT / STANDARD / "0.parquet", [row(1, cost=1.0), row(1, cost=1.0, month="2023-12")])
    write_export(exports / ACCOUNT / DETAILED / "0.parquet", [row(1, cost=0.5), row(1, cost=0.5)])
    source = GcpFolderSource(exports)
    source.land(lake, MONTH, NOW)
    source.land(lake, "2023-12", NOW)

    assert costs(lake) == [Decimal("0.5"), Decimal("0.5")]
    assert costs(lake, "2023-12") == [1]


def test_a_month_that_has_no_rows_any_more_keeps_its_last_delivery(exports, lake):
    file = write_export(exports / ACCOUNT / STANDARD / "0.parquet", [row(1)])
    source = GcpFolderSource(exports)
    (first,) = source.land(lake, MONTH, NOW)
    write_export(file, [row(1, month="2024-02")])

    assert source.land(lake, "2024-05", LATER) == []
    with refused("no longer any rows of 2024-01", str(exports / ACCOUNT), "the last delivery stays"):
        source.land(lake, MONTH, LATER)
    assert newest_deliveries(lake, MONTH) == [first.delivery]


def test_a_bad_file_stops_its_own_account_only(exports, lake):
    bad = exports / OTHER / STANDARD.replace("0D1DR5_ADE21G_RF09W1", "AAAAAA_BBBBBB_CCCCCC") / "0.parquet"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"no Parquet")
    write_export(exports / ACCOUNT / STANDARD / "0.parquet", [row(1)])

    with refused(f"{bad} cannot be read as Parquet"):
        GcpFolderSource(exports).land(lake, MONTH, NOW)
    assert [one.account for one in newest_deliveries(lake, MONTH)] == [ACCOUNT]


def test_a_file_without_a_column_that_no_cost_can_do_without_is_refused(exports, lake):
    file = write_export(exports / ACCOUNT / STANDARD / "0.parquet", [row(1)], without("currency"))

    with refused(f"{file} has no column currency", "Export the table again"):
        GcpFolderSource(exports).available(MONTH)


def test_an_amount_that_is_no_money_is_refused(exports, lake):
    file = write_export(exports / ACCOUNT / STANDARD / "0.parquet", [row(1, cost=1e40)])

    with refused(f"{file} cannot be read", "Fetch it again"):
        GcpFolderSource(exports).land(lake, MONTH, NOW)
    assert newest_deliveries(lake, MONTH) == []


@pytest.mark.parametrize("make", [lambda path: None, lambda path: (path / "aws").mkdir(parents=True)])
def test_a_folder_without_exports_is_named(exports, lake, make):
    make(exports)

    with refused(f"The folder {exports}"):
        GcpFolderSource(exports).land(lake, MONTH, NOW)
