"""Errors are data: their codes, what helps, and how the faces say them."""

import ast
import pickle
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import octo_pipeline
from octo_pipeline.assets.failures import in_dagster
from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import NotAskedError, OctoError, Remedy, combined
from octo_pipeline.rules.documents import DocumentError, Problem
from octo_pipeline.settings import Settings

ROOT = Path(octo_pipeline.__file__).parent
# They speak to people in commands, variables and jobs; everything below speaks to all of them.
FACES = {"cli", "definitions.py", "automation", "assets", "resources"}
# A code with several homes has one meaning in all of them.
SHARED = {
    "account-id-missing": "the account that flags are about is not named",
    "account-not-one": "an export that must be of one account is of none or several",
    "account-not-verified": "a vendor refused what was asked to confirm an account",
    "answer-malformed": "a vendor's response cannot be read",
    "azure-unreachable": "Azure could not be asked",
    "billing-export-missing": "a dataset has no billing export",
    "column-missing": "a file lacks a column without which no cost can be allocated",
    "column-type-wrong": "a column holds something else than it must",
    "configuration-folder-unreadable": "a folder of the configuration cannot be read",
    "current-refresh-unknown": "it cannot be told which of several refreshes counts",
    "decision-contradicts": "a decision is at odds with earlier ones on the same item",
    "decision-items-missing": "it is not said which items a decision is about",
    "decision-month-missing": "items of an allocator are named without their month",
    "delivery-damaged": "a landed delivery is not what was landed",
    "domains-mixed": "deliveries of one payer are pro forma and billable",
    "export-incomplete": "an export lacks a part of itself",
    "exports-missing": "there is no export where one was looked for",
    "file-changed-while-read": "a file was replaced or cut off while it was read",
    "file-counted-twice": "the same data is there twice",
    "file-form-unknown": "a file is of a form that is not read",
    "file-empty": "a file has no bytes",
    "file-unreadable": "a file cannot be read",
    "flags-missing": "a command needs more flags",
    "folder-unreadable": "a folder cannot be read",
    "header-missing": "a file has no header line",
    "installation-has-problems": "something has to be fixed before a run",
    "item-ambiguous": "the beginning of an id does not name one item",
    "key-file-unreadable": "a file with a key cannot be read",
    "lake-not-writable": "the lake cannot be written",
    "line-malformed": "a line of a file is not what its format says",
    "manifest-malformed": "a manifest cannot be read",
    "month-became-empty": "a month that had rows has none any more",
    "month-lost": "rows that were landed are no longer offered",
    "month-not-covered": "an export has only a part of the month",
    "month-not-made": "a month was not run",
    "month-unknown": "a report does not say its month",
    "months-reversed": "the first month is after the last",
    "nul-character": "a text has a NUL character",
    "object-contended": "other processes keep writing the same object",
    "payer-has-no-payer": "a payer cannot have a payer",
    "rate-malformed": "a line of the exchange rates is wrong",
    "report-incomplete": "a report lacks a part of itself",
    "report-setup-wrong": "a payer's report cannot be set up so",
    "rows-of-another-month": "rows are of another month than they should be",
    "rows-unreadable": "fewer rows can be read than a file has",
    "sample-not-writable": "a sample cannot be written",
    "sample-settings-wrong": "a sample cannot be made so",
    "sas-refused": "a storage refuses a SAS",
    "secret-variable-not-set": "the variable with a secret is not set",
    "several-problems": "several things went wrong side by side",
    "source-document-wrong": "a source's document cannot be used so",
    "table-columns-wrong": "a billing table's columns are wrong",
    "value-wrong": "a value in a file is wrong",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def calls(tree: ast.Module, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def docstrings(tree: ast.Module) -> set[int]:
    bodies = (
        node.body
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
    )
    return {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}


def commands(group: typer.Typer, prefix: str = "") -> set[str]:
    group_commands = typer.main.get_group(group)

    def walk(command: object, name: str) -> Iterator[str]:
        children = getattr(command, "commands", None)
        if children is None:
            yield name
        for child, value in (children or {}).items():
            yield from walk(value, f"{name} {child}".strip())

    return set(walk(group_commands, ""))


def test_no_room_below_the_faces_names_a_command_or_a_variable() -> None:
    named = [
        f"{name}:{node.lineno}: {node.value!r}"
        for name, tree in modules()
        # The settings are the variables.
        if name.split("/")[0] not in FACES | {"settings.py"}
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"`octo |OCTO_[A-Z]", node.value)
        if id(node) not in docstrings(tree)
    ]
    assert named == []


def test_a_code_is_kebab_case_and_has_one_meaning() -> None:
    homes = defaultdict(set)
    for name, tree in modules():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            for keyword in call.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                    homes[keyword.value.value].add(name)
    assert [code for code in homes if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", str(code)) is None] == []
    assert {code for code, names in homes.items() if len(names) > 1} <= SHARED.keys()
    assert SHARED.keys() <= homes.keys()


def test_what_helps_exists() -> None:
    known = commands(app)
    for name, tree in modules():
        for call in calls(tree, "Remedy"):
            action = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
            options = {keyword.arg: keyword.value for keyword in call.keywords}
            if action in ("set", "unset"):
                setting = options["setting"]
                assert isinstance(setting, ast.Constant), name
                assert setting.value in Settings.model_fields, name
            else:
                assert action in known, name


@pytest.mark.parametrize(
    ("remedies", "typed", "launched"),
    [
        ((), "No.", "No."),
        (
            (Remedy("accounts confirm", "1", to="verify it"), Remedy("accounts show", "1")),
            "No. Run `octo accounts confirm 1` to verify it, or `octo accounts show 1`.",
            "No. Launch the job confirm_account with 1 to verify it. On the command line, run octo accounts show 1.",
        ),
        (
            (Remedy("run", month="2024-01"), Remedy("set", setting="temp", to="a folder")),
            "No. Run `octo run --month 2024-01`. Set OCTO_TEMP to a folder.",
            "No. Launch the job monthly_allocation with month 2024-01. Set OCTO_TEMP where this code location runs to a "
            "folder.",
        ),
        (
            (Remedy("unset", setting="token"),),
            "No. Unset OCTO_TOKEN.",
            "No. Unset OCTO_TOKEN where this code location runs.",
        ),
        (
            (Remedy("allocators add", "FILE", replace=True),),
            "No. Run `octo allocators add FILE --replace`.",
            "No. On the command line, run octo allocators add FILE --replace.",
        ),
    ],
)
def test_each_face_says_what_helps_in_its_own_words(remedies: tuple[Remedy, ...], typed: str, launched: str) -> None:
    error = OctoError("No.", code="no-good", remedy=remedies)
    assert str(error) == "No."
    assert sentence(error) == typed
    assert in_dagster(error) == launched


def test_errors_pass_between_processes_whole() -> None:
    error = NotAskedError("No.", code="no-good", place="here", remedy=Remedy("run", month="2024-01"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (NotAskedError, "No.", vars(error))
    document = pickle.loads(pickle.dumps(DocumentError([Problem("a.json", "id", "is missing")])))
    assert (document.code, document.place, document.problems[0].path) == ("document-wrong", "a.json", "id")


def test_errors_side_by_side_are_one_that_keeps_what_helps() -> None:
    first = OctoError("One.", code="no-good", remedy=Remedy("stale"))
    assert combined([first]) is first
    both = combined([first, OctoError("Two.", code="no-good", remedy=(Remedy("stale"), Remedy("doctor")))])
    assert (str(both), both.code) == ("One.\nTwo.", "several-problems")
    assert both.remedies == (Remedy("stale"), Remedy("doctor"))
