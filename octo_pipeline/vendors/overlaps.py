"""One account's month that two sources deliver: counted once where they agree, refused where they differ.

FOCUS files can repeat what a vendor's own export says, such as AWS's report, or what another place of FOCUS files says.
What an account is billed tells whether two sources are of the same charges.

1. The amounts of each account are compared by currency. Rows are rounded differently by different exports, so less than
   half a cent is no difference.
2. Where all of them agree, the vendor's own export counts, which has more columns; of two FOCUS sources, the first by
   name. The rows of that account in the other are left out.
3. Where they differ, nobody can see which of them is right. Both are named, and the user sets ``"use": false`` in one.

This module compares accounts across sources. Copies within one source belong in `shared_rows`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.documents import FOCUS
from octo_pipeline.vendors.landing import Delivery

_HALF_A_CENT = Decimal("0.005")

# Vendor and account -> currency -> amount.
_Bills = dict[tuple[str, str], dict[str, Decimal]]


def without_overlaps(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """The deliveries of a month, FOCUS files without the accounts that another source tells as well.

    Args:
        con: where the files can be read.
        deliveries: the newest of each account or source.

    Raises:
        OctoError: two sources have one account with different amounts, or a file cannot be read.
    """
    focus = [delivery for delivery in deliveries if delivery.vendor == FOCUS]
    if not focus:
        return list(deliveries)
    bills = {delivery: _bills(con, delivery) for delivery in focus}
    shown_vendors = {vendor for of_delivery in bills.values() for vendor, _ in of_delivery}
    known: dict[tuple[str, str], tuple[Delivery, dict[str, Decimal]]] = {}
    for delivery in deliveries:
        # Another vendor's files are read only where FOCUS files are shown as that vendor.
        if delivery.vendor != FOCUS and delivery.vendor in shown_vendors:
            known |= {account: (delivery, amounts) for account, amounts in _bills(con, delivery).items()}
    counted = [delivery for delivery in deliveries if delivery.vendor != FOCUS]
    for delivery in focus:
        left_out = []
        for account, amounts in bills[delivery].items():
            other = known.setdefault(account, (delivery, amounts))
            if other[0] is delivery:
                continue
            _refuse_difference(account, other, (delivery, amounts))
            left_out.append(list(account))
        counted.append(replace(delivery, details={**delivery.details, "left_out": left_out}))
    return counted


def _bills(con: duckdb.DuckDBPyConnection, delivery: Delivery) -> _Bills:
    files = VENDORS[delivery.vendor].files()
    costs = files.source_costs(files.relations(con, [delivery]))
    bills: _Bills = defaultdict(dict)
    for vendor, account, currency, amount in con.execute(render("vendors/bills", source_costs=costs)).fetchall():
        bills[vendor, account][currency] = amount
    return bills


def _refuse_difference(
    account: tuple[str, str], left: tuple[Delivery, dict[str, Decimal]], right: tuple[Delivery, dict[str, Decimal]]
) -> None:
    for currency in sorted(left[1].keys() | right[1].keys()):
        first, second = (amounts.get(currency, Decimal(0)) for _, amounts in (left, right))
        if abs(first - second) >= _HALF_A_CENT:
            raise OctoError(
                f"{_name(left[0])} and {_name(right[0])} both have the costs of {' '.join(account)} in {left[0].month} and "
                f'differ: {first:,.2f} and {second:,.2f} {currency}. Set "use": false in the document of the one that is '
                "not to count, or remove its delivery.",
                code="sources-differ",
                place=account[1],
            )


def _name(delivery: Delivery) -> str:
    return f"The {delivery.vendor} source {delivery.account} at {delivery.source}"
