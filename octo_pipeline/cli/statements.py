"""`octo statements`: what each cost centre, account or cost group pays, as pages and by mail."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.export import By
from octo_pipeline.cli.output import Output, print_rows
from octo_pipeline.model.wording import counted

if TYPE_CHECKING:
    from octo_pipeline.outputs.statements import Statement
    from octo_pipeline.settings import Settings


def statements(
    folder: Annotated[Path, typer.Argument(help="Where the pages are written, an HTML and a PDF each.")],
    month: Annotated[str, typer.Option(help="The month, YYYY-MM.")],
    owner: Annotated[
        list[str] | None, typer.Option(help="Only of this cost centre, account or cost group; may be repeated.")
    ] = None,
    by: Annotated[
        By | None,
        typer.Option(help="A page per cost centre, account or cost group; per cost centre if there are any."),
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Send each PDF to the email of its cost centre.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write and send nothing: list what would be sent to whom.")
    ] = False,
) -> None:
    """Write a page for each cost centre, account or cost group: what it pays in a month and why, as HTML and PDF.

    The amounts are in cents and add up to the journal's. With --send, the pages go to the emails in cost_centres.csv.
    """
    from octo_pipeline.model.months import parse_month
    from octo_pipeline.outputs.statement_mail import addressed, require_server
    from octo_pipeline.outputs.statement_pages import write_pages
    from octo_pipeline.outputs.statements import statements_of
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    settings = load_settings()
    if send and not dry_run:
        require_server(settings)
    made = statements_of(Workspace(settings), parse_month(month), owner or (), by.value if by else None)
    with_email, without = addressed(made)
    if dry_run:
        _print_recipients(made)
        return
    pages = write_pages(made, folder)
    typer.echo(f"{counted(len(pages), 'statement')} of {month} {'is' if len(pages) == 1 else 'are'} in {folder}.")
    if made and made[0].is_provisional:
        typer.echo(f"{month} is not closed: they are provisional.")
    if send:
        _send(with_email, without, settings)


def _print_recipients(made: "tuple[Statement, ...]") -> None:
    rows = [
        (
            s.id,
            s.title if s.title != s.id else "",
            ", ".join(f"{section.total} {section.currency}" for section in s.sections),
            s.email or "nobody: no email in cost_centres.csv",
        )
        for s in made
    ]
    print_rows("What would be sent", ("id", "name", "pays", "to"), rows, Output.table)


def _send(with_email: "list[Statement]", without: "list[Statement]", settings: "Settings") -> None:
    from octo_pipeline.outputs.statement_mail import require_sent, send

    sent = send(with_email, settings)
    typer.echo(f"{counted(sum(not result.problem for result in sent), 'statement')} sent.")
    if without:
        names = ", ".join(statement.title for statement in without[:5]) + (" …" if len(without) > 5 else "")
        typer.echo(
            f"Nobody got {counted(len(without), 'statement')}, for want of an email in cost_centres.csv: {names}."
        )
    require_sent(sent)
