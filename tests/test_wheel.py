"""The wheel: it holds all that the program reads, and works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from octo_pipeline.tables.table import code_version

ROOT = Path(__file__).parents[1]
SHIPPED = {"octo_pipeline": "octo_pipeline", "dbt_project": "octo_pipeline/dbt_project"} | {
    "allocator_configs": "octo_pipeline/allocator_configs"
}
MONTH = "2024-01"
PARTS = ("model", "dbt_project/models/staging")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources: a build leaves its own folders among them."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("target", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", folder, folder / "source"], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, which takes everything else from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", "--disable-pip-version-check", wheel], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A plain path: what the checkout's editable installation says in its own .pth file is not read.
    theirs = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(theirs))
    return folder / "bin"


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """A user without any setting of ours, whose home is the folder."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "TMPDIR"}}
    return kept | {"HOME": str(folder), "DAGSTER_HOME": str(folder / "dagster")} | settings


def test_every_file_of_the_repository_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"{target}/{path.relative_to(ROOT / source).as_posix()}"
        for source, target in SHIPPED.items()
        for path in (ROOT / source).rglob("*")
        if path.is_file() and not {"target", "logs", "__pycache__"} & set(path.parts) and path.name[0] != "."
    }

    assert expected - names == set()
    assert {name for name in names - expected if ".dist-info/" not in name} == set()


def test_a_month_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    exports = {
        f"OCTO_{vendor.upper()}_EXPORTS": str(tmp_path / "exports" / vendor) for vendor in ("aws", "azure", "gcp")
    }
    variables = environment(tmp_path, OCTO_START_MONTH=MONTH, **exports)

    def run(*arguments: str, program: str = "octo") -> str:
        command = [installed / program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import octo_pipeline; from octo_pipeline.tables.table import code_version; "
    code += f"print(octo_pipeline.__file__, code_version(*{PARTS}))"
    origin, version = run("-c", code, program="python").split()
    assert Path(origin).is_relative_to(installed.parent)
    # The same rows have the same fingerprint, whichever way the program is installed.
    assert version == code_version(*PARTS)

    # Two first commands at once: one builds the dbt manifest, the other waits for it.
    started = [
        subprocess.Popen(
            [installed / "octo", "manifest"], cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    first, second = (process.communicate()[0] for process in started)
    assert [process.returncode for process in started] == [0, 0]
    assert first == second
    (manifest,) = (tmp_path / ".cache" / "octo-pipeline" / "manifests").glob("*/manifest.json")
    assert first == f"dbt manifest: {manifest}\n"

    written = run("sample", "exports", "--from", MONTH, "--to", MONTH, "--accounts", "4", "--lines", "400")
    assert "The rules that share their costs are in allocator_configs." in written
    assert "Proof of conservation" in run("run", "--month", MONTH)
    run("report", "--month", MONTH)
    assert "<html" in (tmp_path / f"report-{MONTH}.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} >= {"allocator_configs", "exports", "lake"}
    assert not list((installed.parent).rglob("dbt_project/target"))
