"""Temporary tables: results that later queries read several times, or that must be complete before one is planned."""

import duckdb

from octo_pipeline.model.sql import Relation, Sql


def create_temp_table(connection: duckdb.DuckDBPyConnection, name: str, query: Sql) -> Relation:
    """Write the query's rows to a temporary table, replacing one with the same name."""
    connection.execute(f"create or replace temp table {name} as {query}")
    return Relation(name)
