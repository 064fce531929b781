"""Accounts: the registered ones and the state of their registration."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from octo_pipeline.api.callers import Admin, Viewer, WorkspaceOf
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.model.rows import Rows
from octo_pipeline.registry.records import Account
from octo_pipeline.services import registration
from octo_pipeline.services.accounts import listed, rename

router = APIRouter(prefix="/accounts", tags=["accounts"])

Vendor = Annotated[str | None, Query(description="If several vendors have an account with this id or name.")]
_COLUMNS = ("vendor", "id", "name", "kind", "payer", "API", "PAYER", "CUR", "status", "last_delivery", "problem")


class Rename(BaseModel):
    """Another name of an account."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "production"}]})

    name: str | None = Field(description="The name; null for none.")


@router.get("")
def list_accounts(workspace: WorkspaceOf, _: Viewer, page: PageOf) -> Response:
    """The registered accounts with API, PAYER and CUR, and when they last delivered."""
    rows = [tuple((_row(e.account) | {"last_delivery": e.last_delivery}).values()) for e in listed(workspace)]
    return answer_rows(workspace, page, Rows(_COLUMNS, tuple(rows)))


@router.get("/{account}")
def get_account(workspace: WorkspaceOf, _: Viewer, account: str, vendor: Vendor = None) -> dict[str, Any]:
    """An account by its id or name. Secrets are never told."""
    return _row(workspace.registry.accounts.find(account, vendor))


@router.patch("/{account}")
def rename_account(
    workspace: WorkspaceOf, actor: Admin, account: str, body: Rename, vendor: Vendor = None
) -> dict[str, Any]:
    """Give an account another name, or none."""
    return _row(rename(workspace, actor, workspace.registry.accounts.find(account, vendor), body.name))


@router.post("/{account}/confirm")
def confirm(workspace: WorkspaceOf, actor: Admin, account: str, vendor: Vendor = None) -> dict[str, Any]:
    """Ask the vendor which steps of the registration are done."""
    registered = workspace.registry.accounts.find(account, vendor)
    return _row(registration.of(registered).confirm(workspace, actor, registered))


def _row(account: Account) -> dict[str, Any]:
    steps = {step: "Completed" if at else "open" for step, at in account.steps.items()}
    return {
        "vendor": account.vendor,
        "id": account.account_id,
        "name": account.name,
        "kind": account.kind,
        # A payer pays for itself.
        "payer": account.account_id if account.kind == "payer" else account.payer_id,
        "API": steps.get("API", ""),
        "PAYER": steps.get("PAYER", ""),
        "CUR": steps.get("CUR", ""),
        "status": "Completed" if account.is_completed else "open",
        "last_delivery": None,
        "problem": account.problem,
    }
