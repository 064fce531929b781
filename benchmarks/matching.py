"""Which allocator takes which line, against reading the columns and evaluating each pattern on each value."""

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.measure import Row, compared
from octo_pipeline.allocation.matching import LINE_NUMBER, matched_items_sql
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.rules.allocator import Allocator, parse_allocator

MONTH = "2024-01"


def matching(folder: Path, lines: int, runs: int) -> Row:
    """200 allocators with three criteria each over account-usage lines, none of which folds with another."""
    allocators = rules(200)
    source = folder / "lines.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({synthetic_line_items(lines)}) TO '{source}' (FORMAT parquet)")
    columns = sorted({c for a in allocators for criteria in a.criteria for c in criteria})
    patterns = {(column, condition) for a in allocators for m in a.criteria for column, condition in m.items()}

    def theirs() -> None:
        with duckdb.connect() as connection:
            touched = ", ".join(f"count(DISTINCT hash({c}) % 1000)" for c in columns)
            connection.execute(f"SELECT {touched} FROM '{source}'").fetchall()
            for column in columns:
                connection.execute(f"CREATE TABLE v_{column} AS SELECT DISTINCT {column} AS v FROM '{source}'")
                for condition in {c for name, c in patterns if name == column}:
                    connection.execute(f"SELECT count(*) FROM v_{column} WHERE {condition.sql('v')}").fetchall()

    def ours() -> None:
        match(source, allocators)

    ours()
    row = compared(f"matching, 200 allocators, {lines:,} lines", ours, theirs, runs, "≤ 2")
    source.unlink()
    return row


def match(source: Path, allocators: Sequence[Allocator]) -> None:
    with duckdb.connect(config={"preserve_insertion_order": "false"}) as connection:
        lines = f"(SELECT *, file_row_number AS {LINE_NUMBER} FROM read_parquet('{source}'))"
        query = matched_items_sql(connection, lines, MONTH, allocators)
        connection.execute(f"CREATE TABLE matched AS {query}")


def rules(count: int) -> list[Allocator]:
    return [parse_allocator(json.dumps(rule(i)), file=f"a{i}.json") for i in range(count)]


def rule(i: int) -> dict[str, object]:
    """An allocator whose criteria use equality and patterns, on values that some lines have."""
    return {
        "category": "account",
        "startMonth": MONTH,
        "criteria": [
            {"and": {"account": f"{100000000000 + i}", "productCode": f"re:^Service{i % 30:02d}$"}},
            {"and": {"usageType": f"re:Type{i:04d}", "region": "!re:^eu-"}},
            {"and": {"description": f"re:(?i)item {i} of .* month", "operation": "re:^Run"}},
        ],
        "allocator": [{"type": "account", "value": "100000000000", "formula": "cost"}],
    }


def synthetic_line_items(lines: int) -> str:
    """Account-usage lines with 400 accounts, 30 services and thousands of usage types and descriptions."""
    made = {
        "billing_month": f"'{MONTH}'",
        "vendor": "'aws'",
        "billing_account_id": "'999988887777'",
        "sub_account_id": "(100000000000 + hash(i) % 400)::VARCHAR",
        "usage_date": "DATE '2024-01-01' + (i % 31)::INTEGER",
        "line_type": "'Usage'",
        "charge_category": "'Usage'",
        "service_code": "'Service' || lpad((hash(i + 1) % 30)::VARCHAR, 2, '0')",
        "charge_description": "'item ' || (hash(i + 2) % 11000)::VARCHAR || ' of the month'",
        "operation": "['RunInstances', 'PutObject', 'GetObject', 'Invoke'][(hash(i + 3) % 4 + 1)::INTEGER]",
        "usage_type": "'Type' || lpad((hash(i + 4) % 10000)::VARCHAR, 4, '0')",
        "region_id": "['us-east-1', 'eu-west-1', 'ap-northeast-1'][(hash(i + 5) % 3 + 1)::INTEGER]",
        "billing_currency": "'USD'",
    }
    values = []
    for name, kind in LINE_ITEM_COLUMNS.items():
        if kind.startswith("MAP"):
            values.append(f"MAP {{}}::{kind} AS {name}")
        elif kind.startswith("DECIMAL"):
            values.append(f"(i % 1000 / 7)::{kind} AS {name}")
        else:
            values.append(f"({made.get(name, 'NULL')})::{kind} AS {name}")
    return f"SELECT {', '.join(values)} FROM range({lines}) AS lines(i)"
