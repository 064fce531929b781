"""The long work that the API and the console start: making a month, and what follows a decision."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from octo_pipeline.api.operations import Operation, Operations
from octo_pipeline.automation.recorded import recorded_as_run, recorded_as_run_of
from octo_pipeline.automation.remote_runs import launch_month
from octo_pipeline.outputs.journal import By
from octo_pipeline.outputs.statement_mail import Sent, addressed, require_sent, require_server, send
from octo_pipeline.outputs.statements import statements_of
from octo_pipeline.registry.records import Account, Actor
from octo_pipeline.services.accounts import delete
from octo_pipeline.services.decide import cause, choose_items, corrected_months, decide, require_named_items
from octo_pipeline.services.months import make_months, require_months
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class DecisionWork:
    """What follows a decision, which itself is recorded.

    Attributes:
        operation: makes the months again.
        item_ids: the items that were decided on.
        left_out: the items of the rule that were decided on already.
        months: the months that are made again.
        closed_months: those of the items that are closed and stay as they are.
        corrected_in: the open month that corrects them; None if none is, or there is none yet.
    """

    operation: Operation
    item_ids: tuple[str, ...]
    left_out: tuple[str, ...]
    months: tuple[str, ...]
    closed_months: tuple[str, ...]
    corrected_in: str | None


def start_run(operations: Operations, workspace: Workspace, actor: Actor, month: str) -> Operation:
    """Land what is new and make all tables of a month: in Dagster, where the settings have its address, or here.

    Raises:
        OctoError: the month is outside the lake's, or Dagster cannot be asked or refuses.
    """
    require_months(workspace.settings, [month])
    if workspace.settings.dagster_url:
        run = launch_month(workspace.settings.dagster_url, month, actor)
        return operations.start("run", actor, run.follow, link=run.link)
    return operations.start("run", actor, lambda: recorded_as_run(workspace, [month], make_months(workspace, [month])))


def start_sending(
    operations: Operations, workspace: Workspace, actor: Actor, month: str, by: By | None = None
) -> Operation:
    """Send the statements of a month to the emails in cost_centres.csv.

    Raises:
        OctoError: no mail server is set.
    """
    require_server(workspace.settings)
    workspace.registry.note(actor, "send_statements", month, {"by": by} if by else {})

    def sending() -> Iterator[Sent]:
        with_email, _ = addressed(statements_of(workspace, month, by=by))
        sent = send(with_email, workspace.settings)
        yield from sent
        require_sent(sent)

    return operations.start("sending of statements", actor, sending)


def start_removal(
    operations: Operations, workspace: Workspace, actor: Actor, account: Account, *, keeps_data: bool
) -> Operation:
    """Remove an account, as `octo_pipeline.services.accounts.delete` does."""
    config = {"account": account.account_id, "vendor": account.vendor, "keep_data": keeps_data}
    why = {"action": f"{account.title} was removed", "actor": actor}
    removal = delete(workspace, actor, account, keeps_data=keeps_data)
    return operations.start(
        "removal of an account",
        actor,
        lambda: recorded_as_run_of(workspace, "delete_account", config, [], removal, why),
    )


def start_decision(
    operations: Operations,
    workspace: Workspace,
    actor: Actor,
    action: Literal["restore", "reapply"],
    *,
    reason: str,
    item: str | None = None,
    allocator: str | None = None,
    month: str | None = None,
    account: str | None = None,
) -> DecisionWork:
    """Record a decision and then make its months again.

    Args:
        operations: the work of this server.
        workspace: the lake.
        actor: who decides.
        action: restore or re-apply.
        reason: why.
        item: an item's id, or its beginning.
        allocator: instead of an item, all that it took and that are not decided on already,
        month: of this origin month
        account: and of this source account.

    Raises:
        OctoError: no item or several are meant, or the decision contradicts an earlier one; nothing was recorded.
    """
    require_named_items(item, allocator, month)
    chosen = choose_items(workspace, action, item=item, allocator=allocator, month=month, account=account)
    items = chosen.items
    closed, corrected_in = corrected_months(workspace, items)
    months = sorted({month for item in items for month in item.months})
    events = decide(workspace, action, items, reason=reason, actor=actor)
    config = {"reason": reason} | ({"item": items[0].item_id} if len(items) == 1 else {})
    why = cause(action, items, reason, actor)
    operation = operations.start(
        action, actor, lambda: recorded_as_run_of(workspace, f"{action}_items", config, months, events, why)
    )
    ids, left_out = (tuple(item.item_id for item in some) for some in (items, chosen.left_out))
    return DecisionWork(operation, ids, left_out, tuple(months), tuple(closed), corrected_in)
