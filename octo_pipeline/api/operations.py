"""Long work as resources: what was asked for, how far it is, and what came of it.

The work runs in a thread of the server, one after the other, because two runs of a month would wait for each other anyway.
The lake and the registry keep what was done; what is kept here is how it went, until the server ends.
"""

import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Condition
from typing import Any, Literal

from octo_pipeline.api.problems import without_folders
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import counted, quoted
from octo_pipeline.outputs.statement_mail import Sent
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.accounts import Removed
from octo_pipeline.services.months import Blocked, Failed, Landed, MonthDone, Skipped
from octo_pipeline.settings import Settings
from octo_pipeline.tables.table import Materialised

_MOST_KEPT = 500
_MOST_FOLLOWED = 8
_log = logging.getLogger(__name__)


@dataclass
class Operation:
    """One piece of long work.

    Attributes:
        id: its id.
        kind: what it does, such as ``run`` or ``restore``.
        actor: who asked for it.
        state: waiting, running, succeeded or failed.
        events: what happened so far, a sentence each.
        problem: why it failed.
        link: the page of the run in Dagster, if Dagster does it.
    """

    id: str
    kind: str
    actor: Actor
    asked_at: datetime
    state: Literal["waiting", "running", "succeeded", "failed"] = "waiting"
    events: list[str] = field(default_factory=list)
    problem: str | None = None
    link: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing happens any more."""
        return self.state in ("succeeded", "failed")

    def as_json(self) -> dict[str, Any]:
        """What the API says of it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "actor": self.actor,
            "asked_at": self.asked_at.isoformat(),
            "state": self.state,
            "events": list(self.events),
            "problem": self.problem,
            "link": self.link,
        }


class Operations:
    """The long work of this server.

    What it says of the work names no folder of the server, because everybody may look at it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._operations: OrderedDict[str, Operation] = OrderedDict()
        self._news = Condition()
        self._pool = ThreadPoolExecutor(1, "operation")
        # Following what Dagster does waits, and keeps nobody else waiting.
        self._followers = ThreadPoolExecutor(_MOST_FOLLOWED, "follower")

    def start(
        self, kind: str, actor: Actor, work: Callable[[], Iterable[object]], *, link: str | None = None
    ) -> Operation:
        """Do some work later; it yields what happens. With a link, the work is to follow a run that Dagster does."""
        operation = Operation(uuid.uuid4().hex, kind, actor, datetime.now(UTC), link=link)
        with self._news:
            self._operations[operation.id] = operation
            done = [other.id for other in self._operations.values() if other.is_done]
            for other in done[: max(0, len(self._operations) - _MOST_KEPT)]:
                del self._operations[other]
        (self._followers if link else self._pool).submit(self._do, operation, work)
        return operation

    def get(self, operation_id: str) -> Operation:
        """An operation by its id.

        Raises:
            OctoError: there is none, or it is forgotten.
        """
        operation = self._operations.get(operation_id)
        if operation is None:
            raise OctoError(
                f"There is no operation {quoted(operation_id)}; operations are forgotten when the server stops.",
                code="operation-unknown",
            )
        return operation

    def all(self) -> list[Operation]:
        """The operations, newest first."""
        return list(reversed(self._operations.values()))

    def wait_for_news(self, operation: Operation, seen: int, seconds: float) -> list[str]:
        """The events after those that were seen; it waits for one at most so long."""
        with self._news:
            self._news.wait_for(lambda: len(operation.events) > seen or operation.is_done, seconds)
            return operation.events[seen:]

    def close(self) -> None:
        """Finish what runs and drop what waits."""
        self._pool.shutdown(cancel_futures=True)
        self._followers.shutdown(wait=False, cancel_futures=True)

    def _do(self, operation: Operation, work: Callable[[], Iterable[object]]) -> None:
        self._set(operation, "running")
        failures = []
        try:
            for event in work():
                for sentence in _sentences(event):
                    self._say(operation, sentence)
                if isinstance(event, Failed):
                    failures.append(f"{event.month} was not published: {event.error}")
        except OctoError as error:
            failures.append(str(error))
        except Exception:
            # Whoever waits for it reads its state; nobody reads what a thread of the pool raises.
            _log.exception("The operation %s (%s) failed unexpectedly", operation.id, operation.kind)
            failures.append("Something unexpected went wrong; the server's log says what.")
        finally:
            operation.problem = without_folders(" ".join(failures), self._settings) or None
            self._set(operation, "failed" if failures else "succeeded")

    def _say(self, operation: Operation, sentence: str) -> None:
        with self._news:
            operation.events.append(without_folders(sentence, self._settings))
            self._news.notify_all()

    def _set(self, operation: Operation, state: Literal["running", "succeeded", "failed"]) -> None:
        with self._news:
            operation.state = state
            self._news.notify_all()


def _sentences(event: object) -> list[str]:
    """What an event says to somebody who follows the work; nothing for a step that only begins."""
    match event:
        case str():
            return [event]
        case Landed():
            waiting = [f"{event.vendor} {event.month}: {error}" for error in event.unanswered]
            return [f"{event.vendor} {event.month}: {event.outcome}", *waiting, *event.passed_over]
        case Materialised():
            return [f"{event.table} {event.month}: {event.outcome}{f'. {event.note}' if event.note else ''}"]
        case Failed() | Skipped():
            return [f"{event.step} {event.month}: {event.error}"]
        case Blocked():
            return [f"{event.step} {event.month}: not made, because what it reads failed"]
        case Sent():
            return [f"{event.statement.title}: {event.problem or f'sent to {event.statement.email}'}"]
        case Removed():
            count = event.deliveries
            return [
                f"{count:,} {'delivery' if count == 1 else 'deliveries'} and {counted(event.reapplied, 'restore')} removed"
            ]
        case MonthDone():
            return [f"{event.month}: {event.published} published, {event.unchanged} unchanged"]
    return []
