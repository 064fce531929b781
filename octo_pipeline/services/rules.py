"""Allocator documents: completing what saving sets, saving, superseding, removing and trying them.

This module has what the command line and Dagster's jobs do with a document before and while it is saved. What a
document means belongs in `octo_pipeline.rules`, what it would do in `simulate`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from octo_pipeline.allocation.matching import applying
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months
from octo_pipeline.registry.records import Actor
from octo_pipeline.rules.allocator import Allocator, created_month, group_problems
from octo_pipeline.rules.documents import DocumentError, Problem, is_unset, parse_object, read_object
from octo_pipeline.services.documents import (
    DocumentFolder,
    as_text,
    read,
    see_documents,
    unlink,
    version_as_recorded,
    write,
)
from octo_pipeline.services.simulate import Simulation, current_or_latest, simulate
from octo_pipeline.tables.metrics import metric_months
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class Submission:
    """An allocator document that is about to be saved.

    Attributes:
        file: its file, for messages.
        document: the JSON object to save: what was written, and what saving sets.
        allocator: the document, parsed.
        starts_when_saved: whether saving sets its startMonth to the current month.
    """

    file: str
    document: dict[str, Any]
    allocator: Allocator
    starts_when_saved: bool


def submitted(workspace: Workspace, content: bytes, file: str, now: datetime) -> Submission:
    """Read a document that is about to be saved, and set what saving sets.

    createTime and startMonth are set if the document leaves them out. A document that replaces a live allocator of the
    same id gets that allocator's; any other gets `now` and its month.

    Args:
        workspace: the live allocators.
        content: the document.
        file: its name, for messages and as its id if it has none.
        now: the current time, with a time zone.

    Raises:
        DocumentError: the document is not valid; it has everything that is wrong.
    """
    written = read_object(content, file=file)
    allocator_id = Path(file).stem if is_unset(written, "id") else written["id"]
    replaced = next((a for a in workspace.configuration.allocators if a.id == allocator_id), None)
    time = _written_time(now)
    starts_when_saved = False
    if replaced:
        written["updateTime"] = time
    if is_unset(written, "startMonth"):
        starts_when_saved = not replaced and is_unset(written, "createTime")
        created = f"{now:%Y-%m}" if starts_when_saved else created_month(written.get("createTime"))
        written["startMonth"] = replaced.start if replaced else created
    if is_unset(written, "createTime"):
        written["createTime"] = (replaced.normalised().get("createTime") if replaced else None) or time
    allocator = parse_object(Allocator, written, file=file)
    require_cost_groups(workspace, allocator, file)
    # The id that a document lacks is added in front.
    document = {"id": allocator.id} | written | {"id": allocator.id} if is_unset(written, "id") else written
    return Submission(file, document, allocator, starts_when_saved)


def require_cost_groups(workspace: Workspace, allocator: Allocator, file: str) -> None:
    """Refuse an allocator that names cost groups which the configuration does not have.

    Raises:
        DocumentError: with everything that is wrong.
    """
    # Without a name of a group, no folder of cost groups is needed.
    if allocator.groups_named or allocator.default_group:
        problems = group_problems(allocator, workspace.configuration.cost_groups, file=file)
        if problems:
            raise DocumentError(problems)


def unknown_metrics(workspace: Workspace, allocators: Mapping[str, Allocator]) -> list[Problem]:
    """The metrics that nobody has delivered yet. They are allowed, because the lake may get them.

    Args:
        workspace: the configuration and the lake.
        allocators: the allocators by what they are called in the message.
    """
    return [
        Problem(
            name,
            "usageOf.metric",
            f"the metric {allocator.usage_of.id} has no row in the configuration or the lake; until it has, nothing is "
            "distributed",
        )
        for name, allocator in allocators.items()
        if allocator.weighs_by_metric and not metric_months(workspace, [allocator.usage_of.id])
    ]


@dataclass(frozen=True)
class Succession:
    """An allocator that ends, and the one that takes its place from the next month on.

    Attributes:
        first_month: the month in which the successor starts.
        predecessor: the allocator that ends in the month before; its file is the one that it is read from.
    """

    first_month: str
    predecessor: Submission
    successor: Submission


def succession(
    workspace: Workspace, allocator_id: str, content: bytes, file: str, first_month: str, now: datetime
) -> Succession:
    """Let one allocator end in the month before `first_month`, and another start in it.

    The successor gets startMonth; and where the document leaves them out createTime, so that it takes no item billed
    before, and the predecessor's priority.

    Args:
        workspace: the live allocators.
        allocator_id: the predecessor.
        content: the successor's document.
        file: its name, for messages and as its id if it has none.
        first_month: the month in which the successor starts.
        now: the current time, with a time zone.

    Raises:
        OctoError: there is no such allocator, it takes no item before the month or ends before it, or the successor's
            document does not fit.
    """
    path = path_of(folder_of(workspace.settings.config), allocator_id)
    ending = read_object(read(path), file=str(path))
    current = parse_object(Allocator, ending.copy(), file=str(path))
    last_month = add_months(first_month, -1)
    if last_month < current.first_origin:
        raise OctoError(
            f"{allocator_id} takes items from {current.first_origin} on, so nothing would be left of it if it ended in "
            f"{last_month}. Replace it instead.",
            code="nothing-to-supersede",
            place=str(path),
            remedy=Remedy("allocators add", "FILE", replace=True, to="replace it"),
        )
    if current.end and current.end < last_month:
        raise OctoError(
            f"{allocator_id} already ends in {current.end}, so nothing takes its items until {first_month}. Start in "
            f"{add_months(current.end, 1)}, or add the new allocator by itself.",
            code="nothing-to-supersede",
            place=str(path),
            remedy=Remedy("allocators add", "FILE", to="add it"),
        )
    time = _written_time(now)
    ending |= {"endMonth": last_month, "updateTime": time}
    predecessor = Submission(str(path), ending, parse_object(Allocator, ending.copy(), file=str(path)), False)
    return Succession(first_month, predecessor, _successor(workspace, current, content, file, first_month, time))


def _successor(
    workspace: Workspace, predecessor: Allocator, content: bytes, file: str, first_month: str, time: str
) -> Submission:
    written = read_object(content, file=file)
    if is_unset(written, "startMonth"):
        written["startMonth"] = first_month
    if is_unset(written, "createTime"):
        # Not before the month: a spreading allocator takes items from its creation on.
        written["createTime"] = max(time, f"{first_month}-01T00:00:00Z")
    if is_unset(written, "priority") and predecessor.priority:
        written["priority"] = predecessor.priority
    allocator = parse_object(Allocator, written.copy(), file=file)
    require_cost_groups(workspace, allocator, file)
    problem = None
    if allocator.id == predecessor.id:
        problem = Problem(file, "id", f"is {allocator.id}, the allocator that ends; give the next one an id of its own")
    elif allocator.start != first_month:
        problem = Problem(file, "startMonth", f"is {allocator.start}; it must be {first_month}, or left out")
    elif allocator.first_origin < first_month:
        problem = Problem(
            file,
            "createTime",
            f"is in {allocator.created_month}, so that it also takes items billed before {first_month}; leave it out",
        )
    if problem:
        raise DocumentError([problem])
    return Submission(file, {"id": allocator.id} | written | {"id": allocator.id}, allocator, False)


def save(workspace: Workspace, submission: Submission, actor: Actor, *, replace: bool) -> Path:
    """Save a document in the configuration folder and note who did.

    Returns:
        Its file.

    Raises:
        OctoError: its id is taken and `replace` is False, or the file cannot be written.
    """
    allocator = submission.allocator
    target = folder_of(workspace.settings.config).target_of(allocator.id, replace=replace)
    see_documents(workspace)
    write(target, as_text(submission.document).encode())
    details = {"file": str(target), "version": allocator.version}
    saved = version_as_recorded("allocator", allocator)
    workspace.registry.documents.save([saved], actor, "save_allocator", allocator.id, details)
    return target


def remove(workspace: Workspace, allocator_id: str, actor: Actor) -> None:
    """Remove an allocator's document and note who did.

    Raises:
        OctoError: there is no such allocator, or its file cannot be removed.
    """
    path = path_of(folder_of(workspace.settings.config), allocator_id)
    unlink(path)
    workspace.registry.note(actor, "remove_allocator", allocator_id, {"file": str(path)})


def save_succession(workspace: Workspace, planned: Succession, actor: Actor) -> Path:
    """Save the successor and the end of its predecessor, both or none of them, and note who did.

    Returns:
        The successor's file.

    Raises:
        OctoError: the successor's id is taken, or a file cannot be written.
    """
    successor, predecessor = planned.successor.allocator, planned.predecessor.allocator
    target = folder_of(workspace.settings.config).target_of(successor.id, replace=False)
    see_documents(workspace)
    # The successor first: while there are both, the predecessor is the older one and takes the items.
    write(target, as_text(planned.successor.document).encode())
    try:
        write(Path(planned.predecessor.file), as_text(planned.predecessor.document).encode())
    except OctoError:
        target.unlink()
        raise
    files = {"file": str(target), "version": successor.version, "superseded_version": predecessor.version}
    details = files | {"successor": successor.id}
    versions = [version_as_recorded("allocator", allocator) for allocator in (predecessor, successor)]
    workspace.registry.documents.save(versions, actor, "supersede_allocator", predecessor.id, details)
    return target


def simulate_submission(
    workspace: Workspace, submission: Submission, now: datetime, month: str | None
) -> tuple[Simulation, list[str]]:
    """Simulate a document before it is saved.

    Args:
        workspace: the lake and the live configuration.
        submission: the document.
        now: the current time, with a time zone.
        month: the month to simulate; None for the current month if the lake has it, else the latest.

    Returns:
        The simulation, and a sentence for each assumption that was made.

    Raises:
        OctoError: the lake has no line items of the month.
    """
    notes = []
    current = f"{now:%Y-%m}"
    chosen = month or current_or_latest(workspace, now)
    if not month and chosen != current:
        notes.append(f"The lake has no line items of the current month {current}, so {chosen} was simulated.")
    allocator = submission.allocator
    if submission.starts_when_saved and chosen < current:
        notes.append(
            f"The file sets no startMonth. The simulation starts it in {chosen}; if you save it now, it starts in {current}."
        )
        allocator = parse_object(Allocator, submission.document | {"startMonth": chosen}, file=submission.file)
    notes += frozen_note(workspace, allocator)
    return simulate(workspace, allocator, chosen), notes


def frozen_note(workspace: Workspace, allocator: Allocator) -> list[str]:
    """A sentence about the closed months whose items an allocator would take if they were open; none if there are none."""
    months = [m for m in workspace.closed_months if applying([allocator], m)]
    if not months:
        return []
    span = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"
    return [
        f"It does not apply to the items of {span}, which {'is' if len(months) == 1 else 'are'} closed; what no rule took "
        "there is distributed only after reopening."
    ]


def _written_time(now: datetime) -> str:
    return now.isoformat(timespec="seconds").replace("+00:00", "Z")


def folder_of(config: Path) -> DocumentFolder:
    """The allocator documents of a configuration folder."""
    replacing = Remedy("allocators add", "FILE", replace=True, to="replace it")
    return DocumentFolder(config / "allocators", Allocator, "allocator", replacing)


def unknown_allocator(folder: DocumentFolder, allocator_id: str) -> OctoError:
    """The error that no file has the allocator."""
    return OctoError(
        f"{folder.path} has no allocator {allocator_id!r}.",
        code="allocator-unknown",
        place=allocator_id,
        remedy=Remedy("allocators list", to="see them all"),
    )


def path_of(folder: DocumentFolder, allocator_id: str) -> Path:
    """The file that has the allocator.

    Raises:
        OctoError: no file has it, or several do.
    """
    path = folder.find(allocator_id)
    if path is None:
        raise unknown_allocator(folder, allocator_id)
    return path
