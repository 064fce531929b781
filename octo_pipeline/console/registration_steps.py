"""The steps of an account's registration as its page shows them: what is done, what is next, and what is opened and copied.

What a step changes belongs in `octo_pipeline.console.routes.registration`.
"""

from dataclasses import dataclass, replace
from typing import Any

from octo_pipeline.console.forms import Filled
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.services.registering import NextStep, next_steps
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.aws import registration as aws


@dataclass(frozen=True)
class Step:
    """A step of a registration.

    Attributes:
        name: by which its form is known.
        title: as people read it.
        is_done: whether it is confirmed.
        is_next: whether it is the one to do now.
        problem: why it could not be confirmed.
        link: what is opened with the vendor.
        values: what is copied there, by its name.
        commands: what somebody runs there.
    """

    name: str
    title: str
    is_done: bool
    is_next: bool = False
    problem: str = ""
    link: str = ""
    values: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()


def steps_of(settings: Settings, account: Account) -> tuple[Step, ...]:
    """The steps of an account's registration, with what is to be done in each."""
    steps = {"aws": _aws_steps, "azure": _azure_steps, "gcp": _gcp_steps}[account.vendor](settings, account)
    following = next((step.name for step in steps if not step.is_done), None)
    return tuple(
        replace(step, is_next=True, problem=account.problem or "") if step.name == following else step for step in steps
    )


def setup_values(account: Account) -> Filled:
    """What stands in the forms of an account's settings."""
    values: dict[str, Any] = {}
    if account.vendor == "aws":
        values = dict(vars(aws.setup_of(account))) | {"payer": account.payer_id or ""}
    elif account.vendor == "gcp":
        values = dict(account.settings["export"])
    return Filled({name: _text(value) for name, value in values.items()})


def _text(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _aws_steps(settings: Settings, account: Account) -> list[Step]:
    link = next((step for step in _next_steps(settings, account) if step.kind == "link"), None)
    is_access_open = account.api_confirmed_at is None
    steps = [
        Step("id", "AWS account and name", is_done=True),
        Step(
            "access",
            "API access",
            is_done=not is_access_open,
            link=link.text if link and is_access_open else "",
            values=_parameters(link) if is_access_open else (),
        ),
    ]
    if account.kind in (None, "payer"):
        is_set_up = "cur" in account.settings and not is_access_open
        steps.append(
            Step(
                "report",
                "CUR and S3 bucket",
                is_done=account.cur_confirmed_at is not None,
                link=link.text if link and is_set_up else "",
                values=_parameters(link) if is_set_up else (),
            )
        )
    if account.kind in (None, "linked"):
        steps.append(Step("payer", "Payer account", is_done=account.payer_confirmed_at is not None))
    return steps


def _azure_steps(settings: Settings, account: Account) -> list[Step]:
    partner = account.settings["partner"]
    is_done = account.api_confirmed_at is not None
    return [
        Step("partner", "Microsoft Partner ID", is_done=True, values=(("Partner ID", str(partner["partner_id"])),)),
        Step("center", "Partner Center credentials", is_done=True, values=(("Application", str(partner["center_application"])),)),
        Step("api", "Partner API credentials and sign-in", is_done=is_done, values=(("Application", str(partner["api_application"])), ("Redirect address", settings.azure_redirect_uri))),
    ]  # fmt: skip


def _gcp_steps(settings: Settings, account: Account) -> list[Step]:
    export = account.settings["export"]
    service_account = settings.gcp_service_account or ""
    commands = [step.text for step in _next_steps(settings, account) if step.kind == "command"]
    return [
        Step(
            "account",
            "Billing account and its export",
            is_done=True,
            values=tuple((name.capitalize(), str(export[name])) for name in ("project", "dataset", "region")),
        ),
        Step(
            "permission",
            "BigQuery permission",
            is_done=account.api_confirmed_at is not None,
            values=(("Principal", service_account),),
            commands=tuple(commands),
        ),
    ]


def _next_steps(settings: Settings, account: Account) -> list[NextStep]:
    """What the registration says is next; a sentence if this installation's settings do not allow it."""
    try:
        return next_steps(settings, account)
    except OctoError as error:
        return [NextStep("sentence", str(error), {})]


def _parameters(link: NextStep | None) -> tuple[tuple[str, str], ...]:
    """What a launch link fills in, for who makes the stack by hand."""
    names = {"templateURL": "Template", "stackName": "Stack name"}
    return tuple((names.get(name, name), value) for name, value in link.values.items()) if link else ()
