"""The dbt manifest in its cache: built once, by one of all who need it, and again for another project."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from octo_pipeline.tables import dbt
from tests.support.reports import refused


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed dbt project, outside a checkout, of a user with an empty cache."""
    folder = tmp_path / "installed" / "dbt_project"
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: octo\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(dbt, "project_folder", lambda: folder)
    return folder


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was built, by a build that takes a moment and no dbt."""
    folders: list[Path] = []

    def build(self: dbt.DbtProject, folder: Path) -> None:
        time.sleep(0.05)
        folders.append(folder)
        folder.mkdir()

    monkeypatch.setattr(dbt.DbtProject, "_build", build)
    return folders


def test_one_of_several_builds_it(project: Path, built: list[Path]) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = {
            found.result() for found in [pool.submit(lambda: dbt.DbtProject().manifest_folder) for _ in range(4)]
        }

    assert folders == set(built)
    assert len(built) == 1


def test_another_project_has_another_manifest(project: Path, built: list[Path]) -> None:
    first = dbt.DbtProject().manifest_folder
    (project / "models" / "a.sql").write_text("select 1")
    assert dbt.DbtProject().manifest_folder != first
    (project / "models" / "a.sql").unlink()
    assert dbt.DbtProject().manifest_folder == first
    assert len(built) == 2


def test_a_project_that_does_not_compile_leaves_nothing(project: Path) -> None:
    (project / "profiles.yml").write_text("octo: {target: lake, outputs: {lake: {type: duckdb}}}\n")
    with refused("does not compile"):
        _ = dbt.DbtProject().manifest_folder

    assert [path.name for path in (project.parents[1] / "cache").rglob("*") if path.is_file()] == ["lock"]


def test_the_newest_few_are_kept(project: Path) -> None:
    shutil.copytree(
        dbt.shipped_folder("dbt_project"), project, ignore=shutil.ignore_patterns("target"), dirs_exist_ok=True
    )
    older = [project.parents[1] / "cache" / "octo-pipeline" / "manifests" / name for name in "abcdef"]
    for seconds, folder in enumerate(older):
        folder.mkdir(parents=True)
        os.utime(folder, (seconds, seconds))

    newest = dbt.DbtProject().manifest_folder

    assert (newest / "manifest.json").is_file()
    assert sorted(path.name for path in newest.parent.iterdir() if path.is_dir()) == sorted(
        ["d", "e", "f", newest.name]
    )


def test_a_cache_that_cannot_be_written(project: Path) -> None:
    (project.parents[1] / "cache").write_text("a file")
    with refused("The dbt manifest cannot be written to", "Make this cache folder writable."):
        _ = dbt.DbtProject().manifest_folder
