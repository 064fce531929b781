"""Answers that were given under a key, so that a change that is asked for twice is done once.

What a request and an answer are belongs in `octo_pipeline.api.repeats`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry import lazy_sqlalchemy as sql
from octo_pipeline.registry.database import Database
from octo_pipeline.registry.statements import select_columns

KEPT = timedelta(hours=24)


@dataclass(frozen=True)
class Answer:
    """What was answered.

    Attributes:
        status: of HTTP.
        headers: those that belong to the answer itself.
        body: None if it is not kept, because it has a secret.
    """

    status: int
    headers: dict[str, str]
    body: bytes | None


class Answers:
    """The answers of the last 24 hours, by caller and key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, caller: str, key: str, request: str) -> Answer | None:
        """Begin a request, unless it was done before.

        Args:
            caller: who asks; another caller may use the same key.
            key: what they call the request.
            request: a digest of all that it asks for.

        Returns:
            What was answered to the same request before; None if it is to be done now, and `keep` or `forget` follows.

        Raises:
            OctoError: the key was used for another request, or the same request is not answered yet.
        """
        answers = sql.ANSWERS
        now = datetime.now(UTC)
        with self._database.writing() as connection:
            connection.execute(answers.delete().where(answers.c.begun_at < now - KEPT))
            query = select_columns(answers, ("request_sha256", "status", "headers", "body"))
            row = connection.execute(query.where(answers.c.caller == caller, answers.c.key == key)).one_or_none()
            if row is None:
                values = {"caller": caller, "key": key, "request_sha256": request, "begun_at": now}
                connection.execute(answers.insert(), values)
                return None
        if row.request_sha256 != request:
            raise OctoError(
                "This Idempotency-Key was used for another request. Send another key; nothing was changed.",
                code="idempotency-key-reused",
            )
        if row.status is None:
            raise OctoError(
                "The same request is under way, or the server stopped before it answered it. Wait, or look whether it was "
                "done and send it again with another Idempotency-Key.",
                code="request-under-way",
            )
        return Answer(row.status, row.headers, row.body)

    def keep(self, caller: str, key: str, answer: Answer) -> None:
        """Keep what was answered."""
        values = {"status": answer.status, "headers": answer.headers, "body": answer.body}
        with self._database.writing() as connection:
            connection.execute(sql.ANSWERS.update().where(*_named(caller, key)), values)

    def forget(self, caller: str, key: str) -> None:
        """Let a request that came to nothing be sent again."""
        with self._database.writing() as connection:
            connection.execute(sql.ANSWERS.delete().where(*_named(caller, key)))


def _named(caller: str, key: str) -> "tuple[sql.ColumnElement[bool], ...]":
    return sql.ANSWERS.c.caller == caller, sql.ANSWERS.c.key == key
