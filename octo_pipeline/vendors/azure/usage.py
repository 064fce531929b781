"""Azure's landed files as relations: what dbt reads, and what the files say was billed.

This module decides which rows of a month's files count, so that several exports add up to one bill. Finding and landing
them belongs in `csp` and `exports`, the names of columns in `usage_columns`.

What counts once:

- CSP: daily usage, and the lines of the reconciliation that are not usage (reservations, savings plans, licences,
  credits). The reconciliation repeats usage, summed and rounded: its lines with a meter, or of an Azure plan without a
  term, do not count unless they are a credit or name a reservation.
- Cost Management, actual and amortised: the actual export has the billed costs. The amortised export adds the amortised
  cost of usage that commitments cover, and their unused part; its other rows repeat the actual export. If there is only
  one of the two, all its rows count.
- FOCUS has both costs, so it is landed alone.

Costs of partners are before tax: daily usage has no tax, so the tax of the reconciliation would cover only a part.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.azure.usage_columns import (
    COST_DETAILS,
    CSP_RECONCILIATION,
    SHAPES,
    Shape,
)
from octo_pipeline.vendors.azure.usage_rows import AzureFile, check_values, count_rows, no_rows, open_file, relation
from octo_pipeline.vendors.data_files import packing
from octo_pipeline.vendors.landing import Delivery, damage, first_refusal, verify

_NOT_A_CREDIT = "credit_reason_code IS NULL AND NOT regexp_matches(lower(coalesce(charge_type, '')), 'credit|refund')"
REPEATS_USAGE = (
    f"coalesce(reservation_order_id IS NULL AND {_NOT_A_CREDIT} AND (meter_description IS NOT NULL "
    "OR (term_and_billing_cycle IS NULL "
    "AND 'azure plan' IN (lower(coalesce(subscription_description, '')), lower(coalesce(product_name, ''))))), false)"
)
_REPEATS_ACTUAL = (
    "is_combined AND dataset = 'amortised' AND NOT (reservation_id IS NOT NULL "
    "OR regexp_matches(lower(coalesce(pricing_model, '')), 'reserv|saving'))"
)
# The columns of a relation besides those of its shape: constants of a whole file, and computed ones.
_CONSTANT_COLUMNS = {shape.name: {"billing_month": "VARCHAR"} for shape in SHAPES.values()}
_CONSTANT_COLUMNS[COST_DETAILS.name] |= {"dataset": "VARCHAR", "is_combined": "BOOLEAN"}
_COMPUTED_COLUMNS = {
    CSP_RECONCILIATION.name: f"{REPEATS_USAGE} AS repeats_usage",
    COST_DETAILS.name: f"{_REPEATS_ACTUAL} AS repeats_actual",
}


def relations(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> dict[str, str]:
    """The relations that dbt reads: the name of its source -> SELECT, which has no rows if there are no files.

    Args:
        con: used to read the files' columns.
        deliveries: the newest of each partner tenant and billing account.

    Raises:
        OctoError: a file is gone, has changed in size since it was landed, or lacks a required column.
    """
    for delivery in deliveries:
        if sentence := damage(delivery):
            raise OctoError(sentence, code="delivery-damaged")
    return {shape.name: _relation(con, shape, deliveries) for shape in SHAPES.values()}


def source_costs(relations: Mapping[str, str]) -> str:
    """SQL of what the files say was billed: vendor, billing_account_id, billing_currency, cost, and the invoice.

    One row for each row that counts, as it was delivered.

    Args:
        relations: what `relations` returned.
    """
    return render("vendors/azure/source_costs", **relations)


def explain_failure(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> OctoError | None:
    """Find out why a query over `relations` failed. It reads the files again, so call it only after a failure.

    Args:
        con: a connection to the same database.
        deliveries: the Azure deliveries of the failed query.

    Returns:
        An error that names the first bad file and its line or row; None if all files are valid.
    """
    with con.cursor() as cursor:
        return first_refusal(deliveries, partial(_check_again, cursor))


def _check_again(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    if sentence := damage(delivery):
        raise OctoError(sentence, code="delivery-damaged")
    for path in delivery.file_paths:
        count_rows(con, path, str(path))
    for shape in SHAPES.values():
        for _, _, file in _files(con, shape, delivery):
            check_values(con, file)
    verify(delivery)


def _relation(con: duckdb.DuckDBPyConnection, shape: Shape, deliveries: Sequence[Delivery]) -> str:
    """The SELECT over all files of a shape; files with the same columns and packing share one branch."""
    branches: dict[Any, list[AzureFile]] = {}
    for delivery in deliveries:
        for constants, condition, file in _files(con, shape, delivery):
            branch = constants, condition, file.format, packing(file.path), file.columns, file.payer
            branches.setdefault(branch, []).append(file)
    rows = [f"({relation(files, constants, condition)})" for (constants, condition, *_), files in branches.items()]
    if not rows:
        rows = [f"({no_rows(shape, _CONSTANT_COLUMNS[shape.name])})"]
    return render("vendors/azure/all_rows", files_rows=rows, additions=_COMPUTED_COLUMNS.get(shape.name, ""))


def _files(con: duckdb.DuckDBPyConnection, shape: Shape, delivery: Delivery) -> list[tuple[str, str, AzureFile]]:
    """The non-empty files of a shape, each with the select list of its constants and the condition of its rows."""
    contents = delivery.details["contents"]
    datasets = {
        content["dataset"] for content in contents.values() if content["rows"] or content["dataset"] == "actual"
    }
    files = []
    for path in delivery.file_paths:
        content = contents[path.name]
        if content["shape"] != shape.name or not content["rows"]:
            continue
        constants = f"{literal(delivery.month)} AS billing_month"
        if shape is COST_DETAILS:
            is_combined = "true" if {"actual", "amortised"} <= datasets else "false"
            if is_combined == "true" and "combined_days" in content:
                is_combined = on_days(shape.usage_day, content["combined_days"])
            constants += f", {literal(content['dataset'])} AS dataset, {is_combined} AS is_combined"
        file = open_file(con, path, str(path), shape, content.get("columns"), content.get("payer"))
        files.append((constants, rows_that_count(shape, content), file))
    return files


def rows_that_count(shape: Shape, content: Mapping[str, Any]) -> str:
    """SQL condition of the rows of a file that count, from its landed description; '' if all count."""
    conditions = []
    if "days" in content:
        conditions.append(on_days(shape.usage_day, content["days"]))
    if "subscription" in content:
        conditions.append(f"lower(subscription_id) = {literal(content['subscription'])}")
    return " AND ".join(conditions)


def on_days(day: str, spans: Sequence[Sequence[str]]) -> str:
    """SQL condition: the day is in one of these spans of first and last day."""
    return f"({' OR '.join(f'{day} BETWEEN DATE {literal(a)} AND DATE {literal(b)}' for a, b in spans) or 'false'})"
