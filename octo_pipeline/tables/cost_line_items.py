"""``cost_line_items``: the vendors' exports of a month in one shape, made by dbt."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.lake.lake import PartitionMetadata, Staged
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEM_GRAIN, LINE_ITEMS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.sql import Relation, Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.tables.dbt import run_model, sources_of
from octo_pipeline.tables.table import Reads, Table
from octo_pipeline.vendors.catalog import VENDORS, vendor_of_relation
from octo_pipeline.vendors.documents import source_documents, used_deliveries
from octo_pipeline.vendors.landing import Delivery, deliveries, newest_of
from octo_pipeline.vendors.overlaps import without_overlaps
from octo_pipeline.workspace import Workspace

# The fact in a partition's metadata that holds the month's invoices.
INVOICES = "invoices"
# The dbt models of which cost_line_items is the union.
CHARGE_MODELS = frozenset(f"int_{vendor}__charges" for vendor in VENDORS)
# Texts of charges; tags are maps only in the union.
_TEXT_COLUMNS = (
    *(name for name, kind in LINE_ITEM_COLUMNS.items() if kind == "VARCHAR"),
    "tags_json",
    "project_labels_json",
)


class NothingLandedError(OctoError):
    """Nothing of a month was ever landed."""


class CostLineItems(Table):
    """Every charge of the month in one shape for all vendors."""

    name = LINE_ITEMS
    group = "normalisation"
    grain = "One row per combination of the columns up to publisher_name; the hourly lines of a day are one row."
    key = tuple(LINE_ITEM_GRAIN)
    columns = LINE_ITEM_COLUMNS
    reads = (Reads("landing"),)
    # Changes to other models, to the fetching of deliveries, to registration or to samples must not make the rows again.
    code = (
        "model",
        "vendors/data_columns.py",
        "vendors/data_files.py",
        "vendors/focus_columns.py",
        *(f"vendors/{vendor.name}/{file}" for vendor in VENDORS.values() for file in vendor.row_sources),
        "vendors/documents.py",
        "vendors/overlaps.py",
        "dbt_project/macros",
        "dbt_project/models/staging",
        "dbt_project/models/intermediate",
        "dbt_project/models/marts/cost_line_items.sql",
    )
    is_dbt_model = True
    proofs = (
        Proof(
            "source_costs",
            "the billed costs of each payer and currency add up to the source's",
            "tables/proof_cost_line_items_costs",
        ),
        Proof("month", "every row is billed in the month", "tables/proof_cost_line_items_month"),
    )

    def outside_inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """What the newest complete delivery of each account says."""
        return {f"landing/{d.vendor}/{d.account}": d.content for d in counted_deliveries(workspace, month)}

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Normalise the month's newest deliveries.

        Raises:
            NothingLandedError: nothing of the month was ever landed.
            OctoError: a delivery contains something that cannot be read; the message names the file and where in it.
            ProofError: the sum of the billed costs differs from the source's.
        """
        # It reads and proves charges by what is below.
        from octo_pipeline.tables import buckets

        counted = counted_deliveries(workspace, month)
        # A month whose deliveries were all removed has no costs any more. A month that never had any has unknown costs.
        if not counted and workspace.lake.fingerprint(self.name, month) is None:
            raise NothingLandedError(
                f"Nothing of {month} is landed, and no source offers any of it.",
                code="month-not-landed",
                place=month,
                remedy=Remedy("doctor", to="see which sources there are"),
            )
        with workspace.lake.connect() as connection:
            try:
                counted = without_overlaps(connection, counted)
                if buckets.has_large_payers(workspace, counted):
                    source_invoices = buckets.write_with_tasks(workspace, connection, staged, metadata, counted)
                    self.prove(connection, staged, source_invoices=source_invoices)
                    return
                landed, source_costs = landed_relations(connection, counted, staged.folder)
                charges = charges_of({delivery.vendor for delivery in counted})
                # Read once for the proof and for `invoice_costs`, which would have to unpack and read all files again.
                source_invoices = create_temp_table(
                    connection, "source_invoices", render("tables/source_invoices", source_costs=source_costs)
                )
                facts = {INVOICES: invoices_of(connection, source_invoices)}
                run_model(
                    connection,
                    staged,
                    replace(metadata, facts=metadata.facts | facts),
                    landed | {f"main.{model}": no_charges() for model in CHARGE_MODELS - charges},
                    self.columns,
                )
                self.prove(connection, staged, source_invoices=source_invoices)
            except duckdb.Error as error:
                raise explanation(connection, counted, error) from error


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
        except duckdb.Error as error:
            raise OctoError(f"A landed file cannot be read: {error}", code="landed-file-unreadable") from error
        if any(delivery.format != "parquet" for delivery in own):
            queries = {
                relation: _read_once(connection, query, scratch / f"{relation}.parquet")
                for relation, query in queries.items()
            }
        relations |= vendor.model_relations(connection, own, queries) if vendor.model_relations else queries
        costs.append(files.source_costs(queries))
    landed = {f"landing.{name}": query for name, query in relations.items()}
    return landed, render("tables/source_costs", vendors=costs)


def invoices_of(connection: duckdb.DuckDBPyConnection, source_invoices: Relation) -> list[list[str | None]]:
    """What the files bill by invoice: vendor, payer, invoice, issuer, currency and the sum as text."""
    rows = connection.execute(render("tables/invoices", source_invoices=source_invoices)).fetchall()
    return [list(row) for row in rows]


def _read_once(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> str:
    """Write the query's rows to a Parquet file and return a query of the file.

    Several queries read them, and unpacking compressed text takes longer than everything else.
    """
    connection.execute(f"copy ({query}) to {literal(str(path))} (format parquet)")
    return f"from read_parquet({literal(str(path))})"


def explanation(connection: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery], error: Exception) -> OctoError:
    """The first vendor's explanation of a bad file, or an error that says that the files are not the cause."""
    for name, vendor in VENDORS.items():
        own = [delivery for delivery in deliveries if delivery.vendor == name]
        if (reason := vendor.files().explain_failure(connection, own)) is not None:
            return reason
    return OctoError(
        f"The landed reports are unchanged since they were landed, but reading them failed: {error}",
        code="landed-reports-unreadable",
    )
