"""The registered accounts: reads, changes, and the rules between accounts. Forms of ids belong in the vendors."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.decisions import append_decisions
from octo_pipeline.registry.records import Account, Actor, Decision, NewAccount, check_account, check_decisions
from octo_pipeline.registry.statements import append_event, fetch_rows, is_secret_of, select_columns

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

_NEW_ACCOUNT = ("vendor", "account_id", "payer_id", "name", "kind", "external_id", "settings")
_ACCOUNT = (
    *_NEW_ACCOUNT, "registered_at", "api_confirmed_at", "payer_confirmed_at", "cur_confirmed_at", "problem", "version",
)  # fmt: skip


class Accounts:
    """The registered accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, accounts: Sequence[NewAccount], actor: Actor) -> None:
        """Register accounts, all or none.

        Raises:
            OctoError: a value breaks a rule, an account is registered, or a name is taken.
        """
        for account in accounts:
            check_account(account, actor)
        with self._database.writing() as connection:
            for account in accounts:
                add_account(connection, account, actor)

    def all(self) -> list[Account]:
        """The accounts, by vendor and id."""
        with self._database.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(select_columns(sql.REGISTERED_ACCOUNTS, _ACCOUNT))
            accounts = [Account(**row._mapping) for row in rows]
        # Sorted here, because the order of text in PostgreSQL depends on the server's collation.
        return sorted(accounts, key=lambda account: (account.vendor, account.account_id))

    def find(self, account: str, vendor: str | None = None) -> Account:
        """The account with this id or, if there is none, with this name.

        Raises:
            OctoError: there is none, or several vendors have one.
        """
        candidates = [candidate for candidate in self.all() if vendor in (None, candidate.vendor)]
        matches = [candidate for candidate in candidates if candidate.account_id == account] or [
            candidate for candidate in candidates if candidate.name == account
        ]
        if len(matches) > 1:
            vendors = ", ".join(match.vendor for match in matches)
            raise OctoError(
                f"{quoted(account)} is registered for {vendors}; say which vendor.",
                code="account-ambiguous",
                place=account,
            )
        if not matches:
            raise self.unknown(account, vendor)
        return matches[0]

    @staticmethod
    def unknown(account: str, vendor: str | None = None) -> OctoError:
        """The error for an account that is not registered."""
        kind = f"{vendor} account" if vendor else "account"
        return OctoError(
            f"No {kind} {quoted(account)} is registered.",
            code="account-unknown",
            place=account,
            remedy=Remedy("accounts list", to="see the registered accounts"),
        )

    def change(self, account: Account, actor: Actor, action: str, **values: Any) -> Account:
        """Change an account, unless it changed since it was read.

        Args:
            account: the account as it was read.
            actor: who changes it.
            action: what the audit trail calls the change.
            values: fields of `Account` and their new values; without any, nothing changes.

        Returns:
            The account as it is now.

        Raises:
            OctoError: it was changed or removed since it was read, a value breaks a rule, or a name is taken.
        """
        if not values:
            return account
        version = account.version + 1
        changed = Account(**(vars(account) | values | {"version": version}))
        check_account(changed, actor)
        with self._database.writing() as connection:
            if "name" in values:
                _refuse_taken_name(connection, changed)
            _require_unchanged(connection, account)
            update = sql.REGISTERED_ACCOUNTS.update().where(_is_account(account))
            connection.execute(update, {**values, "version": version})
            details = {
                name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()
            }
            append_event(connection, actor, action, account.account_id, {"vendor": account.vendor, **details})
        return changed

    def remove(self, account: Account, actor: Actor, reapplied: Sequence[Decision], *, keeps_data: bool) -> None:
        """Remove an account and its secrets, and re-apply its restored items.

        Decisions are history and are kept: further decisions re-apply what is restored, so that the items of an
        account that is registered again start afresh.

        Args:
            account: the account as it was read.
            actor: who removes it.
            reapplied: decisions that re-apply the account's restored items.
            keeps_data: whether its deliveries and costs stay in the lake; for the audit trail.

        Raises:
            OctoError: the account was changed or removed since it was read, or an item is no longer restored. Then
                nothing is removed.
        """
        check_decisions(reapplied)
        with self._database.writing() as connection:
            _require_unchanged(connection, account)
            connection.execute(sql.REGISTERED_ACCOUNTS.delete().where(_is_account(account)))
            is_its_secret = is_secret_of(account.vendor, account.account_id)
            removed_secrets = connection.execute(sql.SECRETS.delete().where(is_its_secret)).rowcount
            if reapplied:
                append_decisions(connection, reapplied)
            details = {
                "vendor": account.vendor,
                "name": account.name,
                "keeps_data": keeps_data,
                "secrets": removed_secrets,
                "reapplied_items": len(reapplied),
            }
            append_event(connection, actor, "remove_account", account.account_id, details)

    def payer_members(self, payers: Sequence[str] | None = None) -> tuple[tuple[str, str], ...]:
        """The accounts registered under these payers or under any, as (payer, account), sorted and distinct."""
        with self._database.reading() as connection:
            if connection is None:
                return ()
            # Filtered here: there are few accounts, and the number of a statement's parameters is limited.
            rows = fetch_rows(connection, select_columns(sql.REGISTERED_ACCOUNTS, ("payer_id", "account_id")))
            asked = {row.payer_id for row in rows} - {None} if payers is None else set(payers)
            members: set[tuple[str, str]] = {(row.payer_id, row.account_id) for row in rows if row.payer_id in asked}
        return tuple(sorted(members))


def add_account(connection: "Connection", account: NewAccount, actor: Actor) -> None:
    """Add an account and its audit event.

    Raises:
        OctoError: the account is already registered, or its name is taken.
    """
    accounts = sql.REGISTERED_ACCOUNTS
    query = select_columns(accounts, ("name", "registered_at")).where(_is_account(account))
    registered = connection.execute(query).one_or_none()
    if registered is not None:
        name = "" if registered.name is None else f" as {quoted(registered.name)}"
        raise OctoError(
            f"The {account.vendor} account {quoted(account.account_id)} has been registered{name} since "
            f"{registered.registered_at:%Y-%m-%d %H:%M} UTC; nothing was changed.",
            code="account-already-registered",
        )
    _refuse_taken_name(connection, account)
    values = {name: getattr(account, name) for name in _NEW_ACCOUNT}
    connection.execute(accounts.insert(), values | {"registered_at": datetime.now(UTC)})
    details = {name: value for name, value in values.items() if name != "account_id" and value not in ({}, None)}
    append_event(connection, actor, "register_account", account.account_id, details)


def _is_account(account: NewAccount) -> "ColumnElement[bool]":
    accounts = sql.REGISTERED_ACCOUNTS
    return (accounts.c.vendor == account.vendor) & (accounts.c.account_id == account.account_id)


def _require_unchanged(connection: "Connection", account: Account) -> None:
    query = select_columns(sql.REGISTERED_ACCOUNTS, ("version",)).where(_is_account(account))
    version = connection.execute(query).scalar_one_or_none()
    if version is None:
        raise OctoError(
            f"Nothing was changed: {account.title} was removed in the meantime.",
            code="account-removed-meanwhile",
            place=account.account_id,
        )
    if version != account.version:
        raise OctoError(
            f"Nothing was changed: {account.title} was changed by somebody else in the meantime. Look at it and try again.",
            code="account-changed-meanwhile",
            place=account.account_id,
            remedy=Remedy("accounts show", account.account_id, to="look at it"),
        )


def _refuse_taken_name(connection: "Connection", account: NewAccount) -> None:
    if account.name is None:
        return
    accounts = sql.REGISTERED_ACCOUNTS
    query = select_columns(accounts, ("account_id",)).where(
        accounts.c.vendor == account.vendor,
        accounts.c.name == account.name,
        accounts.c.account_id != account.account_id,
    )
    holder = connection.execute(query).scalar_one_or_none()
    if holder is not None:
        raise OctoError(
            f"The name {quoted(account.name)} is taken by the {account.vendor} account {quoted(holder)}; nothing was "
            "changed. Choose another name.",
            code="account-name-taken",
        )
