"""Whether the rows of a delivery are those of the one before, so that a refresh with the same rows makes no table again.

A vendor writes a report again and again: under another id, split into other files, in another order, with other line ids.
Versions tell such refreshes apart. A digest of the rows that dbt reads does not. It takes longer than all the rest of a
landing, so it is made only if there is a delivery to compare with that may have the same rows.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.lake.store import Location, store_of
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.landing import CONTENT, Delivery, damage, newest_deliveries

# The detail with the digest of a delivery's rows, if it was made.
DIGEST = "digest"
# Details that a landing notes in any case, and that differ only if rows do.
_SUMS = ("account_costs",)

_Relations = Callable[[duckdb.DuckDBPyConnection, Sequence[Delivery]], Mapping[str, str]]


def with_content(root: Location, delivery: Delivery, folder: Path, relations: _Relations) -> Delivery:
    """A delivery with the content of the newest one of its account and month, if it has the same rows.

    If the rows of that one cannot be read any more, they count as different.

    Args:
        root: the lake.
        delivery: with all that decides which rows count.
        folder: where its files are staged.
        relations: the vendor's relations that dbt reads.
    """
    landed = newest_deliveries(root, delivery.month, delivery.vendor)
    last = next((other for other in landed if other.account == delivery.account), None)
    if last is None or any(last.details.get(name) != delivery.details.get(name) for name in _SUMS):
        return delivery
    with shared_connection({}) as con:
        details = {**delivery.details, DIGEST: _digest(con, replace(delivery, path=folder), relations)}
        for statement in store_of(root).duckdb_setup():
            con.execute(statement)
        if _digest_of_landed(con, last, relations) == details[DIGEST]:
            details[CONTENT] = last.content
    return replace(delivery, details=details)


def _digest_of_landed(con: duckdb.DuckDBPyConnection, delivery: Delivery, relations: _Relations) -> str | None:
    if DIGEST in delivery.details:
        return str(delivery.details[DIGEST])
    try:
        return None if damage(delivery) else _digest(con, delivery, relations)
    except (OctoError, duckdb.Error):
        return None


def _digest(con: duckdb.DuckDBPyConnection, delivery: Delivery, relations: _Relations) -> str:
    digest = hashlib.sha256(delivery.month.encode())
    for name, rows in sorted(relations(con, [delivery]).items()):
        counted = con.execute(render("vendors/content", rows=f"({rows})")).fetchall()[0]
        columns = [column for column, *_ in con.execute(f"DESCRIBE {rows}").fetchall()]
        digest.update(json.dumps([name, columns, *map(str, counted)]).encode())
    return digest.hexdigest()[:32]
