"""Which of two tables a folder's month is read from, and which of a table's files count."""

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource
from octo_pipeline.vendors.gcp.billing_relations import relations, source_costs
from octo_pipeline.vendors.landing import newest_deliveries
from tests.support.billing_exports import ACCOUNT, DETAILED, SCHEMA, SCHEMA_2026, STANDARD, credit, row, write_export
from tests.support.reports import refused

MONTH = "2024-01"
NOW = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    return tmp_path / "exports"


@pytest.fixture
def landed(tmp_path: Path, exports: Path):
    """Lands the month: which table it is of, what it cost, and the delivery's details."""

    def land():
        GcpFolderSource(exports).land(tmp_path / "lake", MONTH, NOW)
        (delivery,) = newest_deliveries(tmp_path / "lake", MONTH, "gcp")
        assert [one.version for one in GcpFolderSource(exports).available(MONTH)] == [delivery.version]
        with duckdb.connect() as con:
            costs = source_costs(relations(con, [delivery]))
            return delivery.report, con.execute(f"SELECT sum(cost) FROM ({costs})").fetchall()[0][0], delivery.details

    return land


def write_days(exports: Path, table: str, days: Iterable[int], *, parts: int = 1, name: str = "000.parquet") -> Path:
    """A row, or several that cost as much, of each day."""
    rows = [row(day, cost=1.0 / parts, sku={"id": f"{part}"}) for day in days for part in range(parts)]
    return write_export(exports / ACCOUNT / table / name, rows)


ALL = range(1, 32)


@pytest.mark.parametrize(
    "days",
    [range(18, 32), range(1, 11), [*range(1, 11), *range(21, 32)], range(1, 31), [31]],
    ids=["from the 18th", "until the 10th", "with a gap", "without the last day", "the last day"],
)
def test_a_detailed_table_of_a_part_of_the_month_does_not_win(exports, landed, days):
    write_days(exports, STANDARD, ALL)
    write_days(exports, DETAILED, days, parts=2)

    assert landed()[:2] == (STANDARD, 31)


def test_a_detailed_table_that_began_at_noon_does_not_win(exports, landed):
    hours = [row(day, cost=1.0, usage_start_time=f"{MONTH}-{day:02}T{hour}:00:00Z") for day in ALL for hour in (10, 14)]
    write_export(exports / ACCOUNT / STANDARD / "000.parquet", hours)
    write_export(exports / ACCOUNT / DETAILED / "000.parquet", hours[1:])

    assert landed()[:2] == (STANDARD, 62)


def test_the_detailed_table_wins_where_it_has_all(exports, landed):
    write_days(exports, STANDARD, range(3, 29))
    write_days(exports, DETAILED, ALL, parts=4)

    assert landed()[:2] == (DETAILED, 31)


def test_the_detailed_table_wins_where_the_costs_are_the_same(exports, landed):
    write_export(exports / ACCOUNT / STANDARD / "0.parquet", [row(1, cost=1.0), row(2, cost=0.0)])
    write_export(exports / ACCOUNT / DETAILED / "0.parquet", [row(1, cost=0.501), row(1, cost=0.499)])

    assert landed()[:2] == (DETAILED, 1)


def test_where_both_have_gaps_each_day_is_read_from_the_table_that_has_it(exports, landed):
    write_days(exports, STANDARD, [*range(1, 11), *range(15, 32)])
    write_days(exports, DETAILED, range(5, 20), parts=2)
    table, cost, details = landed()

    assert (table, cost) == (DETAILED, 31)
    assert details["rows"] == 15 * 2 + 16
    assert details["days"][STANDARD] == [f"{MONTH}-{day:02}" for day in [*range(1, 5), *range(20, 32)]]


def test_a_day_that_neither_table_has_whole_is_named(exports, landed):
    times = {hour: {"usage_start_time": f"{MONTH}-05T{hour}:00:00Z"} for hour in ("08", "12", "16")}
    write_export(exports / ACCOUNT / STANDARD / "0.parquet", [row(4), row(cost=2.0, **times["08"])])
    write_export(exports / ACCOUNT / DETAILED / "0.parquet", [row(cost=3.0, **times["16"]), row(6)])

    with refused("each lack hours of 2024-01-05", DETAILED, STANDARD, "nothing was landed"):
        landed()


def test_a_copy_of_a_file_counts_once(exports, landed):
    file = write_days(exports, DETAILED, range(1, 11))
    shutil.copy(file, file.with_name("000 (1).parquet"))
    (file.parent / "backup").mkdir()
    shutil.copy(file, file.parent / "backup" / "000.parquet")

    _, cost, details = landed()
    assert (cost, details["rows"]) == (10, 10)


def test_an_older_export_of_the_same_rows_does_not_count(exports, landed):
    write_days(exports, DETAILED, range(1, 6), name="run1-000.parquet")
    write_days(exports, DETAILED, range(1, 11), name="run2-000.parquet")

    assert landed()[1] == 10


def test_the_same_rows_in_other_types_and_forms_count_once(exports, landed):
    """Amounts became NUMERIC, and the schema grew."""
    rows = [row(day, cost=day / 7, credits=[credit(-day / 70)], cost_at_list=None) for day in range(1, 11)]
    folder = exports / ACCOUNT / DETAILED
    write_export(folder / "old.parquet", rows, SCHEMA)
    write_export(folder / "new.parquet", list(reversed(rows)), SCHEMA_2026)
    with duckdb.connect() as con:
        con.execute(f"COPY (FROM '{folder / 'old.parquet'}') TO '{folder / 'lines.json'}'")
        cast = "* REPLACE (cost::DECIMAL(38, 9) AS cost)"
        con.execute(f"COPY (SELECT {cast} FROM '{folder / 'old.parquet'}') TO '{folder / 'numeric.parquet'}'")

    assert landed()[2]["rows"] == 10


def test_parts_are_added_up(exports, landed):
    for first in (1, 11, 21):
        write_days(exports, DETAILED, range(first, first + 10), name=f"{first:03}.parquet")

    assert landed()[1] == 30


def test_rows_that_differ_only_in_their_resource_are_no_copies(exports, landed):
    """The columns that line items are made of are alike."""
    schema = [*SCHEMA, resource_field()]
    for number in (1, 2):
        resource = {"name": f"vm-{number}", "global_name": None}
        write_export(exports / ACCOUNT / DETAILED / f"{number}.parquet", [row(1, cost=1.0, resource=resource)], schema)

    assert landed()[1] == 2


def test_restated_exports_are_refused_by_name(exports, landed):
    write_export(exports / ACCOUNT / DETAILED / "run1.parquet", [row(day, cost=1.0) for day in range(1, 11)])
    write_export(exports / ACCOUNT / DETAILED / "run2.parquet", [row(day, cost=day // 8 + 1.0) for day in range(1, 21)])

    with refused("run1.parquet and run2.parquet", DETAILED, "Keep the newer one"):
        landed()


def resource_field():
    from google.cloud.bigquery import SchemaField

    return SchemaField(
        "resource", "RECORD", fields=(SchemaField("name", "STRING"), SchemaField("global_name", "STRING"))
    )
