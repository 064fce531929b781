"""Leases in a bucket: an object that its holder keeps writing while it works, and removes when it is done.

A bucket cannot tell that a process has died. Who waits therefore watches the object's ETag: while it changes, somebody is at
work; if it has not for a while, the lease is free, and whoever replaces that very version has it. No clocks are compared, so
those of other machines may be wrong.

A lease keeps work from being done twice and protects nothing, so whatever goes wrong here, the work is done without it.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from octo_pipeline.lake.s3_errors import error_code

_RENEW_SECONDS = 5.0
# Four renewals are lost before a holder counts as dead.
_DEAD_SECONDS = 20.0
_POLL_SECONDS = 1.0
# As long as a lease in a folder is waited for.
_LEASE_SECONDS = 900.0

# The leases of this process, which are not waited for: its other months would never come to an end.
_LEASED: set[tuple[str, str]] = set()


@contextmanager
def s3_lease(client: Any, bucket: str, key: str, lost: frozenset[str], patience: float | None = None) -> Iterator[bool]:
    """Hold the lease, or go on without it if another process holds it for too long or the store refuses.

    Args:
        client: boto3's S3 client.
        bucket: the bucket's name.
        key: the object's key, which names the work.
        lost: the codes of the errors with which the store says that a condition does not hold.
        patience: seconds to wait for another process; None for as long as it may be at work.

    Yields:
        False if another process still holds it.
    """
    if (bucket, key) in _LEASED:
        yield True
        return
    lease = _Lease(client, {"Bucket": bucket, "Key": key}, lost, _LEASE_SECONDS if patience is None else patience)
    _LEASED.add((bucket, key))
    try:
        yield lease.take()
    finally:
        _LEASED.discard((bucket, key))
        lease.release()


class _Lease:
    def __init__(self, client: Any, target: Mapping[str, str], lost: frozenset[str], patience: float) -> None:
        self._client = client
        self._target = target
        self._lost = lost
        self._patience = patience
        self._etag: str | None = None
        self._is_over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def take(self) -> bool:
        """False if another process still holds it."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._etag = self._taken()
        except (BotoCoreError, ClientError):
            # Whoever writes the first table says what is wrong with the bucket.
            return True
        if self._etag:
            self._renewing.start()
        return self._etag is not None

    def _taken(self) -> str | None:
        deadline = time.monotonic() + self._patience
        etag = self._write(IfNoneMatch="*")
        seen, since = None, time.monotonic()
        while etag is None and time.monotonic() < deadline:
            current = self._current()
            if current != seen:
                seen, since = current, time.monotonic()
            if current is None:
                etag = self._write(IfNoneMatch="*")
            elif time.monotonic() - since > _DEAD_SECONDS:
                etag = self._write(IfMatch=current)
            if etag is None:
                time.sleep(_POLL_SECONDS)
        return etag

    def release(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        self._is_over.set()
        if self._renewing.is_alive():
            self._renewing.join()
        try:
            # If it was taken over, it is another's.
            if self._etag and self._current() == self._etag:
                self._client.delete_object(**self._target)
        except (BotoCoreError, ClientError):
            # It counts as free after a while.
            return

    def _renew(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        while self._etag and not self._is_over.wait(_RENEW_SECONDS):
            try:
                self._etag = self._write(IfMatch=self._etag)
            except (BotoCoreError, ClientError):
                # The network may be back at the next renewal. If the write arrived and its answer did not, the lease is lost.
                continue

    def _write(self, **condition: str) -> str | None:
        """The new version's ETag; None if the condition does not hold."""
        from botocore.exceptions import ClientError

        # Each version is another text, so that it has another ETag.
        body = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}\n".encode()
        try:
            return str(self._client.put_object(**self._target, Body=body, **condition)["ETag"])
        except ClientError as error:
            if error_code(error) in self._lost:
                return None
            raise

    def _current(self) -> str | None:
        from botocore.exceptions import ClientError

        try:
            return str(self._client.head_object(**self._target)["ETag"])
        except ClientError as error:
            if error_code(error) in self._lost:
                return None
            raise
