"""The charges in the landed files of a month: which deliveries count, what dbt's models read of them, and what they bill."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.lake.lake import Lake, memory_error
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.tables.dbt import sources_of
from octo_pipeline.tables.parts import SourceSum
from octo_pipeline.vendors.catalog import VENDORS, vendor_of_relation
from octo_pipeline.vendors.documents import source_documents, used_deliveries
from octo_pipeline.vendors.landing import Delivery, deliveries, newest_of
from octo_pipeline.workspace import Workspace

# The dbt models of which cost_line_items is the union.
CHARGE_MODELS = frozenset(f"int_{vendor}__charges" for vendor in VENDORS)
# Texts of charges; tags are maps only in the union.
_TEXT_COLUMNS = (
    *(name for name, kind in LINE_ITEM_COLUMNS.items() if kind == "VARCHAR"),
    "tags_json",
    "project_labels_json",
)
SOURCE_COSTS = Proof(
    "source_costs",
    "the billed costs of each payer and currency add up to the source's",
    "tables/proof_cost_line_items_costs",
)


def no_charges() -> Sql:
    """What stands in place of the charges of an absent vendor."""
    return render("tables/no_charges", text_columns=_TEXT_COLUMNS)


def counted_deliveries(workspace: Workspace, month: str) -> list[Delivery]:
    """The newest complete delivery of each account, without those of documents that say they are not used."""
    return newest_of(_used_deliveries(workspace, month))


def landed_months(workspace: Workspace) -> set[str]:
    """The months of which there is a delivery that counts."""
    return {delivery.month for delivery in _used_deliveries(workspace)}


def _used_deliveries(workspace: Workspace, month: str | None = None) -> list[Delivery]:
    return used_deliveries(deliveries(workspace.lake.root, month=month), source_documents(workspace.settings.config))


def charges_of(vendors: Collection[str]) -> frozenset[str]:
    """The models of charges that read something of these vendors; all of them if there is no vendor.

    The others would take longer than all rows of a small month. A vendor's relations can be read by another one's models:
    Azure exports FOCUS, too.
    """
    read = {model: {vendor_of_relation(source).name for source in sources_of(model)} for model in CHARGE_MODELS}
    return frozenset(model for model in CHARGE_MODELS if not read[model].isdisjoint(vendors)) or CHARGE_MODELS


def landed_relations(
    connection: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery], scratch: Path
) -> tuple[dict[str, str], str]:
    """The relations of all vendors as dbt names them, and SQL of the billed costs according to their files.

    The relations of a vendor without deliveries are empty.

    Args:
        connection: reads the files.
        deliveries: the newest of each account.
        scratch: a folder for relations that are read once and kept for later reads.
    """
    relations: dict[str, str] = {}
    costs = []
    for name, vendor in VENDORS.items():
        files = vendor.files()
        own = [delivery for delivery in deliveries if delivery.vendor == name]
        try:
            queries = files.relations(connection, own)
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise OctoError(f"A landed file cannot be read: {error}", code="landed-file-unreadable") from error
        if any(delivery.format != "parquet" for delivery in own):
            queries = {
                relation: _read_once(connection, query, scratch / f"{relation}.parquet")
                for relation, query in queries.items()
            }
        own_relations = vendor.model_relations(connection, own, queries) if vendor.model_relations else queries
        relations |= own_relations
        costs.append(files.source_costs(own_relations))
    landed = {f"landing.{name}": query for name, query in relations.items()}
    return landed, render("tables/source_costs", vendors=costs)


def invoices_of(connection: duckdb.DuckDBPyConnection, source_invoices: Relation) -> list[list[str | None]]:
    """What the files bill by invoice: vendor, payer, invoice, issuer, currency and the sum as text."""
    rows = connection.execute(render("tables/invoices", source_invoices=source_invoices)).fetchall()
    return [list(row) for row in rows]


def source_sums_of(connection: duckdb.DuckDBPyConnection, source_invoices: Relation) -> list[SourceSum]:
    """The same with the number of lines, for the metadata of a part."""
    rows = connection.execute(render("tables/source_sums", source_invoices=source_invoices)).fetchall()
    return [list(row) for row in rows]


def _read_once(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> str:
    """Write the query's rows to a Parquet file and return a query of the file.

    Several queries read them, and unpacking compressed text takes longer than everything else.
    """
    connection.execute(f"copy ({query}) to {literal(str(path))} (format parquet)")
    return f"from read_parquet({literal(str(path))})"


def explanation(connection: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery], error: Exception) -> OctoError:
    """The first vendor's explanation of a bad file, or an error that says that the files are not the cause."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return memory_error(error)
    for name, vendor in VENDORS.items():
        own = [delivery for delivery in deliveries if delivery.vendor == name]
        if (reason := vendor.files().explain_failure(connection, own)) is not None:
            return reason
    return OctoError(
        f"The landed reports are unchanged since they were landed, but reading them failed: {error}",
        code="landed-reports-unreadable",
    )


def landed_delivery(
    lake: Lake, month: str, vendor: str, account: str, version: str, left_out: list[list[str]] | None = None
) -> Delivery:
    """The delivery that another process means.

    Args:
        lake: where it is landed.
        month: its month.
        vendor: its vendor.
        account: its account.
        version: its version.
        left_out: the vendors and accounts whose rows do not count in it.

    Raises:
        OctoError: it was removed.
    """
    for delivery in deliveries(lake.root, vendor=vendor, account=account, month=month):
        if delivery.version == version:
            return replace(delivery, details={**delivery.details, "left_out": left_out}) if left_out else delivery
    raise OctoError(
        f"The delivery {vendor} {account} {month} {version} was removed while the month was made. Run it again.",
        code="delivery-removed-meanwhile",
        place=account,
    )
