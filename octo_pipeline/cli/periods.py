"""`octo periods`: close months, reopen them, and see what changed since."""

from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.acting import admin
from octo_pipeline.cli.output import Output, OutputOption, print_rows

if TYPE_CHECKING:
    from octo_pipeline.registry.records import Actor
    from octo_pipeline.workspace import Workspace

app = typer.Typer(help="Months that close: what was invoiced stays as it is.", no_args_is_help=True)

MonthArgument = Annotated[str, typer.Argument(help="The month, YYYY-MM.")]
ProposeOption = Annotated[
    bool, typer.Option("--propose", help="Only propose it; another administrator confirms it by the same command.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.callback()
def _noun() -> None:
    """Months that close: what was invoiced stays as it is."""


@app.command("list")
def list_(output: OutputOption = Output.table) -> None:
    """List the months, their states, and which closed ones are known otherwise by now."""
    from octo_pipeline.services.periods import periods_of
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    rows = [
        (p.month, p.state, p.decided_by, p.decided_at and f"{p.decided_at:%Y-%m-%d}", p.reason, p.changed, p.proposal)
        for p in periods_of(Workspace(load_settings()))
    ]
    print_rows("Months", ("month", "state", "by", "on", "reason", "changed", "proposal"), rows, output)


@app.command()
def readiness(month: MonthArgument) -> None:
    """Say why a month should not be closed yet. The exit code is 1 if there is a reason."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.periods import readiness as reasons_against
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    reasons = reasons_against(Workspace(load_settings()), parse_month(month))
    if not reasons:
        typer.echo(f"{month} is ready to be closed.")
        return
    for reason in reasons:
        typer.echo(f"- {reason}")
    raise typer.Exit(1)


@app.command()
def close(
    month: Annotated[str | None, typer.Argument(help="The month, YYYY-MM.")] = None,
    through: Annotated[str | None, typer.Option(help="Instead: all open months up to this one.")] = None,
    despite: Annotated[str | None, typer.Option(help="Close it although something stands against it, and why.")] = None,
    propose: ProposeOption = False,
    yes: YesOption = False,
) -> None:
    """Close a month: its results stay as they are, and what changes it is booked in the first open month."""
    from octo_pipeline.model.errors import OctoError
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services import periods

    if (month is None) == (through is None):
        raise OctoError("Name either the month, or with --through the last one.", code="period-months-missing")
    workspace, actor = _acting()
    months = [parse_month(month)] if month else periods.through(workspace, parse_month(str(through)))
    if not months:
        typer.echo(f"Every month up to {through} is closed.")
        return
    if not yes:
        typer.confirm(f"{'Propose to close' if propose else 'Close'} {', '.join(months)}?", abort=True)
    periods.close(workspace, months, actor, despite=despite or "", is_proposal=propose)
    _say("closed, and what changes it from now on is booked in the first open month", months, propose)


@app.command()
def reopen(
    month: MonthArgument,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    propose: ProposeOption = False,
    yes: YesOption = False,
) -> None:
    """Reopen the newest closed month; its results are made again from current rules, deliveries and decisions."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services import periods

    workspace, actor = _acting()
    if not yes:
        typer.confirm(
            f"{'Propose to reopen' if propose else 'Reopen'} {month}? What was invoiced may change.", abort=True
        )
    periods.reopen(workspace, parse_month(month), actor, reason=reason, is_proposal=propose)
    _say("open again; `octo stale` lists what to run again", [month], propose)


@app.command()
def finalise(
    month: MonthArgument,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    propose: ProposeOption = False,
    yes: YesOption = False,
) -> None:
    """Make a closed month final: it is never reopened."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services import periods

    workspace, actor = _acting()
    if not yes:
        typer.confirm(f"{'Propose to make' if propose else 'Make'} {month} final? It cannot be undone.", abort=True)
    periods.finalise(workspace, parse_month(month), actor, reason=reason, is_proposal=propose)
    _say("final", [month], propose)


@app.command()
def drift(
    month: MonthArgument,
    with_current_rules: Annotated[
        bool,
        typer.Option("--with-current-rules", help="Preview it with today's rules; nothing of that is ever booked."),
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Show what a closed month is known as now, against what is booked for it, and why it differs."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.periods import drift as drift_of
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    cause, rows = drift_of(Workspace(load_settings()), parse_month(month), with_current_rules=with_current_rules)
    if output is Output.table and not rows:
        typer.echo(f"{month} is known as it is booked.")
        return
    why = "with today's rules" if with_current_rules else f"because of: {cause}"
    print_rows(f"{month} as it is known, {why}", rows.columns, rows.rows, output)


@app.command()
def corrections(month: MonthArgument, output: OutputOption = Output.table) -> None:
    """Show what a month corrects of closed ones, by owner and allocator."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services.periods import corrections_of
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    rows = corrections_of(Workspace(load_settings()), parse_month(month))
    if output is Output.table and not rows:
        typer.echo(f"{month} corrects nothing.")
        return
    print_rows(f"Corrections booked in {month}", rows.columns, rows.rows, output)


@app.command()
def accept(
    month: MonthArgument, reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "", yes: YesOption = False
) -> None:
    """Let be booked what only a new version of the program computes otherwise in a closed month."""
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.services import periods

    workspace, actor = _acting()
    if not yes:
        typer.confirm(f"Book what this version of the program computes otherwise in {month}?", abort=True)
    periods.accept(workspace, parse_month(month), actor, reason=reason)
    typer.echo(f"Accepted for {month}. `octo stale` lists what to run again.")


def _acting() -> "tuple[Workspace, Actor]":
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    return workspace, admin(workspace)


def _say(state: str, months: list[str], propose: bool) -> None:
    named = ", ".join(months)
    if propose:
        typer.echo(f"Proposed for {named}. Another administrator confirms it by the same command without --propose.")
    else:
        typer.echo(f"{named} {'is' if len(months) == 1 else 'are'} {state}.")
