"""Landed Google Cloud billing exports as a relation: what dbt reads, and what the files say was billed.

How exports are landed is in `billing` and `billing_folder`, the columns are in `billing_columns`, and the SQL that
reads a file is in `billing_rows`.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.gcp.billing_rows import inspect_file, relation
from octo_pipeline.vendors.landing import Delivery, damage, first_refusal, verify


def relations(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> dict[str, str]:
    """The relation that dbt reads: its source's name -> SELECT with the columns of `COLUMNS`.

    Args:
        con: not used; all vendors have the same signature.
        deliveries: the newest of each billing account.

    Raises:
        OctoError: a file is gone, has changed in size since it was landed, or cannot be read.
    """
    for delivery in deliveries:
        if sentence := damage(delivery):
            raise OctoError(sentence, code="delivery-damaged")
    return {"gcp_billing": relation([(path, str(path)) for delivery in deliveries for path in delivery.file_paths])}


def source_costs(relations: Mapping[str, str]) -> Sql:
    """SQL of what the files say was billed: vendor, billing_account_id, billing_currency, cost.

    One row for each row of the export, with its cost and each of its credits cast to NUMERIC.

    Args:
        relations: what `relations` returned.
    """
    return render("vendors/gcp/source_costs", rows=Relation(f"({relations['gcp_billing']})"))


def explain_failure(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> OctoError | None:
    """Find out why a query over `relations` failed. It reads the files again, so call it only after a failure.

    Args:
        con: a connection to the same database.
        deliveries: the Google Cloud deliveries of the failed query.

    Returns:
        An error that names the first bad file; None if all files are valid.
    """
    with con.cursor() as cursor:
        return first_refusal(deliveries, partial(_check_again, cursor))


def _check_again(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    verify(delivery)
    for path in delivery.file_paths:
        inspect_file(con, path, str(path), delivery.month)
