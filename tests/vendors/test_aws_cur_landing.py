"""Landing reports: every form of them, and nothing bad gets in."""

import gzip
import zipfile
import zlib
from datetime import timedelta
from decimal import Decimal

import duckdb
import pytest

from octo_pipeline.vendors import data_files
from octo_pipeline.vendors.aws import cur_inspection as aws_cur_inspection
from octo_pipeline.vendors.aws.cur import land_cur, land_report
from octo_pipeline.vendors.aws.cur_relations import relation_sql
from octo_pipeline.vendors.aws.cur_reports import find_reports
from octo_pipeline.vendors.landing import deliveries
from tests.support.reports import (
    NOW,
    PARQUET_ROW,
    PAYER,
    ROW,
    cost,
    csv_text,
    legacy_manifest,
    legacy_report,
    refused,
    sha256,
    write_csv,
    write_json,
    write_parquet,
    write_rows,
)


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def reports(tmp_path):
    return tmp_path / "reports"


def land(lake, path, **given):
    return land_cur(lake, path, fetched_at=NOW, **given)


def total(landed):
    with duckdb.connect() as con:
        sql = relation_sql(con, [one.delivery for one in landed])
        return con.execute(f"SELECT sum(line_item_unblended_cost), count(*) FROM ({sql})").fetchone()


@pytest.mark.parametrize("suffix", ["parquet", "snappy.parquet", "csv", "csv.gz", "csv.zip", "zip"])
def test_every_format(lake, reports, suffix):
    legacy_report(reports, ["1.5", "0.0000000001", "-0.25"], suffix=suffix)
    (landed,) = land(lake, reports)
    assert landed.is_new
    delivery = landed.delivery
    assert (delivery.vendor, delivery.account, delivery.month, delivery.report) == (
        "aws",
        PAYER,
        "2024-01",
        "octo",
    )
    assert delivery.format == ("parquet" if suffix.endswith("parquet") else "csv")
    assert set(delivery.details["rows"].values()) == {1}
    assert total([landed]) == (Decimal("1.2500000001"), 3)
    assert deliveries(lake) == [delivery]
    (again,) = land(lake, reports)
    assert (again.is_new, again.delivery) == (False, delivery)


def test_csv_with_a_byte_order_mark_and_blank_lines(lake, reports):
    path = write_csv(reports / "octo.csv", "\ufeff" + f"{HEADER}\n\n{LINE}\n\n{LINE}\n\n")
    landed = land(lake, path)
    assert landed[0].delivery.details["rows"] == {"octo.csv": 2}
    assert total(landed) == (3, 2)


def test_a_zip_is_landed_as_gzip_and_its_own_checksum_is_kept(lake, reports):
    archive = write_rows(reports / "octo-1.csv.zip", ["1.5"])
    (landed,) = land(lake, archive)
    (file,) = landed.delivery.files
    assert file.name == "octo-1.csv.gz"
    assert gzip.decompress(landed.delivery.file_paths[0].read_bytes()) == csv_text([cost("1.5")]).encode()
    data = archive.read_bytes()
    expected = [{"name": "octo-1.csv.zip", "size": len(data), "sha256": sha256(data)}]
    assert landed.delivery.details["delivered_files"] == expected


def test_an_archive_of_several_files(lake, reports):
    reports.mkdir()
    with zipfile.ZipFile(reports / "all.zip", "w") as archive:
        archive.writestr("a.csv", csv_text([cost("1")]))
        archive.writestr("b.csv", csv_text([cost("2")]))
    landed = land(lake, reports)
    assert [file.name for file in landed[0].delivery.files] == ["all-001.csv.gz", "all-002.csv.gz"]
    assert total(landed) == (3, 2)


def test_several_reports_of_one_folder(lake, reports):
    legacy_report(reports / "one")
    manifest = legacy_manifest(["x/20240201-20240301/octo-1.parquet"], "2024-02")
    parquet_row = PARQUET_ROW | {"bill_billing_period_start_date": "TIMESTAMP '2024-02-01'"}
    write_parquet(reports / "x/20240201-20240301/octo-1.parquet", [parquet_row])
    write_json(reports / "x/20240201-20240301/octo-Manifest.json", manifest)
    assert [one.delivery.month for one in land(lake, reports)] == ["2024-01", "2024-02"]
    assert [one.delivery.month for one in land(lake, reports, month="2024-02")] == ["2024-02"]
    assert land(lake, reports, month="2023-01") == []


def test_a_bad_report_does_not_keep_the_others_out(lake, reports):
    legacy_report(reports / "a", ["nan"], reportName="octo")
    legacy_report(reports / "b", ["1.5"], assemblyId="b")
    with refused("UnblendedCost is 'nan'"):
        land(lake, reports)
    assert [one.version[:2] for one in deliveries(lake)] == ["b-"]


def test_a_report_that_is_not_whole_does_not_keep_the_others_out(lake, reports):
    legacy_report(reports / "a").with_name("octo-1.csv.gz").unlink()
    legacy_report(reports / "b", ["1.5"], assemblyId="b")
    with refused("octo-1.csv.gz is listed in", "is not below"):
        land(lake, reports)
    assert [one.version[:2] for one in deliveries(lake)] == ["b-"]


def test_a_refreshed_report_is_the_newest(lake, reports):
    legacy_report(reports, ["1"])
    land_cur(lake, reports, fetched_at=NOW)
    legacy_report(reports, ["2"], assemblyId="d4e5f6")
    (landed,) = land_cur(lake, reports, fetched_at=NOW + timedelta(hours=6))
    assert landed.is_new
    assert [one.version[:6] for one in deliveries(lake)] == ["a1b2c3", "d4e5f6"]


@pytest.mark.parametrize("name", ["octo-1.csv", "octo-1.csv.gz", "octo-1.csv.zip", "octo-1.parquet"])
def test_an_empty_month(lake, reports, name):
    write = write_parquet if name.endswith("parquet") else write_csv
    write(reports / name, [] if name.endswith("parquet") else csv_text([]))
    with refused("has no rows and no manifest that names an account"):
        land(lake, reports, month="2024-01")
    key = f"cur/20240101-20240201/{name}"
    write_json(reports / "octo-Manifest.json", legacy_manifest([key]))
    (landed,) = land(lake, reports)
    assert landed.delivery.account == PAYER
    assert total([landed]) == (None, 0)


# What must be refused, as (files by name, what the sentence says). Each is landed from a manifest.
HEADER = ",".join(ROW)
LINE = csv_text([ROW]).splitlines()[1]


def with_bad_line(bad):
    return f"{HEADER}\n{LINE}\n{bad}\n{LINE}\n"


def with_bad_cost(amount):
    return csv_text([ROW, cost(amount), ROW])


BAD_CSV = {
    "too few fields": (
        with_bad_line(LINE.rsplit(",", 1)[0]),
        ["line 3: the row has 10 fields, the header has 11"],
    ),
    "too many fields": (with_bad_line(LINE + ",x"), ["line 3: the row has 12 fields, the header has 11"]),
    # Regression: DuckDB takes a surplus field that is empty; every field after the unquoted comma is shifted.
    "an unquoted comma": (with_bad_line(LINE.replace('"', "")), ["line 3: the row has 12 fields"]),
    "a broken quote": (with_bad_line(LINE.replace('it"', 'it"x')), ["line 3: the row is not CSV: a quote"]),
    "a quote that never ends": (with_bad_line('"' + LINE), ["line 3: the row is not CSV"]),
    "latin-1": (
        with_bad_line(LINE.replace("hour", "hör")).encode("latin-1"),
        ["line 3: the text is not UTF-8"],
    ),
    "no header": ("\n\n", ["has no header line"]),
    "a cost that is text": (
        with_bad_cost("free"),
        ["line 3: lineItem/UnblendedCost is 'free', which is not an amount"],
    ),
    "a cost that is NaN": (
        with_bad_cost("NaN"),
        ["line 3: lineItem/UnblendedCost is 'NaN', which is not an amount"],
    ),
    "an infinite cost": (
        with_bad_cost("-inf"),
        ["line 3: lineItem/UnblendedCost is '-inf', which is not an amount"],
    ),
    "a cost of 40 digits": (
        with_bad_cost("9" * 40),
        [f"line 3: lineItem/UnblendedCost is '{'9' * 40}', which"],
    ),
    "a cost with a comma": (with_bad_cost("1,5"), ["line 3: lineItem/UnblendedCost is '1,5'"]),
    "an infinite amount elsewhere": (
        csv_text([ROW | {"pricing/publicOnDemandCost": one} for one in ("1", "", "inf")]),
        ["line 4: pricing/publicOnDemandCost is 'inf', which is not an amount"],
    ),
    "no cost": (with_bad_cost(" "), ["line 3: line_item_unblended_cost is empty, no row can do without it"]),
    "a date of another country": (
        csv_text([ROW, ROW | {"lineItem/UsageStartDate": "1/31/2024"}]),
        ["line 3: lineItem/UsageStartDate is '1/31/2024', which is not a date and time such as 2024-01-31"],
    ),
    "a bad value after a long text": (
        csv_text([ROW | {"lineItem/LineItemDescription": "two\nlines"}, ROW, cost("free")]),
        ["line 5: lineItem/UnblendedCost is 'free'"],
    ),
    "a missing column": (
        csv_text([{name: value for name, value in ROW.items() if "Currency" not in name}]),
        ["has no column line_item_currency_code", "Add it to the report"],
    ),
    "a column twice": (
        f"{HEADER},line_item_unblended_cost\n{LINE},3\n",
        ["has line_item_unblended_cost twice, as lineItem/UnblendedCost and line_item_unblended_cost"],
    ),
    "two payers": (
        csv_text([ROW, ROW, ROW | {"bill/PayerAccountId": "999999999999"}]),
        ["line 4: bill_payer_account_id is '999999999999', but other rows are of payer 111111111111"],
    ),
    "another month": (
        csv_text([ROW, ROW | {"bill/BillingPeriodStartDate": "2024-02-01T00:00:00Z"}]),
        ["line 3: bill_billing_period_start_date is '2024-02-01 00:00:00', but the report is of 2024-01"],
    ),
    "no payer": (
        csv_text([ROW, ROW | {"bill/PayerAccountId": ""}]),
        ["line 3: bill_payer_account_id is empty, no row can do without it"],
    ),
    "a payer who is not the owner": (
        csv_text([ROW | {"bill/PayerAccountId": "999999999999"}]),
        ["is the report of account 111111111111, but its rows are billed to payer 999999999999"],
    ),
    "tags that are no JSON": (
        csv_text([ROW | {"resource_tags": "{}"}, ROW | {"resource_tags": '{"user_team":'}]),
        ["line 3: resource_tags is '{\"user_team\":', which is not a JSON object"],
    ),
    "a product that is no JSON": (
        csv_text([ROW | {"product": '{"product_name":"EC2"}'}, ROW | {"product": "EC2"}]),
        ["line 3: product is 'EC2', which is not a JSON object"],
    ),
}


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.zip"])
@pytest.mark.parametrize("what", BAD_CSV)
def test_bad_csv(lake, reports, suffix, what):
    text, parts = BAD_CSV[what]
    manifest = legacy_report(reports, suffix=suffix)
    write_csv(manifest.with_name(f"octo-1.{suffix}"), text)
    place = [str(manifest)] if "owner" in what else [f"octo-1.{suffix} of {manifest}"]
    with refused(*place, *parts):
        land(lake, reports)
    assert deliveries(lake) == []
    assert not list((lake / ".staging").iterdir())


BAD_PARQUET = {
    "NaN": (
        {"line_item_unblended_cost": "'nan'::DOUBLE"},
        ["line_item_unblended_cost is 'nan', which is not an amount"],
    ),
    "infinite": ({"line_item_unblended_cost": "'inf'::DOUBLE"}, ["line_item_unblended_cost is 'inf'"]),
    "too large": ({"line_item_unblended_cost": "1e30::DOUBLE"}, ["line_item_unblended_cost is '1e+30'"]),
    "null": ({"line_item_unblended_cost": "NULL::DOUBLE"}, ["line_item_unblended_cost is empty"]),
    "payer": ({"bill_payer_account_id": "'999'"}, ["bill_payer_account_id is '999'"]),
    "month": ({"bill_billing_period_start_date": "TIMESTAMP '2023-12-01'"}, ["is '2023-12-01 00:00:00'"]),
}


@pytest.mark.parametrize("what", BAD_PARQUET)
def test_bad_parquet_names_row_and_row_group(lake, reports, what):
    changes, parts = BAD_PARQUET[what]
    rows = [PARQUET_ROW] * 5000
    rows[4321] = PARQUET_ROW | changes
    path = reports / "octo-1.parquet"
    reports.mkdir()
    names = ", ".join(f'"{name}"' for name in PARQUET_ROW)
    with duckdb.connect() as con:
        values = ", ".join(f"({', '.join(one.values())})" for one in rows)
        query = f"SELECT * FROM (VALUES {values}) AS rows({names})"
        con.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    with refused(f"{path}, row 4322 (row group 3): ", *parts):
        land(lake, path)
    assert deliveries(lake) == []


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("BLOB", "line_item_unblended_cost is of type"),
        ("DATE", "line_item_unblended_cost is of type DATE, which holds no amounts"),
    ],
)
def test_parquet_types_that_cannot_be_amounts(lake, reports, kind, sentence):
    value = "'2024-01-01'::DATE" if kind == "DATE" else "{'a': 1}"
    path = write_parquet(reports / "a.parquet", [PARQUET_ROW | {"line_item_unblended_cost": value}])
    with refused(sentence):
        land(lake, path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    """Change a byte of what a gzip or zip file says its checksum is, or of a Parquet file's footer."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".zip":
        checksum = zlib.crc32(zipfile.ZipFile(path).read("octo-1.csv")).to_bytes(4, "little")
        while (at := data.find(checksum)) >= 0:
            data[at] ^= 1
    else:
        data[-8] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("suffix", ["csv.gz", "csv.zip", "parquet"])
def test_damaged_files(lake, reports, suffix, damage):
    manifest = legacy_report(reports, suffix=suffix)
    damage(manifest.with_name(f"octo-1.{suffix}"))
    with refused(f"octo-1.{suffix} of {manifest} ", "damaged or"):
        land(lake, reports)
    assert deliveries(lake) == []


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.zip", "parquet"])
def test_files_of_no_bytes(lake, reports, suffix):
    manifest = legacy_report(reports, ["1", "2"], suffix=suffix)
    manifest.with_name(f"octo-2.{suffix}").write_bytes(b"")
    with refused(f"octo-2.{suffix} of {manifest} is empty (0 bytes)"):
        land(lake, reports)


@pytest.mark.parametrize("is_one_line", [True, False])
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(lake, reports, monkeypatch, is_one_line):
    """Regression: only archives had bounds; a .csv.gz was unpacked to its end, and a line of it held whole."""
    monkeypatch.setattr(data_files, "ALWAYS_ALLOWED", 1 << 20)
    bomb = write_csv(reports / "octo-1.csv.gz", f"{HEADER}\n{LINE}\n" + ("0" if is_one_line else "\n") * (4 << 20))
    with refused(f"{bomb} unpacks to more than 200 times its size"):
        land(lake, bomb)
    monkeypatch.setattr(data_files, "MAX_RATIO", 10**6)
    monkeypatch.setattr(data_files, "MAX_LINE", 2 << 20)
    if is_one_line:
        with refused(f"{bomb} has a line of more than 2 MiB"):
            land(lake, bomb)
    else:
        assert land(lake, bomb)[0].is_new


def test_a_zip_bomb_is_refused_before_it_fills_the_disk(lake, reports, monkeypatch):
    monkeypatch.setattr(data_files, "ALWAYS_ALLOWED", 1 << 20)
    archive = write_csv(reports / "octo-1.csv.zip", f"{HEADER}\n{LINE}\n" + "\n" * (4 << 20))
    assert archive.stat().st_size < 10_000
    with refused(f"{archive} unpacks to more than 200 times its size"):
        land(lake, archive)
    monkeypatch.setattr(data_files, "MAX_RATIO", 10**6)
    monkeypatch.setattr(data_files, "MAX_UNPACKED", 3 << 20)
    with refused(f"{archive} unpacks to more than"):
        land(lake, archive)
    monkeypatch.setattr(data_files, "MAX_UNPACKED", 5 << 20)
    assert land(lake, archive)[0].is_new


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["../octo.csv"], "'../octo.csv' cannot be the file in"),
        (["/octo.csv"], "'/octo.csv' cannot be the file in"),
        (["folder/octo.csv"], "'folder/octo.csv' cannot be the file in"),
        (["octo.csv", "run.sh"], "holds run.sh; the archive of a report holds CSV files only"),
        (["octo.zip"], "holds octo.zip; the archive of a report holds CSV files only"),
        ([], "holds 0 files; the archive of a report holds 1 to 100"),
        ([f"{number}.csv" for number in range(101)], "holds 101 files"),
    ],
)
def test_archives_of_other_things(lake, reports, names, sentence):
    manifest = legacy_report(reports, suffix="csv.zip")
    with zipfile.ZipFile(manifest.with_name("octo-1.csv.zip"), "w") as archive:
        for name in names:
            archive.writestr(name, csv_text([ROW]))
    with refused(sentence):
        land(lake, reports)
    assert deliveries(lake) == []
    assert not (lake.parent / "octo.csv").exists()


def test_an_encrypted_archive(lake, reports):
    manifest = legacy_report(reports, suffix="csv.zip")
    path = manifest.with_name("octo-1.csv.zip")
    data = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(header) + flags] |= 1
    path.write_bytes(bytes(data))
    with refused(f"octo-1.csv.zip of {manifest} is encrypted"):
        land(lake, reports)


def test_an_archive_beside_what_it_holds(lake, reports):
    keys = [f"cur/20240101-20240201/octo-1.{suffix}" for suffix in ("csv.gz", "csv.zip")]
    for key in keys:
        write_rows(reports / key, ["1"])
    write_json(reports / "cur/20240101-20240201/octo-Manifest.json", legacy_manifest(keys))
    with refused("octo-1.csv.zip of", "holds the same data as octo-1.csv.gz"):
        land(lake, reports)


def test_rows_that_only_one_reader_sees(lake, reports, monkeypatch):
    monkeypatch.setattr(aws_cur_inspection, "count_rows", lambda con, path, place: 2)
    path = write_rows(reports / "octo-1.csv", ["1.5"])
    with refused(f"{path}: only 1 of 2 rows could be read, so a file is damaged"):
        land(lake, path)


def test_a_file_that_changes_while_it_is_landed(lake, reports):
    path = write_rows(reports / "octo-1.csv", ["1.5"])
    found = find_reports(path)
    path.write_text(path.read_text().replace("1.5", "2.5"))
    with refused(f"{path} was cut off or changed while it was read: its sha256 is"):
        land_report(lake, found[0], fetched_at=NOW)
