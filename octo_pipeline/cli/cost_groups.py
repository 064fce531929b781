"""`octo cost-groups`: the cost group documents, and what each costs."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octo_pipeline.cli.acting import editor
from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.cli.versions import VersionArgument, print_versions
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import amount, plain, reason

if TYPE_CHECKING:
    from octo_pipeline.rules.cost_group import CostGroup
    from octo_pipeline.rules.documents import Problem
    from octo_pipeline.services.cost_groups import GroupPreview

app = typer.Typer(help="Cost groups and what they cost.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The cost group.")]
# Tables end after this many rows; json has all that a preview lists.
_MOST = 50

# Tables must fit into 100 characters, so they have the service's code but not its name.
_TABLE_COLUMNS = ("month", "section", "account", "service_code", "currency", "cost", "effective_cost")


class By(StrEnum):
    """By what the costs of a group are summed up."""

    month = "month"
    account = "account"
    service = "service"
    vendor = "vendor"
    group = "group"


# How the table calls the columns of sections.
_SECTIONS = {
    "direct": "direct",
    "account_usage": "usage",
    "fee": "fee",
    "balance": "steps",
    "correction": "corrected",
    "cost": "cost",
    "savings": "savings",
    "effective_cost": "amortised",
    "currency": "",
}
# The column of each.
_COLUMNS = {By.month: "month", By.account: "account", By.service: "service_code", By.vendor: "vendor"} | {
    By.group: "cost_group_id"
}


@app.callback()
def _noun() -> None:
    """Cost groups and what they cost."""


@app.command()
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Cost group files; all of the configuration if none is named.")
    ] = None,
) -> None:
    """Print everything that is wrong in cost groups; exit code 1 if anything is."""
    from octo_pipeline.rules.conditions import pattern_hints
    from octo_pipeline.rules.documents import DocumentError, Problem

    groups, problems = _validate_files(files) if files else _validate_folder()
    for group in groups:
        for hint in pattern_hints(group.maps()):
            typer.echo(str(Problem(group.id, "combinations", hint)))
    if problems:
        raise DocumentError(problems)
    typer.echo(f"{len(groups)} cost group{' is' if len(groups) == 1 else 's are'} valid.")


@app.command("list")
def list_(output: OutputOption = Output.table) -> None:
    """List the valid cost groups."""
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    groups = Workspace(load_settings()).configuration.cost_groups.values()
    rows = [(group.id, group.name, ", ".join(group.vendors), group.version[:8]) for group in groups]
    print_rows("Cost groups", ("id", "name", "vendors", "version"), rows, output)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="The cost group's JSON file.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the cost group of the same id.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Check a cost group, show what it matches, ask, and save it in the configuration folder."""
    from octo_pipeline.services import cost_groups
    from octo_pipeline.services.documents import read
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = editor(workspace)
    # Read once, so that what is saved is what was previewed, even if the file changes in the meantime.
    submission = cost_groups.submitted_group(read(file), str(file))
    target = cost_groups.folder_of(workspace.settings.config).target_of(submission.group.id, replace=replace)
    if workspace.lake.months("cost_line_items"):
        _print_preview(cost_groups.preview_group(workspace, submission.group, None, datetime.now(UTC)))
    else:
        typer.echo("The lake has no line items yet, so there is nothing to preview.")
    typer.echo(f"{submission.group.id} will be saved as {target}.")
    if not yes:
        typer.confirm("Replace it?" if target.exists() else "Save it?", abort=True)
    cost_groups.save_group(workspace, submission, actor, replace=replace)
    typer.echo("Saved. `octo stale` lists the months to run again.")


@app.command()
def preview(
    file: Annotated[Path, typer.Argument(help="The cost group's JSON file; - reads it from standard input.")],
    month: Annotated[
        str | None,
        typer.Option(help="The month, YYYY-MM; the current month if the lake has it, else the latest."),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what a cost group matches in a month; nothing is saved.

    csv prints its accounts; json prints everything.
    """
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.cost_groups import preview_group, submitted_group
    from octo_pipeline.services.documents import read
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    content, name = (sys.stdin.buffer.read(), "stdin") if str(file) == "-" else (read(file), str(file))
    group = submitted_group(content, name).group
    previewed = preview_group(
        Workspace(load_settings()), group, parse_month(month) if month else None, datetime.now(UTC)
    )
    if output is Output.json:
        sys.stdout.write(json.dumps(previewed.values, ensure_ascii=False, indent=1) + "\n")
    elif output is Output.table:
        _print_preview(previewed)
    else:
        print_rows("", previewed.accounts.columns, previewed.accounts.rows, output)


@app.command()
def versions(cost_group: IdArgument, version: VersionArgument = None, output: OutputOption = Output.table) -> None:
    """List what a cost group said and says: who saved it when, and the months that were made with it."""
    print_versions("cost_group", cost_group, version, output)


@app.command()
def remove(
    cost_group: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a cost group that no rule names. Months that were run with it stay until they are run again."""
    from octo_pipeline.services import cost_groups
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    actor = editor(workspace)
    path = cost_groups.path_of(workspace, cost_group)
    for use in cost_groups.uses_of(workspace, cost_group):
        verb = "matches" if use.is_pattern else "names"
        typer.echo(plain(f"{use.document} {verb} it: {use.path} is {use.value}."))
    if not yes:
        typer.confirm(f"Remove {path}?", abort=True)
    cost_groups.remove_group(workspace, cost_group, actor)
    typer.echo("Removed. `octo stale` lists the months that were run with it.")


@app.command()
def show(
    cost_group: IdArgument,
    month: Annotated[str, typer.Option(help="The month, YYYY-MM; with --from, the last month of the range.")],
    first: Annotated[str | None, typer.Option("--from", help="First month of a range.")] = None,
    by: Annotated[By | None, typer.Option(help="Sum up, a row for each of these.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what a cost group costs in a month or a range of months; of a family, what each of its groups costs.

    The table has a subtotal of each section; json, csv and raw have none, so that their rows add up.
    """
    from octo_pipeline.model.rows import Rows
    from octo_pipeline.services.costs import cost_group_costs, is_family_of_groups
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    months = _months(first or month, month)
    workspace = Workspace(load_settings())
    is_family = is_family_of_groups(workspace, cost_group)
    if is_family and by is None:
        by = By.group
    costs = cost_group_costs(workspace, cost_group, months, _COLUMNS[by] if by else None)
    if output is not Output.table:
        print_rows("", costs.columns, costs.rows, output)
        return
    if not costs.rows:
        typer.echo(
            f"{cost_group} has no costs in {' to '.join(dict.fromkeys((months[0], months[-1])))}. If it is new or was changed, "
            "run the month again; `octo stale` lists what is out of date."
        )
        return
    kind = "Family" if is_family else "Cost group"
    title = f"{kind} {cost_group}, {months[0]}" + (f" to {months[-1]}" if len(months) > 1 else "")
    if by:
        # Short names, and the currency last without one, keep the table within 80 columns.
        labels = {_COLUMNS[by]: by.value} | _SECTIONS
        for name in ("balance", "correction"):
            if not any(costs.column(name)):
                del labels[name]
        table = costs.picked(tuple(labels)).without_repeated_costs()
        print_rows(title, tuple(labels[name] for name in table.columns), table.rows, output)
        totals = costs.select("currency", "cost", "effective_cost", "savings")
    else:
        table = Rows(_TABLE_COLUMNS, tuple(_with_subtotals(costs.select(*_TABLE_COLUMNS)))).without_repeated_costs()
        print_rows(title, table.columns, table.rows, output)
        totals = [
            (currency, Decimal(0), Decimal(0), cost)
            if section in ("savings", "savings_correction")
            # A month that was made by the first edition has no effective cost.
            else (currency, cost, cost if effective_cost is None else effective_cost, Decimal(0))
            for section, currency, cost, effective_cost in costs.select("section", "currency", "cost", "effective_cost")
        ]
    more = [
        name
        for name in ("balance", "correction")
        if (any(costs.column(name)) if by else name in costs.column("section"))
    ]
    _print_totals(totals, ["direct", "account", "fee", *more])
    if is_family:
        typer.echo("The groups of a family share nothing, so they add up.")
    else:
        typer.echo(
            "Fees and savings are per account. Cost groups that share an account share them, so do not add groups up."
        )


def _print_preview(previewed: "GroupPreview") -> None:
    """Print what a document matches: in a sentence, then its groups or accounts, then the hints."""
    typer.echo(f"{previewed.headline}\n")
    for title, rows in (("Its groups", previewed.groups), ("Its accounts", previewed.accounts)):
        if rows:
            table = rows.without_repeated_costs()
            print_rows(title, table.columns, table.rows[:_MOST], Output.table)
            if len(rows) > _MOST:
                typer.echo(f"… and more, the largest first. --output json has {len(rows):,} of them.\n")
    for hint in previewed.hints:
        typer.echo(plain(f"Hint: {hint}."))


def _validate_files(files: list[Path]) -> tuple[Sequence["CostGroup"], Sequence["Problem"]]:
    from octo_pipeline.rules.cost_group import parse_cost_group
    from octo_pipeline.rules.documents import DocumentError

    groups: list[CostGroup] = []
    problems: list[Problem] = []
    for file in files:
        try:
            groups.append(parse_cost_group(file.read_bytes(), file=str(file)))
        except DocumentError as error:
            problems += error.problems
        except OSError as error:
            raise OctoError(f"Cannot read {file}: {reason(error)}.", code="file-unreadable") from error
    return groups, problems


def _validate_folder() -> tuple[Sequence["CostGroup"], Sequence["Problem"]]:
    from octo_pipeline.rules.cost_group import load_cost_groups
    from octo_pipeline.settings import load_settings

    return load_cost_groups(load_settings().config / "cost_groups")


def _months(first: str, last: str) -> list[str]:
    from octo_pipeline.model.months import month_range, parse_month

    months = month_range(parse_month(first), parse_month(last))
    if not months:
        raise OctoError(f"--from {first} is after --month {last}.", code="months-reversed")
    return months


def _with_subtotals(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows of `_TABLE_COLUMNS`, and after each month's section and currency its sum."""
    lines: list[tuple[Any, ...]] = []
    for (month, section, currency), group in groupby(rows, key=lambda row: (row[0], row[1], row[4])):
        lines += (members := list(group))
        sums = (sum((row[n] or Decimal(0) for row in members), Decimal(0)) for n in (5, 6))
        lines.append((month, section, "subtotal", "", currency, *sums))
    return lines


def _print_totals(costs: Sequence[tuple[str, Decimal, Decimal, Decimal]], sections: Sequence[str]) -> None:
    """Print the sums of (currency, cost, effective cost, savings), and the sections that are part of the cost."""
    summed = f"{', '.join(sections[:-1])} and {sections[-1]}"
    for currency in sorted({currency for currency, *_ in costs}):
        rows = [row for row in costs if row[0] == currency]
        cost, effective_cost, savings = (sum(amounts, Decimal(0)) for amounts in list(zip(*rows, strict=True))[1:])
        amortised = f", amortised {amount(effective_cost, currency)}" if effective_cost != cost else ""
        typer.echo(
            f"Cost {amount(cost, currency)}{amortised} ({summed}); savings, not included: {amount(savings, currency)}."
        )
