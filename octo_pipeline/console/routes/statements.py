"""What leaves the lake: statements as pages, files and mail, the journal, and FOCUS."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from octo_pipeline.api.downloads import (
    FocusFile,
    StatementFile,
    focus_file,
    journal_workbook,
    statement_archive,
    statement_file,
)
from octo_pipeline.api.listing import Page, answer_rows
from octo_pipeline.api.work import start_sending
from octo_pipeline.console.forms import text_of
from octo_pipeline.console.visit import Administering, Seeing, Typed, Viewing, Visit
from octo_pipeline.model.currency import minor_digits
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import parse_month
from octo_pipeline.outputs.focus.columns import Version
from octo_pipeline.outputs.journal import PROOFS, By, Journal, journal_of
from octo_pipeline.outputs.statement_mail import require_server
from octo_pipeline.outputs.statements import Payer, full_name, payers_of, statements_of
from octo_pipeline.services.periods import PROVISIONAL, state_in_words
from octo_pipeline.services.remembered import remembered

router = APIRouter()

_ROWS = 200
_BY: tuple[tuple[By, str], ...] = (("cost-centre", "Cost centre"), ("group", "Cost group"), ("account", "Account"))
# What a line of the journal shows; its files have all columns.
_JOURNAL_COLUMNS = ("entry", "description", "payer", "cost_centre", "ledger_account", "owner", "debit", "credit", "currency")  # fmt: skip

AskedBy = Annotated[By | Literal[""], Query()]


@router.get("/statements")
def statements_page(
    visit: Seeing,
    by: AskedBy = "",
    text: Annotated[str, Query(max_length=500)] = "",
    cursor: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> HTMLResponse:
    """Whom there are statements of the month for, and what each pays."""
    month = _month(visit)
    if month is None:
        return visit.page("month_missing", month=visit.month)
    kind = by or _first_kind(visit, month)
    payers = _payers(visit, month, kind)
    needle = text.strip().lower()
    listed = [payer for payer in payers if needle in f"{payer.id}\n{payer.name}".lower()]
    return visit.page(
        "statements",
        month=month,
        by=kind,
        kinds=_BY,
        text=text,
        payers=listed[cursor : cursor + _ROWS],
        totals=_totals(listed),
        count=len(listed),
        full_name=full_name,
        digits=minor_digits,
        is_limited=visit.user.cost_groups is not None,
        is_provisional=state_in_words(visit.workspace, month) == PROVISIONAL,
        may_send=_may_send(visit),
        first=visit.address(cursor=None) if cursor else None,
        next=visit.address(cursor=str(cursor + _ROWS)) if len(listed) > cursor + _ROWS else None,
    )


@router.get("/statements/of")
def statement(
    visit: Seeing,
    month: str,
    owner: Annotated[str, Query(max_length=2_000)],
    by: By = "account",
    file: StatementFile = "html",
) -> Response:
    """A statement as a page of its own or as a file."""
    made = remembered(
        visit.workspace,
        f"statement {by} {owner}",
        parse_month(month),
        lambda: statements_of(visit.workspace, parse_month(month), [owner], by),
    )
    return statement_file(made[0], file)


@router.get("/statements/all.zip")
def all_statements(visit: Seeing, month: str, by: By = "account") -> Response:
    """All statements in all formats, as one ZIP file."""
    return statement_archive(statements_of(visit.workspace, parse_month(month), by=by), month)


@router.get("/statements/send")
def send_page(visit: Administering, month: str, by: By = "account") -> HTMLResponse:
    """Who would get which statement."""
    require_server(visit.workspace.settings)
    payers = _payers(visit, parse_month(month), by)
    return visit.page(
        "statements_send",
        month=month,
        by=by,
        digits=minor_digits,
        addressed=[payer for payer in payers if payer.email],
        others=[payer for payer in payers if not payer.email],
        sender=visit.workspace.settings.smtp_from,
        is_provisional=state_in_words(visit.workspace, month) == PROVISIONAL,
    )


@router.post("/statements/send")
def send(visit: Administering, form: Typed) -> Response:
    """Send the statements."""
    by = next((kind for kind, _ in _BY if kind == text_of(form, "by")), None)
    operation = start_sending(visit.operations, visit.workspace, visit.actor, parse_month(text_of(form, "month")), by)
    return visit.redirect(f"/operations/{operation.id}")


@router.get("/statements/journal")
def journal_page(visit: Viewing, by: AskedBy = "", cursor: Annotated[int, Query(ge=0, lt=2**31)] = 0) -> HTMLResponse:
    """What finance posts of the month, with its proofs."""
    month = _month(visit)
    if month is None:
        return visit.page("month_missing", month=visit.month)
    kind = by or _first_kind(visit, month)
    journal, problem = None, ""
    try:
        journal = _journal(visit, month, kind)
    except OctoError as error:
        problem = visit.sentence(error)
    lines = _lines(journal) if journal else []
    return visit.page(
        "journal",
        month=month,
        by=kind,
        kinds=_BY,
        journal=journal,
        problem=problem,
        lines=lines[cursor : cursor + _ROWS],
        count=len(lines),
        columns=_JOURNAL_COLUMNS,
        proofs=PROOFS,
        first=visit.address(cursor=None) if cursor else None,
        next=visit.address(cursor=str(cursor + _ROWS)) if len(lines) > cursor + _ROWS else None,
    )


@router.get("/statements/journal/file")
def journal_file(visit: Viewing, month: str, by: By = "account", file: Literal["csv", "xlsx"] = "csv") -> Response:
    """The journal as a file with all columns."""
    journal = _journal(visit, parse_month(month), by)
    if file == "xlsx":
        return journal_workbook(visit.workspace, journal)
    response = answer_rows(visit.workspace, Page("text/csv", None, 1, None, False), journal.lines)
    response.headers["Content-Disposition"] = f'attachment; filename="journal-{month}-{by}.csv"'
    return response


@router.get("/statements/focus")
def focus(visit: Viewing, month: str, version: Version = "1.4", file: FocusFile = "parquet") -> Response:
    """The month as FOCUS."""
    return focus_file(visit.workspace, parse_month(month), version, file)


def _month(visit: Visit) -> str | None:
    return visit.month if visit.month in visit.months else None


def _first_kind(visit: Visit, month: str) -> By:
    """Cost centres if there are any."""
    return "cost-centre" if len(visit.workspace.configuration_of(month).cost_centres) else "account"


def _payers(visit: Visit, month: str, by: By) -> tuple[Payer, ...]:
    return remembered(visit.workspace, f"payers {by}", month, lambda: payers_of(visit.workspace, month, by))


def _journal(visit: Visit, month: str, by: By) -> Journal:
    return remembered(visit.workspace, f"journal {by}", month, lambda: journal_of(visit.workspace, month, by))


def _totals(payers: list[Payer]) -> list[tuple[str, Decimal]]:
    sums: dict[str, Decimal] = {}
    for payer in payers:
        for currency, paid in payer.amounts:
            sums[currency] = sums.get(currency, Decimal(0)) + paid
    return sorted(sums.items())


def _may_send(visit: Visit) -> bool:
    if not visit.may("admin"):
        return False
    try:
        require_server(visit.workspace.settings)
    except OctoError:
        return False
    return True


def _lines(journal: Journal) -> list[dict[str, Any]]:
    records = [dict(zip(journal.lines.columns, row, strict=True)) for row in journal.lines.rows]
    for record in records:
        is_owner = record["posting"] == "cost" and record["owner_id"]
        record["owner"] = f"{record['owner_type']} {record['owner_id']}" if is_owner else record["name"]
        for side in ("debit", "credit"):
            record[side] = f"{Decimal(record[side]):,f}" if record[side] else ""
    return records
