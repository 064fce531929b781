"""What all tests share: a lake of their own, and where cases come from."""

import os
import signal
from pathlib import Path

import pytest

from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace

ROOT = Path(__file__).parent.parent
pytest_plugins = [
    "tests.emulators.aws",
    "tests.emulators.azure",
    "tests.emulators.bigquery",
    "tests.emulators.postgresql",
    "tests.emulators.spark",
]


# How wide the window is in which tests are run decides nothing: tables are printed as into a file, unless a test sets a width.
os.environ.pop("COLUMNS", None)
# Nor does a shell that has what runs in the background ignore interrupts: Dagster makes of SIGTERM what SIGINT is, and processes
# that tests start would inherit both.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--cases", action="append", default=[], help="folder of more golden cases (allocation.md §13)")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real billing data, which is never part of the project."""
    folder = Path(os.environ.get("OCTO_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real billing data at {folder}")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty lake with an empty configuration."""
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    return Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config"))


@pytest.fixture(scope="session")
def made_month(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with the smallest month and a user of each role, which tests copy: making it takes a second."""
    from tests.support.api import month_in

    folder = tmp_path_factory.mktemp("made")
    return folder, month_in(folder)
