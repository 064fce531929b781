"""Listing, renaming and removing registered accounts, which is the same for all vendors."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.templates import render
from octo_pipeline.registry.records import Account, Actor, Decision
from octo_pipeline.services import registration
from octo_pipeline.services.months import Event, Failed, make_months
from octo_pipeline.services.sources import NEW_ACCOUNT
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.limited import LimitedWorkspace
from octo_pipeline.tables.restored_items import create_restored_items
from octo_pipeline.vendors.landing import Delivery, deliveries, remove
from octo_pipeline.workspace import Workspace

_REASON = "the account was removed"
# Who confirms where nobody asked for it.
_ITSELF = Actor("octo-pipeline")


@dataclass(frozen=True)
class Listed:
    """A registered account in a list.

    Attributes:
        account: the account.
        last_delivery: when its latest delivery was landed; its payer's for a linked account, None if there is none.
    """

    account: Account
    last_delivery: datetime | None

    @property
    def values(self) -> dict[str, Any]:
        """The account with its states as all faces list it: column -> value. Secrets are never in it."""
        account = self.account
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
            "last_delivery": self.last_delivery,
            "problem": account.problem,
        }


@dataclass(frozen=True)
class Removed:
    """What was removed with an account.

    Attributes:
        deliveries: how many landed deliveries.
        months: the months whose line items were made again without it.
        reapplied: how many restored items were re-applied.
        kept_months: the closed months whose deliveries stay, because what was invoiced rests on them.
    """

    deliveries: int
    months: tuple[str, ...]
    reapplied: int
    kept_months: tuple[str, ...]


def listed(workspace: Workspace) -> list[Listed]:
    """The registered accounts, by vendor and id; for a limited reader those that are seen in the newest month."""
    if isinstance(workspace, LimitedWorkspace):
        return [entry for entry in listed(workspace.whole) if _is_seen(workspace, entry.account)]
    return with_last_deliveries(workspace, workspace.registry.accounts.all())


def find_listed(workspace: Workspace, account: str, vendor: str | None = None) -> Listed:
    """A registered account by its id or name.

    Raises:
        OctoError: there is none that the reader may see, or several vendors have one.
    """
    whole = workspace.whole if isinstance(workspace, LimitedWorkspace) else workspace
    accounts = whole.registry.accounts
    registered = accounts.find(account, vendor)
    if isinstance(workspace, LimitedWorkspace) and not _is_seen(workspace, registered):
        raise accounts.unknown(account, vendor)
    (entry,) = with_last_deliveries(whole, [registered])
    return entry


def _is_seen(workspace: LimitedWorkspace, account: Account) -> bool:
    months = workspace.lake.months(AccountCosts.name)
    return bool(months) and ("account", account.account_id) in workspace.owners(months[-1])


def with_last_deliveries(workspace: Workspace, accounts: Iterable[Account]) -> list[Listed]:
    """Accounts with when each delivered last."""
    last: dict[tuple[str, str], datetime] = {}
    for delivery in deliveries(workspace.lake.root):
        key = (delivery.vendor, delivery.account)
        last[key] = max(delivery.fetched_at, last.get(key, delivery.fetched_at))
    return [Listed(account, last.get((account.vendor, account.payer_id or account.account_id))) for account in accounts]


def confirm_new(workspace: Workspace, now: datetime) -> list[str]:
    """Ask the vendors again about the accounts that were registered within a day and are not Completed.

    AWS writes its first report, and Google its first table, hours after they are set up, when nobody looks any more.

    Returns:
        A sentence for each of them.
    """
    lines = []
    for account in workspace.registry.accounts.all():
        if account.is_completed or now - account.registered_at >= NEW_ACCOUNT:
            continue
        try:
            account = registration.of(account).confirm(workspace, _ITSELF, account)
        except OctoError as error:
            lines.append(f"{account.title}: {error}")
            continue
        state = "Completed" if account.is_completed else f"open ({account.problem or 'a step is left to do'})"
        lines.append(f"{account.title} is {state}.")
    return lines


def rename(workspace: Workspace, actor: Actor, account: Account, name: str | None) -> Account:
    """Give an account another name, or none.

    Raises:
        OctoError: the name is taken or not valid.
    """
    return workspace.registry.accounts.change(account, actor, "rename_account", name=name)


def delete(workspace: Workspace, actor: Actor, account: Account, *, keeps_data: bool) -> Iterator[Event | Removed]:
    """Remove an account and, unless `keeps_data`, everything that the lake has from it.

    1. The account's steps lose their confirmation, so that no run fetches its costs again in the meantime.
    2. Its landed deliveries are removed, but for those of closed months.
    3. The line items and the container usage of their months are made again from the deliveries that are left. The tables
       that read them become stale; the next run or the sensor makes them again.
    4. The account and its secrets are removed from the registry. The same transaction re-applies its restored items by
       new decisions, because decisions are never deleted.

    If this is stopped or fails, the account is still registered, so that it can be repeated. The costs of a linked
    account are part of its payer's deliveries and stay there.

    Yields:
        The events of the line items; at the end, once the account is gone, what was removed.

    Raises:
        OctoError: the account was changed in the meantime, or the lake or the registry cannot be written.
    """
    if keeps_data:
        workspace.registry.accounts.remove(account, actor, [], keeps_data=True)
        yield Removed(0, (), 0, ())
        return
    account = workspace.registry.accounts.change(
        account,
        actor,
        "begin_removal",
        api_confirmed_at=None,
        payer_confirmed_at=None,
        cur_confirmed_at=None,
        problem="It is being removed; delete it again if this was stopped.",
    )
    reapplied = _reapplied(workspace, actor, account)
    landed, removed = _removal(workspace, account, reapplied)
    for delivery in landed:
        remove(workspace.lake.root, delivery)
    for event in make_months(workspace, removed.months, [CostLineItems(), ContainerUsage()]):
        yield event
        if isinstance(event, Failed):
            raise event.error
    workspace.registry.accounts.remove(account, actor, reapplied, keeps_data=False)
    yield removed


def preview_removal(workspace: Workspace, account: Account) -> Removed:
    """What `delete` would remove together with an account. Nothing is changed."""
    return _removal(workspace, account, _reapplied(workspace, _ITSELF, account))[1]


def _removal(workspace: Workspace, account: Account, reapplied: Sequence[Decision]) -> tuple[list[Delivery], Removed]:
    """The deliveries that go with an account, and what else does."""
    landed = (
        [] if account.payer_id else deliveries(workspace.lake.root, vendor=account.vendor, account=account.account_id)
    )
    closed = max(workspace.closed_months, default="")
    kept = sorted({delivery.month for delivery in landed if delivery.month <= closed})
    landed = [delivery for delivery in landed if delivery.month > closed]
    months = () if account.payer_id else _months_made_from(workspace, account)
    months = tuple(month for month in months if month > closed)
    return landed, Removed(len(landed), months, len(reapplied), tuple(kept))


def _months_made_from(workspace: Workspace, account: Account) -> tuple[str, ...]:
    """The months whose line items were made from a delivery of the account."""
    lake, table = workspace.lake, CostLineItems.name
    source = f"landing/{account.vendor}/{account.account_id}"
    return tuple(
        month
        for month in lake.months(table)
        if (metadata := lake.metadata(table, month)) is not None and source in metadata.inputs
    )


def _reapplied(workspace: Workspace, actor: Actor, account: Account) -> list[Decision]:
    """Decisions that re-apply the restored items of the account."""
    restored = workspace.registry.restored_items()
    if not restored:
        return []
    items = scan_items(workspace.lake)
    with workspace.lake.connect() as connection:
        query = render(
            "services/decisions_on_account",
            items=items,
            restored_items=create_restored_items(connection, restored, items),
            vendor=account.vendor,
            # What has a payer is linked, whether its kind is confirmed or not.
            owner="sub_account_id" if account.payer_id else "billing_account_id",
            account=account.account_id,
        )
        rows = connection.execute(query).fetchall()
    now = datetime.now(UTC)
    return [Decision("reapply", item, month, category, actor, _REASON, now) for item, month, category in rows]
