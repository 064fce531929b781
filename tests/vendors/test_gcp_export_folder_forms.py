"""What a folder of Google Cloud exports may hold: every form that is read, and a sentence for every other."""

import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource
from octo_pipeline.vendors.gcp.billing_relations import relations
from octo_pipeline.vendors.landing import newest_deliveries
from tests.support.billing_exports import ACCOUNT, DETAILED, STANDARD, credit, row, write_export
from tests.support.reports import refused

MONTH = "2024-01"
NOW = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
APRIL = [row(1, month="2024-04")]


class Folder:
    """A folder of exports and a lake."""

    def __init__(self, root: Path) -> None:
        self.root, self.lake = root / "exports", root / "lake"

    @property
    def table(self) -> Path:
        return self.root / ACCOUNT / DETAILED

    def parquet(self, name: str, rows: Sequence[Mapping[str, Any]], table: str = DETAILED) -> Path:
        return write_export(self.root / ACCOUNT / table / name, rows)

    def write(self, name: str, content: str | bytes, table: str = DETAILED) -> Path:
        path = self.root / ACCOUNT / table / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def rows(self, columns: str = "cost + credits_cost") -> list[tuple[Any, ...]]:
        GcpFolderSource(self.root).land(self.lake, MONTH, NOW)
        with duckdb.connect() as con:
            found = relations(con, newest_deliveries(self.lake, MONTH, "gcp"))["gcp_billing"]
            return con.execute(f"SELECT {columns} FROM ({found}) ORDER BY ALL").fetchall()

    def costs(self) -> list[Decimal]:
        return [cost for (cost,) in self.rows()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def lines(*rows: Mapping[str, Any]) -> str:
    return "".join(f"{json.dumps(one)}\n" for one in rows)


ROWS = [row(1, cost=1.25), row(2, cost=2.5, credits=[credit(-0.5)])]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("000.json", lines(*ROWS)),
        ("000.jsonl", lines(*ROWS)),
        ("000000000000", lines(*ROWS)),
        ("000.json.gz", gzip.compress(lines(*ROWS).encode())),
        ("000000000001", gzip.compress(lines(*ROWS).encode())),
        ("bom.json", b"\xef\xbb\xbf" + lines(*ROWS).encode()),
        ("array.json", json.dumps(ROWS)),
        ("pretty.json", "\n".join(json.dumps(one, indent=2) for one in ROWS)),
        ("2024/01/000.json", lines(*ROWS)),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_json_objects_are_read_in_any_packing_and_under_any_name(folder, name, content):
    folder.write(name, content)

    assert folder.costs() == [Decimal("1.25"), Decimal(2)]


def test_json_is_read_as_parquet_is(folder, tmp_path):
    given = row(
        3,
        cost=0.1,
        credits=[credit(-0.025, id="c-1"), credit(-0.01, "PROMOTION", name="Trial")],
        labels=[{"key": "env", "value": "prod"}],
        usage={"amount": 3600.123456789, "unit": "seconds"},
    )
    other = Folder(tmp_path / "other")
    other.parquet("000.parquet", [given])
    folder.write("000.json", lines(given))
    columns = "* EXCLUDE (file_name)"

    assert folder.rows(columns) == other.rows(columns)


def test_json_as_bigquery_writes_it_is_exact(folder):
    """NUMERIC as text, times with a space and UTC, and no null."""
    written = {name: value for name, value in row(1).items() if value is not None and name != "cost_at_list"}
    written |= {"cost": "0.123456789", "usage_start_time": "2024-01-01 13:00:00.5 UTC"}
    written |= {"credits": [{"amount": "-1e-05", "type": "DISCOUNT"}], "export_time": "2024-01-02 01:00:00 UTC"}
    folder.write("000.json", lines(written))

    assert folder.rows("cost, credits_cost, usage_start_time") == [
        (Decimal("0.123456789"), Decimal("-0.00001"), datetime(2024, 1, 1, 13, 0, 0, 500000))  # noqa: DTZ001
    ]


@pytest.mark.parametrize("name", ["000000000000", "invoice_month=202401/000.parquet", "a/b/c.PARQUET"])
def test_parquet_is_read_at_any_depth_and_without_a_suffix(folder, name):
    folder.parquet("x.parquet", ROWS)
    (folder.table / name).parent.mkdir(parents=True, exist_ok=True)
    (folder.table / "x.parquet").rename(folder.table / name)

    assert folder.costs() == [Decimal("1.25"), Decimal(2)]


def test_files_of_one_name_in_two_month_folders_are_both_read(folder):
    folder.parquet("invoice_month=202401/000.parquet", [row(1, cost=1.0)])
    folder.parquet("invoice_month=202402/000.parquet", [row(2, cost=2.0), row(1, month="2024-02")])

    assert folder.costs() == [1, 2]


def test_forms_are_mixed(folder):
    folder.parquet("000.parquet", [row(1, cost=1.0)])
    folder.write("001.json", lines(row(2, cost=2.0)))

    assert folder.costs() == [1, 2]


@pytest.mark.parametrize(
    "name", ["._000.parquet", ".DS_Store", "_SUCCESS", "README.md", ".tmp/000.parquet", "__MACOSX/._x", "000.crc"]
)
def test_what_tools_and_people_leave_behind_is_passed_over(folder, name):
    folder.parquet("000.parquet", ROWS)
    folder.write(name, b"\x00\x05\x16\x07")

    assert len(folder.costs()) == 2


def test_json_that_is_no_export_is_passed_over(folder):
    folder.parquet("000.parquet", ROWS)
    folder.write("schema.json", json.dumps([{"name": "id", "type": "STRING", "mode": "NULLABLE"}]))

    assert len(folder.costs()) == 2


def test_other_tables_of_google_are_passed_over(folder):
    folder.parquet("000.parquet", ROWS)
    folder.write("000.csv", "a,b\n", table="cloud_pricing_export")
    with duckdb.connect() as con:
        (folder.root / ACCOUNT / "notes").mkdir()
        con.execute(f"COPY (SELECT 1 AS price) TO '{folder.root / ACCOUNT / 'notes' / 'prices.parquet'}'")

    assert len(folder.costs()) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("000.avro", b"Obj\x01\x04", "it is Avro"),
        ("000000000000", b"Obj\x01\x04", "it is Avro"),
        ("000.csv", "billing_account_id,cost\n", "it is CSV, which has no nested columns"),
        ("000.csv.gz", gzip.compress(b"billing_account_id,cost\n", mtime=0), "it is CSV, which has no nested columns"),
        ("000.zip", b"PK\x03\x04", "it is a zip archive"),
        ("000.json.zst", b"\x28\xb5\x2f\xfd", "packed with zstd"),
        ("000.dat", "billing", "it is neither Parquet nor JSON"),
    ],
)
def test_a_form_that_is_not_read_is_named(folder, name, content, said):
    folder.parquet("000.parquet", APRIL)
    path = folder.write(name, content)

    with refused(f"{path} cannot be read: ", said, "Export the table as Parquet or as newline-delimited JSON"):
        folder.costs()
    assert newest_deliveries(folder.lake, MONTH) == []


@pytest.mark.parametrize(
    "place",
    [
        f"{ACCOUNT}/billing/000.parquet",
        f"{ACCOUNT}/000.parquet",
        f"{ACCOUNT}/backup/2024/000.parquet",
        f"{ACCOUNT}/{STANDARD.replace('RF09W1', 'RF09W2')}/000.parquet",
        f"{STANDARD}/000.parquet",
        f"{ACCOUNT.lower()}/{STANDARD}/000.parquet",
        "000.parquet",
    ],
)
def test_an_export_where_no_table_is_looked_for_is_named(folder, place):
    folder.parquet("000.parquet", [row(1, cost=1.0)])
    path = write_export(folder.root / place, [row(2, cost=2.0)])

    with refused(f"{path} is not in a table's folder, so it would not be read", "or remove it from"):
        folder.costs()


def test_a_table_of_another_name_alone_is_no_empty_month(folder):
    path = folder.parquet("000.parquet", ROWS, table="billing")

    with refused(f"{path} is not in a table's folder", DETAILED, STANDARD):
        folder.costs()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lines(*ROWS) + '{"cost": "much"}\n', "line 3"),
        (lines(*ROWS)[:-40], "000.json"),
        (lines(ROWS[0], ROWS[1] | {"usage_start_time": "05/01/2024"}), "invalid timestamp"),
        (lines(ROWS[0], ROWS[1] | {"credits": {"amount": 1}}), "Expected ARRAY"),
        (lines(*({k: v for k, v in one.items() if k != "currency"} for one in ROWS)), "has no column currency"),
        (lines(ROWS[0], ROWS[1] | {"currency": None}), "1 of 2 rows have no currency"),
    ],
    ids=["an amount", "cut off", "a time", "an object for a list", "a column", "a value"],
)
def test_json_that_is_not_right_is_refused_with_file_and_place(folder, content, said):
    path = folder.write("000.json", content)

    with refused(str(path), said):
        folder.costs()
    assert newest_deliveries(folder.lake, MONTH) == []


def test_packed_json_that_was_cut_off_is_refused(folder):
    packed = gzip.compress(lines(*(row(day, cost=day / 7) for day in range(1, 29))).encode())
    path = folder.write("000.json.gz", packed[: len(packed) - 9])

    with refused(str(path), "damaged or cut off"):
        folder.costs()


def test_an_empty_file_has_no_rows(folder):
    folder.parquet("000.parquet", ROWS)
    folder.write("000000000001", "")

    assert len(folder.costs()) == 2
