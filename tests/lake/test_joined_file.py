"""Files joined byte for byte: every reader sees the rows of the parts in their order, or the parts are refused."""

import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octo_pipeline.lake import joined_file
from octo_pipeline.lake.joined_file import joined_footer, parse, parse_part, read_part, serialise
from octo_pipeline.lake.lake import read_metadata
from octo_pipeline.model.errors import InputChangedError, OctoError


def join(paths: list[Path], target: Path, metadata: str) -> None:
    joined_file.join([read_part(path) for path in paths], target, metadata)


METADATA = '{"inputs": {"é": "1"}, "run_id": "r", "facts": {"n": [1, "\'"]}}'
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "name": pa.string(),
        "cost": pa.decimal128(38, 10),
        "tags": pa.map_(pa.string(), pa.string()),
        "day": pa.date32(),
        "many": pa.struct({"a": pa.list_(pa.int64())}),
    }
)

texts = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
row = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-(2**63), 2**63 - 1),
        "name": texts,
        "cost": st.none() | st.decimals(-(10**20), 10**20, places=10),
        "tags": st.none()
        | st.dictionaries(st.text("ab", max_size=2), texts, max_size=3).map(lambda tags: [*tags.items()]),
        "day": st.none() | st.dates(),
        "many": st.none() | st.fixed_dictionaries({"a": st.none() | st.lists(st.integers(0, 9), max_size=3)}),
    }
)
part = st.fixed_dictionaries(
    {
        "rows": st.lists(row, max_size=6),
        "times": st.sampled_from([1, 1, 700]),
        "codec": st.sampled_from(["zstd", "snappy", "gzip", "uncompressed"]),
        "group": st.sampled_from([1, 2048, 100_000]),
        "writer": st.sampled_from(["V1", "V2"]),
    }
)


def write(connection: duckdb.DuckDBPyConnection, path: Path, recipe: dict) -> None:
    connection.register("part", pa.Table.from_pylist(recipe["rows"], SCHEMA))
    connection.execute(
        f"COPY (SELECT part.* FROM part, range({recipe['times']})) TO '{path}' (FORMAT parquet, "
        f"COMPRESSION {recipe['codec']}, ROW_GROUP_SIZE {recipe['group']}, PARQUET_VERSION {recipe['writer']})"
    )


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    # The same names have other files in every example.
    with duckdb.connect(config={"enable_external_file_cache": "false"}) as connection:
        yield connection


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(recipes=st.lists(part, min_size=1, max_size=5))
def test_the_rows_of_the_parts_are_read_in_their_order(tmp_path, connection, recipes):
    paths = [tmp_path / f"{number}.parquet" for number in range(len(recipes))]
    target = tmp_path / "joined.parquet"
    for path, recipe in zip(paths, recipes, strict=True):
        write(connection, path, recipe)
    join(paths, target, METADATA)
    rows = [connection.execute(f"SELECT t::VARCHAR FROM '{path}' AS t").fetchall() for path in paths]
    joined = connection.execute(f"SELECT t::VARCHAR, file_row_number FROM read_parquet('{target}') AS t").fetchall()
    assert joined == [(text, number) for number, (text,) in enumerate(chain.from_iterable(rows))]
    assert pq.read_table(target).to_pylist() == [row for path in paths for row in pq.read_table(path).to_pylist()]
    metadata = read_metadata(target, "joined")
    assert (metadata.rows, metadata.inputs, metadata.facts) == (len(joined), {"é": "1"}, {"n": [1, "'"]})
    assert pq.read_metadata(target).metadata == {b"octo": METADATA.encode()}


def copy(path: Path, query: str, options: str = "") -> Path:
    duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd{options})")
    return path


def test_a_footer_that_is_parsed_and_written_is_the_same(tmp_path):
    duckdb_file = copy(
        tmp_path / "a.parquet", "SELECT range AS a, {'b': [1]} AS b FROM range(9000)", ", ROW_GROUP_SIZE 2048"
    )
    arrow_file = tmp_path / "b.parquet"
    table = pa.table({"a": range(100), "b": [b"x"] * 100, **{f"c{i}": [None, True] * 50 for i in range(20)}})
    pq.write_table(table, arrow_file, row_group_size=7, write_page_index=True, store_decimal_as_integer=True)
    for path in (duckdb_file, arrow_file):
        data = path.read_bytes()
        footer = data[-joined_file.footer_length(data, len(data), "") : -8]
        assert serialise(parse(footer)) == footer


def test_places_of_indexes_and_bloom_filters_move_with_their_part(tmp_path):
    """Made by pyarrow with page indexes, which DuckDB does not write, and by DuckDB with bloom filters."""
    for number in range(3):
        table = pa.table({"a": pa.array(range(number * 1000, number * 1000 + 1000), pa.int64())})
        pq.write_table(table, tmp_path / f"i{number}.parquet", row_group_size=300, write_page_index=True)
        copy(
            tmp_path / f"b{number}.parquet",
            f"SELECT (i % 50 * 3 + {number})::VARCHAR AS a FROM range(9000) AS r(i)",
            ", ROW_GROUP_SIZE 3000",
        )
    for kind in "ib":
        join([tmp_path / f"{kind}{number}.parquet" for number in range(3)], tmp_path / f"{kind}.parquet", METADATA)

    chunks = [pq.read_metadata(tmp_path / "i.parquet").row_group(i).column(0) for i in range(12)]
    assert all(chunk.has_offset_index and chunk.has_column_index for chunk in chunks)
    data = (tmp_path / "i.parquet").read_bytes()
    groups = parse_part(data, len(data), "", None).footer[joined_file._ROW_GROUPS][1]
    for number in range(3):
        source = (tmp_path / f"i{number}.parquet").read_bytes()
        of_part = parse_part(source, len(source), "", None).footer[joined_file._ROW_GROUPS][1]
        for before, after in zip(of_part, groups[number * 4 :], strict=False):
            assert indexes(source, before) == indexes(data, after)

    probe = duckdb.sql(f"FROM parquet_bloom_probe('{tmp_path}/b.parquet', 'a', '4')").fetchall()
    assert [excludes for *_, excludes in probe] == [True] * 3 + [False] * 3 + [True] * 3
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/b.parquet' WHERE a = '4'").fetchall() == [(180,)]


def indexes(data: bytes, group: joined_file.Struct) -> list[bytes]:
    (chunk,) = group[joined_file._GROUP_COLUMNS][1]
    return [data[chunk[at][1] : chunk[at][1] + chunk[at + 1][1]] for at in (4, 6)]


def test_row_groups_are_numbered_while_they_can_be(tmp_path, monkeypatch):
    """Some writers number them, DuckDB and pyarrow do not."""
    part = read_part(copy(tmp_path / "a.parquet", "SELECT 1 AS a FROM range(6000)", ", ROW_GROUP_SIZE 2048"))
    for number, group in enumerate(part.footer[joined_file._ROW_GROUPS][1]):
        group[7] = 4, number

    def ordinals(times: int) -> list[int | None]:
        end = joined_footer([part] * times, METADATA)
        groups = parse(end[:-8])[joined_file._ROW_GROUPS][1]
        return [group[7][1] if 7 in group else None for group in groups]

    assert ordinals(3) == list(range(9))
    assert joined_file._MOST_ORDINALS == 2**15 - 1
    monkeypatch.setattr(joined_file, "_MOST_ORDINALS", 8)
    assert (ordinals(2), ordinals(3)) == (list(range(6)), [None] * 9)


def test_a_part_that_changes_while_it_is_joined_is_refused(tmp_path, monkeypatch):
    path = copy(tmp_path / "a.parquet", "SELECT hash(range) AS a FROM range(6000)")
    part = read_part(path)
    copy(tmp_path / "b.parquet", "SELECT hash(range) AS a FROM range(6001)").replace(path)
    with pytest.raises(InputChangedError, match=r"a\.parquet was replaced while it was joined. Run this again."):
        joined_file.join([part], tmp_path / "joined.parquet", METADATA)
    part = read_part(path)
    monkeypatch.setattr(joined_file, "_version", lambda file: part.version)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OctoError, match=r"a\.parquet is damaged: it ends too early") as refused:
        joined_file.join([part], tmp_path / "joined.parquet", METADATA)
    assert refused.value.code == "part-damaged"
    path.unlink()
    with pytest.raises(InputChangedError, match=r"a\.parquet is not there any more. Run this again."):
        joined_file.join([part], tmp_path / "joined.parquet", METADATA)


def test_bytes_are_copied_where_the_kernel_does_not(tmp_path, monkeypatch):
    paths = [copy(tmp_path / f"{i}.parquet", f"SELECT hash(range + {i}) AS a FROM range(6000)") for i in range(2)]
    join(paths, tmp_path / "by_kernel.parquet", METADATA)
    copied = []

    def half(source, target, count, offset_src):
        if copied:
            raise OSError(18, "Invalid cross-device link")
        copied.append(count)
        return real(source, target, 1000, offset_src)

    real = joined_file.os.copy_file_range
    monkeypatch.setattr(joined_file.os, "copy_file_range", half)
    join(paths, tmp_path / "by_hand.parquet", METADATA)
    assert copied
    assert (tmp_path / "by_hand.parquet").read_bytes() == (tmp_path / "by_kernel.parquet").read_bytes()


@pytest.mark.parametrize(
    ("query", "column"),
    [
        ("SELECT 1 AS a, 'x' AS b", "a"),
        ("SELECT 1::BIGINT AS a, 'x' AS c", "c"),
        ("SELECT 'x' AS b, 1::BIGINT AS a", "b"),
        ("SELECT 1::BIGINT AS a", "b"),
        ("SELECT 1::BIGINT AS a, 'x' AS b, 1::DECIMAL(38,10) AS d", "d"),
    ],
)
def test_parts_with_other_columns_are_refused(tmp_path, query, column):
    first = copy(tmp_path / "a.parquet", "SELECT 1::BIGINT AS a, 'x' AS b")
    second = copy(tmp_path / "b.parquet", query)
    with pytest.raises(OctoError) as refused:
        join([first, first, second], tmp_path / "joined.parquet", METADATA)
    assert str(refused.value) == (
        f"The part {second} cannot be joined with {first}: they differ in the column {column}. Remove both and run this "
        "again."
    )
    assert not (tmp_path / "joined.parquet").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "is not there any more. Run this again."),
        (b"", "is damaged: it does not end as a Parquet file."),
        (b"PAR1", "is damaged: it does not end as a Parquet file."),
        (b"PAR1\0\0\0\0PAR1", "is damaged: its footer makes no sense."),
        (b"PAR1" + b"\x19" * 9 + b"\x09\0\0\0PAR1", "is damaged: its footer makes no sense."),
        (b"PAR1" + b"\x0d" * 9 + b"\x09\0\0\0PAR1", "is damaged: its footer makes no sense."),
        (b"PAR1" + b"\x1c" * 9000 + (9000).to_bytes(4, "little") + b"PAR1", "is damaged: its footer makes no sense."),
        (b"PAR1\xff\xff\xff\xffPAR1", "is damaged: it does not end as a Parquet file."),
        (b"PARE1234\x04\0\0\0PARE", "is encrypted, so it cannot be joined."),
    ],
)
def test_what_is_no_part_is_refused(tmp_path, data, message):
    path = tmp_path / "x.parquet"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(OctoError) as refused:
        join([path], tmp_path / "joined.parquet", METADATA)
    assert str(refused.value).startswith(f"The part {path} {message}")


def test_a_footer_of_other_data_is_refused(tmp_path):
    whole = copy(tmp_path / "a.parquet", "SELECT hash(range) AS a FROM range(6000)").read_bytes()
    length = joined_file.footer_length(whole, len(whole), "")
    short = tmp_path / "b.parquet"
    short.write_bytes(whole[:1000] + whole[-length:])
    with pytest.raises(OctoError, match="is damaged: its footer is not that of its data"):
        read_part(short)


def test_an_encrypted_file_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    with duckdb.connect() as connection:
        connection.execute("SET force_mbedtls_unsafe = 'true'")
        connection.execute("PRAGMA add_parquet_key('k', '0123456789112345')")
        connection.execute(f"COPY (SELECT 1 AS a) TO '{path}' (ENCRYPTION_CONFIG {{footer_key: 'k'}})")
    with pytest.raises(OctoError, match="is encrypted, so it cannot be joined"):
        read_part(path)
    plain = copy(tmp_path / "b.parquet", "SELECT 1 AS a")
    part = read_part(plain)
    footer = serialise(part.footer | {joined_file._ENCRYPTION: (12, {})})
    plain.write_bytes(plain.read_bytes()[: part.stop] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(OctoError, match="is encrypted, so it cannot be joined"):
        read_part(plain)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_footer_with_a_wrong_byte_is_refused_or_joined(tmp_path_factory, data):
    """Whatever a damaged footer says, it ends in a sentence and not in another error."""
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    if not path.exists():
        copy(path, "SELECT range AS a, MAP {'k': range} AS b FROM range(5000)", ", ROW_GROUP_SIZE 2048")
    whole = bytearray(path.read_bytes())
    length = joined_file.footer_length(whole, len(whole), "")
    at = data.draw(st.integers(len(whole) - length, len(whole) - 9))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        part = parse_part(bytes(whole), len(whole), "x", None)
        joined_footer([part, part], METADATA)
    except OctoError as error:
        assert error.code in ("part-damaged", "part-encrypted")


def test_no_part_is_a_mistake_of_the_program(tmp_path):
    with pytest.raises(ValueError, match="no part"):
        join([], tmp_path / "joined.parquet", METADATA)
    assert not list(tmp_path.iterdir())


def test_a_part_may_be_joined_with_itself(tmp_path):
    path = copy(tmp_path / "a.parquet", "SELECT range AS a FROM range(10)")
    shutil.copy(path, tmp_path / "b.parquet")
    join([path, path, tmp_path / "b.parquet"], tmp_path / "joined.parquet", METADATA)
    assert [a for (a,) in duckdb.sql(f"SELECT a FROM '{tmp_path}/joined.parquet'").fetchall()] == list(range(10)) * 3
