"""Which deliveries of a month are made apart from the others, and under which names their rows are kept.

Rows of two payers never fold into one row, so the line items of a month are a concatenation. A unit is what is made at once: the
delivery of a large payer, or those of several small ones, which would take longer apart than their rows do. Deliveries that bill
the same payer are one unit, too; that they do is seen when they are made.

A part's name is a fingerprint of what its rows are made from. How rows are made belongs in `cost_line_items`, where parts are
kept in `lake`.
"""

import json
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import duckdb

from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.sql import Sql, rows_sql
from octo_pipeline.vendors.landing import Delivery

# The fact in a part's metadata with what the files of its deliveries bill.
SOURCE_SUMS = "source_sums"
# Vendor, payer, invoice, issuer and currency, the cost as text and the number of lines.
SourceSum = Sequence[Any]
Unit = list[Delivery]

# The least that is worth a part of its own: its rows take as long as planning its queries.
PART_BYTES = 4 << 20
# What a task reads at most, in bytes, and how many of them a line of a Cost and Usage Report takes, roughly.
TASK_BYTES = 2 << 30
LINE_BYTES = 40


def size_of(deliveries: Sequence[Delivery]) -> int:
    """The bytes of their files."""
    return sum(file.size for delivery in deliveries for file in delivery.files)


def expected_lines(deliveries: Sequence[Delivery]) -> int:
    """How many lines deliveries have, roughly, by the size of their files."""
    return size_of(deliveries) // LINE_BYTES


def is_large(delivery: Delivery) -> bool:
    """Whether the rows of a delivery take several tasks, and can be made by them.

    Only AWS's rows can: they need nothing of other files but what is looked up, and each payer has one delivery.
    """
    return delivery.vendor == "aws" and size_of([delivery]) > TASK_BYTES


def source_sums_sql(sums: Sequence[SourceSum]) -> Sql:
    """The sums as a query, for the proofs of line items and for `invoice_costs`."""
    texts = ("vendor", "billing_account_id", "invoice_id", "invoice_issuer_name", "billing_currency")
    return rows_sql(dict.fromkeys(texts, "VARCHAR") | {"cost": MONEY, "line_count": "BIGINT"}, sums)


def bucket_count(delivery: Delivery) -> int:
    """How many buckets the rows of a large delivery have."""
    return -(-size_of([delivery]) // TASK_BYTES)


def bucket_names(name: str, count: int) -> list[str]:
    """The names of the files of a part that has so many buckets; DuckDB says which rows are in which of them."""
    bucketed = fingerprint({"part": name, "buckets": str(count), "duckdb": duckdb.__version__})
    return [f"{bucketed}-{number:05}" for number in range(count)]


def unit_inputs(unit: Unit, code: str) -> dict[str, str]:
    """What the rows of a unit are made from: name -> version."""
    inputs = {"code": code}
    for delivery in unit:
        # Accounts that another source tells as well follow from what that one says, and not from this delivery.
        left_out = delivery.details.get("left_out") or []
        inputs[_name(delivery)] = delivery.content + (json.dumps(left_out) if left_out else "")
    return inputs


def part_name(unit: Unit, code: str) -> str:
    """The name of a unit's part."""
    return fingerprint(unit_inputs(unit, code))


def billed_payers(source_sums: Sequence[SourceSum]) -> frozenset[tuple[str, str]]:
    """The vendors and payers of what files bill."""
    return frozenset((vendor, payer) for vendor, payer, *_ in source_sums)


def units_of(deliveries: Sequence[Delivery]) -> list[Unit]:
    """The deliveries by what is made at once: a small payer stays with the same others while sizes change a little."""
    alone = [size_of([delivery]) >= PART_BYTES or is_large(delivery) for delivery in deliveries]
    small = size_of([delivery for delivery, is_alone in zip(deliveries, alone, strict=True) if not is_alone])
    groups = 1 << (small // max(PART_BYTES, 1)).bit_length() >> 1 or 1
    return merged_units(
        [[delivery] for delivery in deliveries],
        [
            [_name(delivery)] if is_alone else [int(fingerprint({"account": _name(delivery)}), 16) % groups]
            for delivery, is_alone in zip(deliveries, alone, strict=True)
        ],
    )


def merged_units(units: Sequence[Unit], shared: Sequence[Collection[Hashable]]) -> list[Unit]:
    """The units, by vendor and account, of which those that share something are one.

    Args:
        units: in any order.
        shared: of each unit, what no other may have, such as the payers.
    """
    groups: list[tuple[frozenset[Hashable], Unit]] = []
    for unit, own in zip(units, shared, strict=True):
        group, members = frozenset(own), unit
        apart = []
        for others, other in groups:
            if others.isdisjoint(group):
                apart.append((others, other))
            else:
                group, members = group | others, other + members
        groups = [*apart, (group, members)]
    return sorted((sorted(unit, key=_name) for _, unit in groups), key=lambda unit: _name(unit[0]))


def _name(delivery: Delivery) -> str:
    return f"landing/{delivery.vendor}/{delivery.account}"
