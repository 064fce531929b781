"""All reads and writes of the registry, with all of its SQL.

Every method is one transaction, and every change appends its audit event in the same transaction. Nothing here knows
Dagster or the command line; the caller passes who acts. How the database is opened, locked and migrated belongs in
`database.py`, how a secret is encrypted in `encryption.py`.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import parse_month
from octo_pipeline.model.wording import quoted
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.encryption import Key, Keys
from octo_pipeline.registry.records import (
    NAME_LENGTH,
    Account,
    Actor,
    Admin,
    AuditEvent,
    Caller,
    Decision,
    NewAccount,
    RestoredItem,
    StoredSecret,
    Token,
    User,
    check_account,
    check_decisions,
    check_item_id,
    check_role,
    text_problem,
)

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select, Table

# SQLAlchemy copies a statement's rows: a million at once took 860 MB; in batches it is 26 MB and as fast.
_BATCH_ROWS = 10_000
# A rotation can end between reading the secret and its keys once, but not twice in a row.
_SECRET_READS = 2
_TOKEN_BYTES = 32
_NEW_ACCOUNT = ("vendor", "account_id", "payer_id", "name", "kind", "external_id", "settings")
_ACCOUNT = (
    *_NEW_ACCOUNT, "registered_at", "api_confirmed_at", "payer_confirmed_at", "cur_confirmed_at", "problem", "version",
)  # fmt: skip
_USER = ("name", "role", "added_at")
_TOKEN = ("id", "user_name", "label", "made_at", "revoked_at")


class Registry(Database):
    """The registry at a URL: decisions and the audit trail, and in its attributes accounts and users.

    Nothing is opened before it is needed. Reading a registry that does not exist returns nothing and creates nothing;
    the first write creates it. Every method raises `OctoError` if the database cannot be reached, is not a registry, or
    has another version than the code.

    Attributes:
        accounts: the registered accounts.
        users: the users, their roles and tokens.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.accounts = Accounts(self)
        self.users = Users(self)

    def upgrade(self, caller: Caller) -> bool:
        """Migrate the database to the version of the code; returns whether there was anything to do.

        Args:
            caller: who asks for it. `Users.require_admin`, which identifies callers of other changes, needs the
                current version.

        Raises:
            OctoError: the registry has users, and this is not one of its administrators.
        """

        def permit(connection: "Connection") -> None:
            if _has_users(connection):
                _admin(connection, caller)

        return self.migrate(permit)

    def record_decisions(self, decisions: Sequence[Decision]) -> int:
        """Append one person's decisions, all or none, with one audit event.

        Args:
            decisions: in the order in which they apply; if there are none, no event is appended.

        Returns:
            How many were recorded.

        Raises:
            OctoError: a decision breaks a rule, restores an item that is already restored, re-applies one that is
                not, or gives an item another origin month than an earlier decision did.
        """
        check_decisions(decisions)
        if decisions:
            with self.writing() as connection:
                _append_decisions(connection, decisions)
        return len(decisions)

    def restored_items(self, origin_months: Sequence[str] | None = None) -> tuple[RestoredItem, ...]:
        """The items whose latest decision is to restore them.

        Args:
            origin_months: the origin months of the items; None for all.

        Returns:
            The items, sorted by id.
        """
        months = None if origin_months is None else sorted({parse_month(month) for month in origin_months})
        with self.reading() as connection:
            if connection is None:
                return ()
            decisions, later = sql.DECISIONS, sql.DECISIONS.alias("later")
            is_overruled = sql.exists().where(later.c.item_id == decisions.c.item_id, later.c.id > decisions.c.id)
            query = _select(decisions, RestoredItem._fields).where(decisions.c.action == "restore", ~is_overruled)
            if months is not None:
                query = query.where(decisions.c.origin_month.in_(months))
            # Sorted here, because the order of text in PostgreSQL depends on the server's collation.
            return tuple(sorted(map(RestoredItem._make, connection.execute(query).all())))

    def decisions(self, item_id: str | None = None, origin_month: str | None = None) -> list[Decision]:
        """The history of decisions, oldest first.

        Args:
            item_id: only the decisions on this item.
            origin_month: only the decisions on items of this month.
        """
        if item_id is not None:
            check_item_id(item_id)
        month = None if origin_month is None else parse_month(origin_month)
        with self.reading() as connection:
            if connection is None:
                return []
            query = _select(sql.DECISIONS, Decision.__slots__).order_by(sql.DECISIONS.c.id)
            if item_id is not None:
                query = query.where(sql.DECISIONS.c.item_id == item_id)
            if month is not None:
                query = query.where(sql.DECISIONS.c.origin_month == month)
            return [Decision(*row) for row in _rows(connection, query)]

    def audit(self, limit: int = 100) -> list[AuditEvent]:
        """The newest events of the audit trail, newest first.

        Args:
            limit: the maximum number of events.
        """
        if limit < 1:
            raise OctoError(
                f"The audit trail cannot be cut to {limit:,} events; ask for 1 or more.", code="audit-limit-wrong"
            )
        with self.reading() as connection:
            if connection is None:
                return []
            events = sql.AUDIT_EVENTS
            query = _select(events, AuditEvent.__slots__).order_by(events.c.id.desc()).limit(limit)
            return [AuditEvent(*row) for row in _rows(connection, query)]

    def note(self, actor: Actor, action: str, subject: str, details: dict[str, Any]) -> None:
        """Append an event of a change that is kept elsewhere, such as an allocator's file.

        Args:
            actor: who did it.
            action: what was done.
            subject: what it was done to.
            details: the rest, as JSON values; never a secret.
        """
        with self.writing() as connection:
            _append_event(connection, actor, action, subject, details)


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
                _add_account(connection, account, actor)

    def all(self) -> list[Account]:
        """The accounts, by vendor and id."""
        with self._database.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(_select(sql.REGISTERED_ACCOUNTS, _ACCOUNT))
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
            kind = f"{vendor} account" if vendor else "account"
            raise OctoError(
                f"No {kind} {quoted(account)} is registered.",
                code="account-unknown",
                place=account,
                remedy=Remedy("accounts list", to="see the registered accounts"),
            )
        return matches[0]

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
            _append_event(connection, actor, action, account.account_id, {"vendor": account.vendor, **details})
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
            is_its_secret = _is_secret(account.vendor, account.account_id)
            removed_secrets = connection.execute(sql.SECRETS.delete().where(is_its_secret)).rowcount
            if reapplied:
                _append_decisions(connection, reapplied)
            details = {
                "vendor": account.vendor,
                "name": account.name,
                "keeps_data": keeps_data,
                "secrets": removed_secrets,
                "reapplied_items": len(reapplied),
            }
            _append_event(connection, actor, "remove_account", account.account_id, details)

    def payer_members(self, payers: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """The accounts registered under these payers, as (payer, account), sorted and distinct."""
        with self._database.reading() as connection:
            if connection is None:
                return ()
            # Filtered here: there are few accounts, and the number of a statement's parameters is limited.
            rows = _rows(connection, _select(sql.REGISTERED_ACCOUNTS, ("payer_id", "account_id")))
            members: set[tuple[str, str]] = {
                (row.payer_id, row.account_id) for row in rows if row.payer_id in set(payers)
            }
        return tuple(sorted(members))


class Users:
    """The users and their tokens: who may read and who may change.

    A person is a user of the operating system whose name is registered, or whoever holds a token. A token is
    ``octo_<id>_<random>``. Its row is looked up by the id; only a SHA-256 of the whole text is stored. For 256 random
    bits a hash without salt is enough.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def require_admin(self, caller: Caller) -> Admin:
        """The caller as an administrator. If the registry has no users, the first caller becomes one.

        Raises:
            OctoError: the token is unknown or revoked, or the caller is not a user or not an administrator.
        """
        with self._database.reading() as connection:
            if connection is not None and (caller.token is not None or _has_users(connection)):
                return Admin(_admin(connection, caller), is_new=False)
        if caller.token is not None:
            raise OctoError(
                "There is a token, but this registry has no users yet. Leave the token out: the first user to change "
                "something becomes the administrator, who can then make tokens.",
                code="token-before-users",
                remedy=Remedy("unset", setting="token"),
            )
        with self._database.writing() as connection:
            # Somebody else may have been first meanwhile.
            if _has_users(connection):
                return Admin(_admin(connection, caller), is_new=False)
            actor = Actor(caller.os_user)
            _add_user(connection, actor, "admin", actor)
            return Admin(actor, is_new=True)

    def all(self) -> list[User]:
        """The users by name."""
        with self._database.reading() as connection:
            return [] if connection is None else _users(connection)

    def tokens(self) -> list[Token]:
        """The tokens, oldest first, including revoked ones."""
        with self._database.reading() as connection:
            if connection is None:
                return []
            rows = _rows(connection, _select(sql.TOKENS, _TOKEN).order_by(sql.TOKENS.c.made_at))
            return [Token(*row) for row in rows]

    def add(self, name: str, role: str, actor: Actor) -> None:
        """Add a user.

        Raises:
            OctoError: the name is not valid or is taken, or the role is unknown.
        """
        problem = text_problem("name", name, NAME_LENGTH)
        if problem is not None:
            raise OctoError(f"The user {quoted(name)} cannot be added: {problem}.", code="user-name-wrong")
        check_role(role)
        with self._database.writing() as connection:
            _add_user(connection, name, role, actor)

    def set_role(self, name: str, role: str, actor: Actor) -> None:
        """Give a user another role.

        Raises:
            OctoError: there is no such user or role, or the user is the last administrator.
        """
        check_role(role)
        with self._database.writing() as connection:
            user = _user(connection, name)
            if role != "admin":
                _refuse_last_admin(connection, user)
            connection.execute(sql.USERS.update().where(sql.USERS.c.name == name), {"role": role})
            _append_event(connection, actor, "set_role", name, {"role": role, "before": user.role})

    def remove(self, name: str, actor: Actor) -> None:
        """Remove a user and revoke their tokens.

        Raises:
            OctoError: there is no such user, or the user is the last administrator.
        """
        tokens = sql.TOKENS
        with self._database.writing() as connection:
            user = _user(connection, name)
            _refuse_last_admin(connection, user)
            is_live = (tokens.c.user_name == name) & tokens.c.revoked_at.is_(None)
            revoked = connection.execute(tokens.update().where(is_live), {"revoked_at": datetime.now(UTC)}).rowcount
            connection.execute(sql.USERS.delete().where(sql.USERS.c.name == name))
            _append_event(connection, actor, "remove_user", name, {"role": user.role, "revoked_tokens": revoked})

    def make_token(self, name: str, label: str, actor: Actor) -> str:
        """Make a token for a user.

        Returns:
            The token's text, which cannot be read again later.

        Raises:
            OctoError: there is no such user, or the label is not valid.
        """
        problem = text_problem("label", label, NAME_LENGTH)
        if problem is not None:
            raise OctoError(f"The token cannot be made: {problem}.", code="token-label-wrong")
        token_id = secrets.token_hex(4)
        text = f"octo_{token_id}_{secrets.token_urlsafe(_TOKEN_BYTES)}"
        with self._database.writing() as connection:
            user = _user(connection, name)
            row = {
                "id": token_id,
                "user_name": name,
                "label": label,
                "sha256": _digest(text),
                "made_at": datetime.now(UTC),
                "revoked_at": None,
            }
            connection.execute(sql.TOKENS.insert(), row)
            _append_event(connection, actor, "make_token", token_id, {"user": name, "role": user.role, "label": label})
        return text

    def revoke(self, token_id: str, actor: Actor) -> None:
        """Revoke a token by its id.

        Raises:
            OctoError: there is no such token, or it is already revoked.
        """
        with self._database.writing() as connection:
            is_token = sql.TOKENS.c.id == token_id
            token = connection.execute(_select(sql.TOKENS, _TOKEN).where(is_token)).one_or_none()
            if token is None:
                raise OctoError(
                    f"There is no token {quoted(token_id)}.",
                    code="token-id-unknown",
                    remedy=Remedy("users tokens", to="list them"),
                )
            if token.revoked_at is not None:
                raise OctoError(
                    f"The token {token_id} was already revoked at {token.revoked_at:%Y-%m-%d %H:%M} UTC.",
                    code="token-already-revoked",
                )
            connection.execute(sql.TOKENS.update().where(is_token), {"revoked_at": datetime.now(UTC)})
            _append_event(connection, actor, "revoke_token", token_id, {"user": token.user_name, "label": token.label})


class Secrets:
    """The secrets of accounts (secret keys, refresh tokens), encrypted at rest.

    Secrets are passed in and returned as `SecretStr`, which prints as stars; no message, event or log contains the text.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def put(
        self,
        vendor: str,
        account_id: str,
        values: dict[str, SecretStr],
        actor: Actor,
        registers: NewAccount | None = None,
    ) -> None:
        """Store secrets of an account under their names, all or none; they replace existing ones.

        Args:
            vendor: the account's vendor.
            account_id: its id.
            values: the secrets by their names.
            actor: who stores them.
            registers: the account, if it is to be registered in the same transaction.

        Raises:
            OctoError: there is no usable key, or the account cannot be registered.
        """
        if registers is not None:
            check_account(registers, actor)
        with self._database.writing() as connection:
            if registers is not None:
                _add_account(connection, registers, actor)
            key = self._keys.load_or_make()[0]
            for name, value in values.items():
                _put_secret(connection, vendor, account_id, name, key, value.get_secret_value())
            _append_event(connection, actor, "put_secrets", account_id, {"vendor": vendor, "names": sorted(values)})

    def get(self, vendor: str, account_id: str, name: str) -> SecretStr:
        """A secret of an account.

        Raises:
            OctoError: there is none, its key is missing, or it was tampered with.
        """
        title = _secret_title(vendor, account_id, name)
        key_id = ""
        for _ in range(_SECRET_READS):
            secret = self._stored(vendor, account_id, name)
            if secret is None:
                raise OctoError(
                    f"There is no secret {title}.",
                    code="secret-missing",
                    place=title,
                    remedy=(
                        Remedy("accounts show", account_id, to="see what to do"),
                        Remedy("accounts sign-in", account_id, to="sign an Azure partner in again"),
                    ),
                )
            keys = {key.id: key for key in self._keys.load()}
            if secret.key_id in keys:
                return SecretStr(keys[secret.key_id].decrypt(secret.ciphertext, title))
            key_id = secret.key_id
        raise _no_key(title, key_id)

    def rotate(self, actor: Actor) -> int:
        """Encrypt all secrets with a new key, or with the first key of the setting; returns how many.

        An interrupted rotation leaves every secret readable: the new key is saved before the first secret is
        encrypted with it, and the old keys are dropped after the last.

        Raises:
            OctoError: a secret cannot be decrypted. Then nothing is changed.
        """
        with self._database.writing() as connection:
            rows = connection.execute(_select(sql.SECRETS, StoredSecret._fields))
            keys = {key.id: key for key in self._keys.load()}
            texts = [(secret, _open(keys, secret)) for secret in map(StoredSecret._make, rows)]
            key = self._keys.renew()[0]
            for secret, text in texts:
                _put_secret(connection, secret.vendor, secret.account_id, secret.name, key, text)
            details = {"count": len(texts), "key_id": key.id}
            _append_event(connection, actor, "rotate_secrets", f"{len(texts):,} secrets", details)
        self._keys.drop_old()
        return len(texts)

    def _stored(self, vendor: str, account_id: str, name: str) -> StoredSecret | None:
        with self._database.reading() as connection:
            if connection is None:
                return None
            is_it = _is_secret(vendor, account_id) & (sql.SECRETS.c.name == name)
            row = connection.execute(_select(sql.SECRETS, StoredSecret._fields).where(is_it)).one_or_none()
            return None if row is None else StoredSecret._make(row)


def _select(table: "Table", names: Sequence[str]) -> "Select[tuple[Any, ...]]":
    """The query for these columns of a table, in this order."""
    return sql.select(*(table.c[name] for name in names))


def _append(connection: "Connection", table: "Table", rows: Iterable[dict[str, Any]]) -> int:
    """Append rows with ids that continue the table's; returns the first new id."""
    first: int = connection.execute(sql.select(sql.func.coalesce(sql.func.max(table.c.id), 0) + 1)).scalar_one()
    numbered = ({"id": number, **row} for number, row in enumerate(rows, start=first))
    while batch := list(islice(numbered, _BATCH_ROWS)):
        connection.execute(table.insert(), batch)
    return first


def _append_event(connection: "Connection", actor: Actor, action: str, subject: str, details: dict[str, Any]) -> None:
    event = {
        "at": datetime.now(UTC),
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": details,
    }
    _append(connection, sql.AUDIT_EVENTS, [event])


def _rows(connection: "Connection", query: Any) -> Sequence[Any]:
    """The rows of a query, typed so that they can be unpacked into our classes."""
    return connection.execute(query).all()


def _append_decisions(connection: "Connection", decisions: Sequence[Decision]) -> None:
    """Append one person's decisions and their audit event.

    Raises:
        OctoError: a decision contradicts the previous one on the same item.
    """
    rows = ({name: getattr(decision, name) for name in Decision.__slots__} for decision in decisions)
    first_id = _append(connection, sql.DECISIONS, rows)
    _refuse_contradictions(connection, first_id)
    reasons = {decision.reason for decision in decisions}
    # The event refers to the decisions by their ids, so that a million of them are still one short event.
    details = {
        "count": len(decisions),
        "first_decision": first_id,
        "last_decision": first_id + len(decisions) - 1,
        "origin_months": sorted({decision.origin_month for decision in decisions}),
        "categories": sorted({decision.category for decision in decisions}),
        "reason": reasons.pop() if len(reasons) == 1 else None,
    }
    action = " and ".join(sorted({decision.action for decision in decisions}, reverse=True))
    subject = decisions[0].item_id if len(decisions) == 1 else f"{len(decisions):,} items"
    _append_event(connection, decisions[0].actor, action, subject, details)


def _refuse_contradictions(connection: "Connection", first_id: int) -> None:
    """Compare the decisions from `first_id` on with the previous ones on the same items.

    It is one statement over the rows that were just appended, because a million ids do not fit into
    parameters. It also finds a call that contradicts itself.
    """
    decisions = sql.DECISIONS
    new, old, earlier = decisions.alias("new"), decisions.alias("old"), decisions.alias("earlier")
    previous = (
        sql.select(sql.func.max(earlier.c.id))
        .where(earlier.c.item_id == new.c.item_id, earlier.c.id < new.c.id)
        .scalar_subquery()
    )
    # An item without a decision counts as re-applied.
    action_before = sql.func.coalesce(old.c.action, "reapply")
    contradiction = sql.or_(action_before == new.c.action, old.c.origin_month != new.c.origin_month)
    query = (
        sql.select(new.c.action, new.c.item_id, new.c.origin_month, old.c.origin_month, old.c.actor, old.c.decided_at)
        .select_from(new.outerjoin(old, old.c.id == previous))
        .where(new.c.id >= first_id, contradiction)
        .order_by(new.c.id)
        .limit(1)
    )
    rows = _rows(connection, query)
    if not rows:
        return
    action, item_id, month, month_before, actor, decided_at = rows[0]
    if month_before is not None and month_before != month:
        problem = f"an earlier decision says its origin month is {month_before}; give that one"
    elif action == "restore":
        problem = f"{actor} restored it at {decided_at:%Y-%m-%d %H:%M} UTC; leave it out"
    else:
        problem = "it is not restored; leave it out"
    raise OctoError(
        f"Cannot {action} item {item_id} of {month}: {problem}. Nothing was recorded.", code="decision-contradicts"
    )


def _add_account(connection: "Connection", account: NewAccount, actor: Actor) -> None:
    """Add an account and its audit event.

    Raises:
        OctoError: the account is already registered, or its name is taken.
    """
    accounts = sql.REGISTERED_ACCOUNTS
    query = _select(accounts, ("name", "registered_at")).where(_is_account(account))
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
    _append_event(connection, actor, "register_account", account.account_id, details)


def _is_account(account: NewAccount) -> "ColumnElement[bool]":
    accounts = sql.REGISTERED_ACCOUNTS
    return (accounts.c.vendor == account.vendor) & (accounts.c.account_id == account.account_id)


def _require_unchanged(connection: "Connection", account: Account) -> None:
    query = _select(sql.REGISTERED_ACCOUNTS, ("version",)).where(_is_account(account))
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
    query = _select(accounts, ("account_id",)).where(
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


def _has_users(connection: "Connection") -> bool:
    """Whether the registry has users; an old version without a users table has none."""
    if not sql.inspect(connection).has_table(sql.USERS.name):
        return False
    count: int = connection.execute(sql.select(sql.func.count()).select_from(sql.USERS)).scalar_one()
    return count > 0


def _users(connection: "Connection") -> list[User]:
    rows = _rows(connection, _select(sql.USERS, _USER))
    return sorted((User(*row) for row in rows), key=lambda user: user.name)


def _find_user(connection: "Connection", name: str) -> User | None:
    rows = _rows(connection, _select(sql.USERS, _USER).where(sql.USERS.c.name == name))
    return User(*rows[0]) if rows else None


def _user(connection: "Connection", name: str) -> User:
    user = _find_user(connection, name)
    if user is None:
        raise OctoError(
            f"There is no user {quoted(name)}.",
            code="user-unknown",
            remedy=Remedy("users list", to="see all users"),
        )
    return user


def _add_user(connection: "Connection", name: str, role: str, actor: Actor) -> None:
    user = _find_user(connection, name)
    if user is not None:
        raise OctoError(
            f"{quoted(name)} is already a user, with the role {user.role}; nothing was changed.",
            code="user-already-known",
        )
    connection.execute(sql.USERS.insert(), {"name": name, "role": role, "added_at": datetime.now(UTC)})
    _append_event(connection, actor, "add_user", name, {"role": role})


def _refuse_last_admin(connection: "Connection", user: User) -> None:
    admins = [other.name for other in _users(connection) if other.role == "admin"]
    if admins == [user.name]:
        raise OctoError(
            f"{quoted(user.name)} is the last administrator; nothing was changed. Make somebody else an administrator "
            "first: otherwise nobody could change the registry.",
            code="last-administrator",
        )


def _admin(connection: "Connection", caller: Caller) -> Actor:
    """The caller as an administrator.

    Raises:
        OctoError: the token is unknown or revoked, or the caller is not a user or not an administrator.
    """
    name = caller.os_user if caller.token is None else _token_user(connection, caller.token)
    user = _find_user(connection, name)
    if user is None:
        raise OctoError(
            f"{quoted(name)} is not a user of this registry, and only its administrators may change anything. Ask one "
            "of them to add you or to make you a token.",
            code="caller-not-a-user",
            remedy=Remedy("users add", name, role="admin", to="add them, as an administrator"),
        )
    if user.role != "admin":
        raise OctoError(
            f"{quoted(name)} is a {user.role}, and only administrators may change anything; nothing was changed. "
            "Ask an administrator to do it or to give you the role.",
            code="caller-not-an-administrator",
            remedy=Remedy("users role", name, "admin", to="give them the role, as an administrator"),
        )
    return Actor(name)


def _token_user(connection: "Connection", text: str) -> str:
    parts = text.split("_", 2)
    token_id = parts[1] if len(parts) == 3 and parts[0] == "octo" and parts[1].isalnum() else ""
    is_live = (sql.TOKENS.c.id == token_id) & sql.TOKENS.c.revoked_at.is_(None)
    row = connection.execute(_select(sql.TOKENS, ("user_name", "sha256")).where(is_live)).one_or_none()
    # Compare even if the token does not exist, so that response time leaks nothing.
    is_same = hmac.compare_digest(_digest(text), row.sha256 if row is not None else _digest(""))
    if row is None or not is_same:
        raise OctoError(
            "The token does not belong to this registry or was revoked. Ask an administrator for another.",
            code="token-refused",
            remedy=Remedy("set", setting="token", to="a valid one"),
        )
    return str(row.user_name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _put_secret(connection: "Connection", vendor: str, account_id: str, name: str, key: Key, text: str) -> None:
    """Store a secret, encrypted with the key; it replaces an existing one."""
    ciphertext = key.encrypt(text, _secret_title(vendor, account_id, name))
    secret = StoredSecret(vendor, account_id, name, key.id, ciphertext)
    connection.execute(sql.SECRETS.delete().where(_is_secret(vendor, account_id), sql.SECRETS.c.name == name))
    connection.execute(sql.SECRETS.insert(), {**secret._asdict(), "changed_at": datetime.now(UTC)})


def _is_secret(vendor: str, account_id: str) -> "ColumnElement[bool]":
    return (sql.SECRETS.c.vendor == vendor) & (sql.SECRETS.c.account_id == account_id)


def _open(keys: dict[str, Key], secret: StoredSecret) -> str:
    title = _secret_title(secret.vendor, secret.account_id, secret.name)
    if secret.key_id not in keys:
        raise _no_key(title, secret.key_id)
    return keys[secret.key_id].decrypt(secret.ciphertext, title)


def _no_key(title: str, key_id: str) -> OctoError:
    return OctoError(
        f"The secret {title} was encrypted with a key ({key_id}) that this installation does not have. Copy the key "
        "file that it was made with.",
        code="key-missing",
        place=title,
        remedy=Remedy("set", setting="secret_key", to="that key, if it is not in a file"),
    )


def _secret_title(vendor: str, account_id: str, name: str) -> str:
    """What messages call a secret; its ciphertext is bound to this title too."""
    return f"{vendor}/{account_id}/{name}"
