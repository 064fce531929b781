"""The page of an account, which forms of several rooms answer with when they are refused."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from fastapi.responses import HTMLResponse

from octo_pipeline.console.forms import Filled
from octo_pipeline.console.registration_steps import setup_values, steps_of
from octo_pipeline.console.visit import Visit
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, is_month
from octo_pipeline.model.vendors import CLOUDS
from octo_pipeline.registry.accounts import Accounts
from octo_pipeline.services import accounts as services
from octo_pipeline.services.account_costs import costs_of_account
from octo_pipeline.services.accounts import Listed
from octo_pipeline.services.causes import Change, changes_of, subject_of
from octo_pipeline.services.remembered import remembered

# Causes beyond these are one line with their sum.
_MOST_CAUSES = 40


def account_path(vendor: str, account: str) -> str:
    """The path of an account's page."""
    return f"/accounts/{quote(vendor or '-', safe='')}/{quote(account, safe='')}"


def account_page(
    visit: Visit,
    vendor: str,
    account: str,
    *,
    name_form: Filled | None = None,
    forms: Mapping[str, Filled] | None = None,
) -> HTMLResponse:
    """The page of an account.

    Args:
        visit: who looks at it.
        vendor: its vendor; ``-`` if that is not known.
        account: its id.
        name_form: the form of its name, if it was refused.
        forms: forms of its registration that were refused, by step.

    Raises:
        OctoError: it is neither registered nor has it costs.
    """
    entry = _registered(visit, vendor, account)
    month = visit.month if visit.month in visit.months else None
    costs = costs_of_account(visit.workspace, account, month) if month else None
    if entry is None and (costs is None or not costs.months.rows):
        raise Accounts.unknown(account, vendor if vendor in CLOUDS else None)
    may_change = visit.may("admin") and entry is not None
    return visit.page(
        "account",
        status_code=422 if name_form or forms else 200,
        vendor=vendor,
        account_id=account,
        path=account_path(vendor, account),
        entry=entry,
        month=month,
        costs=costs,
        change=_change(visit, account, month) if month else {},
        steps=steps_of(visit.workspace.settings, entry.account) if may_change and entry else (),
        setup=setup_values(entry.account) if may_change and entry else Filled(),
        forms=forms or {},
        name_form=name_form or Filled({"name": (entry.account.name or "") if entry else ""}),
    )


def _registered(visit: Visit, vendor: str, account: str) -> Listed | None:
    if vendor not in CLOUDS:
        return None
    try:
        return services.find_listed(visit.workspace, account, vendor)
    except OctoError as error:
        if error.code != "account-unknown":
            raise
        return None


def _change(visit: Visit, account: str, month: str) -> dict[str, Any]:
    """Why the cost changed against another month, if that is asked for."""
    against = visit.request.query_params.get("against", "")
    months = [m for m in visit.months if m != month]
    previous = add_months(month, -1)
    values: dict[str, Any] = {"months": months, "against": against or (previous if previous in months else "")}
    if not is_month(against):
        return values
    try:
        changes = remembered(
            visit.workspace, f"change of account/{account} since {against}", month,
            lambda: changes_of(
                visit.workspace, subject_of(visit.workspace, f"account/{account}", (against, month)), against, month
            ),
        )  # fmt: skip
    except OctoError as error:
        return values | {"problem": visit.sentence(error)}
    return values | {"changes": [_explained(change) for change in changes]}


def _explained(change: Change) -> dict[str, Any]:
    """The largest causes with the lengths of their bars, in thousandths of the largest, and the others as one line."""
    named = change.named()[:_MOST_CAUSES]
    rest = change.causes[len(named) :]
    others = sum((cause.difference for cause in rest), Decimal(0))
    lines = [(cause.in_words, cause.difference) for cause in named]
    if rest:
        lines.append((f"{len(rest):,} smaller {'cause' if len(rest) == 1 else 'causes'}", others))
    largest = max((abs(cost) for _, cost in lines), default=Decimal(0))
    return {
        "change": change,
        "lines": [(words, cost, int(abs(cost) * 1_000 / largest) if largest else 0) for words, cost in lines],
    }
