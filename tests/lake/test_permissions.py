"""Who on this machine can read the tables and the landing."""

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
from tests.support.landed_files import land_files
from tests.support.small_month import MONTH, USAGE_OF_10_AND_30
from tests.support.workspaces import write_lines


@pytest.fixture(autouse=True)
def open_mask() -> Iterator[None]:
    """A user whose new files everybody could read and write."""
    mask = os.umask(0)
    yield
    os.umask(mask)


def modes(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode)
        for path in (root, *root.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


def filled(tmp_path: Path, **settings: str) -> Path:
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config", **settings))
    root = workspace.lake.root
    write_lines(workspace, tmp_path, USAGE_OF_10_AND_30)
    land_files(root)
    return root


def test_only_the_owner_reads_a_new_lake(tmp_path: Path) -> None:
    """Regression: tables and landing were 0644 in 0755 folders beside a registry of 0600."""
    found = modes(filled(tmp_path))
    assert f"cost_line_items/month={MONTH}/data.parquet" in found
    assert any(name.endswith("_delivery.json") for name in found)
    assert set(found.values()) == {0o600, 0o700}


def test_a_group_reads_the_lake_if_it_is_set(tmp_path: Path) -> None:
    own = grp.getgrgid(os.getgid()).gr_name
    root = filled(tmp_path, group=own)
    assert set(modes(root).values()) == {0o640, 0o2750}
    assert {path.stat().st_gid for path in root.rglob("*")} == {os.getgid()}
    with pytest.raises(OctoError, match="The group 'no-such-group' does not exist"):
        filled(tmp_path, group="no-such-group")


def test_nobody_else_reads_new_files_of_a_lake_that_was_open(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir(mode=0o755)
    found = modes(filled(tmp_path))
    assert found.pop(".") == 0o755
    assert set(found.values()) == {0o640, 0o2750}
