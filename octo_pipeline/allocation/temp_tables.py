"""Temporary tables: results that later queries read several times, or that must be complete before one is planned."""

from collections.abc import Sequence

import duckdb

from octo_pipeline.model.sql import Relation, Sql


def create_temp_table(
    connection: duckdb.DuckDBPyConnection, name: str, query: Sql, values: Sequence[object] | None = None
) -> Relation:
    """Write the query's rows to a temporary table, replacing one with the same name.

    Args:
        connection: where the table is created.
        name: the table's name.
        query: a query, with parameters if there are `values`.
        values: the values of the parameters. Binding any makes DuckDB's client import pandas, which takes 0.3 s.
    """
    connection.execute(f"create or replace temp table {name} as {query}", values)
    return Relation(name)
