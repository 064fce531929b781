"""The figures that the README and the first pages show are those that the demo prints."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MONTHS = ("--from", "2024-01", "--to", "2024-03")


def blocks(page: Path, language: str = "") -> list[str]:
    """The blocks of a page in a language; without one they are what commands print."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for written, text in fenced if written == language]


def lines(text: str) -> list[str]:
    """The lines without the width of columns; what is left out of a page is not compared."""
    collapsed = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return [line for line in collapsed if line and line != "…"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Callable[..., str], list[str]]:
    """A command on the demo's data, and what the demo itself prints."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {
        "OCTO_LAKE": str(folder / "lake"),
        "OCTO_CONFIG": str(ROOT / "allocator_configs"),
        "OCTO_START_MONTH": "2024-01",
        "COLUMNS": "200",
        "DAGSTER_HOME": "",
        **{f"OCTO_{name.upper()}_EXPORTS": str(folder / "exports" / name) for name in ("aws", "azure", "gcp")},
    }

    def octo(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, env=environment)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    octo("sample", str(folder / "exports"), *MONTHS)
    return octo, lines(octo("run", *MONTHS))


@pytest.mark.parametrize("page", ["README.md", "docs/get-started.md"])
def test_the_end_of_the_demo(demo, page):
    _, printed = demo
    [shown] = [block for block in blocks(ROOT / page) if block.startswith("Distributed in 2024-03")]

    assert [line for line in lines(shown) if line not in printed] == []


def test_the_tutorial(demo, tmp_path):
    octo, _ = demo
    page = ROOT / "docs" / "first-allocator.md"
    [rule] = blocks(page, "json")
    (tmp_path / "athena.json").write_text(json.dumps(json.loads(rule)))

    printed = lines(octo("allocators", "simulate", str(tmp_path / "athena.json"), "--month", "2024-03"))
    [shown] = [block for block in blocks(page) if block.startswith("athena-queries (account) on 2024-03")]

    assert [line for line in lines(shown) if line not in printed and not line.startswith("Warning")] == []


def test_the_causes_of_a_change(demo):
    octo, _ = demo
    [shown] = [
        block for block in blocks(ROOT / "docs" / "how-costs-are-allocated.md") if block.startswith("Why the cost")
    ]

    assert [
        line
        for line in lines(shown)
        if line not in lines(octo("explain", "costs", "111122223333", "--month", "2024-03"))
    ] == []


def test_the_journal(demo):
    octo, _ = demo
    [shown] = [block for block in blocks(ROOT / "docs" / "journal.md") if block.startswith("Entries of 2024-03")]

    printed = lines(octo("export", "journal", "--month", "2024-03", "--by", "cost-centre"))
    assert [line for line in lines(shown) if line not in printed and not line.startswith("──")] == []
