"""Landing a billing export from BigQuery: what is fetched, what is taken over, and what is refused."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from google.cloud.bigquery import SchemaField

from octo_pipeline.vendors.gcp.billing import GcpBillingSource
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.billing_relations import explain_failure, relations, source_costs
from octo_pipeline.vendors.gcp.billing_rows import write_batches
from octo_pipeline.vendors.gcp.billing_tables import inspect_export
from octo_pipeline.vendors.gcp.client import BigQueryDataset, Endpoint
from octo_pipeline.vendors.landing import newest_deliveries
from tests.emulators.bigquery import BigQueryServer
from tests.support.billing_exports import ACCOUNT, DETAILED, SCHEMA, SCHEMA_2026, STANDARD, credit, row, without
from tests.support.reports import refused

MONTH = "2024-01"
NOW = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
LATER = datetime(2024, 2, 4, 4, 5, 6, tzinfo=UTC)
_DATASETS = itertools.count()


@dataclass
class Export:
    """A dataset of its own in the emulator, and a lake."""

    server: BigQueryServer
    root: Path
    dataset: str = field(default_factory=lambda: f"billing_{next(_DATASETS)}")

    @property
    def document(self) -> GcpSourceDocument:
        return GcpSourceDocument(billing_account_id=ACCOUNT, project="demo", dataset=self.dataset)

    @property
    def connection(self) -> BigQueryDataset:
        return BigQueryDataset(self.document, endpoint=self.server.endpoint, patience=5)

    @property
    def source(self) -> GcpBillingSource:
        return GcpBillingSource(self.document, self.connection)

    def table(self, name: str) -> str:
        return f"demo.{self.dataset}.{name}"

    def write(self, *rows: Mapping[str, Any], name: str = STANDARD, schema: Any = SCHEMA) -> None:
        """Put these rows in place of the table's."""
        self.server.create(self.table(name), schema)
        if rows:
            self.append(*rows, name=name)

    def append(self, *rows: Mapping[str, Any], name: str = STANDARD) -> None:
        self.server.append(self.table(name), rows)

    def land(self, month: str = MONTH, at: datetime = NOW):
        return self.source.land(self.root, month, at)

    def newest(self):
        (found,) = newest_deliveries(self.root, MONTH, "gcp")
        return found

    def costs(self) -> list[Decimal]:
        with duckdb.connect() as con:
            sql = source_costs(relations(con, newest_deliveries(self.root, MONTH, "gcp")))
            return sorted(cost for (cost,) in con.execute(f"SELECT cost FROM ({sql})").fetchall())


@pytest.fixture
def export(bigquery_server, tmp_path) -> Export:
    return Export(bigquery_server, tmp_path / "lake")


def test_the_net_cost_landed_is_bigquerys_own_sum_to_the_last_place(export):
    amounts = [0.1, 0.2, 1 / 3, 2e-9, 123456.7890123456, -0.7]
    export.write(
        *(
            row(day, cost=amount, credits=[credit(-amount / 7), credit(-0.01, "PROMOTION")][: day % 3])
            for day, amount in enumerate(amounts, 1)
        )
    )
    export.land()

    query = (
        "SELECT SUM(CAST(cost AS NUMERIC)) + SUM(IFNULL((SELECT SUM(CAST(c.amount AS NUMERIC)) "
        f"FROM UNNEST(credits) AS c), 0)) AS net FROM `{export.table(STANDARD)}`"
    )
    (own,) = export.server.client("demo").query(query).result()
    assert sum(export.costs()) == own["net"]
    assert own["net"].as_tuple().exponent == -9


def test_a_month_is_one_delivery_with_a_file_for_each_ingestion_day(export):
    export.write(row(1), row(2), row(2), row(3, month="2024-02"))
    (landed,) = export.land()

    assert landed.is_new
    delivery = landed.delivery
    assert (delivery.vendor, delivery.account, delivery.month) == ("gcp", ACCOUNT, MONTH)
    assert (delivery.report, delivery.source) == (STANDARD, export.table(STANDARD))
    assert [file.name for file in delivery.files] == ["2024-01-01.parquet", "2024-01-02.parquet"]
    assert export.costs() == [Decimal("1.5")] * 3
    assert [one.version for one in export.source.available(MONTH)] == [delivery.version]


def test_a_row_belongs_to_the_month_of_its_invoice(export):
    export.write(
        row(1, cost=1.0),
        row(1, cost=2.0, month="2024-02", invoice={"month": "202401"}),
        row(31, cost=4.0, invoice={"month": "202402"}),
    )
    export.land()

    assert export.costs() == [1, 2]


def test_an_unchanged_month_is_not_fetched_again(export, monkeypatch):
    export.write(row(1))
    export.land()
    monkeypatch.setattr(BigQueryDataset, "batches", None)
    (again,) = export.land(at=LATER)

    assert not again.is_new
    assert again.delivery.fetched_at == NOW


def test_only_the_partitions_that_changed_are_fetched_again(export):
    export.write(row(1), row(2))
    (first,) = export.land()
    export.append(row(2, cost=0.25, export_time="2024-01-02T23:00:00Z"), row(3, cost=0.5))
    (second,) = export.land(at=LATER)

    assert second.delivery.details["fetched"] == ["2024-01-02.parquet", "2024-01-03.parquet"]
    assert export.costs() == [Decimal("0.25"), Decimal("0.5"), Decimal("1.5"), Decimal("1.5")]
    kept = "2024-01-01.parquet"
    assert (first.delivery.path / kept).stat().st_ino == (second.delivery.path / kept).stat().st_ino
    assert explain_failure(duckdb.connect(), [second.delivery]) is None


def test_a_file_that_was_damaged_on_the_disk_is_not_taken_over(export):
    export.write(row(1), row(2))
    (first,) = export.land()
    first.delivery.file_paths[0].write_bytes(b"")
    export.append(row(3))
    (second,) = export.land(at=LATER)

    assert len(second.delivery.details["fetched"]) == 3
    assert export.costs() == [Decimal("1.5")] * 3


def test_a_month_without_rows_is_no_delivery(export):
    export.write(row(1))

    assert export.source.available("2024-05") == []
    assert export.land("2024-05") == []


def test_an_empty_answer_where_there_were_rows_is_refused(export):
    export.write(row(1))
    before = export.land()[0].delivery
    export.write(row(1, month="2024-02"))

    with refused(
        "no longer any rows of 2024-01", ACCOUNT, export.dataset, "expire", f"octo deliveries remove {before.version}"
    ):
        export.land(at=LATER)
    assert export.newest() == before


@pytest.mark.parametrize("left", [[row(2)], [row(1), row(2)]], ids=["a partition is gone", "a row is gone"])
def test_a_month_that_shrank_is_refused(export, left):
    export.write(row(1), row(1), row(2))
    before = export.land()[0].delivery
    export.write(*left)

    with refused("of 2 rows of 2024-01 are left in the partition 2024-01-01", ACCOUNT):
        export.land(at=LATER)
    assert export.newest() == before


def test_a_column_that_used_to_be_there_is_missed(export):
    export.write(row(1))
    before = export.land()[0].delivery
    export.write({k: v for k, v in row(1).items() if k != "cost_at_list"}, schema=without("cost_at_list"))

    with refused("There is no longer a column cost_at_list", ACCOUNT, "the last delivery stays"):
        export.land(at=LATER)
    assert export.newest() == before


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (without("credits"), "has no column credits, credits.amount, credits.type"),
        ([SchemaField("id", "STRING"), SchemaField("cost", "FLOAT")], "has no column billing_account_id, project.id"),
        ([*without("cost"), SchemaField("cost", "STRING")], "cost (text, not amount)"),
    ],
    ids=["a required column", "another table", "another type"],
)
def test_a_table_that_is_no_billing_export_is_refused(export, schema, said):
    export.write(row(1))
    before = export.land()[0].delivery
    export.write(schema=schema)

    with refused(export.table(STANDARD), said, "Nothing was landed"):
        export.land(at=LATER)
    assert export.newest() == before


def test_rows_without_a_value_that_none_can_do_without_are_refused(export):
    export.write(row(1), row(1, currency=None))

    with refused("The partition 2024-01-01 of 2024-01", ACCOUNT, "1 of 2 rows have no currency"):
        export.land()
    assert newest_deliveries(export.root, MONTH) == []


def test_a_dataset_without_the_accounts_tables_is_named(export):
    export.write(row(1), name="gcp_billing_export_v1_000000_000000_000000")

    with refused(f"no billing export of {ACCOUNT} in demo.{export.dataset}", DETAILED, STANDARD, "enable the export"):
        export.land()


def test_a_dataset_that_is_not_there_is_named(export):
    with refused(f"demo.{export.dataset}", "Check that the dataset", "location"):
        export.land()


def test_the_detailed_table_is_read_where_there_are_two(export):
    export.write(row(1, cost=1.0), row(2, cost=1.0))
    export.write(row(1, cost=0.5), row(1, cost=0.5), row(2, cost=1.0), name=DETAILED)
    (landed,) = export.land()

    assert landed.delivery.report == DETAILED
    assert export.costs() == [Decimal("0.5"), Decimal("0.5"), 1]


@pytest.mark.parametrize("days", [[5, 6], [1, 2], [1, 2, 5, 6]], ids=["began later", "ended earlier", "has a gap"])
def test_the_standard_table_is_read_where_the_detailed_one_has_less_of_the_month(export, days):
    export.write(*(row(day, cost=1.0) for day in range(1, 7)))
    export.write(*(row(day, cost=1.0) for day in days), name=DETAILED)
    (landed,) = export.land()

    assert landed.delivery.report == STANDARD
    assert sum(export.costs()) == 6


def test_the_last_hours_of_a_running_month_are_no_difference(export):
    export.write(*(row(day, cost=1.0) for day in range(1, 7)))
    export.write(*(row(day, cost=1.0) for day in range(1, 6)), name=DETAILED)

    assert export.land()[0].delivery.report == DETAILED


def test_a_detailed_table_that_lacks_the_last_day_of_a_month_is_not_read(export):
    export.write(*(row(day, cost=1.0) for day in (29, 30, 31)))
    export.write(*(row(day, cost=1.0) for day in (29, 30)), name=DETAILED)

    assert export.land()[0].delivery.report == STANDARD


def test_a_month_that_neither_table_has_whole_is_refused(export):
    export.write(*(row(day) for day in (1, 2, 3, 5, 6)))
    export.write(*(row(day) for day in (1, 2, 4, 5, 6)), name=DETAILED)

    with refused(f"{DETAILED} lacks usage of 2024-01-03", f"{STANDARD} of 2024-01-04", "read day by day"):
        export.land()
    assert newest_deliveries(export.root, MONTH) == []


def test_the_columns_of_commitments_are_fetched_where_the_table_has_them(export):
    model = {"consumption_model": {"id": "X", "description": "Flexible"}, "subscription": {"instance_id": "s/1"}}
    prices = {"cost_at_effective_price_default": "2.5", "cost_at_list_consumption_model": "1.5"}
    export.write(row(1) | model | prices, schema=SCHEMA_2026)
    export.land()
    with duckdb.connect() as con:
        found = relations(con, newest_deliveries(export.root, MONTH, "gcp"))["gcp_billing"]
        columns = "consumption_model, subscription_id, cost_at_default_price"
        assert con.execute(f"SELECT {columns} FROM ({found})").fetchall() == [("Flexible", "s/1", Decimal("2.5"))]


def test_a_stream_that_breaks_leaves_the_last_delivery(export, monkeypatch):
    export.write(row(1))
    before = export.land()[0].delivery
    export.append(row(2))
    stream = BigQueryDataset._stream

    def broken(self, job):
        yield from stream(self, job)
        raise ConnectionResetError("reset in the middle")

    monkeypatch.setattr(BigQueryDataset, "_stream", broken)
    with refused(ACCOUNT, "BigQuery cannot be reached (reset in the middle)"):
        export.land(at=LATER)
    assert export.newest() == before
    assert list((export.root / ".staging").glob("*")) == []


def test_a_storage_api_that_is_not_there_leaves_the_last_delivery(export):
    export.write(row(1))
    before = export.land()[0].delivery
    export.append(row(2))
    half = Endpoint(export.server.endpoint.rest, "127.0.0.1:9")
    dataset = BigQueryDataset(export.document, endpoint=half, patience=1)

    with refused("Reading rows of the billing export of", ACCOUNT, "BigQuery cannot be reached"):
        GcpBillingSource(export.document, dataset).land(export.root, MONTH, LATER)
    assert export.newest() == before


def test_rows_that_do_not_arrive_are_noticed(export, monkeypatch):
    export.write(row(1, cost=1.0), row(1, cost=2.0))
    batches = BigQueryDataset.batches

    @contextmanager
    def shortened(self, sql, parameters):
        with batches(self, sql, parameters) as found:
            yield (batch.slice(1) for batch in found)

    monkeypatch.setattr(BigQueryDataset, "batches", shortened)
    with refused(
        "was cut off while it was read: it has 1 rows", "BigQuery counts 2 rows with a cost of 3", "run this again"
    ):
        export.land()
    assert newest_deliveries(export.root, MONTH) == []


def test_an_export_is_inspected_before_its_account_is_registered(export):
    today = datetime.now(UTC).replace(microsecond=0)
    export.write(row(1, export_time=today.isoformat()))
    export.write(name=DETAILED, schema=without("currency"))
    found = inspect_export(export.connection, export.document)

    assert found.location == "EU"
    assert [(table.kind, table.name, table.last_export) for table in found.tables] == [
        ("detailed", DETAILED, None),
        ("standard", STANDARD, today),
    ]
    assert "has no column currency" in (found.tables[0].problem or "")
    assert (found.tables[1].problem, found.is_ok) == (None, False)


def test_a_dataset_without_tables_is_not_ready_to_be_registered(export):
    export.write(name="something_else")

    assert not inspect_export(export.connection, export.document).is_ok


def test_a_stream_is_written_in_row_groups_and_never_held_as_a_whole(tmp_path):
    from pyarrow.parquet import read_metadata

    held = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(60):
            held.append(pa.total_allocated_bytes())
            yield pa.record_batch({"cost": pa.array([Decimal(number)] * 20_000, pa.decimal128(38, 9))})

    write_batches(batches(), tmp_path / "rows.parquet")
    metadata = read_metadata(tmp_path / "rows.parquet")

    assert metadata.num_rows == 1_200_000
    assert metadata.num_row_groups == 12
    # A row group is 1.6 MB; the whole is 19 MB.
    assert max(held) - held[0] < 8 << 20
