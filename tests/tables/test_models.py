"""The dbt models as a month runs them: compiled SQL in one statement, without dbt, held to the columns of their tables."""

import resource
import sys

import duckdb
import pytest

from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.months import Materialised, all_steps, make_months
from octo_pipeline.tables import dbt
from octo_pipeline.tables.dbt import Model, compiled_models, manifest, run_model
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.sample import write_cur
from tests.support.reports import refused

MONTH = "2024-01"
MODELS = [table for table in TABLES if table.is_dbt_model]


def test_a_month_is_made_without_dbt(workspace, tmp_path, monkeypatch):
    write_cur(tmp_path / "exports", months=[MONTH], accounts=3, lines=100)
    compiled_models()
    for name in [name for name in sys.modules if name.partition(".")[0] == "dbt"]:
        monkeypatch.delitem(sys.modules, name)
    # Python refuses to import what is None.
    monkeypatch.setitem(sys.modules, "dbt", None)
    events = list(make_months(workspace, [MONTH], all_steps({"aws": tmp_path / "exports" / "aws"})))
    published = {event.table for event in events if isinstance(event, Materialised) and event.outcome == "published"}
    assert published == {table.name for table in TABLES}


@pytest.mark.parametrize("table", MODELS, ids=lambda table: table.name)
def test_the_contract_of_a_model_is_that_of_its_table(table):
    (node,) = [node for node in manifest()["nodes"].values() if node["name"] == table.name]
    assert node["contract"]["enforced"]
    columns = {name: column["data_type"].replace(", ", ",") for name, column in node["columns"].items()}
    assert columns == {name: kind.lower().replace(", ", ",") for name, kind in table.columns.items()}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Runs a model of one's own, `sums`, which reads `rows` and a source."""
    staged = Staged("sums", MONTH, tmp_path)
    models = {
        "main.sums": Model('select sum(n)::bigint as n, any_value(month) as month from "main.rows"', ("main.rows",)),
        "main.rows": Model(
            """select n, getvariable('octo_month') as month from "landing.lines" """, ("landing.lines",)
        ),
    }
    monkeypatch.setattr(dbt, "compiled_models", lambda: models)

    def make(relations, columns):
        with duckdb.connect() as connection:
            run_model(connection, staged, PartitionMetadata({"code": "1"}, "r"), relations, columns)
            objects = connection.execute("select count(*) from duckdb_views() where not internal").fetchone()
            assert objects == (0,)
            return connection.execute(f"from {staged.relation}").fetchall()

    return make


LINES = {"landing.lines": "select unnest([1, 2]) as n"}
COLUMNS = {"n": "BIGINT", "month": "VARCHAR"}


def test_a_model_reads_models_that_read_sources_and_leaves_nothing(made):
    assert made(LINES, COLUMNS) == [(3, MONTH)]


def test_a_relation_can_stand_in_place_of_a_model(made):
    assert made({"main.rows": "select 7 as n, 'x' as month"}, COLUMNS) == [(7, "x")]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (COLUMNS | {"n": "INTEGER"}, "makes the column n as BIGINT, and the table's is INTEGER."),
        (COLUMNS | {"kind": "VARCHAR"}, "makes the column kind as nothing, and the table's is VARCHAR."),
        ({"n": "BIGINT"}, "makes the column month as VARCHAR, and the table's is none."),
    ],
)
def test_a_model_that_breaks_its_contract_is_refused(made, columns, expected):
    with refused(expected, "Correct models/marts/sums.sql or the columns of the table."):
        made(LINES, columns)


def test_a_model_with_its_columns_in_another_order_is_refused(made):
    """Its rows are read by name, but parts of such a file cannot be joined with others."""
    with pytest.raises(
        OctoError, match=r"makes its columns in another order than the table has: n, month\. "
    ) as refusal:
        made(LINES, {"month": "VARCHAR", "n": "BIGINT"})
    assert (refusal.value.code, refusal.value.place) == ("model-breaks-order", "sums")


def test_a_full_disk_while_a_model_writes_is_an_error_of_the_lake(made, tmp_path):
    # The kernel fails a write in the middle. Python ignores the signal that comes with it.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = "select hash(i) // 2 as n, 'x' as month from range(100000) as r(i)"
    models = dbt.compiled_models()
    models["main.sums"] = Model('select n, month from "main.rows"', ("main.rows",))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OctoError, match=f"^Cannot write {tmp_path}/data.parquet: ") as refusal:
            made({"main.rows": rows}, {"n": "UBIGINT", "month": "VARCHAR"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (refusal.value.code, refusal.value.place) == ("lake-not-writable", str(tmp_path))


def test_a_model_that_cannot_read_a_file_is_no_error_of_the_lake(made, tmp_path):
    with pytest.raises(duckdb.IOException, match=r"delivered\.csv"):
        made({"main.rows": f"select n, 'x' as month from read_csv('{tmp_path}/delivered.csv')"}, COLUMNS)
