"""What holds for the repository as a whole."""

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import yaml

from docs import house

ROOT = Path(__file__).parents[1]
SOURCES = {".py", ".sql", ".yml", ".j2"}


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file may import: of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_test_imports_another_nor_a_conftest() -> None:
    files = [path for folder in ("tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")]
    of_tests = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "tests").rglob("*.py")
        if path.name.startswith("test_") or path.name == "conftest.py"
    }
    imports = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in files
        for module in imported_modules(path)
        if module in of_tests
    ]

    assert imports == []


def test_the_hooks_of_a_commit_are_what_make_check_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    recipes = re.findall(r"^check-\w+:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for recipe in recipes for line in recipe.splitlines()]

    # A hook has no shell of its own, which a pattern of file names needs.
    entries = [re.sub(r"^sh -c '(.*)'$", r"\1", hook["entry"]) for repo in hooks for hook in repo["hooks"]]
    assert sorted(entries) == sorted(commands)
    assert len(commands) > 5
    assert {repo["repo"] for repo in hooks} == {"local"}


def test_the_rules_that_comments_cite_are_in_the_repository() -> None:
    sections = set(re.findall(r"^## (\d+)\. ", (ROOT / "docs" / "dev" / "allocation.md").read_text(), re.MULTILINE))
    folders = ("octo_pipeline", "dbt_project", "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SOURCES]
    cited = {
        (str(path.relative_to(ROOT)), section)
        for path in files
        if "target" not in path.parts
        for line in re.findall(r"allocation\.md[^\n]*", path.read_text())
        for section in re.findall(r"§(\d+)", line)
    }

    assert len(cited) > 20
    assert {(path, section) for path, section in cited if section not in sections} == set()


def test_every_room_of_the_house_has_a_line() -> None:
    page = (ROOT / "docs" / "dev" / "architecture.md").read_text()
    table = page.partition("## The rooms")[2].partition("\n| beside")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)

    # In the order of the layers, from the top down; the linter refuses a package that is in no layer.
    assert listed == list(chain.from_iterable(house.layers()))


def test_the_picture_of_the_house_shows_its_imports() -> None:
    assert house.PICTURE.read_text() == house.picture(), "`make house` draws it again"


def test_every_target_of_make_does_something():
    """Regression: two targets were declared and had no recipe, so CI ran one of them, which did nothing."""
    makefile = (ROOT / "Makefile").read_text()
    (declared,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    recipes = set(re.findall(r"^([a-z-]+):[^\n]*\n\t", makefile, re.MULTILINE))
    only_others = set(re.findall(r"^([a-z-]+): (?!\$\(VENV\))[^\n#]+$", makefile, re.MULTILINE))
    assert set(declared.split()) - recipes - only_others == set()
    assert recipes - set(declared.split()) == set(), "a file of that name would keep make from doing it"
