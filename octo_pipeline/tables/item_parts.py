"""The parts in which the allocations of a big month are made, so that no process needs memory for all of them.

A part is the items of some ranges of rows of ``matched_items``. Items of different origin months never look at each other, and
of one month only a saving looks at others: at the fees and usage with lines of the same commitment, which have its payer,
account, service and currency. So a part needs nothing of another one, and what is proved of each item is proved in its part.

A month that is usual has one part, and is made by one statement.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import duckdb

from octo_pipeline.lake.lake import Lake, PartitionMetadata, part_ranges
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.tables.dues import origins_read
from octo_pipeline.tables.kept_parts import part_identity
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.usage_shares import UsageShares

# A process takes about a kilobyte for each item and a hundred bytes for each split that it makes.
SPLITS_PER_PART = 8_000_000

# The fact of allocations that were made in parts: [rows, ranges] of each, in the order in which they are in the file.
PARTS_OF_ITEMS = "parts_of_items"


class ItemRange(NamedTuple):
    """Rows of a partition of ``matched_items``.

    Attributes:
        origin_month: the partition.
        first: the number of the first row.
        end: the number of the first row after them.
        number: which of several parts of these rows, from 0.
        parts: how many parts they have.
    """

    origin_month: str
    first: int
    end: int
    number: int = 0
    parts: int = 1


Part = tuple[ItemRange, ...]


def parts_of_month(connection: duckdb.DuckDBPyConnection, lake: Lake, month: str) -> list[Part]:
    """The parts in which the allocations of a booking month are made.

    Args:
        connection: one of the lake.
        lake: the lake.
        month: the booking month.

    Returns:
        Parts in which each item of the month and of the earlier months with something due is once.
    """
    origins = lake.metadata_of(MatchedItems.name, origins_read(lake, month))
    ranges = [item_range for origin, metadata in origins.items() for item_range in _ranges(origin, metadata)]
    whole = tuple(ItemRange(origin, 0, metadata.rows) for origin, metadata in origins.items())
    usual = SPLITS_PER_PART if len(ranges) == len(whole) else 2 * _enough()
    # No allocator has more targets than there are shares.
    most_splits = sum(metadata.rows for metadata in origins.values()) * (lake.rows(UsageShares.name, month) + 1)
    if most_splits <= usual:
        return [whole]
    splits = _expected_splits(connection, lake, month, ranges)
    return [whole] if sum(splits) <= usual else _grouped(ranges, splits)


def _ranges(origin: str, metadata: PartitionMetadata) -> list[ItemRange]:
    """The rows of a month: those of each part that its matched items were made in."""
    parts = part_ranges(metadata) or [("", 0, metadata.rows)]
    return [ItemRange(origin, first, end) for _, first, end in parts]


def _enough() -> int:
    """How many splits are a part of their own: fewer are put together with their neighbours."""
    return max(SPLITS_PER_PART // 16, 1)


def _grouped(ranges: Sequence[ItemRange], splits: Sequence[int]) -> list[Part]:
    # A range that is enough is never put together with others. So one that grows moves no borders but those of small ones.
    parts: list[Part] = []
    gathered: list[ItemRange] = []
    gathered_splits = 0
    for item_range, expected in zip(ranges, splits, strict=True):
        is_small = expected < _enough()
        if gathered and not (is_small and gathered_splits < _enough()):
            parts.append(tuple(gathered))
            gathered, gathered_splits = [], 0
        if is_small:
            gathered.append(item_range)
            gathered_splits += expected
            continue
        count = -(-expected // SPLITS_PER_PART)
        parts += [(item_range._replace(number=number, parts=count),) for number in range(count)]
    return [*parts, tuple(gathered)] if gathered else parts


def _expected_splits(
    connection: duckdb.DuckDBPyConnection, lake: Lake, month: str, ranges: Sequence[ItemRange]
) -> list[int]:
    """How many rows each range has in the month, roughly."""
    shares = lake.scan(UsageShares.name, [month], UsageShares.columns)
    query = render(
        "tables/expected_splits",
        ranges=[{"rows": _rows(lake, item_range)} for item_range in ranges],
        usage_shares=shares,
        month=month,
    )
    expected = dict(connection.execute(query).fetchall())
    return [expected.get(number, 0) for number in range(len(ranges))]


def inputs_of_parts(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    month: str,
    parts: Sequence[Part],
    restored_items: Relation,
) -> list[dict[str, str]]:
    """What the rows of each part depend on that differs between parts: name -> fingerprint.

    Args:
        connection: one of the lake, where `restored_items` can be read.
        lake: the lake.
        month: the booking month.
        parts: of `parts_of_month`.
        restored_items: relation with the ``item_id`` of the restored items.
    """
    ranges = list(dict.fromkeys(item_range._replace(number=0) for part in parts for item_range in part))
    numbers = {item_range: number for number, item_range in enumerate(ranges)}
    pieces = {
        "ranges": [{"rows": _rows(lake, item_range), "count": item_range.parts} for item_range in ranges],
        "month": month,
    }
    versions: dict[int, list[str]] = defaultdict(list)
    for number, version in connection.execute(render("tables/due_versions", **pieces)).fetchall():
        versions[number].append(version)
    shares = lake.scan(UsageShares.name, [month], UsageShares.columns)
    columns = [f"coalesce({name}::varchar, '~')" for name in UsageShares.columns]
    digests = dict(
        connection.execute(render("tables/digests_of_shares", usage_shares=shares, columns=columns)).fetchall()
    )
    restored = {}
    if connection.execute(f"FROM {restored_items} LIMIT 1").fetchone():
        query = render("tables/restored_in_parts", restored_items=restored_items, **pieces)
        restored = {(n, k): digest for n, k, digest in connection.execute(query).fetchall()}
    inputs = []
    for part in parts:
        own: dict[str, str] = {}
        for position, item_range in enumerate(part):
            number = numbers[item_range._replace(number=0)]
            own[f"items/{position}"] = _identity(lake, item_range)
            own[f"restored/{position}"] = restored.get((number, item_range.number), "")
            own |= {f"shares/{version}": digests.get(version, "") for version in versions[number]}
        inputs.append(own)
    return inputs


def _identity(lake: Lake, item_range: ItemRange) -> str:
    """What differs if a range has other items, wherever it is in the partition."""
    metadata = lake.metadata(MatchedItems.name, item_range.origin_month)
    if metadata is None:
        return ""
    part = f"{item_range.number} of {item_range.parts}"
    for name, first, end in part_ranges(metadata):
        if (first, end) == (item_range.first, item_range.end):
            return f"{item_range.origin_month} {part_identity(name, metadata)} {part}"
    return f"{item_range.origin_month} {metadata.fingerprint} {part}"


def items_of(lake: Lake, part: Part) -> Relation:
    """A relation with `octo_pipeline.allocation.matching.MATCHED_ITEM_COLUMNS`: the items of a part."""
    queries = [
        f"FROM {_rows(lake, item_range)}"
        if item_range.parts == 1
        else render(
            "tables/rows_of_part",
            columns=list(MatchedItems.columns),
            items=_rows(lake, item_range),
            part_number=item_range.number,
            part_count=item_range.parts,
        )
        for item_range in part
    ]
    if not queries:
        return Relation(f"({rows_sql(MatchedItems.columns, [])})")
    return Relation(f"({' UNION ALL '.join(f'({query})' for query in queries)})")


def _rows(lake: Lake, item_range: ItemRange) -> Relation:
    # The rows of a whole partition are not numbered while they are read.
    metadata = lake.metadata(MatchedItems.name, item_range.origin_month)
    is_whole = metadata is not None and (item_range.first, item_range.end) == (0, metadata.rows)
    return lake.scan(
        MatchedItems.name,
        [item_range.origin_month],
        MatchedItems.columns,
        rows=None if is_whole else (item_range.first, item_range.end),
    )


class BookedPart(NamedTuple):
    """The rows of ``allocations`` that were made of a part.

    Attributes:
        name: what differs if other rows are made of it.
        first: the number of the first row.
        end: the number of the first row after them.
        items: the part; of no item if the rows are those of balances.
    """

    name: str
    first: int
    end: int
    items: Part


def parts_fact(parts: Sequence[tuple[int, Part]]) -> list[Any]:
    """What `booked_parts` reads: how many rows were made of each part, in the order of the file."""
    return [[rows, [list(item_range) for item_range in part]] for rows, part in parts]


def booked_parts(metadata: PartitionMetadata | None) -> list[BookedPart]:
    """The parts that a partition of ``allocations`` was made of; none if it was made as a whole."""
    if metadata is None or PARTS_OF_ITEMS not in metadata.facts:
        return []
    parts = []
    for (name, first, end), (_, ranges) in zip(part_ranges(metadata), metadata.facts[PARTS_OF_ITEMS], strict=True):
        items = tuple(ItemRange(*values) for values in ranges)
        # The rows of balances are made with each partition, and have no name of their own.
        parts.append(BookedPart(name if items else metadata.fingerprint, first, end, items))
    return parts


def digests_of_items(connection: duckdb.DuckDBPyConnection, items: Relation) -> list[tuple[str, int, str]]:
    """Origin month, number and sum of the digests of the ids of some items, as text."""
    return connection.execute(digests_of_items_sql(items)).fetchall()


def digests_of_items_sql(items: Relation) -> Sql:
    """SQL of the same."""
    return render("tables/digests_of_items", items=items)


def summed_digests(parts: Iterable[Sequence[Sequence[Any]]]) -> Sql:
    """SQL of the digests of the items of all parts together."""
    counts: dict[str, int] = defaultdict(int)
    digests: dict[str, int] = defaultdict(int)
    for part in parts:
        for origin, items, digest in part:
            counts[origin] += items
            digests[origin] += int(digest)
    columns = {"origin_month": "VARCHAR", "items": "BIGINT", "digest": "VARCHAR"}
    return rows_sql(columns, [(origin, counts[origin], str(digests[origin])) for origin in sorted(counts)])
