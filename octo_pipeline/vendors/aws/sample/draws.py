"""How the sample draws its values: DuckDB macros over hashes, and the lists that they pick from."""

from collections.abc import Sequence

import duckdb

from octo_pipeline.model.sql import literal


def create_macros(con: duckdb.DuckDBPyConnection, seed: int) -> None:
    """Define the macros of the sample's queries.

    ``draw(key, purpose)`` is a whole number, ``pick(list, key, purpose)`` a member of a list, ``unit(key, purpose)`` a
    number from 0 to 1; ``money(parts)`` is an amount in USD, and ``rate_text(micros)`` a rate as AWS writes it.
    """
    # hash() joins its arguments by XOR, so without a second round the draws of one key would be correlated.
    con.execute(f"CREATE TEMP MACRO draw(key, purpose) AS (hash(hash(key, purpose, '{seed}')) >> 1)::BIGINT")
    con.execute("CREATE TEMP MACRO pick(list, key, purpose) AS list[1 + draw(key, purpose) % len(list)]")
    con.execute("CREATE TEMP MACRO unit(key, purpose) AS (draw(key, purpose) % 1000000) / 1e6")
    con.execute("CREATE TEMP MACRO money(parts) AS parts / 1e10")
    con.execute("CREATE TEMP MACRO rate_text(micros) AS printf('%d.%06d0000', micros // 1000000, micros % 1000000)")


def value_list(values: Sequence[str] | Sequence[int]) -> str:
    """SQL of a list of values."""
    return "[" + ", ".join(literal(value) if isinstance(value, str) else str(value) for value in values) + "]"


def weighted_list(weights: Sequence[int]) -> str:
    """SQL of a list that contains each index as often as its weight, to pick from."""
    return value_list([index for index, weight in enumerate(weights) for _ in range(weight)])
