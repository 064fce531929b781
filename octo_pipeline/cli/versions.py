"""How the commands of allocators and cost groups print the versions of a document."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from octo_pipeline.cli.output import Output, print_rows
from octo_pipeline.model.errors import OctoError

if TYPE_CHECKING:
    from octo_pipeline.registry.records import DocumentKind

VersionArgument = Annotated[
    str | None, typer.Argument(help="A version, or its beginning: prints the document as it was then.")
]


def print_versions(kind: "DocumentKind", document_id: str, version: str | None, output: Output) -> None:
    """Print the versions of a document, or the document of one of them."""
    from octo_pipeline.services.versions import known_version, listed_versions, versions_of
    from octo_pipeline.settings import load_settings
    from octo_pipeline.workspace import Workspace

    workspace = Workspace(load_settings())
    if version is not None:
        document = known_version(workspace, kind, document_id, version).document
        if document is None:
            raise OctoError(
                f"The text of this version of {document_id} was not kept; only that months were made with it.",
                code="version-not-kept",
                place=document_id,
            )
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    rows = listed_versions(versions_of(workspace, kind, document_id))
    if output is not Output.table:
        print_rows("", rows.columns, rows.rows, output)
        return
    table = [
        (digest[:8], by or "", f"{at:%Y-%m-%d %H:%M}" if at else "", "yes" if is_live else "", months)
        for digest, by, at, is_live, months in rows.rows
    ]
    print_rows(
        f"Versions of {document_id}, newest first", ("version", "saved_by", "since", "now", "months"), table, output
    )
