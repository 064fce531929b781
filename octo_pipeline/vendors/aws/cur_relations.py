"""Landed Cost and Usage Reports as a relation: what dbt reads, and what the files say was billed.

This module decides which rows of a month's files count. Finding a bad row is in `cur_rows`, the names of columns in
`cur_columns`; finding and landing reports is in `cur`.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.aws.cur_columns import SPLIT_OPERATIONS, Costs
from octo_pipeline.vendors.aws.cur_rows import (
    CurFile,
    billed_relation,
    check_values,
    daily_relation,
    open_file,
    relation,
)
from octo_pipeline.vendors.file_rows import count_rows
from octo_pipeline.vendors.landing import Delivery, damage, first_refusal, verify

# What the proof reads.
_BILLS = "aws_bills"


def relation_sql(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> str:
    """The SELECT that reads the files of AWS deliveries as one relation with the columns of `COLUMNS`.

    It streams, and reads only the columns of Parquet files that the query around it needs.

    Args:
        con: used to read the files' columns.
        deliveries: the newest of each payer.

    Returns:
        SQL text, which has no rows if there are no deliveries.

    Raises:
        OctoError: a file is gone, has changed in size since it was landed, or lacks a required column.
    """
    return relation(_open_files(con, deliveries), _month(deliveries))


def _open_files(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> list[CurFile]:
    for delivery in deliveries:
        if sentence := damage(delivery):
            raise OctoError(sentence, code="delivery-damaged")
    return [
        open_file(con, path, str(path), costs_of(delivery)) for delivery in deliveries for path in delivery.file_paths
    ]


def _month(deliveries: Sequence[Delivery]) -> str | None:
    months = {delivery.month for delivery in deliveries}
    return months.pop() if len(months) == 1 else None


def costs_of(delivery: Delivery) -> Costs:
    """Which costs of the delivery count, by the setting of its source when it was landed."""
    return "net" if delivery.details.get("costs") == "net" else "unblended"


def relations(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> dict[str, str]:
    """The lines as they were delivered: the name of dbt's source -> SELECT; see `relation_sql`."""
    return {"aws_cur": relation_sql(con, deliveries)}


def model_relations(
    con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery], relations: Mapping[str, str]
) -> dict[str, str]:
    """The relations that dbt and the proof read: the lines, and what they sum up to, with the column line_count.

    The lines of Parquet files are summed up by day for dbt and by invoice for the proof, which reads the files itself; see
    `cur_rows.daily_relation` and `cur_rows.billed_relation`. What was read of other files is in `relations`, line by line.
    """
    lines = relations["aws_cur"]
    if deliveries and all(delivery.format == "parquet" for delivery in deliveries):
        files = _open_files(con, deliveries)
        sums, bills = daily_relation(files, _month(deliveries)), billed_relation(files)
    else:
        sums = bills = render("vendors/aws/counted_lines", aws_cur=lines)
    return {"aws_cur": sums, "aws_lines": lines, _BILLS: bills}


def source_costs(relations: Mapping[str, str]) -> str:
    """SQL of what the files say was billed: vendor, billing_account_id, billing_currency, cost, invoice_id, invoice_issuer_name.

    One row for the line_count line items that count, as they were delivered; split-cost rows repeat the cost of other rows
    and do not count.

    Args:
        relations: what `relations` or `model_relations` returned.
    """
    bills = relations.get(_BILLS) or render("vendors/aws/counted_lines", aws_cur=relations["aws_cur"])
    return render("vendors/aws/source_costs", aws_bills=bills)


def container_usage(relations: Mapping[str, str]) -> str:
    """SQL of the rows that split the cost of other rows by container.

    Columns vendor, billing_account_id, sub_account_id, billing_currency, parent_resource_id, tags_json, split_cost and
    unused_cost; one row for each line item as it was delivered.

    Args:
        relations: what `relations` returned.
    """
    return render(
        "vendors/aws/container_usage",
        aws_cur=relations["aws_cur"],
        split_operations=", ".join(map(literal, SPLIT_OPERATIONS)),
    )


def explain_failure(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> OctoError | None:
    """Find out why a query over `relations` failed. It reads the files again, so call it only after a failure.

    Args:
        con: a connection to the same database.
        deliveries: the AWS deliveries of the failed query.

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
        check_values(con, open_file(con, path, str(path), costs_of(delivery)))
    verify(delivery)
