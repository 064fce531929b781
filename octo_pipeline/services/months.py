"""The one way to bring months up to date: land what is new, then make every table, month by month.

Every step yields events, which are plain values: the command line prints them, Dagster records them, and worker
processes send them to the main process. This module knows none of its readers.

1. Each month goes through all its steps before the next month begins. First every vendor is landed, then the tables are
   made in the order in which they read each other.
2. A step that fails blocks only the tables of its month that are made from it. The rest of the month and all other
   months are made.
3. A landing that fails blocks all tables of its month, because the costs of a source would be missing. A source that
   cannot be reached does not fail if it delivered the month before.
4. A month of which no source has anything is skipped: an empty table would say that it has no costs. Without any source it
   fails, since nobody was asked.
5. One run at a time makes a month, as long as it is seen to be at work. The lake bears several, which would do the same
   work.
6. An interruption ends everything at once. It is never mistaken for a failed step.
"""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.errors import OctoError, Remedy, combined
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.services.documents import see_documents
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.sources import folder_source, sources
from octo_pipeline.settings import Settings
from octo_pipeline.tables.cost_line_items import NothingLandedError
from octo_pipeline.tables.graph import downstream_of, order, phases
from octo_pipeline.tables.table import OUTSIDE, Materialised, Table, materialise
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.source import Source, TellsMonths
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class Started:
    """A step of a month began."""

    step: str
    month: str


@dataclass(frozen=True)
class Landed:
    """A vendor's deliveries of a month are in the lake.

    Attributes:
        outcome: ``3 new``, ``unchanged`` or ``no delivery``.
        deliveries: how many count now, the newest of each account.
        size: of their files, in bytes.
        fingerprint: a digest of their rows.
        unanswered: for each source whose last good delivery is used because it could not deliver, why.
        passed_over: a sentence for each export of costs that another kind of source reads.
    """

    vendor: str
    month: str
    outcome: str
    deliveries: int
    files: int
    size: int
    fingerprint: str
    unanswered: tuple[OctoError, ...]
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A step failed. What was published before is unchanged."""

    step: str
    month: str
    error: OctoError


@dataclass(frozen=True)
class Blocked:
    """A step was not tried, because a step that it reads from failed."""

    step: str
    month: str


@dataclass(frozen=True)
class Skipped:
    """A step was not done, since every source answered and none has anything of the month."""

    step: str
    month: str
    error: OctoError


@dataclass(frozen=True)
class MonthDone:
    """All steps of a month are done, failed or blocked.

    Attributes:
        published: how many partitions were written.
        unchanged: how many were up to date.
        closed: how many stay as they are, because the month is closed.
        failed: the steps that failed or were blocked.
    """

    month: str
    published: int
    unchanged: int
    failed: tuple[str, ...]
    closed: int = 0

    @property
    def is_made(self) -> bool:
        """Whether there is anything of the month."""
        return self.published + self.unchanged + self.closed > 0


Event = Started | Landed | Materialised | Failed | Blocked | Skipped | MonthDone


@dataclass(frozen=True)
class Landing:
    """The step that lands a vendor's deliveries.

    Attributes:
        folder: a folder of exports to land instead of what the vendor's configured sources offer.
    """

    vendor: str
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Its name in events."""
        return f"landing/{self.vendor}"


Step = Landing | Table


def all_steps(folders: Mapping[str, Path] | None = None) -> tuple[Step, ...]:
    """Everything that is done for a month, in order.

    Args:
        folders: vendor -> exports to land instead of what its configured sources offer.
    """
    return (*(Landing(vendor, (folders or {}).get(vendor)) for vendor in VENDORS), *order())


def watched_months(settings: Settings, now: datetime) -> list[str]:
    """The last months up to the current one, as many as are watched and none before the lake's first; never empty."""
    current = now.strftime("%Y-%m")
    first = max(add_months(current, 1 - settings.watched_months), settings.start_month)
    return month_range(min(first, current), current)


def require_months(settings: Settings, months: Sequence[str]) -> None:
    """Refuse months that are outside the range of these settings.

    Raises:
        OctoError: a month is outside; the message names the first one, the remedy the setting.
    """
    # The current month can be made as well: its bill grows every day.
    first, current = settings.start_month, datetime.now(UTC).strftime("%Y-%m")
    if future := [month for month in months if month > current]:
        raise OctoError(
            f"{future[0]} has not begun, so nothing of it is billed; the current month is {current}.",
            code="month-not-begun",
            place=future[0],
        )
    if outside := [month for month in months if month < first]:
        raise OctoError(
            f"{outside[0]} is before {first}, the first month of the lake.",
            code="month-outside-lake",
            place=outside[0],
            remedy=Remedy("set", setting="start_month", to="an earlier month"),
        )


def require_inputs(workspace: Workspace, table: Table, month: str) -> None:
    """Refuse a table whose inputs were never made for the month: it would be made, proved and published as an empty one.

    For tables that are made one by one; `make_months` blocks what is made from a step that failed.

    Raises:
        OctoError: it names the input.
    """
    for read in table.reads:
        if read.name in OUTSIDE or read.months in ("pinned", "named", "closed"):
            continue
        if workspace.lake.fingerprint(read.name, month) is None:
            raise OctoError(
                f"{read.name} has no {month} yet, and {table.name} is made from it.",
                code="input-not-made",
                place=month,
                remedy=Remedy("run", month=month),
            )


def make_months(workspace: Workspace, months: Sequence[str], steps: Sequence[Step] | None = None) -> Iterator[Event]:
    """Bring months up to date, one after the other.

    Args:
        workspace: whose lake and sources.
        months: in the order in which they are made.
        steps: in the order in which they are done; all steps if left out.
    """
    for month in months:
        yield from _with_summary(month, _leased_month(workspace, month, all_steps() if steps is None else steps))


def make_months_side_by_side(
    workspace: Workspace, months: Sequence[str], workers: int, folders: Mapping[str, Path] | None = None
) -> Iterator[Event]:
    """Bring months up to date in several processes.

    Some tables read what is due from earlier months. So the tables that read only their own month are made first, for
    all months. The events of a month and phase are yielded together at its end.

    Raises:
        OctoError: a worker process died.
    """
    events: dict[str, list[Event]] = {month: [] for month in months}
    later = {table.name for table in phases()[1]}
    steps = [step.name for step in all_steps(folders)]
    halves = [name for name in steps if name not in later], [name for name in steps if name in later]
    with _pool(workspace, folders or {}, min(workers, len(months))) as pool:
        for names in halves:
            futures = {
                pool.submit(_work, month, names, _failed_steps(events[month])): month
                for month in months
                if not any(isinstance(event, Skipped) for event in events[month])
            }
            for future in as_completed(futures):
                month = futures[future]
                done = _result(future, month)
                events[month] += done
                yield from done
                if names is halves[-1]:
                    yield _summary(month, events[month])
        for month in months:
            if any(isinstance(event, Skipped) for event in events[month]):
                yield _summary(month, events[month])


def _leased_month(
    workspace: Workspace, month: str, steps: Sequence[Step], failed_before: Sequence[str] = ()
) -> Iterator[Event]:
    """Several steps of a month, one run at a time; another run of the month then finds everything up to date."""
    if len(steps) > 1:
        see_documents(workspace)
    with workspace.lake.lease(month) if len(steps) > 1 else nullcontext():
        yield from _month(workspace, month, steps, failed_before)


def _month(
    workspace: Workspace, month: str, steps: Sequence[Step], failed_before: Sequence[str] = ()
) -> Iterator[Event]:
    failed = list(failed_before)
    nothing: OctoError | None = None
    for step in steps:
        if nothing is not None:
            yield Skipped(step.name, month, nothing)
            continue
        if step.name in _blocked_by(failed):
            yield Blocked(step.name, month)
            continue
        yield Started(step.name, month)
        event: Event = _do(workspace, step, month)
        if isinstance(event, Failed):
            if isinstance(event.error, NothingLandedError) and _has_asked(workspace, steps):
                nothing = event.error
                event = Skipped(step.name, month, nothing)
            else:
                failed.append(step.name)
        yield event


def _has_asked(workspace: Workspace, steps: Sequence[Step]) -> bool:
    """Whether a source was asked; without one nobody knows whether the month has costs."""
    return any(step.folder or sources(workspace, step.vendor) for step in steps if isinstance(step, Landing))


def _blocked_by(failed: Sequence[str]) -> set[str]:
    """The tables that depend on the failed steps."""
    landings = {Landing(vendor).name for vendor in VENDORS}
    sources = {"landing" if name in landings else name for name in failed}
    return {table.name for name in sources for table in downstream_of(name)}


def _do(workspace: Workspace, step: Step, month: str) -> Landed | Materialised | Failed:
    try:
        if isinstance(step, Landing):
            return _land(workspace, step, month)
        return materialise(workspace, step, month)
    except Exception as error:
        if interruption := _interruption(error):
            raise interruption from None
        return Failed(step.name, month, _as_sentence(step.name, error))


def _land(workspace: Workspace, step: Landing, month: str) -> Landed:
    """Land a vendor's month.

    Raises:
        OctoError: the month would lack a source's costs, or the folder that was named could not be landed.
    """
    offering = [folder_source(step.vendor, step.folder)] if step.folder else sources(workspace, step.vendor)
    landed = land_month(workspace, step.vendor, offering, month)
    landed.require_complete()
    if landed.failures and step.folder:
        raise combined(landed.failures)
    if step.folder and not landed.offered:
        raise _of_another_month(offering[0], step.folder, month)
    files = [file for delivery in landed.deliveries for file in delivery.files]
    return Landed(
        step.vendor,
        month,
        landed.sentence,
        len(landed.deliveries),
        len(files),
        sum(file.size for file in files),
        fingerprint({f"{delivery.vendor}/{delivery.account}": delivery.content for delivery in landed.deliveries}),
        landed.failures,
        landed.passed_over,
    )


def _of_another_month(source: Source, path: Path, month: str) -> OctoError:
    """The error for exports that have nothing of the month they were named for.

    Without it, the month would be empty, as if it had no costs.
    """
    months = source.months() if isinstance(source, TellsMonths) else []
    of = f"of {' and '.join(months)}, not of {month}" if months else f"not of {month}"
    return OctoError(
        f"{path} has exports {of}. Name the exports of {month}, or the month of these exports.",
        code="exports-of-another-month",
        place=str(path),
    )


def _interruption(error: BaseException | None) -> BaseException | None:
    """The interruption behind an error, if there is one. DuckDB turns a KeyboardInterrupt into a RuntimeError."""
    while isinstance(error, Exception | GeneratorExit):
        error = error.__cause__ or error.__context__
    return error


def _as_sentence(step: str, error: Exception) -> OctoError:
    if isinstance(error, OctoError):
        return error
    unexpected = OctoError(f"{step} failed: {type(error).__name__}: {error}", code="step-failed-unexpectedly")
    unexpected.__cause__ = error
    return unexpected


def _with_summary(month: str, events: Iterator[Event]) -> Iterator[Event]:
    done = []
    for event in events:
        done.append(event)
        yield event
    yield _summary(month, done)


def _summary(month: str, events: Sequence[Event]) -> MonthDone:
    outcomes = Counter(event.outcome for event in events if isinstance(event, Materialised))
    failed = tuple(_failed_steps(events))
    return MonthDone(month, outcomes["published"], outcomes["unchanged"], failed, outcomes["closed"])


def _failed_steps(events: Sequence[Event]) -> list[str]:
    return [event.step for event in events if isinstance(event, Failed | Blocked)]


# One workspace per worker process, so that it reads the configuration once and all its months see the same.
_worker: tuple[Workspace, tuple[Step, ...]]


def _start_worker(settings: Settings, run_id: str, folders: Mapping[str, Path]) -> None:
    global _worker
    _worker = Workspace(settings, run_id), all_steps(folders)
    # Ctrl-C reaches every process of the terminal. A worker can end at any moment without harm to the lake, and only the
    # main process should print something.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def _work(month: str, names: Collection[str], failed_before: Sequence[str]) -> list[Event]:
    workspace, steps = _worker
    return list(_leased_month(workspace, month, [step for step in steps if step.name in names], failed_before))


@contextmanager
def _pool(workspace: Workspace, folders: Mapping[str, Path], workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes. After an error they end at once, instead of finishing the months that they have begun."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers,
        # Threads and locks of this process must not be copied into the workers.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(workspace.settings, workspace.run_id, folders),
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    pool.shutdown()


def _result(future: "Future[list[Event]]", month: str) -> list[Event]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise OctoError(
            f"A worker process was killed or ran out of memory while it made {month}. What was published stays; run this "
            "again to continue. Fewer workers need less memory.",
            code="worker-died",
        ) from error
