"""Landed FOCUS files as a relation: what dbt reads, and what they say was billed.

A delivery notes which days of a file count, and whether its rows are shown as another vendor than the provider's.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.file_rows import count_rows
from octo_pipeline.vendors.focus.charge_rows import (
    FocusFile,
    branch_of,
    charges,
    check_values,
    no_charges,
    open_file,
)
from octo_pipeline.vendors.landing import Delivery, damage, first_refusal, verify

RELATION = "focus_charges"


def relations(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> dict[str, str]:
    """The relation that dbt reads; of no rows where there are no files.

    Args:
        con: used to look at the files' columns.
        deliveries: the newest of each source.

    Raises:
        OctoError: a file is gone, has changed in size since it was landed, or lacks a required column.
    """
    branches = []
    for delivery in deliveries:
        if sentence := damage(delivery):
            raise OctoError(sentence, code="delivery-damaged", place=delivery.version)
        by_branch: dict[tuple[object, ...], list[FocusFile]] = {}
        facts = {}
        for file, days in _files(con, delivery):
            branch = (*branch_of(file), str(days))
            by_branch.setdefault(branch, []).append(file)
            facts[branch] = {**delivery.details, "days": days}
        branches += [charges(files, delivery.month, facts[branch]) for branch, files in by_branch.items()]
    # Branches of one file each would make a plan that takes longer than the reading.
    return {RELATION: " UNION ALL BY NAME ".join(f"({branch})" for branch in branches) or no_charges()}


def source_costs(relations: Mapping[str, str]) -> str:
    """SQL of what the files say was billed: vendor, billing_account_id, billing_currency, cost.

    Args:
        relations: what the function of this name returned.
    """
    return render("vendors/focus/source_costs", charges=relations[RELATION])


def explain_failure(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> OctoError | None:
    """A sentence with the first bad file and its line or row; None if all files are in order."""
    with con.cursor() as cursor:
        return first_refusal(deliveries, partial(_check_again, cursor))


def _check_again(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    if sentence := damage(delivery):
        raise OctoError(sentence, code="delivery-damaged", place=delivery.version)
    for path in delivery.file_paths:
        count_rows(con, path, str(path))
    for file, _ in _files(con, delivery):
        check_values(con, file)
    verify(delivery)


def _files(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> Iterator[tuple[FocusFile, list[list[str]]]]:
    """The files with rows, each with the days that count, none for all."""
    for path in delivery.file_paths:
        content = delivery.details["contents"][path.name]
        if content["rows"]:
            yield open_file(con, path, str(path)), content.get("days", [])
