"""A payer too large for one task: its line items by a task per file and one per bucket are those that one process makes."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.engine.local import LocalEngine, ProcessEngine
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.settings import Settings
from octo_pipeline.tables import buckets, parts
from octo_pipeline.tables.buckets import make_in_buckets
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.vendors.landing import newest_deliveries
from octo_pipeline.workspace import Workspace
from tests.support.chaos import ChaosEngine
from tests.support.reports import NOW, PARQUET_ROW, ROW, csv_text, write_csv, write_parquet

MONTH = "2024-01"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Workspace:
    """A month of one payer with three files of Parquet, made by one process."""
    folder = tmp_path_factory.mktemp("buckets")
    write_cur(folder / "exports", months=[MONTH], accounts=9, lines=600, files=3)
    workspace = Workspace(Settings(lake=folder / "lake", config=folder))
    land_cur(workspace.lake.root, folder / "exports", month=MONTH, fetched_at=NOW)
    materialise(workspace, CostLineItems(), MONTH)
    return workspace


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessEngine]:
    with ProcessEngine(2) as engine:
        yield engine


def rows(workspace: Workspace, relation: str) -> list[tuple]:
    with workspace.lake.connect() as connection:
        return connection.execute(f"SELECT {', '.join(LINE_ITEM_COLUMNS)} FROM {relation} ORDER BY ALL").fetchall()


def in_buckets(workspace: Workspace, engine, count: int = 2) -> tuple[list[tuple], list]:
    (delivery,) = newest_deliveries(workspace.lake.root, MONTH)
    names, source_sums = make_in_buckets(workspace, engine, MONTH, delivery, name="key", count=count)
    kept = workspace.lake.parts(LINE_ITEMS, MONTH)
    files = ", ".join(f"'{kept[name]}'" for name in names)
    return rows(workspace, f"read_parquet([{files}], hive_partitioning = false)"), source_sums


@pytest.mark.slow
def test_the_rows_are_those_of_one_process_whatever_happens_to_the_tasks(made, processes):
    whole = rows(made, made.lake.scan(LINE_ITEMS, [MONTH], LINE_ITEM_COLUMNS))
    chaos = ChaosEngine(processes)
    for engine in (LocalEngine(), chaos):
        in_parts, source_sums = in_buckets(made, engine, 7)
        assert in_parts == whole
        assert sum(Decimal(cost) for *_, cost, _ in source_sums) == sum(row[-5 + 1] for row in whole)
    assert chaos.killed == 3
    # Files between map and reduce are gone, and the parts are kept.
    assert made.lake.parts("mapped_charges", MONTH) == {}
    assert len(made.lake.parts(LINE_ITEMS, MONTH)) == 7
    made.lake.drop_parts(LINE_ITEMS, MONTH, but=[])


def test_the_offer_class_of_a_reservation_is_found_in_another_file(tmp_path):
    arn = "'arn:aws:ec2:eu-central-1:222222222222:reserved-instances/1'"
    used = PARQUET_ROW | {
        "line_item_line_item_type": "'DiscountedUsage'",
        "reservation_reservation_a_r_n": arn,
        "reservation_effective_cost": "0.5::DOUBLE",
        "pricing_offering_class": "'convertible'",
    }
    other = used | {"line_item_usage_account_id": "'333333333333'", "pricing_offering_class": "NULL::VARCHAR"}
    for name, row in (("a", used), ("b", other)):
        write_parquet(tmp_path / "exports" / f"{name}.parquet", [row])
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path))
    land_cur(workspace.lake.root, tmp_path / "exports", fetched_at=NOW)
    line_items, _ = in_buckets(workspace, LocalEngine(), 3)
    offer_class = list(LINE_ITEM_COLUMNS).index("offer_class")
    assert [row[offer_class] for row in line_items] == ["convertible", "convertible"]


def test_an_account_with_nearly_all_lines_is_in_all_buckets_alike(tmp_path):
    lines = [
        PARQUET_ROW
        | {
            "line_item_usage_account_id": "'222222222222'" if i % 10 else f"'{300000000000 + i}'",
            "line_item_usage_type": f"'type {i}'",
        }
        for i in range(2000)
    ]
    write_parquet(tmp_path / "exports" / "a.parquet", lines)
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path))
    land_cur(workspace.lake.root, tmp_path / "exports", fetched_at=NOW)
    (delivery,) = newest_deliveries(workspace.lake.root, MONTH)
    make_in_buckets(workspace, LocalEngine(), MONTH, delivery, name="key", count=8)
    files = workspace.lake.parts(LINE_ITEMS, MONTH).values()
    with workspace.lake.connect() as connection:
        sizes = [connection.execute(f"SELECT count(*) FROM '{file}'").fetchone()[0] for file in files]
    assert sum(sizes) == 2000
    assert max(sizes) <= 1.5 * 2000 / 8


class Meddling:
    """Does something to the files between map and reduce."""

    def __init__(self, meddle) -> None:
        self.meddle = meddle

    def map(self, task, payloads):
        if task is buckets.reduce_bucket:
            self.meddle(payloads)
        return LocalEngine().map(task, payloads)


def mapped(workspace: Workspace) -> list[Path]:
    return sorted(workspace.lake.parts("mapped_charges", MONTH).values())


def rewrite(workspace: Workspace, file: Path, query: str) -> None:
    with workspace.lake.connect() as connection:
        metadata = connection.execute(f"SELECT decode(value) FROM parquet_kv_metadata('{file}')").fetchone()[0]
        other = file.with_name("other")
        options = f"FORMAT parquet, KV_METADATA {{octo: '{metadata}'}}"
        connection.execute(f"COPY ({query.format(file)}) TO '{other}' ({options})")
    other.replace(file)


def test_a_file_that_is_lost_is_refused(made):
    with pytest.raises(OctoError, match=r"^1 of 3 files of charges of 2024-01 are missing") as error:
        in_buckets(made, Meddling(lambda _: mapped(made)[2].unlink()))
    assert error.value.code == "charges-missing"


def test_a_file_of_another_run_is_refused(made):
    def meddle(payloads: list[dict]) -> None:
        for payload in payloads:
            payload["run"] = "another"

    with pytest.raises(OctoError, match="are of another run of the month") as error:
        in_buckets(made, Meddling(meddle))
    assert error.value.code == "charges-of-another-run"


def test_a_row_in_a_bucket_that_is_not_its_own_is_refused(made):
    query = "SELECT * REPLACE ((bucket + 1) % 2 AS bucket) FROM '{}'"
    with pytest.raises(OctoError, match="are in bucket 0 and belong in another one") as error:
        in_buckets(made, Meddling(lambda _: rewrite(made, mapped(made)[0], query)))
    assert error.value.code == "bucket-wrong"


def test_a_row_that_is_lost_is_refused(made):
    query = "FROM '{}' WHERE file_row_number > 0".replace("'{}'", "read_parquet('{}', file_row_number = true)")
    query = f"SELECT * EXCLUDE (file_row_number) {query}"
    with pytest.raises(OctoError, match="rows of charges, and its files") as error:
        in_buckets(made, Meddling(lambda _: rewrite(made, mapped(made)[0], query)))
    assert error.value.code == "buckets-incomplete"


def test_a_cost_that_changes_on_the_way_is_refused(made):
    query = "SELECT * REPLACE (billed_cost + 1 AS billed_cost) FROM '{}'"
    with pytest.raises(ProofError, match="differs by"):
        in_buckets(made, Meddling(lambda _: rewrite(made, mapped(made)[0], query)))
    # Nobody finds them later.
    assert made.lake.parts(LINE_ITEMS, MONTH) == {}


def test_a_delivery_that_is_removed_meanwhile_is_one_sentence(made):
    (delivery,) = newest_deliveries(made.lake.root, MONTH)
    payload = {"settings": made.settings.for_tasks(), "month": MONTH, "version": "gone", "file": 0}
    with pytest.raises(OctoError, match="was removed while the month was made"):
        LocalEngine().map(buckets.look_up, [payload | {"account": delivery.account}])


def test_a_month_is_made_with_tasks_where_it_has_a_large_payer_and_an_engine(tmp_path, monkeypatch):
    write_cur(tmp_path / "exports", months=[MONTH], accounts=5, lines=400, files=2)
    whole = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path))
    land_cur(whole.lake.root, tmp_path / "exports", month=MONTH, fetched_at=NOW)
    # A payer that is small, and has a reservation of the large one.
    small = tmp_path / "small.csv"
    write_csv(small, csv_text([ROW | {"reservation/ReservationARN": _first_reservation(tmp_path)}]))
    land_cur(whole.lake.root, small, fetched_at=NOW)
    materialise(whole, CostLineItems(), MONTH)
    invoices = whole.lake.metadata(LINE_ITEMS, MONTH).facts["invoices"]
    sizes = [sum(file.size for file in d.files) for d in newest_deliveries(whole.lake.root, MONTH)]
    monkeypatch.setattr(parts, "TASK_BYTES", max(sizes) - 1)
    engine = Everything()
    in_parts = Workspace(whole.settings, own_engine=engine)
    fingerprint = whole.lake.fingerprint(LINE_ITEMS, MONTH)
    before = rows(whole, whole.lake.scan(LINE_ITEMS, [MONTH], LINE_ITEM_COLUMNS))
    for _ in range(2):
        in_parts.lake.remove(LINE_ITEMS, MONTH)
        materialise(in_parts, CostLineItems(), MONTH)
    assert rows(in_parts, in_parts.lake.scan(LINE_ITEMS, [MONTH], LINE_ITEM_COLUMNS)) == before
    facts = in_parts.lake.metadata(LINE_ITEMS, MONTH).facts
    assert facts["invoices"] == invoices
    assert [name.partition("-")[2] for name, _ in facts["parts"]] == ["", "00000", "00001"]
    assert in_parts.lake.fingerprint(LINE_ITEMS, MONTH) == fingerprint
    assert {name for name, _ in facts["parts"]} == in_parts.lake.parts(LINE_ITEMS, MONTH).keys()
    # What is kept is not made again.
    assert engine.tasks.count("reduce_bucket") == 1


class Everything:
    """An engine that is not the local one."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def map(self, task, payloads):
        self.tasks.append(task.__name__)
        return LocalEngine().map(task, payloads)


def _first_reservation(folder: Path) -> str:
    with duckdb.connect() as connection:
        query = f"SELECT min(reservation_reservation_a_r_n) FROM '{folder}/exports/**/*.parquet' WHERE pricing_offering_class <> ''"
        return connection.execute(query).fetchone()[0]
