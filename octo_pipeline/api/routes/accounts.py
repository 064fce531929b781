"""Accounts: the registered ones and the state of their registration."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from octo_pipeline.api.callers import Admin, SeenWorkspace, WorkspaceOf
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.model.rows import Rows
from octo_pipeline.registry.records import Account
from octo_pipeline.services import registration
from octo_pipeline.services.accounts import Listed, find_listed, listed, rename, with_last_deliveries
from octo_pipeline.workspace import Workspace

router = APIRouter(prefix="/accounts", tags=["accounts"])

Vendor = Annotated[str | None, Query(description="If several vendors have an account with this id or name.")]
_COLUMNS = ("vendor", "id", "name", "kind", "payer_id", "API", "PAYER", "CUR", "status", "last_delivery", "problem")


class Rename(BaseModel):
    """Another name of an account."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "production"}]})

    name: str | None = Field(description="The name; null for none.")


@router.get("")
def list_accounts(workspace: SeenWorkspace, page: PageOf) -> Response:
    """The registered accounts with API, PAYER and CUR, and when they last delivered."""
    accounts = [_values(entry) for entry in listed(workspace)]
    return answer_rows(workspace, page, Rows(_COLUMNS, tuple(tuple(map(a.__getitem__, _COLUMNS)) for a in accounts)))


@router.get("/{account}")
def get_account(workspace: SeenWorkspace, account: str, vendor: Vendor = None) -> dict[str, Any]:
    """An account by its id or name. Secrets are never told."""
    return _values(find_listed(workspace, account, vendor))


@router.patch("/{account}")
def rename_account(
    workspace: WorkspaceOf, actor: Admin, account: str, body: Rename, vendor: Vendor = None
) -> dict[str, Any]:
    """Give an account another name, or none."""
    renamed = rename(workspace, actor, workspace.registry.accounts.find(account, vendor), body.name)
    return _shown(workspace, renamed)


@router.post("/{account}/confirm")
def confirm(workspace: WorkspaceOf, actor: Admin, account: str, vendor: Vendor = None) -> dict[str, Any]:
    """Ask the vendor which steps of the registration are done."""
    registered = workspace.registry.accounts.find(account, vendor)
    return _shown(workspace, registration.of(registered).confirm(workspace, actor, registered))


def _shown(workspace: Workspace, account: Account) -> dict[str, Any]:
    (entry,) = with_last_deliveries(workspace, [account])
    return _values(entry)


def _values(entry: Listed) -> dict[str, Any]:
    """What is said of an account. Its payer has a name of its own: in columns, `payer` and the state `PAYER` are one."""
    values = entry.values
    last = entry.last_delivery
    return values | {"payer_id": values.pop("payer"), "last_delivery": last.isoformat() if last else None}
