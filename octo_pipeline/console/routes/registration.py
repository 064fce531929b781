"""Registering accounts: the steps of each vendor. Their state is in the registry, so they can be left and taken up again.

Every change asks the same functions as the command line and the API.
"""

from collections.abc import Callable

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import SecretStr
from starlette.datastructures import FormData
from starlette.responses import Response

from octo_pipeline.console.account_page import account_page, account_path
from octo_pipeline.console.forms import Filled, refused, text_of
from octo_pipeline.console.visit import Administering, Typed, Visit
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.services import registration
from octo_pipeline.services.registering import AccountChanges, change_account, register_aws
from octo_pipeline.vendors.aws import registration as aws
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.vendors.gcp import registration as gcp

router = APIRouter()

VENDORS = {"aws": "Amazon Web Services", "azure": "Microsoft Azure (CSP)", "gcp": "Google Cloud"}
# The field that an error is about, by its code.
_FIELDS = {
    "account-id-malformed": "account_id",
    "account-already-registered": "account_id",
    "account-name-taken": "name",
    "payer-has-no-payer": "payer",
    "partner-id-malformed": "partner_id",
}


@router.get("/accounts/register")
def vendors_page(visit: Administering) -> HTMLResponse:
    """Which vendor's account is registered."""
    return visit.page("register", vendors=VENDORS)


@router.get("/accounts/register/{vendor}")
def register_page(visit: Administering, vendor: str) -> HTMLResponse:
    """The first step of a vendor."""
    return _first_step(visit, vendor, Filled({"currencies": "USD"}))


@router.post("/accounts/register/{vendor}")
def register(visit: Administering, vendor: str, form: Typed) -> Response:
    """Register an account; its page has the steps that follow."""
    registering = _registering(vendor)
    try:
        account = registering(visit, form)
    except OctoError as error:
        return _first_step(visit, vendor, refused(form, error, _FIELDS))
    return visit.redirect(
        account_path(vendor, account.account_id), "The account is registered. Go on with the next step."
    )


@router.post("/accounts/{vendor}/{account:path}/confirm")
def confirm(visit: Administering, vendor: str, account: str) -> Response:
    """Ask the vendor which steps are done."""
    registered = visit.workspace.registry.accounts.find(account, vendor)
    try:
        confirmed = registration.of(registered).confirm(visit.workspace, visit.actor, registered)
    except OctoError as error:
        return _refused_step(visit, registered, "confirm", error, FormData())
    notice = (
        "" if confirmed.problem else "Completed." if confirmed.is_completed else "Confirmed. Go on with the next step."
    )
    return visit.redirect(f"{account_path(vendor, account)}#registration", notice)


@router.post("/accounts/aws/{account}/report")
def set_up_report(visit: Administering, account: str, form: Typed) -> Response:
    """Set up the report and bucket of a payer."""
    registered = visit.workspace.registry.accounts.find(account, "aws")
    report = {name: text_of(form, name) for name in ("bucket", "report", "prefix", "region")}
    choices = {name: text_of(form, name) == "yes" for name in ("makes_report", "makes_bucket")}
    kind = "data_export" if text_of(form, "kind") == "data_export" else "cur"
    return _changed(visit, registered, "report", form, AccountChanges(report={**report, **choices, "kind": kind}))


@router.post("/accounts/aws/{account}/payer")
def set_payer(visit: Administering, account: str, form: Typed) -> Response:
    """Set the payer of a linked account."""
    registered = visit.workspace.registry.accounts.find(account, "aws")
    return _changed(visit, registered, "payer", form, AccountChanges(payer_id=text_of(form, "payer")))


@router.post("/accounts/aws/{account}/access")
def set_up_access(visit: Administering, account: str) -> Response:
    """Set up API access again, with a new ExternalId."""
    registered = visit.workspace.registry.accounts.find(account, "aws")
    return _changed(visit, registered, "access", FormData(), AccountChanges(has_new_access=True))


@router.post("/accounts/aws/{account}/linked")
def register_linked(visit: Administering, account: str) -> Response:
    """Register all linked accounts of a payer; the answer has the link that gives access to them."""
    payer = visit.workspace.registry.accounts.find(account, "aws")
    try:
        added, link = aws.register_linked(visit.workspace, visit.actor, payer)
    except OctoError as error:
        return _refused_step(visit, payer, "linked", error, FormData())
    return visit.page("register_linked", payer=payer, added=added, link=link, path_of=account_path)


@router.post("/accounts/gcp/{account}/export")
def set_up_export(visit: Administering, account: str, form: Typed) -> Response:
    """Change where a billing account's export is."""
    registered = visit.workspace.registry.accounts.find(account, "gcp")
    project, dataset, region = (text_of(form, name) for name in ("project", "dataset", "region"))
    return _changed(visit, registered, "export", form, AccountChanges(export=(project, dataset, region)))


@router.post("/accounts/azure/{account}/secrets")
def set_secrets(visit: Administering, account: str, form: Typed) -> Response:
    """Replace the secret keys of a partner's applications."""
    registered = visit.workspace.registry.accounts.find(account, "azure")
    center, api = (SecretStr(text_of(form, name)) for name in ("center_secret", "api_secret"))
    return _changed(visit, registered, "secrets", form, AccountChanges(secrets=(center, api)))


@router.post("/accounts/azure/{account}/sign-in")
def begin_sign_in(visit: Administering, account: str) -> Response:
    """Start the sign-in to the partner API; the page has its link and takes the address that it ends at."""
    registered = visit.workspace.registry.accounts.find(account, "azure")
    try:
        sign_in = azure.begin_sign_in(visit.workspace, registered, visit.workspace.settings.azure_redirect_uri)
    except OctoError as error:
        return _refused_step(visit, registered, "sign-in", error, FormData())
    visit.request.app.state.partner_sign_ins[visit.actor, registered.account_id] = sign_in
    return _sign_in_page(visit, registered, Filled())


@router.post("/accounts/azure/{account}/sign-in/finish")
def finish_sign_in(visit: Administering, account: str, form: Typed) -> Response:
    """Redeem the code that the browser came back with, and confirm."""
    registered = visit.workspace.registry.accounts.find(account, "azure")
    sign_ins = visit.request.app.state.partner_sign_ins
    sign_in = sign_ins.get((visit.actor, registered.account_id))
    if sign_in is None:
        return visit.redirect(
            f"{account_path('azure', account)}#registration", "The sign-in is too old. Start it once more."
        )
    try:
        response = azure.response_of(text_of(form, "address"))
        azure.finish_sign_in(visit.workspace, visit.actor, registered, sign_in, response)
    except OctoError as error:
        # The address has a code, so it is not shown again.
        return _sign_in_page(visit, registered, Filled({}, {"address": visit.sentence(error)}), status_code=422)
    del sign_ins[visit.actor, registered.account_id]
    return confirm(visit, "azure", account)


def _registering(vendor: str) -> Callable[[Visit, FormData], Account]:
    registering = {"aws": _register_aws, "azure": _register_azure, "gcp": _register_gcp}.get(vendor)
    if registering is None:
        raise HTTPException(404)
    return registering


def _register_aws(visit: Visit, form: FormData) -> Account:
    name, payer = text_of(form, "name") or None, text_of(form, "payer") or None
    return register_aws(visit.workspace, visit.actor, text_of(form, "account_id"), name, payer)


def _register_azure(visit: Visit, form: FormData) -> Account:
    center, api = (
        azure.Application(text_of(form, f"{purpose}_application"), SecretStr(text_of(form, f"{purpose}_secret")))
        for purpose in ("center", "api")
    )
    currencies = tuple(code.strip().upper() for code in text_of(form, "currencies").split(","))
    return azure.register(
        visit.workspace, visit.actor, text_of(form, "partner_id"), text_of(form, "tenant_id"), center, api, currencies,
        text_of(form, "name") or None,
    )  # fmt: skip


def _register_gcp(visit: Visit, form: FormData) -> Account:
    account_id, project, dataset, region = (
        text_of(form, name) for name in ("account_id", "project", "dataset", "region")
    )
    name = text_of(form, "name") or None
    return gcp.register(visit.workspace, visit.actor, account_id, project, dataset, region, name)


def _first_step(visit: Visit, vendor: str, form: Filled) -> HTMLResponse:
    _registering(vendor)
    return visit.page(
        f"register_{vendor}", status_code=422 if form.problems else 200, form=form, vendor_name=VENDORS[vendor],
        settings=visit.workspace.settings,
    )  # fmt: skip


def _changed(visit: Visit, account: Account, step: str, form: FormData, changes: AccountChanges) -> Response:
    try:
        change_account(visit.workspace, visit.actor, account, changes)
    except OctoError as error:
        return _refused_step(visit, account, step, error, form)
    return visit.redirect(f"{account_path(account.vendor, account.account_id)}#registration", "Saved.")


def _refused_step(visit: Visit, account: Account, step: str, error: OctoError, form: FormData) -> Response:
    return account_page(visit, account.vendor, account.account_id, forms={step: refused(form, error, _FIELDS)})


def _sign_in_page(visit: Visit, account: Account, form: Filled, *, status_code: int = 200) -> HTMLResponse:
    sign_in = visit.request.app.state.partner_sign_ins[visit.actor, account.account_id]
    return visit.page(
        "azure_sign_in", status_code=status_code, account=account, link=sign_in.url, form=form,
        path=account_path("azure", account.account_id),
    )  # fmt: skip
