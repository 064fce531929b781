"""The keys that secrets are encrypted with, and AES-256-GCM with these keys.

A key is 32 random bytes, written in URL-safe base64. Keys come from a setting, or from a file that is created with the
first secret. Several keys are separated by commas or line ends; the first encrypts, all decrypt. A ciphertext is bound
to the title of its secret, so that nobody can swap the rows of two secrets. `stored_secrets.py` reads and writes
the rows.
"""

import base64
import hashlib
import os
import secrets
import stat
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import reason

_KEY_BYTES = 32
_NONCE_BYTES = 12
# A command that makes a key, for messages.
NEW_KEY = "python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"


@dataclass(frozen=True, repr=False)
class Key:
    """One key, which is never printed."""

    material: bytes

    @property
    def id(self) -> str:
        """Identifies the key that a secret was encrypted with, and reveals nothing about it."""
        return hashlib.sha256(b"octo-pipeline key\0" + self.material).hexdigest()[:16]

    def encrypt(self, plaintext: str, title: str) -> str:
        """Encrypt the text of the secret with this title."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self.material).encrypt(nonce, plaintext.encode(), title.encode())
        return base64.b64encode(nonce + sealed).decode()

    def decrypt(self, ciphertext: str, title: str) -> str:
        """The text of the secret with this title.

        Raises:
            OctoError: the ciphertext was changed, or belongs to another secret.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            sealed = base64.b64decode(ciphertext, validate=True)
            return AESGCM(self.material).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], title.encode()).decode()
        except (InvalidTag, ValueError):
            raise OctoError(
                f"The stored secret {title} was changed outside octo-pipeline and is not used. Check who can write to "
                "the registry.",
                code="secret-tampered-with",
                place=title,
                remedy=Remedy("accounts edit", title.split("/")[1], to="enter it again"),
            ) from None


class Keys(Protocol):
    """Where keys come from."""

    def load(self) -> Sequence[Key]:
        """The keys, the one that encrypts first; none if there are none yet."""
        ...

    def load_or_make(self) -> Sequence[Key]:
        """The same keys; if there are none and one can be made, it is made."""
        ...

    def renew(self) -> Sequence[Key]:
        """Put a new key first, so that all secrets can be encrypted with it; the others are kept for now."""
        ...

    def drop_old(self) -> None:
        """Keep the first key only: nothing is encrypted with the others any longer."""
        ...


class KeySetting:
    """The keys of the setting ``secret_key``; the operator puts a new one first and drops the old ones."""

    def __init__(self, text: str) -> None:
        self._keys = _parse(text, "the setting secret_key")

    def load(self) -> Sequence[Key]:
        """The keys of the setting."""
        return self._keys

    load_or_make = load
    renew = load

    def drop_old(self) -> None:
        """Do nothing: only the operator changes the setting."""


class KeyFile:
    """The keys in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Sequence[Key]:
        """The keys of the file; none if there is no file.

        Raises:
            OctoError: the file cannot be read, contains something else, or can be read by others.
        """
        try:
            with self.path.open() as stream:
                mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
                text = stream.read()
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise OctoError(
                f"The key file {self.path} cannot be read "
                f"({reason(error) if isinstance(error, OSError) else 'it is not text'}). Without it the stored secrets "
                "cannot be used: give this user the right to read it.",
                code="key-file-unreadable",
                place=str(self.path),
            ) from None
        if mode & 0o077:
            raise OctoError(
                f"The key file {self.path} can be read by others. Run `chmod 600 {self.path}`.",
                code="key-file-open-to-others",
                place=str(self.path),
            )
        return _parse(text, f"the key file {self.path}")

    def load_or_make(self) -> Sequence[Key]:
        """The keys of the file, which is created if it is missing; if two processes create it, one wins."""
        keys = self.load()
        if keys:
            return keys
        with suppress(FileExistsError):
            self._write([_new_key()], replaces=False)
        return self.load()

    def renew(self) -> Sequence[Key]:
        """Put a new key before those of the file."""
        self._write([_new_key(), *self.load()], replaces=True)
        return self.load()

    def drop_old(self) -> None:
        """Keep the first key of the file only."""
        self._write(list(self.load()[:1]), replaces=True)

    def put_back(self, text: str) -> None:
        """Make the file of the text of a backup.

        Raises:
            OctoError: the text holds something else than keys, or a file with other keys is there.
        """
        keys = _parse(text, "the backup's list of keys")
        with suppress(FileExistsError):
            self._write(keys, replaces=False)
        if {key.id for key in keys} - {key.id for key in self.load()}:
            raise OctoError(
                f"The key file {self.path} holds other keys than the backup. Move it away, or add the backup's keys to it.",
                code="key-file-of-another",
                place=str(self.path),
            )

    def _write(self, keys: Sequence[Key], *, replaces: bool) -> None:
        text = written_keys(keys)
        unfinished = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(descriptor)
            if replaces:
                os.replace(unfinished, self.path)
            else:
                self.path.hardlink_to(unfinished)
        except FileExistsError:
            raise
        except OSError as error:
            raise OctoError(
                f"The key file {self.path} cannot be written: {reason(error)}. Give this user the right to write there.",
                code="key-file-not-writable",
                place=str(self.path),
                remedy=Remedy("set", setting="secret_key", to="a key, if there is to be no file"),
            ) from None
        finally:
            unfinished.unlink(missing_ok=True)


def written_keys(keys: Sequence[Key]) -> str:
    """Keys as a key file has them."""
    return "".join(f"{base64.urlsafe_b64encode(key.material).decode()}\n" for key in keys)


def _new_key() -> Key:
    return Key(secrets.token_bytes(_KEY_BYTES))


def _parse(text: str, where: str) -> tuple[Key, ...]:
    keys = []
    for part in text.replace(",", "\n").split():
        try:
            material = base64.b64decode(part, altchars=b"-_", validate=True)
        except ValueError:
            material = b""
        if len(material) != _KEY_BYTES:
            raise OctoError(
                f"{where[0].upper()}{where[1:]} contains something that is not a key. A key is 32 random bytes in "
                f"URL-safe base64; this makes one: {NEW_KEY}",
                code="key-malformed",
                place=where,
            )
        keys.append(Key(material))
    if not keys:
        raise OctoError(
            f"{where[0].upper()}{where[1:]} is empty. This makes a key: {NEW_KEY}", code="keys-empty", place=where
        )
    return tuple(keys)
