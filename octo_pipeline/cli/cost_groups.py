"""`octo cost-groups`: the cost group documents, and what each costs."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import amount, reason

if TYPE_CHECKING:
    from octo_pipeline.model.rows import Rows
    from octo_pipeline.rules.cost_group import CostGroup
    from octo_pipeline.rules.documents import Problem

app = typer.Typer(help="Cost groups and what they cost.", no_args_is_help=True)

# Tables must fit into 100 characters, so they have the service's code but not its name.
_TABLE_COLUMNS = ("month", "section", "account", "service_code", "currency", "cost")


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
    rows = [
        (
            g.id,
            g.name,
            ", ".join(dict.fromkeys(v for v, options in g.combinations.by_vendor() if options.sql())),
            g.version[:8],
        )
        for g in groups
    ]
    print_rows("Cost groups", ("id", "name", "vendors", "version"), rows, output)


@app.command()
def show(
    cost_group: Annotated[str, typer.Argument(metavar="ID", help="The cost group.")],
    month: Annotated[str, typer.Option(help="The month, YYYY-MM; with --from, the last month of the range.")],
    first: Annotated[str | None, typer.Option("--from", help="First month of a range.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what a cost group costs in a month or a range of months."""
    from octo_pipeline.services.costs import cost_group_costs
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    months = _months(first or month, month)
    costs = cost_group_costs(Workspace(load_settings()), cost_group, months)
    if output is not Output.table:
        print_rows("", costs.columns, costs.rows, output)
        return
    title = f"Cost group {cost_group}, {months[0]}" + (f" to {months[-1]}" if len(months) > 1 else "")
    print_rows(title, _TABLE_COLUMNS, costs.select(*_TABLE_COLUMNS), output)
    _print_totals(costs)


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


def _print_totals(costs: "Rows") -> None:
    totals: dict[str, dict[str, Decimal]] = {}
    for section, currency, cost in costs.select("section", "currency", "cost"):
        sums = totals.setdefault(currency, {"cost": Decimal(0), "savings": Decimal(0)})
        sums["savings" if section == "savings" else "cost"] += cost
    for currency, sums in sorted(totals.items()):
        typer.echo(
            f"Cost {amount(sums['cost'], currency)} (direct, account and fee); "
            f"savings, not included: {amount(sums['savings'], currency)}."
        )
    typer.echo(
        "Fees and savings are per account. Cost groups that share an account share them, so do not add groups up."
    )
