"""A partition from files of its parts: each part's rows are a range of the partition's."""

from itertools import accumulate, pairwise
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.lake import lake as lake_module
from octo_pipeline.lake.joined_file import read_part
from octo_pipeline.lake.lake import Lake, PartitionMetadata
from octo_pipeline.model.errors import OctoError

COLUMNS = {"value": "BIGINT", "tags": "MAP(VARCHAR, VARCHAR)", "cost": "DECIMAL(38,10)"}
METADATA = PartitionMetadata({"a": "1"}, "test", {"digest": "d"})


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setattr(lake_module, "_ROWS_OF_A_GROUP", 1500)
    return Lake(tmp_path / "lake")


def make_part(lake: Lake, name: str, rows: int, columns: str = "") -> Path:
    path = lake.root / ".parts" / "month=2024-01" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.sql(
        f"""
        COPY (
            SELECT
                (hash('{name}', i) // 2)::BIGINT AS value,
                MAP {{'part': '{name}'}} AS tags,
                i::DECIMAL(38,10) AS cost
                {columns}
            FROM range({rows}) AS r(i)
        ) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048)
        """
    )
    return path


def publish(lake: Lake, parts: list[Path]) -> bool:
    with lake.stage("t", "2024-01") as staged:
        lake.join(parts, staged, METADATA, facts={"more": 2})
        return lake.publish(staged, still_current=lambda: METADATA.inputs)


def read(lake: Lake, rows: tuple[int, int] | None = None) -> list[tuple]:
    relation = lake.scan("t", ["2024-01"], COLUMNS, row_number_as="row", rows=rows)
    with lake.connect() as connection:
        return connection.execute(f"SELECT row, value, tags, cost FROM {relation} ORDER BY row").fetchall()


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([4096, 2048], [2048, 2048, 2048]),
        # Small neighbours are written together, a small part without a small neighbour is not.
        ([4096, 7, 0, 1, 2048, 3, 4096], [2048, 2048, 8, 2048, 3, 2048, 2048]),
        ([1300, 1300, 1300, 1], [3901]),
        ([0, 0], []),
        ([0], []),
        ([3], [3]),
        # The last group of a file is what is left over, and does not make it small.
        ([2100, 2049], [2048, 52, 2048, 1]),
    ],
)
def test_the_rows_of_a_part_are_a_range_of_the_partition(lake, sizes, groups):
    parts = [make_part(lake, f"part{number}", size) for number, size in enumerate(sizes)]
    assert publish(lake, parts)

    ends = list(accumulate(sizes, initial=0))
    for part, (start, end) in zip(parts, pairwise(ends), strict=True):
        rows = duckdb.sql(f"SELECT value, tags, cost FROM read_parquet('{part}', hive_partitioning = false)").fetchall()
        assert read(lake, (start, end)) == [(start + number, *row) for number, row in enumerate(rows)]
    assert len(read(lake)) == ends[-1]

    metadata = lake.metadata("t", "2024-01")
    names = {"parts": [[f"part{number}", size] for number, size in enumerate(sizes)]} if len(sizes) > 1 else {}
    assert metadata.facts == {"digest": "d", "more": 2} | names
    assert (metadata.rows, metadata.inputs, metadata.columns >= COLUMNS.keys()) == (ends[-1], {"a": "1"}, True)
    # The part's folder is named as a month, which is not a column of it.
    assert "month" not in metadata.columns
    sql = f"SELECT DISTINCT row_group_id, row_group_num_rows FROM parquet_metadata('{lake.path('t', '2024-01')}')"
    assert [rows for _, rows in sorted(duckdb.sql(sql).fetchall())] == groups
    assert not publish(lake, parts)


def test_many_rows_that_are_written_together_keep_their_order(tmp_path):
    """Of several row groups, which DuckDB writes side by side."""
    lake, parts = Lake(tmp_path / "lake"), []
    for number in range(40):
        parts.append(tmp_path / f"{number}.parquet")
        rows = f"SELECT range AS value FROM range({number * 10_000}, {number * 10_000 + 10_000})"
        duckdb.sql(f"COPY ({rows}) TO '{parts[-1]}' (FORMAT parquet)")
    publish(lake, parts)
    path = lake.path("t", "2024-01")
    assert duckdb.sql(f"SELECT count(DISTINCT row_group_id) FROM parquet_metadata('{path}')").fetchall() == [(4,)]
    relation = lake.scan("t", ["2024-01"], {"value": "BIGINT"}, row_number_as="row")
    with lake.connect() as connection:
        in_order = connection.execute(f"SELECT count(*), bool_and(value = row) FROM {relation}").fetchall()
    assert in_order == [(400_000, True)]


def test_only_the_row_groups_of_a_part_are_read(lake):
    """A row group that cannot be read is not met by who reads the others."""
    parts = [make_part(lake, name, 2048) for name in "abc"]
    publish(lake, parts)
    path = lake.path("t", "2024-01")
    data = bytearray(path.read_bytes())
    first, second = (read_part(part).stop for part in parts[:2])
    data[first + 100 : first + second - 200] = b"\xff" * (second - 300)
    path.write_bytes(data)

    assert len(read(lake, (0, 2048))) == len(read(lake, (4096, 6144))) == 2048
    with pytest.raises(duckdb.Error):
        read(lake, (2047, 2049))


def test_rows_of_an_edition_that_lacked_a_column(lake):
    publish(lake, [make_part(lake, name, 10) for name in "ab"])
    relation = lake.scan("t", ["2024-01"], COLUMNS | {"later": "VARCHAR"}, rows=(9, 11))
    with lake.connect() as connection:
        rows = connection.execute(f"SELECT tags['part'], cost::INT, later FROM {relation} ORDER BY ALL").fetchall()
    assert rows == [("a", 9, None), ("b", 0, None)]


def test_rows_are_numbered_within_one_month(lake):
    for months in (None, [], ["2024-01", "2024-02"]):
        with pytest.raises(ValueError, match="within one month"):
            lake.scan("t", months, COLUMNS, rows=(0, 1))
    relation = lake.scan("t", ["2024-01"], COLUMNS, rows=(0, 1))
    with lake.connect() as connection:
        assert connection.execute(f"FROM {relation}").fetchall() == []


def test_a_lost_part_and_a_part_of_another_table_are_refused(lake):
    parts = [make_part(lake, "a", 10), make_part(lake, "b", 10, columns=", 1 AS more")]
    with pytest.raises(
        OctoError, match=r"b\.parquet cannot be joined with .*a\.parquet: they differ in the column more"
    ):
        publish(lake, parts)
    parts[1].unlink()
    with pytest.raises(OctoError, match=r"The part .*b\.parquet is not there any more. Run this again."):
        publish(lake, parts)
    assert lake.months("t") == []


def test_a_folder_publishes_no_footer_alone(lake):
    part = read_part(make_part(lake, "a", 10))
    with lake.stage("t", "2024-01") as staged:
        lake.copy(duckdb.connect(), "SELECT 1 AS value", staged, METADATA)
        staged.parts.append(part)
        with pytest.raises(ValueError, match="joined before they are published"):
            lake.publish(staged, still_current=lambda: METADATA.inputs)
    assert lake.months("t") == []


def test_damage_in_a_small_part_is_found_while_it_is_written_with_others(lake):
    parts = [make_part(lake, name, 1000) for name in "abc"]
    data = bytearray(parts[1].read_bytes())
    data[4:1000] = b"\xff" * 996
    parts[1].write_bytes(data)
    with pytest.raises(OctoError, match=r"The part .*b\.parquet is damaged: ") as refused:
        publish(lake, parts)
    assert (refused.value.code, refused.value.place) == ("part-damaged", str(parts[1]))
