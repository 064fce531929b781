"""`octo cost-groups`: the cost group documents, and what each costs."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import amount, reason

if TYPE_CHECKING:
    from octo_pipeline.rules.documents import Problem

app = typer.Typer(help="Cost groups and what they cost.", no_args_is_help=True)

_COLUMNS = ("month", "section", "vendor", "account", "service_code", "service_name", "currency", "cost")
# A person reads a service by one name, and 100 columns are few.
_SHOWN = ("month", "section", "account", "service_code", "currency", "cost")


@app.callback()
def _noun() -> None:
    """Cost groups and what they cost."""


@app.command()
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Cost group files; all of the configuration if none is named.")
    ] = None,
) -> None:
    """Say everything that is wrong in cost groups; exit code 1 if anything is."""
    from octo_pipeline.rules.documents import DocumentError

    count, problems = _validate_files(files) if files else _validate_folder()
    if problems:
        raise DocumentError(problems)
    typer.echo(f"{count} cost group{' is' if count == 1 else 's are'} valid.")


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
            ", ".join(v for v, options in g.combinations.by_vendor().items() if options.sql()),
            g.version[:8],
        )
        for g in groups
    ]
    print_rows("Cost groups", ("id", "name", "vendors", "version"), rows, output)


@app.command()
def show(
    cost_group: Annotated[str, typer.Argument(metavar="ID", help="The cost group.")],
    month: Annotated[str, typer.Option(help="The month, YYYY-MM; with --from the last one.")],
    first: Annotated[str | None, typer.Option("--from", help="First month of a range.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what a cost group costs in a month or a range of months."""
    months = _months(first or month, month)
    rows = _costs(cost_group, months)
    if output is not Output.table:
        print_rows("", _COLUMNS, rows, output)
        return
    title = f"Cost group {cost_group}, {months[0]}" + (f" to {months[-1]}" if len(months) > 1 else "")
    shown = [_COLUMNS.index(name) for name in _SHOWN]
    print_rows(title, _SHOWN, [[row[i] for i in shown] for row in rows], output)
    _print_totals(rows)


def _validate_files(files: list[Path]) -> tuple[int, list["Problem"]]:
    from octo_pipeline.rules.cost_group import parse_cost_group
    from octo_pipeline.rules.documents import DocumentError

    problems: list[Problem] = []
    for file in files:
        try:
            parse_cost_group(file.read_bytes(), file=str(file))
        except DocumentError as error:
            problems += error.problems
        except OSError as error:
            raise OctoError(f"Cannot read {file}: {reason(error)}.", code="file-unreadable") from error
    return len(files), problems


def _validate_folder() -> tuple[int, list["Problem"]]:
    from octo_pipeline.rules.cost_group import load_cost_groups
    from octo_pipeline.settings import load_settings

    groups, problems = load_cost_groups(load_settings().config / "cost_groups")
    return len(groups), list(problems)


def _months(first: str, last: str) -> list[str]:
    from octo_pipeline.model.months import month_range, parse_month

    months = month_range(parse_month(first), parse_month(last))
    if not months:
        raise OctoError(f"--from {first} is after --month {last}.", code="months-reversed")
    return months


def _costs(cost_group: str, months: list[str]) -> list[tuple[Any, ...]]:
    from octo_pipeline.model.sql import literal
    from octo_pipeline.settings import load_settings
    from octo_pipeline.tables.cost_group_costs import CostGroupCosts
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    lake = workspace.lake
    made = lake.months(CostGroupCosts.name)
    missing = [m for m in months if m not in made]
    if missing:
        raise OctoError(
            f"The lake has no cost group costs of {', '.join(missing)}. Run `octo run --month {missing[0]}` first.",
            code="month-not-made",
        )
    with lake.connect() as connection:
        relation = lake.scan(CostGroupCosts.name, months, CostGroupCosts.columns, month_as="month")
        rows = connection.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM {relation} WHERE cost_group_id = {literal(cost_group)} "
            "ORDER BY month, list_position(['direct', 'account', 'fee', 'savings'], section), currency, account, "
            "service_code, vendor"
        ).fetchall()
    # A group that is gone from the configuration still has the costs of its months.
    if not rows and cost_group not in workspace.configuration.cost_groups:
        raise OctoError(
            f"There is no cost group {cost_group}; `octo cost-groups list` shows all.", code="cost-group-unknown"
        )
    return rows


def _print_totals(rows: list[tuple[Any, ...]]) -> None:
    totals: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        part = "savings" if row[1] == "savings" else "cost"
        sums = totals.setdefault(row[6], {"cost": Decimal(0), "savings": Decimal(0)})
        sums[part] += row[7]
    for currency, sums in sorted(totals.items()):
        typer.echo(
            f"Cost {amount(sums['cost'], currency)} (direct, account and fee); "
            f"savings beside it {amount(sums['savings'], currency)}."
        )
    typer.echo("Fees and savings go by account: cost groups that share an account share them, so do not add groups up.")
