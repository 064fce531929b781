"""Allocator documents as files: read, stamped with what saving sets, found by id, written in one step.

Here belongs what the command line and Dagster's jobs do with a document before and when it is saved. What a
document means is the core's, what it would do `simulation`'s.
"""

import json
import os
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.allocator import Allocator, parse_allocator
from octo_pipeline.rules.documents import DocumentError
from octo_pipeline.services.simulate import Simulation, simulate
from octo_pipeline.workspace import Workspace


def simulate_document(
    workspace: Workspace, content: bytes, file: str, now: datetime, month: str | None
) -> tuple[Simulation, list[str]]:
    """Simulate a document that may still lack what saving sets.

    Args:
        workspace: what it is simulated on.
        content: the document.
        file: its name, for messages and as its id if it has none.
        now: with a time zone.
        month: whose items; None for the current month if the lake has it, else the latest.

    Returns:
        The simulation, and a sentence for each thing that was assumed.

    Raises:
        DocumentError: with everything that is wrong in the document.
        OctoError: the lake has no line items of the month.
    """
    notes = []
    current = f"{now:%Y-%m}"
    months = workspace.lake.months("cost_line_items")
    chosen = month or (current if not months or current in months else months[-1])
    if not month and chosen != current:
        notes.append(f"The lake has no line items of the current month {current}: simulated on {chosen}.")
    written, _ = stamped(workspace, content, file, now, start=current)
    document, allocator = stamped(workspace, content, file, now, start=min(chosen, current))
    if document["startMonth"] != written["startMonth"]:
        notes.append(
            f"The file sets no startMonth: simulated as if it started in {chosen}; saved now, it starts in "
            f"{written['startMonth']}."
        )
    return simulate(workspace, allocator, chosen), notes


def stamped(
    workspace: Workspace, content: bytes, file: str, now: datetime, *, start: str
) -> tuple[dict[str, Any], Allocator]:
    """Read a document to be saved and set what saving sets.

    createTime and startMonth are set where it leaves them out: those of the live allocator of the same id,
    which it replaces, else the time and `start`.

    Raises:
        DocumentError: with everything else that is wrong in it.
    """
    document = _draft(content, file)
    if not document.get("id"):
        document = {"id": Path(file).stem} | document | {"id": Path(file).stem}
    time = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    replaced = next((a for a in workspace.configuration.allocators if a.id == document["id"]), None)
    if replaced:
        document["updateTime"] = time
    if not document.get("startMonth"):
        if document.get("createTime"):
            start = parse_allocator(json.dumps(document), file=file).start
        document["startMonth"] = replaced.start if replaced else start
    if not document.get("createTime"):
        document["createTime"] = (replaced.normalised().get("createTime") if replaced else None) or time
    return document, parse_allocator(json.dumps(document), file=file)


def _draft(content: bytes, file: str) -> dict[str, Any]:
    """The document that may still lack its start, which saving stamps."""
    try:
        parse_allocator(content, file=file)
    except DocumentError as error:
        others = [p for p in error.problems if (p.path, p.message[:10]) != ("startMonth", "is not set")]
        if others:
            raise DocumentError(others) from None
    document: dict[str, Any] = json.loads(content.decode("utf-8-sig"))
    return document


def read(file: Path) -> bytes:
    """The bytes of a document.

    Raises:
        OctoError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise OctoError(f"The file {file} cannot be read ({error.strerror}).") from error


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
        raise OctoError(f"{folder} has no allocator {allocator_id!r}; `octo allocators list` shows all.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise OctoError(f"{allocator_id!r} is the id in {names} of {folder}; give each its own id first.")
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
            raise OctoError(f"{path} already holds the allocator {allocator_id!r}; use --replace, or another id.")
        return path
    target = folder / f"{allocator_id}.json"
    if target.exists():
        raise OctoError(f"{target} exists and holds an allocator of another id; rename it first.")
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
        raise OctoError(f"Cannot write {target} ({error.strerror}). Nothing was saved.") from error
