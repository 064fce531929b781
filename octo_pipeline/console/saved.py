"""What the pages of documents share beside their forms: which version is saved, differences, and errors by their paths."""

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octo_pipeline.api.documents import current_version, require_writable
from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.documents import Document, Problem
from octo_pipeline.services.documents import DocumentFolder, as_text, read
from octo_pipeline.services.versions import KnownVersion
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class SavedDocument:
    """A document as it is in its file, valid or not.

    Attributes:
        path: its file.
        text: what is in it.
        version: under which it is changed.
    """

    path: Path
    text: str
    version: str


@dataclass(frozen=True)
class DiffLine:
    """A line of a difference: whether it is in the old text, the new one or both, or between two parts of them."""

    kind: str
    text: str


def saved_document(folder: DocumentFolder, document_id: str, live: Document | None) -> SavedDocument | None:
    """A document of a folder; None if no file has it.

    Args:
        folder: the folder.
        document_id: its id, or the name of a file that is not valid.
        live: the valid document of this id, if there is one.

    Raises:
        OctoError: several files have it, or it cannot be read.
    """
    path = folder.find(document_id)
    if path is None:
        return None
    text = read(path).decode("utf-8-sig", "backslashreplace").replace("\r\n", "\n")
    return SavedDocument(path, text, current_version(path, live.version if live else None) or "")


def is_writable(workspace: Workspace, folder: str) -> bool:
    """Whether documents are saved here, and not committed where they come from."""
    try:
        require_writable(workspace, folder)
    except OctoError:
        return False
    return True


def differences(before: str, after: str) -> list[DiffLine]:
    """What differs between two texts, line by line, with three lines around it; empty if nothing does."""
    kinds = {"+": "added", "-": "removed", "@": "between"}
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm=""))[2:]
    return [
        DiffLine(kinds.get(line[:1], "same"), "" if line.startswith("@") else line[1:])
        for i, line in enumerate(lines)
        if not (i == 0 and line.startswith("@"))
    ]


def placed(problems: Sequence[Problem], fields: Mapping[str, str], *, is_shown: bool) -> dict[str, Any]:
    """What a page shows of problems: the list of them, each with the field it is about, and the sentences of each field.

    Args:
        problems: what is wrong.
        fields: the id of the field that shows a part of the document, by the part's path.
        is_shown: False for a new document, in which nobody has written anything yet.
    """
    listed = [(problem, fields.get(problem.path) or _field_of(problem.path, fields)) for problem in problems]
    sentences: dict[str, list[str]] = defaultdict(list)
    for problem, field in listed if is_shown else []:
        sentences[field].append(problem.message)
    return {"problems": listed if is_shown else [], "is_wrong": bool(problems), "sentences": sentences}


def _field_of(path: str, fields: Mapping[str, str]) -> str:
    """The field of the nearest part around the path; the JSON if there is none."""
    within = [known for known in fields if path.startswith((f"{known}.", f"{known}["))]
    return fields[max(within, key=len)] if within else "document"


def compared(versions: Sequence[KnownVersion], document_id: str, before: str, after: str) -> dict[str, Any]:
    """What a page shows of versions, and of the difference between two of them.

    Args:
        versions: the newest first.
        document_id: whose they are.
        before: one of them; without it, the one before `after`.
        after: another one; without it, the newest.
    """
    known = {version.version: i for i, version in reversed(list(enumerate(versions)))}
    newer = known.get(after, 0)
    older = known.get(before, min(newer + 1, len(versions) - 1))
    texts = [as_text(versions[i].document or {}) for i in (older, newer)]
    return {
        "document_id": document_id,
        "versions": versions,
        "older": versions[older],
        "newer": versions[newer],
        "text": texts[1],
        "lines": differences(*texts),
        "is_known": versions[older].document is not None and versions[newer].document is not None,
    }
