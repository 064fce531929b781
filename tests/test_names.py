"""Variables are named after what they hold (docs/dev/naming.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import octo_pipeline

PACKAGE = Path(octo_pipeline.__file__).parent

# Names that would fit any value.
EMPTY = {"found", "one", "told", "said", "given", "wanted", "shown", "place"}

# The place of an error is a word of the product: the file, setting, account or partition that is wrong.
ALLOWED = {("model/errors.py", "place")}


def names(path: Path) -> Iterator[str]:
    """The variables, parameters and attributes that a module assigns."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name


def test_variables_are_named_after_what_they_hold() -> None:
    modules = {
        (path.relative_to(PACKAGE).as_posix(), name) for path in PACKAGE.rglob("*.py") for name in names(path)
    } - ALLOWED
    empty = {f"{module}: {name}" for module, name in modules if name in EMPTY}

    assert sorted(empty) == []


def test_every_kind_of_assignment_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "def f(a, *, b, **c):\n"
        "    d: int = 1\n"
        "    self.e = [g for g in a]\n"
        "    with open(a) as h, b:\n"
        "        match a:\n"
        "            case [i, *j] | {'k': i, **j}:\n"
        "                return (l := i)\n"
    )

    assert set(names(module)) == set("abcdeghijl")
