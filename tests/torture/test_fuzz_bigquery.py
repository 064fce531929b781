"""Rows of Google Cloud's billing export that are broken or hostile, streamed or in files: right line items or a sentence."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from octo_pipeline.model.errors import OctoError
from octo_pipeline.tables.landed_charges import landed_relations
from octo_pipeline.vendors.gcp.billing import GcpBillingSource
from octo_pipeline.vendors.gcp.billing_columns import Schema
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.billing_folder import GcpFolderSource
from octo_pipeline.vendors.gcp.billing_rows import file_schema
from octo_pipeline.vendors.landing import deliveries
from tests.support.billing_exports import ACCOUNT, DETAILED
from tests.torture.chance import fuzz
from tests.torture.hostile import bounded, texts

NOW = datetime(2024, 2, 3, tzinfo=UTC)
MONTH, INVOICE_MONTH = "2024-01", "202401"
DAY = date(2024, 1, 5)

NUMERIC = pa.decimal128(38, 9)
TIME = pa.timestamp("us", "UTC")
LABELS = pa.list_(pa.struct({"key": pa.string(), "value": pa.string()}))
CREDIT = {"name": pa.string(), "full_name": pa.string(), "id": pa.string(), "type": pa.string(), "amount": NUMERIC}
COLUMNS: dict[str, pa.DataType] = {
    "billing_account_id": pa.string(),
    "service": pa.struct({"id": pa.string(), "description": pa.string()}),
    "sku": pa.struct({"id": pa.string(), "description": pa.string()}),
    "usage_start_time": TIME,
    "project": pa.struct({"id": pa.string(), "name": pa.string(), "labels": LABELS}),
    "labels": LABELS,
    "location": pa.struct({"region": pa.string()}),
    "export_time": TIME,
    "cost": NUMERIC,
    "currency": pa.string(),
    "usage": pa.struct({"amount": pa.float64(), "unit": pa.string()}),
    "credits": pa.list_(pa.struct(CREDIT)),
    "invoice": pa.struct({"month": pa.string()}),
    "cost_type": pa.string(),
    "cost_at_list": NUMERIC,
}
# What no row can do without.
NEEDED = {"billing_account_id", "usage_start_time", "cost", "currency", "invoice", "cost_type"}

words = texts | st.sampled_from(["\0", "a\0b", " x ", "\t", ""])
amounts = st.sampled_from(
    [Decimal(text) for text in ("0", "1.5", "-1.5", "0.000000001", "-0.000000001", "9999999999999999999999999999",
     "-9999999999999999999999999999.999999999", "99999999999999999999999999999.999999999")]
) | st.integers(-(10**12), 10**12).map(lambda units: Decimal(units).scaleb(-9))  # fmt: skip
times = st.sampled_from(
    [
        0,
        -1,
        -(2**63),
        -(2**63) + 2,
        2**63 - 1,
        2**62,
        1_704_067_200_000_000,
        1_706_745_600_000_000,
        1_719_800_000_000_000,
    ]
)
labels = st.none() | st.lists(
    st.none() | st.fixed_dictionaries({"key": st.none() | words, "value": st.none() | words}), max_size=3
)
credit_types = st.sampled_from(["COMMITTED_USAGE_DISCOUNT", "COMMITTED_USAGE_DISCOUNT_DOLLAR_BASE", "PROMOTION"])
credits = st.none() | st.lists(
    st.none()
    | st.fixed_dictionaries(
        {"name": st.none() | words, "full_name": st.none() | words, "id": st.none() | words,
         "type": st.none() | credit_types | words, "amount": st.none() | amounts}
    ),
    max_size=3,
)  # fmt: skip
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "billing_account_id": words,
    "service": st.fixed_dictionaries({"id": st.none() | words, "description": st.none() | words}),
    "sku": st.fixed_dictionaries({"id": words, "description": words}),
    "usage_start_time": times,
    "project": st.fixed_dictionaries({"id": st.none() | words, "name": words, "labels": labels}),
    "labels": labels,
    "location": st.fixed_dictionaries({"region": words}),
    "export_time": times,
    "cost": amounts,
    "currency": words,
    "usage": st.fixed_dictionaries(
        {"amount": st.none() | st.floats() | st.sampled_from([1e308, 1e27, -1e28]), "unit": words}
    ),
    "credits": credits,
    "invoice": st.fixed_dictionaries({"month": st.sampled_from([None, "202402", "", "2024-01", "202401 ", "x", "'"])}),
    "cost_type": words,
    "cost_at_list": amounts,
}
# What a column is instead, and what it holds then.
OTHER_TYPES: list[tuple[pa.DataType, Any]] = [
    (pa.null(), None), (pa.bool_(), True), (pa.int64(), 2**63 - 1), (pa.float64(), float("nan")), (pa.float64(), 1e300),
    (pa.string(), "1.5"), (pa.large_string(), "x"), (pa.binary(), b"\xff\xfe"), (pa.large_binary(), b"\xff"),
    (pa.binary(3), b"abc"), (pa.decimal128(38, 20), Decimal(1)), (pa.decimal256(76, 38), Decimal("1e30")),
    (pa.date32(), DAY), (pa.timestamp("ns"), 0), (pa.timestamp("s"), 2**40), (pa.time64("us"), 0), (pa.duration("us"), 1),
    (pa.list_(pa.string()), ["x"]), (pa.list_(pa.list_(pa.struct({"key": pa.string()}))), [[{"key": "a"}]]),
    (pa.list_(pa.struct({"key": pa.int64(), "value": pa.bool_()})), [{"key": 1, "value": True}]),
    (pa.list_(pa.struct({**CREDIT, "amount": pa.string()})), [dict.fromkeys(CREDIT, "1")]),
    (pa.list_(pa.struct({**CREDIT, "type": pa.int64()})), [{**dict.fromkeys(CREDIT), "type": 1}]),
    (pa.struct({"id": pa.list_(pa.string()), "month": pa.int64(), "labels": LABELS}), {"id": ["x"], "month": 202401}),
    (pa.struct({"x": pa.string()}), {"x": "y"}), (pa.map_(pa.string(), pa.string()), [("a", "b")]),
    (pa.dictionary(pa.int8(), pa.string()), "x"),
]  # fmt: skip


def good_row() -> dict[str, Any]:
    return {
        "billing_account_id": ACCOUNT, "service": {"id": "6F81", "description": "Compute Engine"},
        "sku": {"id": "A", "description": "N2 core"}, "usage_start_time": 1_704_460_000_000_000,
        "project": {"id": "shop", "name": "Shop", "labels": [{"key": "team", "value": "shop"}]}, "labels": [],
        "location": {"region": "europe-west1"}, "export_time": 1_704_470_000_000_000, "cost": Decimal("1.5"),
        "currency": "EUR", "usage": {"amount": 3600.0, "unit": "seconds"}, "credits": [], "invoice": {"month": INVOICE_MONTH},
        "cost_type": "regular", "cost_at_list": Decimal(2),
    }  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One to four rows, in one of which some columns hold something else, or nothing."""
    found = [good_row() for _ in range(draw(st.integers(1, 4)))]
    for name in draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=3, unique=True)):
        draw(st.sampled_from(found))[name] = draw(st.none() | CHANGES[name] if draw(st.booleans()) else CHANGES[name])
    return found


def table(found: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(found, pa.schema(list(COLUMNS.items())))


def net(found: list[dict[str, Any]]) -> Decimal | None:
    """Σ cost + credits as BigQuery adds it up; None if no row has a cost."""
    costs = [one["cost"] + credited(one) for one in found if one["cost"] is not None]
    return sum(costs, Decimal(0)) if costs else None


def credited(one: dict[str, Any]) -> Decimal:
    amounts = [credit["amount"] for credit in one["credits"] or () if credit]
    return sum((amount for amount in amounts if amount is not None), Decimal(0))


def labelled(pairs: list[dict[str, str | None] | None] | None) -> dict[str, str]:
    """The labels that are filled; of one key, the greatest value."""
    texts = [(one["key"] or "", one["value"] or "") for one in pairs or () if one]
    return dict(sorted(pair for pair in texts if all(pair)))


@dataclass
class Dataset:
    """A dataset with one table, as far as landing asks for it."""

    batches_sent: list[pa.RecordBatch]
    announced: dict[str, Any]
    columns: Schema = field(default_factory=dict)

    def location(self) -> str:
        return "EU"

    def schema(self, table: str) -> Schema | None:
        return self.columns if table == DETAILED else None

    def rows(self, sql: str, parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [self.announced]

    @contextmanager
    def batches(self, sql: str, parameters: Mapping[str, Any]) -> Iterator[Iterator[pa.RecordBatch]]:
        yield iter(self.batches_sent)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    path = tmp_path_factory.mktemp("kinds") / "x.parquet"
    parquet.write_table(table([good_row()]), path)
    return file_schema(path, "x")


def streamed(lake: Path, sent: list[pa.RecordBatch], kinds: Schema, **announced: Any) -> None:
    """Land what BigQuery streams."""
    facts = {
        "day": DAY,
        "exported_at": NOW,
        "row_count": sum(one.num_rows for one in sent),
        "used_from": NOW,
        "hours": [NOW],
        "net": None,
    }
    document = GcpSourceDocument(billing_account_id=ACCOUNT, project="p", dataset="d")
    GcpBillingSource(document, Dataset(sent, facts | announced, kinds)).land(lake, MONTH, NOW)


def exported(lake: Path, found: pa.Table) -> None:
    """Land what a folder holds."""
    folder = lake.parent / "exports" / ACCOUNT / DETAILED
    folder.mkdir(parents=True)
    try:
        parquet.write_table(found, folder / "x.parquet")
    except pa.ArrowNotImplementedError:
        return  # what no Parquet file can hold
    GcpFolderSource(lake.parent / "exports").land(lake, MONTH, NOW)


def line_items(lake: Path) -> list[dict[str, Any]]:
    """All that was landed, read as dbt reads it: a delivery that cannot be read is not to be one."""
    landed = deliveries(lake)
    if not landed:
        assert [path for path in lake.rglob("*") if path.is_file() and ".lock" not in path.name] == []
        return []
    with duckdb.connect() as con:
        relations, costs = landed_relations(con, landed, lake.parent)
        assert con.execute(f"SELECT sum(cost) FROM ({costs})").fetchall()
        # Python has no such years as a timestamp can hold.
        columns = "cost, credits_cost, labels_json, project_labels_json, currency, hash(COLUMNS(*))"
        items = con.execute(f"SELECT {columns} FROM ({relations['landing.gcp_billing']})").to_arrow_table()
        return items.select(range(5)).to_pylist()


def assert_right(items: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    """What was landed is what the rows said; a row that lacks what none can do without was not."""
    if not items:
        return
    seen = [
        (one["cost"], one["credits_cost"], json.loads(one["labels_json"]), json.loads(one["project_labels_json"]), one["currency"])
        for one in items
    ]  # fmt: skip
    for one in found:
        assert all(one[name] is not None for name in NEEDED)
        of_project = labelled((one["project"] or {}).get("labels"))
        said = (one["cost"], credited(one), labelled(one["labels"]), of_project, one["currency"].strip(" "))
        assert said in seen
        seen.remove(said)
    assert seen == []


@fuzz(25, 600)
@example([good_row() | {"cost": Decimal(9).scaleb(28)}])
@example([good_row() | {"credits": [None, {**dict.fromkeys(CREDIT), "amount": Decimal(-1)}]}])
@example(
    [good_row() | {"labels": [{"key": "a", "value": "1"}, {"key": " a", "value": "2"}, {"key": "\0", "value": "'"}]}]
)
@given(rows())
def test_any_row_is_a_right_line_item_or_a_sentence(tmp_path_factory, kinds, found):
    lake = tmp_path_factory.mktemp("stream") / "lake"
    # A query asks for the rows of one month, so the stream has no others.
    with bounded():
        streamed(lake, table(found).to_batches(max_chunksize=2), kinds, net=net(found))
    assert_right(line_items(lake), found)


@fuzz(25, 600)
@given(rows())
def test_any_row_of_a_file_is_a_right_line_item_or_a_sentence(tmp_path_factory, found):
    lake = tmp_path_factory.mktemp("file") / "lake"
    with bounded():
        exported(lake, table(found))
    assert_right(line_items(lake), [one for one in found if (one["invoice"] or {}).get("month") == INVOICE_MONTH])


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table in which a column is missing, of another type, of invalid UTF-8, there twice, or one too many."""
    found = table(draw(rows()))
    name = draw(st.sampled_from(sorted(COLUMNS)))
    at = found.schema.get_field_index(name)
    kind, value = draw(st.sampled_from(OTHER_TYPES))
    other = pa.array([value] * found.num_rows, kind)
    match draw(st.sampled_from(["missing", "other", "other", "other", "inner", "invalid", "twice", "more"])):
        case "missing":
            return found.remove_column(at)
        case "inner" if pa.types.is_struct(COLUMNS[name]):
            parts = {one.name: part_of(found[name], one.name) for one in COLUMNS[name]}
            inner = draw(st.sampled_from(sorted(parts)))
            arrays = [other if one == inner else part for one, part in parts.items()]
            return found.set_column(at, name, pa.StructArray.from_arrays(arrays, names=list(parts)))
        case "invalid":
            text = no_utf8(found.num_rows)
            if not pa.types.is_struct(COLUMNS[name]):
                return found.set_column(at, name, text)
            parts = {one.name: part_of(found[name], one.name) for one in COLUMNS[name]}
            arrays = [text if part.type == pa.string() else part for part in parts.values()]
            return found.set_column(at, name, pa.StructArray.from_arrays(arrays, names=list(parts)))
        case "twice":
            return found.append_column(draw(st.sampled_from([name, name.upper()])), found[name])
        case "more":
            return found.append_column(draw(texts), other)
        case _:
            return found.set_column(at, name, other)


def no_utf8(count: int) -> pa.Array:
    return pa.array([b"\xff\xfe"] * count, pa.binary()).view(pa.string())


def part_of(column: pa.ChunkedArray, name: str) -> pa.Array:
    return column.combine_chunks().field(name)


@fuzz(30, 1_000)
@given(tables())
def test_any_column_is_read_or_refused(tmp_path_factory, kinds, found):
    """What BigQuery said of the table need not be what it sends."""
    for number, land in enumerate(
        (lambda lake: streamed(lake, found.to_batches(), kinds), lambda lake: exported(lake, found))
    ):
        lake = tmp_path_factory.mktemp(f"column{number}") / "lake"
        with bounded():
            land(lake)
        line_items(lake)


@fuzz(25, 600)
@given(found=tables(), first=rows())
def test_batches_that_do_not_fit_each_other(tmp_path_factory, kinds, found, first):
    lake = tmp_path_factory.mktemp("batches") / "lake"
    with bounded():
        streamed(lake, [*table(first).to_batches(), *found.to_batches()], kinds)
    line_items(lake)


@pytest.mark.parametrize(
    ("name", "value"),
    [("day", None), ("day", date(9999, 12, 31)), ("exported_at", None), ("row_count", 0), ("row_count", 2**63 - 1),
     ("used_from", None), ("net", None), ("net", Decimal(-1))],
)  # fmt: skip
def test_any_announcement(tmp_path, kinds, name, value):
    """Regression: a partition without any export time ended in a traceback."""
    with bounded():
        streamed(tmp_path / "lake", table([good_row()]).to_batches(), kinds, **{"net": Decimal("1.5"), name: value})
    assert_right(line_items(tmp_path / "lake"), [good_row()])


def test_a_text_that_is_no_utf8_is_refused_before_it_is_landed(tmp_path, kinds):
    """Regression: it was landed, and then no run could read the month."""
    found = table([good_row()])
    region = pa.StructArray.from_arrays([no_utf8(1)], names=["region"])
    found = found.set_column(found.schema.get_field_index("location"), "location", region)
    with pytest.raises(OctoError, match="cannot be read"):
        streamed(tmp_path / "lake", found.to_batches(), kinds, net=Decimal("1.5"))
    with pytest.raises(OctoError, match="cannot be read"):
        exported(tmp_path / "lake", found)
    assert line_items(tmp_path / "lake") == []


def test_batches_of_other_columns_are_refused(tmp_path, kinds):
    """Regression: they ended in a traceback."""
    found = table([good_row()])
    with pytest.raises(OctoError, match="is not a table"):
        streamed(tmp_path / "lake", [*found.to_batches(), *found.drop_columns("cost").to_batches()], kinds)
