"""The secrets of accounts, stored encrypted. The keys and the encryption itself belong in `encryption.py`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import SecretStr

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.accounts import add_account
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.encryption import Key, Keys
from octo_pipeline.registry.records import Actor, NewAccount, StoredSecret, check_account
from octo_pipeline.registry.statements import append_event, is_secret_of, select_columns

if TYPE_CHECKING:
    from sqlalchemy import Connection

# A rotation can end between reading the secret and its keys once, but not twice in a row.
_SECRET_READS = 2


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
            OctoError: no key is set or it cannot be used, or the account cannot be registered.
        """
        if registers is not None:
            check_account(registers, actor)
        with self._database.writing() as connection:
            if registers is not None:
                add_account(connection, registers, actor)
            key = self._keys.load_or_make()[0]
            for name, value in values.items():
                _put_secret(connection, vendor, account_id, name, key, value.get_secret_value())
            append_event(connection, actor, "put_secrets", account_id, {"vendor": vendor, "names": sorted(values)})

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

    def without_key(self) -> list[str]:
        """The secrets, as ``vendor/account/name``, whose key this installation does not have."""
        with self._database.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(select_columns(sql.SECRETS, StoredSecret._fields)).all()
        known = {key.id for key in self._keys.load()} if rows else set()
        secrets = map(StoredSecret._make, rows)
        return sorted(_secret_title(s.vendor, s.account_id, s.name) for s in secrets if s.key_id not in known)

    def rotate(self, actor: Actor) -> int:
        """Encrypt all secrets with a new key, or with the first key of the setting; returns how many.

        An interrupted rotation leaves every secret readable: the new key is saved before the first secret is
        encrypted with it, and the old keys are dropped after the last.

        Raises:
            OctoError: a secret cannot be decrypted. Then nothing is changed.
        """
        with self._database.writing() as connection:
            rows = connection.execute(select_columns(sql.SECRETS, StoredSecret._fields))
            keys = {key.id: key for key in self._keys.load()}
            texts = [(secret, _open(keys, secret)) for secret in map(StoredSecret._make, rows)]
            key = self._keys.renew()[0]
            for secret, text in texts:
                _put_secret(connection, secret.vendor, secret.account_id, secret.name, key, text)
            details = {"count": len(texts), "key_id": key.id}
            append_event(connection, actor, "rotate_secrets", f"{len(texts):,} secrets", details)
        self._keys.drop_old()
        return len(texts)

    def _stored(self, vendor: str, account_id: str, name: str) -> StoredSecret | None:
        with self._database.reading() as connection:
            if connection is None:
                return None
            is_it = is_secret_of(vendor, account_id) & (sql.SECRETS.c.name == name)
            row = connection.execute(select_columns(sql.SECRETS, StoredSecret._fields).where(is_it)).one_or_none()
            return None if row is None else StoredSecret._make(row)


def _put_secret(connection: "Connection", vendor: str, account_id: str, name: str, key: Key, text: str) -> None:
    """Store a secret, encrypted with the key; it replaces an existing one."""
    ciphertext = key.encrypt(text, _secret_title(vendor, account_id, name))
    secret = StoredSecret(vendor, account_id, name, key.id, ciphertext)
    connection.execute(sql.SECRETS.delete().where(is_secret_of(vendor, account_id), sql.SECRETS.c.name == name))
    connection.execute(sql.SECRETS.insert(), {**secret._asdict(), "changed_at": datetime.now(UTC)})


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
