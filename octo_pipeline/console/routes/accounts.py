"""Accounts: the list, what one of them costs and why, its name, and its removal. Registering is in `registration`."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from octo_pipeline.api.work import start_removal
from octo_pipeline.console.account_page import account_page, account_path
from octo_pipeline.console.forms import refused, text_of
from octo_pipeline.console.visit import Administering, Seeing, Typed
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.vendors import CLOUDS
from octo_pipeline.services import accounts as services
from octo_pipeline.services import registration
from octo_pipeline.services.account_costs import AccountFilters, accounts_page

router = APIRouter()

_ROWS = 100
_STATES = (("completed", "Completed"), ("open", "Open"), ("unregistered", "Not registered"))
_SORTS = ("name", "billed", "final_cost")
_NAME_FIELDS = {"account-name-taken": "name", "account-wrong": "name"}


@router.get("/accounts")
def list_page(
    visit: Seeing,
    text: Annotated[str, Query(max_length=500)] = "",
    vendor: str = "",
    state: str = "",
    sort: str = "",
    cursor: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> HTMLResponse:
    """The accounts with the states of their registration and what each costs in the month."""
    filters = AccountFilters(text, vendor, state)
    month = visit.month if visit.month in visit.months else None
    page = accounts_page(visit.workspace, month, filters, sort=sort, offset=cursor, limit=_ROWS)
    rows = [dict(zip(page.rows.columns, row, strict=True)) for row in page.rows.rows]
    return visit.page(
        "accounts",
        month=month,
        filters=filters,
        sort=sort if sort in _SORTS else "",
        accounts=rows,
        totals=[dict(zip(page.totals.columns, row, strict=True)) for row in page.totals.rows],
        vendors=sorted(CLOUDS),
        states=_STATES,
        path_of=account_path,
        first=visit.address(cursor=None) if cursor else None,
        next=visit.address(cursor=str(cursor + _ROWS)) if page.has_more else None,
    )


@router.get("/accounts/{vendor}/{account:path}/remove")
def remove_page(visit: Administering, vendor: str, account: str) -> HTMLResponse:
    """What goes with an account."""
    registered = visit.workspace.registry.accounts.find(account, vendor)
    return visit.page(
        "account_remove",
        account=registered,
        path=account_path(vendor, registered.account_id),
        removal=services.preview_removal(visit.workspace, registered),
        left_behind=registration.of(registered).left_behind(registered),
    )


@router.post("/accounts/{vendor}/{account:path}/remove")
def remove(visit: Administering, vendor: str, account: str, form: Typed) -> Response:
    """Remove an account, with its data or without."""
    registered = visit.workspace.registry.accounts.find(account, vendor)
    keeps_data = text_of(form, "data") == "keep"
    operation = start_removal(visit.operations, visit.workspace, visit.actor, registered, keeps_data=keeps_data)
    return visit.redirect(f"/operations/{operation.id}")


@router.post("/accounts/{vendor}/{account:path}/name")
def rename(visit: Administering, vendor: str, account: str, form: Typed) -> Response:
    """Give an account another name."""
    registered = visit.workspace.registry.accounts.find(account, vendor)
    try:
        services.rename(visit.workspace, visit.actor, registered, text_of(form, "name") or None)
    except OctoError as error:
        if error.code not in _NAME_FIELDS:
            raise
        return account_page(visit, vendor, account, name_form=refused(form, error, _NAME_FIELDS))
    return visit.redirect(account_path(vendor, account), "The name is changed.")


@router.get("/accounts/{vendor}/{account:path}")
def get_account_page(visit: Seeing, vendor: str, account: str) -> HTMLResponse:
    """An account: the steps of its registration, what it costs, and why that changed."""
    return account_page(visit, vendor, account)
