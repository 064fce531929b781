"""What is installed is what ``constraints.txt`` pins, and all of it is pinned."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
# A pin's whole line: nothing in it says where from.
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)")


def pins() -> dict[str, str]:
    found = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        match = _PIN.fullmatch(line)
        assert match, f"{line!r} is no pin name==version"
        name = canonicalize_name(match[1])
        assert name not in found, f"{name} is pinned twice"
        found[name] = match[2]
    return found


def needed() -> dict[str, set[str]]:
    """Every package that the project needs here, with the extras it is needed with.

    What `make check` adds is installed by `make check` only: some of it, then all.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    tested = reachable(project, [*project["dependencies"], *extras["test"]])
    added = {canonicalize_name(Requirement(text).name) for text in extras["dev"]} - {project["name"], *tested}
    return reachable(project, [*project["dependencies"], *extras["dev"]]) if any(map(is_installed, added)) else tested


def reachable(project: dict[str, Any], texts: list[str]) -> dict[str, set[str]]:
    """The packages of these requirements and all that they need, with their extras."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(text) for text in texts]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == project["name"]:
            # An extra that names another one. Read here, because what is installed may be of an earlier pyproject.toml.
            extras = (project["optional-dependencies"][extra] for extra in requirement.extras)
            waiting += [Requirement(text) for extra in extras for text in extra]
            continue
        if name in found and requirement.extras <= found[name]:
            continue
        found.setdefault(name, set()).update(requirement.extras)
        waiting += needed_by(name, found[name])
    return found


def is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def needed_by(name: str, extras: set[str]) -> Iterator[Requirement]:
    for text in requires(name) or []:
        requirement = Requirement(text)
        environments = [default_environment() | {"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(one) for one in environments):
            yield requirement


def test_every_package_that_is_needed_is_pinned_and_installed_in_that_version():
    pinned = pins()
    packages = needed()
    assert len(packages) > 100, "the walk through what packages need found too little to be right"
    wrong = []
    for name in sorted(packages):
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "nothing"
        if pinned.get(name) != installed:
            wrong.append(f"{name}: pinned {pinned.get(name, 'nothing')}, installed {installed}")
    assert wrong == []
