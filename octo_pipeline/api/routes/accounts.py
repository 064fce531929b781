"""Accounts: the registered ones and the state of their registration."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from octo_pipeline.api.callers import Admin, SeenWorkspace, WorkspaceOf
from octo_pipeline.api.listing import PageOf, answer_rows
from octo_pipeline.api.problems import remedy_json
from octo_pipeline.api.work import start_removal
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import month_range, parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.registry.records import Account
from octo_pipeline.services import accounts as services
from octo_pipeline.services import registering, registration
from octo_pipeline.services.accounts import Listed, find_listed, listed, with_last_deliveries
from octo_pipeline.services.costs import account_costs_over_months
from octo_pipeline.vendors.aws import registration as aws
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.vendors.gcp import registration as gcp
from octo_pipeline.workspace import Workspace

router = APIRouter(prefix="/accounts", tags=["accounts"])

Vendor = Annotated[str | None, Query(description="If several vendors have an account with this id or name.")]
_COLUMNS = ("vendor", "id", "name", "kind", "payer_id", "API", "PAYER", "CUR", "status", "last_delivery", "problem")


_NAME = "What people call it; no two accounts of a vendor share a name."


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AwsReport(_Body):
    """A payer's report; what is left out is proposed, or stays."""

    report: str | None = Field(None, description="Name of the report or Data Export.")
    kind: Literal["cur", "data_export"] | None = Field(None, description="A Cost and Usage Report, or a Data Export.")
    bucket: str | None = None
    prefix: str | None = Field(None, description="Its folder in the bucket.")
    region: str | None = Field(None, description="Of an existing bucket.")
    makes_report: bool | None = Field(None, description="Whether the stack makes the report.")
    makes_bucket: bool | None = Field(None, description="Whether the stack makes the bucket.")

    @property
    def fields(self) -> dict[str, Any]:
        """What is set."""
        return self.model_dump(exclude_none=True)


class AwsAccount(_Body):
    """An AWS account to register; confirming it finds out whether it is a payer or linked."""

    vendor: Literal["aws"]
    id: str = Field(description="12 digits.")
    name: str | None = Field(None, description=_NAME)
    payer_id: str | None = Field(None, description="Of a linked account, if it is known.")
    report: AwsReport | None = Field(None, description="Of a payer.")


class AzurePartner(_Body):
    """An Azure partner (CSP) to register, with two applications of its tenant."""

    vendor: Literal["azure"]
    partner_id: str = Field(description="The Microsoft Partner ID.")
    tenant_id: str
    name: str | None = Field(None, description=_NAME)
    center_application: str = Field(description="Partner Center: the application's id.")
    center_secret: SecretStr = Field(description="Its secret key; kept encrypted, and never told.")
    api_application: str = Field(description="Partner API: the application's id.")
    api_secret: SecretStr = Field(description="Its secret key.")
    currencies: list[str] = Field(["USD"], description="In which the partner is billed.")


class GoogleAccount(_Body):
    """A Google Cloud billing account to register, with the dataset that it is exported to."""

    vendor: Literal["gcp"]
    id: str = Field(description="The billing account's id.")
    name: str | None = Field(None, description=_NAME)
    project: str = Field(description="Id of the project that hosts the dataset.")
    dataset: str
    region: str = Field(description="The dataset's location, such as EU.")


NewAccount = Annotated[
    AwsAccount | AzurePartner | GoogleAccount,
    Body(
        discriminator="vendor",
        openapi_examples={
            "aws": {"value": {"vendor": "aws", "id": "111122223333", "name": "production"}},
            "azure": {
                "value": {
                    "vendor": "azure",
                    "partner_id": "1234567",
                    "tenant_id": "00000000-0000-0000-0000-000000000001",
                    "center_application": "00000000-0000-0000-0000-000000000002",
                    "center_secret": "a secret key",
                    "api_application": "00000000-0000-0000-0000-000000000003",
                    "api_secret": "another one",
                }
            },
            "gcp": {
                "value": {
                    "vendor": "gcp",
                    "id": "0D1DR5-ADE21G-RF09W1",
                    "project": "billing-export",
                    "dataset": "billing",
                    "region": "EU",
                }
            },
        },
    ),
]


class AzureSecrets(_Body):
    """The secret keys of a partner's applications."""

    center_secret: SecretStr
    api_secret: SecretStr


class GoogleExport(_Body):
    """Where the export of a billing account is."""

    project: str
    dataset: str
    region: str


class AccountChange(_Body):
    """What is changed of an account; what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "production"}]})

    name: str | None = Field(None, description=f"{_NAME} Null for none.")
    payer_id: str | None = Field(None, description="AWS: the payer of a linked account.")
    report: AwsReport | None = Field(None, description="AWS: of a payer.")
    has_new_access: bool = Field(False, description="AWS: set up API access again, with a new ExternalId.")
    secrets: AzureSecrets | None = Field(None, description="Azure: replaces both.")
    export: GoogleExport | None = Field(None, description="Google Cloud.")


class SignInEnd(_Body):
    """Where the browser came back to."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"address": "http://localhost:8400/?code=…&state=…"}]}
    )

    address: SecretStr = Field(description="The whole address, with everything after the question mark.")


@router.get("")
def list_accounts(workspace: SeenWorkspace, page: PageOf) -> Response:
    """The registered accounts with API, PAYER and CUR, and when they last delivered."""
    accounts = [_values(entry) for entry in listed(workspace)]
    return answer_rows(workspace, page, Rows(_COLUMNS, tuple(tuple(map(a.__getitem__, _COLUMNS)) for a in accounts)))


@router.get("/{account}")
def get_account(workspace: SeenWorkspace, account: str, vendor: Vendor = None) -> dict[str, Any]:
    """An account by its id or name. Secrets are never told."""
    return _values(find_listed(workspace, account, vendor))


@router.post("", status_code=201)
def register(workspace: WorkspaceOf, actor: Admin, body: NewAccount) -> dict[str, Any]:
    """Register an account. The answer says what to do next."""
    if isinstance(body, AwsAccount):
        report = body.report.fields if body.report else None
        account = registering.register_aws(workspace, actor, body.id, body.name, body.payer_id, report)
    elif isinstance(body, AzurePartner):
        center = azure.Application(body.center_application, body.center_secret)
        api = azure.Application(body.api_application, body.api_secret)
        account = azure.register(
            workspace, actor, body.partner_id, body.tenant_id, center, api, tuple(body.currencies), body.name
        )
    else:
        account = gcp.register(workspace, actor, body.id, body.project, body.dataset, body.region, body.name)
    return _with_next_steps(workspace, account)


@router.get("/{account}/registration")
def get_registration(workspace: WorkspaceOf, _: Admin, account: str, vendor: Vendor = None) -> dict[str, Any]:
    """The steps of an account's registration: which are done, what failed, and what to do next."""
    return _with_next_steps(workspace, workspace.registry.accounts.find(account, vendor))


@router.patch("/{account}")
def change(
    workspace: WorkspaceOf, actor: Admin, account: str, body: AccountChange, vendor: Vendor = None
) -> dict[str, Any]:
    """Change an account's name or settings. What was changed must be confirmed again."""
    export = body.export
    changes = registering.AccountChanges(
        name=(body.name or "") if "name" in body.model_fields_set else None,
        payer_id=body.payer_id,
        report=body.report.fields if body.report else None,
        has_new_access=body.has_new_access,
        secrets=(body.secrets.center_secret, body.secrets.api_secret) if body.secrets else None,
        export=(export.project, export.dataset, export.region) if export else None,
    )
    registered = workspace.registry.accounts.find(account, vendor)
    return _with_next_steps(workspace, registering.change_account(workspace, actor, registered, changes))


@router.post("/{account}/confirm")
def confirm(workspace: WorkspaceOf, actor: Admin, account: str, vendor: Vendor = None) -> dict[str, Any]:
    """Ask the vendor which steps of the registration are done. What failed is `problem`, and `next` fixes it."""
    registered = workspace.registry.accounts.find(account, vendor)
    return _with_next_steps(workspace, registration.of(registered).confirm(workspace, actor, registered))


@router.post("/{account}/linked", status_code=201)
def register_linked(workspace: WorkspaceOf, actor: Admin, account: str) -> dict[str, Any]:
    """Register all linked accounts of a confirmed AWS payer. The link creates the role in all of them."""
    payer = workspace.registry.accounts.find(account, "aws")
    added, link = aws.register_linked(workspace, actor, payer)
    return {"registered": [_shown(workspace, new) for new in added], "link": link}


@router.post("/{account}/linked/confirm")
def confirm_linked(workspace: WorkspaceOf, actor: Admin, account: str) -> list[dict[str, Any]]:
    """Ask AWS which steps of a payer's linked accounts are done."""
    payer = workspace.registry.accounts.find(account, "aws")
    return [_with_next_steps(workspace, a) for a in registering.confirm_linked(workspace, actor, payer)]


@router.post("/{account}/sign-in")
def begin_sign_in(workspace: WorkspaceOf, actor: Admin, request: Request, account: str) -> dict[str, Any]:
    """Begin the sign-in of an Azure partner: open the link, sign in, and send the address that the browser ends at."""
    partner = workspace.registry.accounts.find(account, "azure")
    sign_in = azure.begin_sign_in(workspace, partner, workspace.settings.azure_redirect_uri)
    # One for each administrator and partner: a later one replaces it.
    request.app.state.partner_sign_ins[actor, partner.account_id] = sign_in
    return {"link": sign_in.url}


@router.post("/{account}/sign-in/end")
def end_sign_in(
    workspace: WorkspaceOf, actor: Admin, request: Request, account: str, body: SignInEnd
) -> dict[str, Any]:
    """End the sign-in of an Azure partner with the address that the browser ended at, and confirm it."""
    partner = workspace.registry.accounts.find(account, "azure")
    sign_in = request.app.state.partner_sign_ins.pop((actor, partner.account_id), None)
    if sign_in is None:
        raise OctoError(
            f"You have not begun a sign-in of {partner.account_id} here, or it was used; begin again.",
            code="sign-in-not-begun",
            place=partner.account_id,
        )
    response = azure.response_of(body.address.get_secret_value())
    azure.finish_sign_in(workspace, actor, partner, sign_in, response)
    return _with_next_steps(workspace, azure.confirm(workspace, actor, partner))


@router.get("/{account}/removal")
def preview_removal(workspace: WorkspaceOf, _: Admin, account: str, vendor: Vendor = None) -> dict[str, Any]:
    """What goes with an account when it is removed, and what stays with the vendor."""
    registered = workspace.registry.accounts.find(account, vendor)
    removed = services.preview_removal(workspace, registered)
    return asdict(removed) | {"left_behind": registration.of(registered).left_behind(registered)}


@router.delete("/{account}", status_code=202)
def remove(
    workspace: WorkspaceOf,
    actor: Admin,
    request: Request,
    account: str,
    vendor: Vendor = None,
    keep_data: Annotated[bool, Query(description="Leave deliveries, costs and decisions.")] = False,
) -> Response:
    """Remove an account with its deliveries, costs and restores. The answer is an operation."""
    registered = workspace.registry.accounts.find(account, vendor)
    operation = start_removal(request.app.state.operations, workspace, actor, registered, keeps_data=keep_data)
    body = operation.as_json() | {"left_behind": registration.of(registered).left_behind(registered)}
    return JSONResponse(body, 202, {"Location": str(request.url_for("get_operation", operation_id=operation.id))})


@router.get("/{account}/costs")
def list_costs(
    workspace: SeenWorkspace,
    page: PageOf,
    account: Annotated[str, PathParameter(description="An account's id, registered or not.")],
    month: Annotated[str, Query(description="The month; with from, the last month of the range.")],
    first: Annotated[str | None, Query(alias="from", description="First month of a range.")] = None,
) -> Response:
    """What an account costs in each month, what that is made of, and how it changed."""
    months = month_range(parse_month(first or month), parse_month(month))
    if not months:
        raise OctoError(f"{first} is after {month}.", code="months-reversed")
    return answer_rows(workspace, page, account_costs_over_months(workspace, account, months))


def _with_next_steps(workspace: Workspace, account: Account) -> dict[str, Any]:
    steps = {step: at.isoformat() if at else None for step, at in account.steps.items()}
    following = [
        {"kind": step.kind, "text": step.text, "values": dict(step.values)}
        | ({"action": remedy_json(step.action)} if step.action else {})
        for step in registering.next_steps(workspace.settings, account)
    ]
    return _shown(workspace, account) | {"steps": steps, "next": following}


def _shown(workspace: Workspace, account: Account) -> dict[str, Any]:
    (entry,) = with_last_deliveries(workspace, [account])
    return _values(entry)


def _values(entry: Listed) -> dict[str, Any]:
    """What is said of an account. Its payer has a name of its own: in columns, `payer` and the state `PAYER` are one."""
    values = entry.values
    last = entry.last_delivery
    return values | {"payer_id": values.pop("payer"), "last_delivery": last.isoformat() if last else None}
