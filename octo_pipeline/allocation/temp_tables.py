"""Temporary tables: results that later queries read several times, or that must be complete before one is planned."""

from collections.abc import Sequence

import duckdb

from octo_pipeline.model.sql import Relation, Sql


def create_temp_table(
    connection: duckdb.DuckDBPyConnection, name: str, query: Sql, values: Sequence[object] | None = None
) -> Relation:
    """Write the query's rows to a temporary table, replacing one with the same name.

    Args:
        connection: where the table is.
        name: the table's name.
        query: what it holds.
        values: of the query's parameters.
    """
    connection.execute(f"create or replace temp table {name} as {query}", values)
    return Relation(name)
