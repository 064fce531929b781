"""The SQL of encrypted secrets: each function is a step in a transaction that `database.py` opened."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from octo_pipeline.registry.queries import append_event, columns
from octo_pipeline.registry.schema import SECRETS


def put(connection: Connection, vendor: str, account_id: str, name: str, key_id: str, ciphertext: str) -> None:
    """Store a secret in place of the one there is."""
    connection.execute(SECRETS.delete().where(_is(vendor, account_id), SECRETS.c.name == name))
    row = {"vendor": vendor, "account_id": account_id, "name": name, "key_id": key_id, "ciphertext": ciphertext}
    connection.execute(SECRETS.insert(), row | {"changed_at": datetime.now(UTC)})


def append_put(connection: Connection, vendor: str, account_id: str, names: Sequence[str], actor: str) -> None:
    """Append the audit event of stored secrets: their names."""
    append_event(connection, actor, "put_secrets", account_id, {"vendor": vendor, "names": list(names)})


def append_rotated(connection: Connection, count: int, key_id: str, actor: str) -> None:
    """Append the audit event of a rotation."""
    append_event(connection, actor, "rotate_secrets", f"{count:,} secrets", {"count": count, "key_id": key_id})


def get(connection: Connection, vendor: str, account_id: str, name: str) -> tuple[str, str] | None:
    """The id of a secret's key and its ciphertext; None if there is no such secret."""
    query = columns(SECRETS, ("key_id", "ciphertext")).where(_is(vendor, account_id), SECRETS.c.name == name)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.key_id, row.ciphertext)


def all_secrets(connection: Connection) -> list[tuple[str, str, str, str, str]]:
    """Vendor, account, name, id of the key and ciphertext of every secret."""
    names = ("vendor", "account_id", "name", "key_id", "ciphertext")
    return [row._tuple() for row in connection.execute(columns(SECRETS, names))]


def remove(connection: Connection, vendor: str, account_id: str) -> int:
    """Remove an account's secrets; returns how many."""
    return connection.execute(SECRETS.delete().where(_is(vendor, account_id))).rowcount


def _is(vendor: str, account_id: str) -> Any:
    return (SECRETS.c.vendor == vendor) & (SECRETS.c.account_id == account_id)
