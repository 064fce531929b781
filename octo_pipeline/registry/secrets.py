"""Secrets of accounts (secret keys, refresh tokens), encrypted at rest.

A secret goes in and comes out as a `SecretStr`, which prints as stars; no sentence, event or log has its text.
How it is encrypted is `encryption.py`'s matter.
"""

from pydantic import SecretStr

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.accounts import NewAccount, check_account
from octo_pipeline.registry.connections import Connections
from octo_pipeline.registry.encryption import Key, Keys

# A rotation that ends between reading keys and secret is met once, not twice in a row.
_ATTEMPTS = 2


class Secrets:
    """The secrets; every change appends its audit event, which names the secret and not its text."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self._connections = connections
        self._keys = keys

    def put(
        self,
        vendor: str,
        account_id: str,
        values: dict[str, SecretStr],
        actor: str,
        registers: NewAccount | None = None,
    ) -> None:
        """Store secrets of an account under their names, all or none, in place of those there are.

        Args:
            vendor: the account's vendor.
            account_id: its id.
            values: the secrets by their names.
            actor: who stores them.
            registers: the account, if it is to be registered in the same transaction.

        Raises:
            OctoError: the key cannot be had, or the account cannot be registered.
        """
        if registers is not None:
            check_account(registers, actor)
        with self._connections.writing() as connection:
            from octo_pipeline.registry import account_queries, secret_queries

            if registers is not None:
                account_queries.add(connection, registers, actor)
            key = self._keys.load_or_make()[0]
            for name, value in values.items():
                sealed = key.encrypt(value.get_secret_value(), _place(vendor, account_id, name))
                secret_queries.put(connection, vendor, account_id, name, key.id, sealed)
            secret_queries.append_put(connection, vendor, account_id, sorted(values), actor)

    def get(self, vendor: str, account_id: str, name: str) -> SecretStr:
        """A secret of an account.

        Raises:
            OctoError: there is none, it was encrypted with a key that is not there, or it was tampered with.
        """
        place = _place(vendor, account_id, name)
        key_id = ""
        for _ in range(_ATTEMPTS):
            with self._connections.reading() as connection:
                if connection is None:
                    break
                from octo_pipeline.registry import secret_queries

                found = secret_queries.get(connection, vendor, account_id, name)
            if found is None:
                break
            key_id, sealed = found
            for key in self._keys.load():
                if key.id == key_id:
                    return SecretStr(key.decrypt(sealed, place))
        else:
            raise _no_key(place, key_id)
        raise OctoError(
            f"There is no secret {place}. `octo accounts show {account_id}` says what to do, and "
            f"`octo accounts sign-in {account_id}` signs an Azure partner in again."
        )

    def rotate(self, actor: str) -> int:
        """Encrypt all secrets with a new key, or with the first key of OCTO_SECRET_KEY; returns how many.

        A rotation that is stopped leaves every secret readable: the new key is kept before the first secret is
        encrypted with it, and the old ones are dropped after the last.

        Raises:
            OctoError: a secret cannot be decrypted; nothing is changed then.
        """
        with self._connections.writing() as connection:
            from octo_pipeline.registry import secret_queries

            rows = secret_queries.all_secrets(connection)
            known = {key.id: key for key in self._keys.load()}
            plain = [(row, _open(known, *row)) for row in rows]
            new = self._keys.renew()[0]
            for (vendor, account_id, name, _, _), text in plain:
                sealed = new.encrypt(text, _place(vendor, account_id, name))
                secret_queries.put(connection, vendor, account_id, name, new.id, sealed)
            secret_queries.append_rotated(connection, len(rows), new.id, actor)
        self._keys.drop_old()
        return len(rows)


def _open(keys: dict[str, Key], vendor: str, account_id: str, name: str, key_id: str, sealed: str) -> str:
    place = _place(vendor, account_id, name)
    if key_id not in keys:
        raise _no_key(place, key_id)
    return keys[key_id].decrypt(sealed, place)


def _no_key(place: str, key_id: str) -> OctoError:
    return OctoError(
        f"The secret {place} was encrypted with another key ({key_id}) than those of this installation. Set "
        "OCTO_SECRET_KEY to that key, or copy the key file it was made with."
    )


def _place(vendor: str, account_id: str, name: str) -> str:
    return f"{vendor}/{account_id}/{name}"
