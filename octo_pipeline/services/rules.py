"""Allocator documents as files: read, stamped with what saving sets, found by id, written in one step.

This module has what the command line and Dagster's jobs do with a document before and when it is saved. What a
document means belongs in `octo_pipeline.rules`, what it would do in `simulate`.
"""

import os
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from octo_pipeline.model.columns import LINE_ITEMS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import reason
from octo_pipeline.rules.allocator import Allocator, created_month, parse_allocator
from octo_pipeline.rules.documents import DocumentError, is_unset, parse_object, read_object
from octo_pipeline.services.simulate import Simulation, simulate
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class Submission:
    """An allocator document that is to be saved.

    Attributes:
        file: its file, for messages.
        document: the JSON object to save: what was written, and what saving sets.
        allocator: what it means.
        starts_when_saved: whether saving sets its startMonth to the current month.
    """

    file: str
    document: dict[str, Any]
    allocator: Allocator
    starts_when_saved: bool


def submitted(workspace: Workspace, content: bytes, file: str, now: datetime) -> Submission:
    """Read a document that is to be saved, and set what saving sets.

    createTime and startMonth are set where the document leaves them out: those of the live allocator of the same id,
    which it replaces, else the time and its month.

    Args:
        workspace: whose live allocators.
        content: the document.
        file: its name, for messages and as its id if it has none.
        now: with a time zone.

    Raises:
        DocumentError: with everything that is wrong in the document.
    """
    written = read_object(content, file=file)
    allocator_id = Path(file).stem if is_unset(written, "id") else written["id"]
    replaced = next((a for a in workspace.configuration.allocators if a.id == allocator_id), None)
    time = now.isoformat(timespec="seconds").replace("+00:00", "Z")
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
    # A document that has no id gets it in front.
    document = {"id": allocator.id} | written | {"id": allocator.id} if is_unset(written, "id") else written
    return Submission(file, document, allocator, starts_when_saved)


def simulate_submission(
    workspace: Workspace, submission: Submission, now: datetime, month: str | None
) -> tuple[Simulation, list[str]]:
    """Simulate a document before it is saved.

    Args:
        workspace: what it is simulated on.
        submission: the document.
        now: with a time zone.
        month: whose items; None for the current month if the lake has it, else the latest.

    Returns:
        The simulation, and a sentence for each thing that was assumed.

    Raises:
        OctoError: the lake has no line items of the month.
    """
    notes = []
    current = f"{now:%Y-%m}"
    months = workspace.lake.months(LINE_ITEMS)
    chosen = month or (current if not months or current in months else months[-1])
    if not month and chosen != current:
        notes.append(f"The lake has no line items of the current month {current}: simulated on {chosen}.")
    allocator = submission.allocator
    if submission.starts_when_saved and chosen < current:
        notes.append(
            f"The file sets no startMonth: simulated as if it started in {chosen}; saved now, it starts in {current}."
        )
        allocator = parse_object(Allocator, submission.document | {"startMonth": chosen}, file=submission.file)
    return simulate(workspace, allocator, chosen), notes


def read(file: Path) -> bytes:
    """The bytes of a document.

    Raises:
        OctoError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise OctoError(f"The file {file} cannot be read ({reason(error)}).", code="file-unreadable") from error


def folder_of(config: Path) -> Path:
    """Where the allocator documents of a configuration folder are."""
    return config / "allocators"


def _files(folder: Path) -> dict[str, list[Path]]:
    """The files of the folder by the id of what they hold; of an invalid one, by its name."""
    found: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.glob("*") if p.suffix.lower() == ".json" and not p.name.startswith(".")):
        try:
            allocator_id = parse_allocator(read(path), file=path.name).id
        except DocumentError:
            allocator_id = path.stem
        found.setdefault(allocator_id, []).append(path)
    return found


def path_of(folder: Path, allocator_id: str) -> Path:
    """The file that holds the allocator.

    Raises:
        OctoError: none does, or several do.
    """
    found = _files(folder).get(allocator_id, [])
    if not found:
        raise OctoError(
            f"{folder} has no allocator {allocator_id!r}.",
            code="allocator-unknown",
            place=allocator_id,
            remedy=Remedy("allocators list", to="see them all"),
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise OctoError(
            f"{allocator_id!r} is the id in {names} of {folder}; give each its own id first.",
            code="allocator-id-repeated",
        )
    return found[0]


def target_of(folder: Path, allocator_id: str, *, replace: bool) -> Path:
    """Where to save an allocator; refuses to overwrite what is not meant.

    Raises:
        OctoError: the id is taken and `replace` is not given, or the file holds another allocator.
    """
    files = _files(folder)
    if allocator_id in files:
        path = path_of(folder, allocator_id)
        if not replace:
            raise OctoError(
                f"{path} already holds the allocator {allocator_id!r}. Use another id, or replace it.",
                code="allocator-exists",
                place=str(path),
                remedy=Remedy("allocators add", "FILE", replace=True, to="replace it"),
            )
        return path
    target = folder / f"{allocator_id}.json"
    if target.exists():
        raise OctoError(
            f"{target} exists and holds an allocator of another id; rename it first.", code="allocator-file-taken"
        )
    return target


def write(target: Path, text: str) -> None:
    """Write a document in one step that readers never see half done.

    Raises:
        OctoError: the folder refuses; nothing is saved then.
    """
    # Names that begin with a dot are no documents.
    draft = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OctoError(
            f"Cannot write {target} ({reason(error)}). Nothing was saved.", code="file-not-writable"
        ) from error
