"""`octo explain`: why figures are what they are."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octo_pipeline.cli.output import Output, OutputOption, print_rows
from octo_pipeline.model.wording import amount, counted

if TYPE_CHECKING:
    from octo_pipeline.services.causes import Cause, Change, Subject

app = typer.Typer(help="Why costs changed.", no_args_is_help=True)

# What machines get of each cause; people get its sentence.
_COLUMNS = (
    "currency", "cause", "part", "effect", "rule", "vendor", "service_code", "service_name", "region_id", "usage_type", "what",
    "taken_by_before", "taken_by_after", "versions_before", "versions_after", "quantity_before", "quantity_after",
    "cost_before", "cost_after", "effective_cost_before", "effective_cost_after",
    "pool_cost_before", "pool_cost_after", "pool_effective_cost_before", "pool_effective_cost_after",
    "difference", "effective_difference",
)  # fmt: skip


@app.callback()
def _noun() -> None:
    """Why costs changed."""


@app.command()
def costs(
    owner: Annotated[
        str,
        typer.Argument(
            help="An account, a cost group or a cost centre; account/ID, group/ID or cost-centre/ID if several have it."
        ),
    ],
    month: Annotated[str, typer.Option(help="The month, YYYY-MM.")],
    against: Annotated[
        str | None, typer.Option(help="The month that it is compared with; the one before if left out.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Say why what an account, a cost group or a cost centre costs changed, the largest cause first.

    Usage is split into its price and its quantity, what a rule books into all that it books and the share of it. The causes
    add up to the whole change exactly. The table names all but the smallest, which together are at most 1 % of all changes;
    json, csv and raw have every cause.
    """
    from octo_pipeline.model.months import add_months, parse_month
    from octo_pipeline.services.causes import changes_of, subject_of
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    after = parse_month(month)
    before = parse_month(against) if against else add_months(after, -1)
    workspace = Workspace(load_settings())
    subject = subject_of(workspace, owner, (before, after))
    changes = changes_of(workspace, subject, before, after)
    if output is not Output.table:
        rows = [_row(cause) for change in changes for cause in change.causes]
        print_rows("", _COLUMNS, rows, output)
        return
    for change in changes:
        _print_change(subject, change, before, after)


def _row(cause: "Cause") -> list[Any]:
    values = vars(cause) | {"cause": cause.in_words}
    return [", ".join(value) if isinstance(value := values[name], list) else value for name in _COLUMNS]


def _print_change(subject: "Subject", change: "Change", before: str, after: str) -> None:
    named = change.named()
    lines: list[tuple[str, Decimal, Decimal]] = [(c.in_words, c.difference, c.effective_difference) for c in named]
    if rest := change.causes[len(named) :]:
        difference = sum((cause.difference for cause in rest), Decimal(0))
        effective_difference = sum((cause.effective_difference for cause in rest), Decimal(0))
        lines.append((counted(len(rest), "smaller cause"), difference, effective_difference))
    lines.append(("the whole change", change.difference, change.effective_difference))
    is_amortised = any(cause.difference != cause.effective_difference for cause in change.causes)
    columns = ("cause", "change", "amortised") if is_amortised else ("cause", "change")
    if change.causes:
        title = f"Why the cost of the {subject.kind} {subject.id} changed from {before} to {after}, {change.currency}"
        print_rows(title, columns, [line[: len(columns)] for line in lines], Output.table)
    currency = change.currency
    amortised = ""
    if (change.before, change.after) != (change.effective_before, change.effective_after):
        amortised = (
            f"; amortised {amount(change.effective_before, currency)} and {amount(change.effective_after, currency)}"
        )
    typer.echo(
        f"{amount(change.before, currency)} in {before}, {amount(change.after, currency)} in {after}{amortised}."
    )
