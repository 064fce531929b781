"""The SQL of registered accounts: each function is a step in a transaction that `database.py` opened."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry import secret_queries
from octo_pipeline.registry.accounts import Account, NewAccount
from octo_pipeline.registry.queries import append_decisions, append_event
from octo_pipeline.registry.records import Decision, shown
from octo_pipeline.registry.schema import REGISTERED_ACCOUNTS as TABLE

_NEW = ("vendor", "account_id", "payer_id", "name", "kind", "external_id", "settings")
_COLUMNS = (
    *_NEW, "registered_at", "api_confirmed_at", "payer_confirmed_at", "cur_confirmed_at", "problem", "version",
)  # fmt: skip


def add(connection: Connection, account: NewAccount, actor: str) -> None:
    """Add an account and its audit event.

    Raises:
        OctoError: the vendor's account is registered, or its name is taken.
    """
    _refuse_registered(connection, account)
    _refuse_taken_name(connection, account.vendor, account.account_id, account.name)
    details = {name: getattr(account, name) for name in _NEW}
    connection.execute(TABLE.insert(), details | {"registered_at": datetime.now(UTC)})
    told = {name: value for name, value in details.items() if name != "account_id" and value not in ({}, None)}
    append_event(connection, actor, "register_account", account.account_id, told)


def all_accounts(connection: Connection) -> list[Account]:
    """The accounts, by vendor and id."""
    rows = connection.execute(select(*(TABLE.c[name] for name in _COLUMNS)))
    accounts = [Account(**row._mapping) for row in rows]
    # Sorted here, since the order of text in PostgreSQL depends on the server's collation.
    return sorted(accounts, key=lambda account: (account.vendor, account.account_id))


def change(connection: Connection, account: Account, values: Mapping[str, Any], actor: str, action: str) -> None:
    """Set these fields of an account and append the audit event.

    Raises:
        OctoError: it was changed or removed since it was read, or the name is taken.
    """
    if "name" in values:
        _refuse_taken_name(connection, account.vendor, account.account_id, values["name"])
    _require_unchanged(connection, account)
    connection.execute(TABLE.update().where(_is(account)), {**values, "version": account.version + 1})
    told = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
    append_event(connection, actor, action, account.account_id, {"vendor": account.vendor, **told})


def remove(
    connection: Connection, account: Account, actor: str, reapplied: Sequence[Decision], *, keeps_data: bool
) -> None:
    """Remove an account with its secrets, append the decisions and the audit event.

    Raises:
        OctoError: it was changed or removed since it was read, or a decision contradicts the one before it.
    """
    _require_unchanged(connection, account)
    connection.execute(TABLE.delete().where(_is(account)))
    secrets = secret_queries.remove(connection, account.vendor, account.account_id)
    if reapplied:
        append_decisions(connection, reapplied)
    details = {
        "vendor": account.vendor,
        "name": account.name,
        "keeps_data": keeps_data,
        "secrets": secrets,
        "reapplied_items": len(reapplied),
    }
    append_event(connection, actor, "remove_account", account.account_id, details)


def payer_members(connection: Connection, payers: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(payer, account) of the accounts registered to these payers, sorted and distinct."""
    query = select(TABLE.c.payer_id, TABLE.c.account_id)
    # Filtered here: accounts are few, and a statement takes only so many parameters.
    wanted = set(payers)
    members: set[tuple[str, str]] = {row._tuple() for row in connection.execute(query) if row.payer_id in wanted}
    return tuple(sorted(members))


def _is(account: NewAccount) -> Any:
    return (TABLE.c.vendor == account.vendor) & (TABLE.c.account_id == account.account_id)


def _require_unchanged(connection: Connection, account: Account) -> None:
    version = connection.execute(select(TABLE.c.version).where(_is(account))).scalar_one_or_none()
    if version is None:
        raise OctoError(f"Nothing was changed: {account.title} was removed in the meantime.")
    if version != account.version:
        raise OctoError(
            f"Nothing was changed: {account.title} was changed by somebody else in the meantime. "
            "Look at it with `octo accounts show` and try again."
        )


def _refuse_registered(connection: Connection, account: NewAccount) -> None:
    known = connection.execute(select(TABLE.c.name, TABLE.c.registered_at).where(_is(account))).one_or_none()
    if known is not None:
        name = "" if known.name is None else f" as {shown(known.name)}"
        raise OctoError(
            f"The {account.vendor} account {shown(account.account_id)} is registered{name} since "
            f"{known.registered_at:%Y-%m-%d %H:%M} UTC; nothing was changed."
        )


def _refuse_taken_name(connection: Connection, vendor: str, account_id: str, name: str | None) -> None:
    query = select(TABLE.c.account_id).where(
        TABLE.c.vendor == vendor, TABLE.c.name == name, TABLE.c.account_id != account_id
    )
    taken = connection.execute(query).scalar_one_or_none() if name is not None else None
    if taken is not None:
        raise OctoError(
            f"The name {shown(name or '')} is taken by the {vendor} account {shown(taken)}; nothing was changed. "
            "Choose another name."
        )
