"""Starts bqemulator with what Google's BigQuery does and the emulator does not; run by the emulator's own Python.

Three differences are evened out, so that the SQL and the calls of the product are tested as they are:

- rows have no ingestion partition there: the day of `export_time` stands for it, as Google's export has it;
- NUMERIC has three decimal places in casts there, and nine in BigQuery;
- the Storage API does not know the results of queries there.
"""

import re
import uuid
from importlib.resources import files

import duckdb
from bqemulator.cli import main
from bqemulator.jobs.executor import JOB_RESULTS
from bqemulator.sql import translator
from bqemulator.storage.engine import DuckDBEngine

_RESULT = re.compile(r"_bqemu_anonymous\W+anon([0-9a-f]{32})")
_fetch_arrow = DuckDBEngine.fetch_arrow


def _as_in_bigquery(sql: str) -> str:
    partitioned = re.sub(r"\b_PARTITIONTIME\b", "TIMESTAMP_TRUNC(export_time, DAY)", sql)
    return re.sub(r"\bAS NUMERIC\)", "AS NUMERIC(38, 9))", partitioned)


def _fetch_result_or_table(self, sql, parameters=None):
    result = _RESULT.search(sql)
    return JOB_RESULTS[str(uuid.UUID(result[1]))] if result else _fetch_arrow(self, sql, parameters)


if __name__ == "__main__":
    extension = next(files("duckdb_extension_spatial").joinpath("extensions").rglob("*.duckdb_extension"))
    with duckdb.connect() as connection:
        connection.execute(f"INSTALL '{extension}'")
    translator.rewrite_partition_pseudo_columns = _as_in_bigquery
    DuckDBEngine.fetch_arrow = _fetch_result_or_table
    main()
