"""Folders of documents, such as allocators and cost groups: files by the ids in them, read and written.

What a document means belongs in `octo_pipeline.rules`; what happens before it is saved belongs in the modules of each kind.
"""

import json
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import reason
from octo_pipeline.registry.records import DocumentKind, DocumentVersion
from octo_pipeline.rules.documents import Document, DocumentError, parse_document
from octo_pipeline.workspace import Workspace


@dataclass(frozen=True)
class DocumentFolder:
    """The folder with all documents of a kind.

    Attributes:
        path: the folder.
        model: what its documents are.
        noun: what messages call one of them, such as ``allocator``.
        replacing: the action that replaces one.
    """

    path: Path
    model: type[Document]
    noun: str
    replacing: Remedy

    def find(self, document_id: str) -> Path | None:
        """The file that has the document; None if none has it.

        Raises:
            OctoError: several files have it.
        """
        files = self._files().get(document_id, [])
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise OctoError(
                f"Several files in {self.path} have the id {document_id!r}: {names}. Give each its own id first.",
                code="document-id-repeated",
            )
        return files[0] if files else None

    def target_of(self, document_id: str, *, replace: bool) -> Path:
        """Where to save a document. Refuses to overwrite another one.

        Raises:
            OctoError: the id is taken and `replace` is False, or the file has another document.
        """
        path = self.find(document_id)
        if path is not None:
            if not replace:
                raise OctoError(
                    f"{path} already has the {self.noun} {document_id!r}. Use another id, or replace it.",
                    code="document-exists",
                    place=str(path),
                    remedy=self.replacing,
                )
            return path
        target = self.path / f"{document_id}.json"
        if target.exists():
            raise OctoError(
                f"{target} already has another {self.noun}; rename that file first.", code="document-file-taken"
            )
        return target

    def _files(self) -> dict[str, list[Path]]:
        """The files of the folder by their document's id; an invalid file by its name."""
        files: dict[str, list[Path]] = {}
        for path in sorted(
            p for p in self.path.glob("*") if p.suffix.lower() == ".json" and not p.name.startswith(".")
        ):
            try:
                document_id = parse_document(self.model, read(path), file=path.name).id
            except DocumentError:
                document_id = path.stem
            files.setdefault(document_id, []).append(path)
        return files


def read(file: Path) -> bytes:
    """The bytes of a document.

    Raises:
        OctoError: the file cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise OctoError(f"The file {file} cannot be read ({reason(error)}).", code="file-unreadable") from error


def as_text(document: dict[str, Any]) -> str:
    """The document as it is written into its file."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def write(target: Path, content: bytes) -> None:
    """Write a document in one step, so that readers never see half of it.

    Raises:
        OctoError: the file cannot be written; nothing is saved then.
    """
    # Files whose names begin with a dot are not read as documents.
    draft = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OctoError(
            f"Cannot write {target} ({reason(error)}). Nothing was saved.", code="file-not-writable"
        ) from error


def unlink(path: Path) -> None:
    """Remove a document's file.

    Raises:
        OctoError: it cannot be removed.
    """
    try:
        path.unlink()
    except OSError as error:
        raise OctoError(f"Cannot remove {path} ({reason(error)}).", code="file-not-removable") from error


def see_documents(workspace: Workspace) -> None:
    """Record the versions of the configuration that nobody saved here, if there is a registry.

    A registry that cannot be written or a configuration that cannot be read is no reason to stop what somebody came for: a
    table that needs it says so.
    """
    if not workspace.settings.has_registry:
        return
    with suppress(OctoError):
        configuration = workspace.configuration
        versions = [version_as_recorded("allocator", allocator) for allocator in configuration.allocators]
        versions += [version_as_recorded("cost_group", group) for group in configuration.cost_groups.values()]
        workspace.registry.documents.see(versions)


def version_as_recorded(kind: DocumentKind, document: Document) -> DocumentVersion:
    """A document of the configuration as the registry keeps it."""
    return DocumentVersion(kind, document.id, document.version, document.document)
