"""The cache of parts, in a folder and in a bucket."""

from pathlib import Path

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
