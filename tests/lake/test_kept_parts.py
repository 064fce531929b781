"""The cache of parts, in a folder and in a bucket."""

from pathlib import Path

import duckdb
import pytest

from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root
from octo_pipeline.model.errors import OctoError


@pytest.fixture(params=["folder", "bucket"])
def lake(request, tmp_path: Path, monkeypatch) -> Lake:
    if request.param == "folder":
        return Lake(tmp_path / "lake")
    server = request.getfixturevalue("s3_server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Lake(lake_root(f"s3://{server.bucket()}/lake", tmp_path / "temp"))


def keep(lake: Lake, table: str, name: str, text: str) -> None:
    with lake.staging_folder() as folder:
        made = folder / "made"
        made.write_text(text)
        path = lake.keep_part(made, table, "2024-01", name)
    assert path == lake.parts(table, "2024-01")[name]
    with path.open("rb") as stream:
        assert stream.read() == text.encode()


def test_parts_are_kept_until_others_take_their_place(lake):
    assert lake.parts("t", "2024-01") == {}
    for name in ("one", "two", "three", "two"):
        keep(lake, "t", name, f"rows of {name}")
    keep(lake, "u", "one", "rows of another table")
    assert [str(path) for path in lake.parts("t", "2024-01").values()] == [
        f"{lake.root}/.parts/t/month=2024-01/{name}.parquet" for name in ("one", "three", "two")
    ]

    lake.drop_parts("t", "2024-01", but=["two", "four"])
    lake.drop_parts("t", "2024-02", but=[])
    assert [lake.parts(table, "2024-01").keys() for table in "tu"] == [{"two"}, {"one"}]
    lake.drop_parts("t", "2024-01", but=[])
    assert lake.parts("t", "2024-01") == {}
    assert lake.tables() == []


def test_an_overlay_has_parts_of_its_own(lake):
    keep(lake, "t", "one", "of the lake")
    overlay = lake.overlay("known", ["t"])
    keep(overlay, "t", "two", "of the overlay")
    keep(overlay, "u", "three", "of a table that is not in it")
    overlay.drop_parts("t", "2024-01", but=[])
    assert (lake.parts("t", "2024-01").keys(), overlay.parts("t", "2024-01")) == ({"one"}, {})
    assert lake.parts("u", "2024-01").keys() == {"three"}


def test_the_months_with_parts_are_those_of_the_lake_or_of_an_overlay(lake):
    overlay = lake.overlay("known", ["t"])
    assert (lake.months_with_parts("t"), overlay.months_with_parts("t")) == ([], [])
    keep(overlay, "t", "one", "rows")
    keep(overlay, "u", "two", "of a table that is not in it")
    assert [lake.months_with_parts(table) for table in "tu"] == [[], ["2024-01"]]
    assert [overlay.months_with_parts(table) for table in "tu"] == [["2024-01"], ["2024-01"]]


def test_a_damaged_part_has_no_metadata_and_a_store_that_does_not_answer_is_an_error(lake, monkeypatch):
    """Regression: a store that was away for a moment looked like a cache that is gone, and everything was made again."""
    keep(lake, "t", "one", "not a Parquet file")
    path = lake.parts("t", "2024-01")["one"]
    assert lake.part_metadata(path) is None
    with lake.staging_folder() as folder:
        duckdb.sql(f"COPY (SELECT 1 AS n) TO '{folder}/of_others' (FORMAT parquet)")
        assert lake.part_metadata(lake.keep_part(folder / "of_others", "t", "2024-01", "of_others")) is None
    lake.drop_parts("t", "2024-01", but=[])
    assert lake.part_metadata(path) is None

    def away(store, path):
        raise OctoError("The bucket does not answer.", code="bucket-unreachable")

    monkeypatch.setattr(type(lake._store), "footer", away)
    with pytest.raises(OctoError, match="does not answer"):
        lake.part_metadata(path)


def test_more_parts_than_a_request_takes_are_dropped(lake):
    for number in range(3):
        keep(lake, "t", str(number), "rows")
    many = [*lake.parts("t", "2024-01").values(), *(lake.root / ".parts" / str(i) for i in range(1001))]
    lake._store.discard(many[1:])
    assert lake.parts("t", "2024-01").keys() == {"0"}


def test_a_lake_that_cannot_be_written_keeps_no_part(tmp_path):
    lake = Lake(tmp_path / "lake")
    with lake.staging_folder() as folder:
        (folder / "made").touch()
        (lake.root / ".parts").touch()
        with pytest.raises(OctoError, match=f"Cannot write to the lake {lake.root}: .*Nothing was published"):
            lake.keep_part(folder / "made", "t", "2024-01", "one")
