"""A file of FOCUS appears whole or not at all, whatever stops its writing."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.outputs.focus.export import export_focus
from octo_pipeline.outputs.journal_file import write_text
from octo_pipeline.outputs.statement_pages import write_pages
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import workspace_in

# An export in a process of its own, which stops when the file is written and has not got its name yet.
EXPORT = """
import sys, time
from pathlib import Path
from octo_pipeline.outputs.focus import export
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
def stop(path):
    print("written", flush=True)
    time.sleep(60)
export.sync = stop
lake, config, month, target = sys.argv[1:]
export.export_focus(Workspace(Settings(lake=Path(lake), config=Path(config))), [month], Path(target), "1.4")
"""


@pytest.fixture
def workspace(tmp_path_factory) -> Workspace:
    workspace = workspace_in(
        tmp_path_factory.mktemp("small_month"), [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator()]
    )
    return make(run(workspace, [MONTH]), AccountCosts(), [MONTH])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_missing_folder_is_refused_by_every_export_alike(workspace, tmp_path):
    """Regression: the FOCUS export made it, and a typing error made an export nobody could find."""
    exports = [
        lambda file: export_focus(workspace, [MONTH], file, "1.4"),
        lambda file: write_text(file, "a journal"),
        lambda folder: write_pages([], folder),
    ]
    for export in exports:
        with pytest.raises(OctoError, match=r"^Cannot write .* to .*/absent/out.*: No such file or directory\.$"):
            export(tmp_path / "absent" / "out")
    with pytest.raises(OctoError, match=r"^Cannot write the FOCUS export to .*\.parquet: No such file or directory\.$"):
        export_focus(workspace, [MONTH], tmp_path / "absent" / "focus.parquet", "1.4")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_named(workspace, tmp_path):
    (tmp_path / "blocked").write_text("a file")

    with pytest.raises(OctoError, match=r"to .*blocked/focus\.parquet: Not a directory\.$") as raised:
        export_focus(workspace, [MONTH], tmp_path / "blocked" / "focus.parquet", "1.4")

    assert raised.value.code == "export-not-writable"


@pytest.mark.parametrize("name", ["focus.parquet", "focus.csv.gz"])
def test_a_disk_that_takes_no_more_leaves_the_export_of_before_and_nothing_else(workspace, tmp_path, name):
    file = tmp_path / name
    file.write_text("the export of before")

    with files_of_at_most(200), pytest.raises(OctoError, match=r"^Cannot write the FOCUS export to ") as raised:
        export_focus(workspace, [MONTH], file, "1.4")

    assert raised.value.code == "export-not-writable"
    assert file.read_text() == "the export of before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_killed_export_leaves_no_file_that_looks_like_one(workspace, tmp_path):
    settings = workspace.settings
    file = tmp_path / "focus.parquet"
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(settings.lake), str(settings.config), MONTH, str(file)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    assert not file.exists()
    assert not list(tmp_path.glob("**/*.parquet"))
    export_focus(workspace, [MONTH], file, "1.4")
    assert list(tmp_path.glob("**/*.parquet")) == [file]
