"""What holds for every command: help, version, completion, and the order of options."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from octo_pipeline.cli import allocations
from octo_pipeline.cli.main import app
from octo_pipeline.registry.records import Actor
from octo_pipeline.services import decide
from octo_pipeline.services.months import Started

ROOT = typer.main.get_command(app)


def commands(command=ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command and group, with its words."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_a_short_help(path):
    result = CliRunner().invoke(app, [*path, "-h"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_version_is_that_of_the_package():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"octo {version('octo-pipeline')}\n")


@pytest.mark.parametrize(("words", "completed"), [("octo allocat", "allocations"), ("octo allocators sim", "simulate")])
def test_the_shell_completes_commands(words, completed):
    environment = os.environ | {
        "_OCTO_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    program = "import sys; sys.argv[0] = 'octo'; from octo_pipeline.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert completed in done.stdout.split()


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_options_are_in_a_fixed_order(path):
    """What month, then what of it, then how it is printed or asked."""
    options = [option for parameter in ALL[path].params for option in parameter.opts if option.startswith("--")]
    months = [option for option in options if option in ("--month", "--from", "--to")]
    last = [option for option in options if option in ("--yes", "--output")]
    rest = [option for option in options if option not in [*months, *last]]
    # A decision needs its reason, and the month says which items are meant.
    needed = ["--reason", "--allocator"] if path[:1] == ("allocations",) and "--reason" in rest else []
    assert options == [*needed, *months, *(option for option in rest if option not in needed), *last]
    assert months == [option for option in ("--month", "--from", "--to") if option in months]


@pytest.mark.parametrize(
    "path", [path for path, command in ALL.items() if any("--output" in p.opts for p in command.params)], ids=" ".join
)
def test_help_says_how_amounts_are_written_in_json(path):
    output = CliRunner().invoke(app, [*path, "--help"]).output
    assert "Amounts in json are strings" in " ".join(output.split())


def test_an_interrupted_restore_says_that_the_decision_is_recorded(monkeypatch):
    def interrupted(*_, **__):
        yield Started("allocations", "2024-01")
        raise KeyboardInterrupt

    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(allocations, "editor", lambda _: Actor("tester"))
    monkeypatch.setattr(decide, "find_items", lambda *_, **__: [])
    monkeypatch.setattr(decide, "decide", interrupted)
    result = CliRunner().invoke(app, ["allocations", "restore", "8591", "--reason", "x", "--yes"])
    assert result.exit_code == 130
    assert "Interrupted. The decision is recorded; `octo stale` lists the months to run again." in result.output
