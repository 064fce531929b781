"""What leaves the lake: FOCUS, the journal, statements, and why costs changed."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter

from octo_pipeline.api.callers import Admin, SeenWorkspace, Viewer, WorkspaceOf
from octo_pipeline.api.downloads import FocusFile, StatementFile, focus_file, statement_archive, statement_file
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.api.work import start_sending
from octo_pipeline.model.months import add_months, parse_month
from octo_pipeline.model.rows import exact
from octo_pipeline.outputs.focus.columns import Version
from octo_pipeline.outputs.journal import By, journal_of
from octo_pipeline.outputs.statements import statements_of
from octo_pipeline.services.causes import Cause, changes_of, subject_of

router = APIRouter(tags=["outputs"])

Month = Annotated[str, PathParameter(description="The booking month, YYYY-MM.", examples=["2024-01"])]
_BY = "Per cost centre, account or cost group."


@router.get("/months/{month}/journal")
def get_journal(
    workspace: WorkspaceOf,
    _: Viewer,
    page: PageOf,
    month: Month,
    by: Annotated[By, Query(description=_BY)] = "cost-centre",
) -> Response:
    """The debits and credits that finance posts of a month; they add up to the cents of each invoice."""
    return answer_rows(workspace, page, journal_of(workspace, parse_month(month), by).lines)


@router.get("/explanations")
def explain_costs(
    workspace: SeenWorkspace,
    owner: Annotated[str, Query(description="An account, a cost group or a cost centre.")],
    month: Annotated[str, Query(description="The month, YYYY-MM.")],
    against: Annotated[
        str | None, Query(description="The month it is compared with; the one before if left out.")
    ] = None,
) -> dict[str, Any]:
    """Why what an owner costs changed: causes that add up to the whole change, the largest first."""
    after = parse_month(month)
    before = parse_month(against) if against else add_months(after, -1)
    subject = subject_of(workspace, owner, (before, after))
    return {
        "owner": {"kind": subject.kind, "id": subject.id},
        "before": before,
        "after": after,
        "changes": [
            {
                "currency": change.currency,
                "cost_before": exact(change.before),
                "cost_after": exact(change.after),
                "effective_cost_before": exact(change.effective_before),
                "effective_cost_after": exact(change.effective_after),
                "causes": [_as_json(cause) for cause in change.causes],
            }
            for change in changes_of(workspace, subject, before, after)
        ],
    }


@router.get("/months/{month}/focus")
def get_focus(
    workspace: WorkspaceOf,
    _: Viewer,
    month: Month,
    version: Annotated[Version, Query(description="Of the standard.")] = "1.4",
    file: Annotated[FocusFile, Query(description="The format of the file.")] = "parquet",
) -> Response:
    """A month's charges as they are allocated, in the columns of FOCUS."""
    return focus_file(workspace, parse_month(month), version, file)


@router.get("/months/{month}/statements")
def list_statements(
    workspace: SeenWorkspace, month: Month, by: Annotated[By | None, Query(description=_BY)] = None
) -> list[dict[str, Any]]:
    """What each cost centre, account or cost group pays in cents, and why."""
    return [asdict(statement) for statement in statements_of(workspace, parse_month(month), by=by)]


@router.get("/months/{month}/statements/{owner:path}")
def get_statement(
    workspace: SeenWorkspace,
    month: Month,
    owner: str,
    by: Annotated[By | None, Query(description=_BY)] = None,
    page: Annotated[StatementFile, Query(description="The format of the page.")] = "pdf",
) -> Response:
    """The page of one of them."""
    (statement,) = statements_of(workspace, parse_month(month), [owner], by)
    return statement_file(statement, page)


@router.get("/months/{month}/statements.zip")
def get_statements(
    workspace: SeenWorkspace, month: Month, by: Annotated[By | None, Query(description=_BY)] = None
) -> Response:
    """The pages of all of them in all formats, as one ZIP file."""
    return statement_archive(statements_of(workspace, parse_month(month), by=by), month)


@router.post("/months/{month}/send-statements", status_code=202)
def send_statements(
    request: Request,
    response: Response,
    workspace: WorkspaceOf,
    actor: Admin,
    month: Month,
    by: Annotated[By | None, Query(description=_BY)] = None,
) -> dict[str, Any]:
    """Send each PDF to the email of its cost centre; the operation says what happened to each."""
    operation = start_sending(request.app.state.operations, workspace, actor, parse_month(month), by)
    response.headers["Location"] = str(request.url_for("get_operation", operation_id=operation.id))
    return operation.as_json()


def _as_json(cause: Cause) -> dict[str, Any]:
    return {"cause": cause.in_words} | {name: exact(value) for name, value in asdict(cause).items()}
