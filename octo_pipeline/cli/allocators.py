"""`octo allocators`: the allocator documents of the configuration folder, and simulations of them.

This module only asks services and prints. What an allocator means belongs in `rules`, what a simulation computes in
`services.simulate`.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.acting import editor
from octo_pipeline.cli.allocations import Category
from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.cli.versions import VersionArgument, print_versions
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import counted

if TYPE_CHECKING:
    from octo_pipeline.model.rows import Rows
    from octo_pipeline.rules.allocator import Allocator
    from octo_pipeline.rules.documents import Problem
    from octo_pipeline.services.rules import Submission
    from octo_pipeline.services.simulate import Simulation
    from octo_pipeline.settings import Settings
    from octo_pipeline.workspace import Workspace

app = typer.Typer(help="Allocators: the rules that say which items go where.", no_args_is_help=True)

_EXIT_CODES = "Exit codes: 0 done; 1 an error, a problem, or a question answered with no; 2 wrong usage."

FileArgument = Annotated[Path, typer.Argument(help="The allocator's JSON file.")]
FileOrStdinArgument = Annotated[Path, typer.Argument(help="The allocator's JSON file; - reads it from standard input.")]
IdArgument = Annotated[str, typer.Argument(help="The allocator's id.")]

# Tables end after this many rows; csv and json have every row.
_MOST = 50

# The columns of matched items that a table has, under short names, because a column is at least as wide as its heading.
_ITEM = {"account": "account"}
_TAKEN = {"taken_by": "taken by", "currency": "currency", "cost": "cost", "effective_cost": "effective"}
_MATCHED: dict[str, dict[str, str]] = {
    "fee": _ITEM | {"line_type": "type", "service_code": "service", "charge_description": "description"} | _TAKEN,
    "account": _ITEM | {"usage_date": "date", "service_code": "service", "usage_type": "usage"} | _TAKEN,
    "savings": _ITEM
    | {"savings_kind": "kind", "service_code": "service", "commitment_discount_id": "commitment"}
    | {name: label for name, label in _TAKEN.items() if name != "effective_cost"},
    "balance": _ITEM | {"step": "step"} | _TAKEN,
}
_BOOKINGS = ("month", "from", "to", "usage", "formula", "part", "currency", "cost", "effective_cost")
# Six amounts do not fit beside each other; json has them.
_DIFFERENCES = (
    "booking_month", "category", "account", "currency", "live", "simulated", "difference", "effective_difference",
)  # fmt: skip


@app.callback(epilog=_EXIT_CODES)
def _noun() -> None:
    """Allocators: the rules that say which items go where."""


@app.command(epilog=_EXIT_CODES)
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Allocator files; all of the configuration folder if none is named.")
    ] = None,
) -> None:
    """Check documents and print every problem as `file: path: message`."""
    from octo_pipeline.settings import load_settings

    settings = load_settings()
    valid, problems, hints = _check_files(files, settings) if files else _check_folder(settings)
    for problem in [*problems, *hints]:
        typer.echo(str(problem))
    if problems:
        bad = len({problem.file for problem in problems})
        raise OctoError(
            f"{counted(len(problems), 'problem')} in {bad} of {counted(bad + valid, 'file')}.", code="documents-wrong"
        )
    typer.echo(f"{valid} file{' is' if valid == 1 else 's are'} valid.")


def _check_files(files: list[Path], settings: "Settings") -> "tuple[int, list[Problem], list[Problem]]":
    """How many are valid, what is wrong in the others, and what is allowed but hardly meant."""
    from octo_pipeline.rules.allocator import hints_of, parse_allocator
    from octo_pipeline.rules.documents import DocumentError, Problem
    from octo_pipeline.services import rules as allocator_files
    from octo_pipeline.services.documents import read
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(settings)
    valid = 0
    problems: list[Problem] = []
    hints: list[Problem] = []
    for file in files:
        try:
            allocator = parse_allocator(read(file), file=str(file))
            allocator_files.require_cost_groups(workspace, allocator, str(file))
            hints += [Problem(str(file), path, hint) for path, hint in hints_of(allocator)]
            hints += allocator_files.unknown_metrics(workspace, {str(file): allocator})
            valid += 1
        except DocumentError as error:
            problems += error.problems
    return valid, problems, hints


def _check_folder(settings: "Settings") -> "tuple[int, list[Problem], list[Problem]]":
    """The same for the whole configuration: allocators, cost groups, exchange rates, metrics and cost centres."""
    from octo_pipeline.rules.allocator import hints_of, load_allocators
    from octo_pipeline.rules.conditions import pattern_hints
    from octo_pipeline.rules.cost_centres import FILE, load_cost_centres
    from octo_pipeline.rules.cost_group import load_cost_groups
    from octo_pipeline.rules.documents import DocumentError, Problem
    from octo_pipeline.rules.metrics import load_metrics
    from octo_pipeline.rules.rates import load_rates
    from octo_pipeline.services import rules as allocator_files
    from octo_pipeline.workspace import Workspace

    # One version of the whole folder, where a link to it can be exchanged.
    workspace = Workspace(settings)
    config = workspace.settings.config
    cost_groups, cost_group_problems = load_cost_groups(config / "cost_groups")
    groups = {group.id: group for group in cost_groups}
    allocators, allocator_problems = load_allocators(allocator_files.folder_of(config).path, groups)
    metrics, metric_problems = load_metrics(config / "metrics")
    valid = len(allocators) + len(cost_groups) + len(metrics)
    problems = [*allocator_problems, *cost_group_problems, *metric_problems]
    for read in (
        lambda: load_rates(config / "exchange_rates.csv", settings.base_currency),
        lambda: load_cost_centres(config / FILE),
    ):
        try:
            read()
        except DocumentError as error:
            problems += error.problems
    hints = [Problem(a.id, path, hint) for a in allocators for path, hint in hints_of(a)]
    hints += [Problem(group.id, "combinations", hint) for group in cost_groups for hint in pattern_hints(group.maps())]
    hints += allocator_files.unknown_metrics(workspace, {a.id: a for a in allocators})
    return valid, problems, hints


@app.command("list", epilog=_EXIT_CODES)
def list_(output: OutputOption = Output.table) -> None:
    """List the allocators in the order in which they take items; those for balances take them step by step."""
    from octo_pipeline.model.rows import Rows
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    configuration = Workspace(load_settings()).configuration
    rows = [
        (
            a.id,
            a.category,
            a.priority,
            a.start,
            a.end or "",
            a.tranche_count,
            len(a.entries),
            a.default_account or "",
            a.name,
            a.step,
        )
        for a in configuration.allocators
    ]
    columns = ("id", "category", "priority", "start", "end", "months", "entries", "default_account", "name", "step")
    listed = Rows(columns, tuple(rows))
    if output is Output.table and not any(listed.column("step")):
        listed = listed.picked([name for name in columns if name != "step"])
    print_rows("Allocators; the first that matches takes an item", listed.columns, listed.rows, output)
    left_out = sorted({p.file for p in configuration.problems})
    if left_out:
        typer.echo(f"Invalid and left out: {', '.join(left_out)}. `octo allocators validate` says why.", err=True)


@app.command("attributes", epilog=_EXIT_CODES)
def attributes_(output: OutputOption = Output.table) -> None:
    """List the keys that criteria of each category and filters of cost groups may have."""
    from octo_pipeline.services.attributes import attributes

    rows = attributes()
    print_rows("Keys of criteria and filters", rows.columns, rows.rows, output)


@app.command(epilog=_EXIT_CODES)
def sources(
    key: Annotated[
        str,
        typer.Argument(
            help="A key of `octo allocators attributes`; tag or projectLabel for their names, tag:NAME for the values of one; "
            "group for cost groups; metric for metrics."
        ),
    ],
    month: Annotated[
        str | None, typer.Option(help="The month, YYYY-MM; the current month if the lake has it, else the latest.")
    ] = None,
    category: Annotated[Category | None, typer.Option(help="Only what items of this category are made of.")] = None,
    text: Annotated[str | None, typer.Option(help="Only values and names that contain it.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many values at most.")] = _MOST,
    output: OutputOption = Output.table,
) -> None:
    """List which values a key has in a month, those of most line items first."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.attributes import attribute_values, values_query
    from octo_pipeline.services.simulate import current_or_latest
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    month = parse_month(month) if month else current_or_latest(workspace, datetime.now(UTC))
    query = values_query(workspace, key, month, category=category, text=text, most=limit)
    rows = attribute_values(workspace, query)
    print_rows(f"Values of {key} in {month}", rows.columns, rows.rows, output)


@app.command(epilog=_EXIT_CODES)
def show(allocator_id: IdArgument) -> None:
    """Print an allocator as it is read: with the defaults of what the file leaves out."""
    from octo_pipeline.rules.allocator import parse_allocator
    from octo_pipeline.services import rules as allocator_files
    from octo_pipeline.services.documents import read
    from octo_pipeline.settings import load_settings

    path = allocator_files.path_of(allocator_files.folder_of(load_settings().config), allocator_id)
    allocator = parse_allocator(read(path), file=str(path))
    typer.echo(json.dumps(allocator.normalised(), ensure_ascii=False, indent=2))
    # On stderr, so that the document can be redirected into a file, edited and added again.
    typer.echo(f"{path}, valid {_window(allocator)}, version {allocator.version}", err=True)


@app.command(epilog=_EXIT_CODES)
def versions(allocator_id: IdArgument, version: VersionArgument = None, output: OutputOption = Output.table) -> None:
    """List what an allocator said and says: who saved it when, and the months that are pinned to it."""
    print_versions("allocator", allocator_id, version, output)


@app.command(epilog=_EXIT_CODES)
def add(
    file: FileArgument,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the allocator of the same id.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Check and simulate an allocator, ask, and save it in the configuration folder."""
    from octo_pipeline.services import rules as allocator_files
    from octo_pipeline.services.documents import read
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = editor(workspace)
    now = datetime.now(UTC)
    # Read once, so that what is saved is what was simulated, even if the file changes in the meantime.
    submission = allocator_files.submitted(workspace, read(file), str(file), now)
    allocator = submission.allocator
    target = allocator_files.folder_of(workspace.settings.config).target_of(allocator.id, replace=replace)
    if workspace.lake.months("cost_line_items"):
        _print_simulation(_simulated(workspace, submission, now, None))
    else:
        typer.echo("The lake has no line items yet, so there is nothing to simulate.")
    typer.echo(f"{allocator.id} will be valid {_window(allocator)}, saved as {target}.")
    if not yes:
        typer.confirm("Replace it?" if target.exists() else "Save it?", abort=True)
    allocator_files.save(workspace, submission, actor, replace=replace)
    typer.echo("Saved. `octo stale` lists the months to run again.")


@app.command(epilog=_EXIT_CODES)
def supersede(
    allocator_id: IdArgument,
    file: FileArgument,
    first: Annotated[
        str, typer.Option("--from", help="The first month of the new allocator, YYYY-MM; the old one ends before it.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End an allocator and start another one, with an id of its own, in the next month. Both are saved, or neither."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services import rules as allocator_files
    from octo_pipeline.services.documents import read
    from octo_pipeline.services.simulate import simulate
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = editor(workspace)
    planned = allocator_files.succession(
        workspace, allocator_id, read(file), str(file), parse_month(first), datetime.now(UTC)
    )
    old, new = planned.predecessor.allocator, planned.successor.allocator
    target = allocator_files.folder_of(workspace.settings.config).target_of(new.id, replace=False)
    if planned.first_month in workspace.lake.months("cost_line_items"):
        _print_simulation(simulate(workspace, new, planned.first_month, ended=old))
    else:
        typer.echo(f"The lake has no line items of {planned.first_month}, so there is nothing to simulate.")
    for note in allocator_files.frozen_note(workspace, new):
        typer.echo(note)
    typer.echo(f"{old.id} will be valid {_window(old)}, {new.id} {_window(new)}, saved as {target}.")
    if not yes:
        typer.confirm("Save both?", abort=True)
    allocator_files.save_succession(workspace, planned, actor)
    typer.echo("Saved. `octo stale` lists the months to run again.")


@app.command(epilog=_EXIT_CODES)
def remove(
    allocator_id: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove an allocator. Months that were run with it stay as they are until they are run again."""
    from octo_pipeline.services import rules as allocator_files
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = editor(workspace)
    path = allocator_files.path_of(allocator_files.folder_of(workspace.settings.config), allocator_id)
    if not yes:
        typer.confirm(f"Remove {path}?", abort=True)
    allocator_files.remove(workspace, allocator_id, actor)
    typer.echo("Removed. `octo stale` lists the months that were run with it.")


@app.command(epilog=_EXIT_CODES)
def simulate(
    file: FileOrStdinArgument,
    month: Annotated[
        str | None,
        typer.Option(help="The month to simulate, YYYY-MM; the current month if the lake has it, else the latest."),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what an allocator would do to the items of a month; nothing is written.

    csv prints every split and remainder; json prints everything.
    """
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services import rules as allocator_files
    from octo_pipeline.services.documents import read
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    now = datetime.now(UTC)
    content, name = (sys.stdin.buffer.read(), "stdin") if str(file) == "-" else (read(file), str(file))
    submission = allocator_files.submitted(workspace, content, name, now)
    simulation = _simulated(workspace, submission, now, parse_month(month) if month else None)
    if output is Output.json:
        sys.stdout.write(json.dumps(simulation.values, ensure_ascii=False, indent=1, default=str) + "\n")
    elif output in (Output.csv, Output.raw):
        print_rows("", simulation.bookings.columns, simulation.bookings.rows, output)
    else:
        _print_simulation(simulation)


def _simulated(workspace: "Workspace", submission: "Submission", now: datetime, month: str | None) -> "Simulation":
    from octo_pipeline.services.rules import simulate_submission

    simulation, notes = simulate_submission(workspace, submission, now, month)
    for note in notes:
        typer.echo(note, err=True)
    return simulation


def _window(allocator: "Allocator") -> str:
    return f"from {allocator.start}" + (f" to {allocator.end}" if allocator.end else " without end")


def _print_simulation(simulation: "Simulation") -> None:
    """Print the sections that have rows, then the warnings."""
    from octo_pipeline.services.simulate import SECTIONS

    typer.echo(simulation.headline)
    if simulation.consequence:
        typer.echo(simulation.consequence)
    typer.echo()
    for name, title in SECTIONS.items():
        if name == "matched_items":
            _print_section(title, simulation.matched_items, _MATCHED[simulation.allocator.category])
        elif name == "bookings":
            _print_section(title, _readable(simulation.bookings))
        elif name == "differences":
            _print_section(title, simulation.differences.picked(_DIFFERENCES))
        elif name != "matched_costs":  # the first line has them
            _print_section(title, simulation.tables[name])
    if not simulation.differences:
        typer.echo("No account's cost would change.")
    for warning in simulation.warnings:
        typer.echo(f"Warning: {warning}")


def _print_section(title: str, rows: "Rows", labels: dict[str, str] | None = None) -> None:
    if not rows:
        return
    rows = rows.without_repeated_costs()
    labels = labels or {name: name for name in rows.columns if name != "item_id"}
    labels = {name: label for name, label in labels.items() if name in rows.columns}
    print_rows(title, tuple(labels.values()), rows.select(*labels)[:_MOST], Output.table)
    if len(rows) > _MOST:
        total = f"; the total is {rows.total()}" if "cost" in rows.columns else ""
        typer.echo(f"… and {len(rows) - _MOST:,} more{total}. --output json has them all.\n")


def _readable(bookings: "Rows") -> "Rows":
    """The bookings with the columns `_BOOKINGS`: the share as a percentage, the instalment as `1/3`, remainders named."""
    from octo_pipeline.model.rows import Rows

    rows = []
    for values in bookings.rows:
        row = dict(zip(bookings.columns, values, strict=True))
        rows.append(
            (
                row["booking_month"],
                row["source_account"] or row["source_group"],
                row["target_account"] or row["target_group"],
                None if row["usage_share"] is None else f"{row['usage_share']:.2%}",
                row["formula"] or (row["reason"] or row["kind"]).replace("_", " "),
                f"{row['tranche_index'] + 1}/{row['tranche_count']}",
                row["currency"],
                row["cost"],
                row["effective_cost"],
            )
        )
    return Rows(_BOOKINGS, tuple(rows))
