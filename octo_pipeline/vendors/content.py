"""What the rows of a delivery are, told by a digest, so that a refresh with the same rows makes no table again.

A vendor writes a report again and again: under another id, split into other files, in another order, with other line ids.
Versions tell such refreshes apart. The digest does not, as it is one of the rows that dbt reads. It is made while the rows
are at hand, when they are landed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from octo_pipeline.model.templates import render
from octo_pipeline.vendors.landing import CONTENT, Delivery

_Relations = Callable[[duckdb.DuckDBPyConnection, Sequence[Delivery]], Mapping[str, str]]


def with_content(delivery: Delivery, folder: Path, relations: _Relations) -> Delivery:
    """A delivery with the digest of its rows, which takes another read of them.

    Args:
        delivery: with all that decides which rows count.
        folder: where its files are staged.
        relations: the vendor's relations that dbt reads.
    """
    digest = hashlib.sha256(delivery.month.encode())
    with duckdb.connect() as con:
        for name, rows in sorted(relations(con, [replace(delivery, path=folder)]).items()):
            counted = con.execute(render("vendors/content", rows=f"({rows})")).fetchall()[0]
            columns = [column for column, *_ in con.execute(f"DESCRIBE {rows}").fetchall()]
            digest.update(json.dumps([name, columns, *map(str, counted)]).encode())
    return replace(delivery, details={**delivery.details, CONTENT: digest.hexdigest()[:32]})
