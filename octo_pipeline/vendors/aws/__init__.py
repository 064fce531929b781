"""Amazon Web Services: Cost and Usage Reports, registration, sample."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octo_pipeline.vendors.vendor import LandedFiles, Registration, Sample, Vendor

if TYPE_CHECKING:
    import duckdb

    from octo_pipeline.lake.store import Location
    from octo_pipeline.model.errors import OctoError
    from octo_pipeline.vendors.landing import Delivery, Landed
    from octo_pipeline.vendors.listing import Listing, Place
    from octo_pipeline.vendors.source import Source


def _files() -> LandedFiles:
    from octo_pipeline.vendors.aws import cur_relations

    return cur_relations


def _model_relations(
    con: "duckdb.DuckDBPyConnection", deliveries: "Sequence[Delivery]", relations: Mapping[str, str]
) -> dict[str, str]:
    from octo_pipeline.vendors.aws.cur_relations import model_relations

    return model_relations(con, deliveries, relations)


def _container_usage(relations: Mapping[str, str]) -> str:
    from octo_pipeline.vendors.aws.cur_relations import container_usage

    return container_usage(relations)


def _registration() -> Registration:
    from octo_pipeline.vendors.aws import registration

    return registration


def _folder_source(path: Path) -> "Source":
    from octo_pipeline.vendors.aws.cur import CurFolderSource

    return CurFolderSource(path)


def _document_source(document: object, _allowed_hosts: Sequence[str]) -> "Source":
    from octo_pipeline.vendors.aws.client import cur_source
    from octo_pipeline.vendors.aws.cur import CurFolderSource
    from octo_pipeline.vendors.aws.cur_bucket import CurDocument
    from octo_pipeline.vendors.aws.cur_options import CurFolderDocument

    if isinstance(document, Mapping) and "folder" in document:
        described = CurFolderDocument.model_validate(document)
        return CurFolderSource(described.folder, described)
    return cur_source(CurDocument.model_validate(document))


def _storage(address: "Place", name: str, _allowed_hosts: Sequence[str]) -> "Listing":
    from octo_pipeline.vendors.aws.storage import BucketFiles

    return BucketFiles(address, name)


def _disagreements(root: "Location", landed: "Sequence[Landed]") -> "list[OctoError]":
    from octo_pipeline.vendors.aws.cur_agreement import disagreements

    return disagreements(root, landed)


def _write_sample(folder: Path, *, months: Sequence[str], accounts: int, lines: int, seed: int) -> None:
    from octo_pipeline.vendors.aws.sample import write_cur

    write_cur(folder, months=months, accounts=accounts, lines=lines, seed=seed)


VENDOR = Vendor(
    name="aws",
    raw_asset="raw_cur",
    raw_kind="aws",
    raw_description="AWS Cost and Usage Reports as delivered. One delivery per payer, month and version; the newest "
    "counts.",
    deliveries="Cost and Usage Reports",
    files=_files,
    model_relations=_model_relations,
    container_usage=_container_usage,
    row_sources=("cur_relations.py", "cur_rows.py", "cur_columns.py", "sql"),
    folder_source=_folder_source,
    document_source=_document_source,
    registration=_registration,
    sample=Sample("an AWS Cost and Usage Report (USD)", _write_sample),
    storage=_storage,
    disagreements=_disagreements,
    # AWS bills support on the 6th or 7th.
    closing_day=8,
)
