"""The proof before publish: what must hold of a staged table, by sums that share no code with its making.

A proof that fails raises and nothing is published. What merely deserves attention is a check, not a proof.
"""

import duckdb

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal


class ProofError(OctoError):
    """An amount was not conserved. This is a defect of the program or of its input, never of the user."""


def _prove(connection: duckdb.DuckDBPyConnection, table: str, month: str, claim: str, violations: str) -> None:
    """Raise if the query of violations has a row."""
    found = connection.execute(f"SELECT count(*), min(detail) FROM ({violations})").fetchone()
    if found and found[0]:
        raise ProofError(f"{table} {month} fails its proof that {claim}: {found[0]} violations, the first: {found[1]}.")


def prove_cost_line_items(connection: duckdb.DuckDBPyConnection, source_costs: str, staged: str, month: str) -> None:
    """Prove that the billed costs of each payer and currency are the source's, row by row cast to DECIMAL(38,10).

    Args:
        connection: where both relations can be read.
        source_costs: relation of vendor, billing_account_id, billing_currency and cost, one row for each row of
            the landed files that counts, made by the vendors' sources from the files themselves.
        staged: relation with the columns of ``cost_line_items`` as written.
        month: the billing month.

    Raises:
        ProofError: with the payers and amounts.
    """
    table = "cost_line_items"
    payer = "vendor, billing_account_id, billing_currency"
    # Each side is summed before names are put together: there are a few payers, but a text for every row is slow.
    sums = (
        f"SELECT {payer}, sum(billed_cost) AS cost, sum(line_count) AS lines FROM {staged} GROUP BY ALL UNION ALL "
        f"SELECT {payer}, -sum(cost), -count(*) FROM {source_costs} GROUP BY {payer}"
    )
    _prove(
        connection,
        table,
        month,
        "the billed costs of each payer and currency add up to the source's",
        "SELECT concat_ws(' ', vendor, billing_account_id, billing_currency) || ' differs by ' || "
        "sum(cost)::VARCHAR || ' in ' || sum(lines)::VARCHAR || ' lines' AS detail "
        f"FROM ({sums}) GROUP BY {payer} HAVING sum(cost) <> 0 OR sum(lines) <> 0",
    )
    _prove(
        connection,
        table,
        month,
        "every row is billed in the month",
        f"SELECT billing_month AS detail FROM {staged} WHERE billing_month <> {literal(month)}",
    )


def prove_matched_items(connection: duckdb.DuckDBPyConnection, line_items: str, staged: str, month: str) -> None:
    """Prove that every line item is in exactly one place: a fee item, a taken or an untaken account-usage item.

    Args:
        connection: where both relations can be read.
        line_items: relation with the columns of ``cost_line_items``, of the month.
        staged: relation with `matching.MATCHED_ITEM_COLUMNS` as written.
        month: the origin month.

    Raises:
        ProofError: with the amounts.
    """
    # The rule for support products is written out again here on purpose: a proof must not share its premise.
    fee = (
        "(charge_category <> 'Usage' OR (vendor = 'aws' AND coalesce(regexp_matches(service_code, "
        "'^(AWSSupport.*|AWSDeveloperSupport|AWSEnterpriseOnRamp|OCBPremiumSupport)$', 's'), false)))"
    )
    key = "vendor || ' ' || billing_account_id || ' ' || billing_currency"
    table = "matched_items"
    _prove(
        connection,
        table,
        month,
        "each item is listed once",
        f"SELECT item_id AS detail FROM {staged} GROUP BY item_id HAVING count(*) > 1",
    )
    _prove(
        connection,
        table,
        month,
        "the fee items of each payer and currency add up to its fee lines",
        f"SELECT owner || ' differs by ' || sum(cost)::VARCHAR AS detail FROM ("
        f"SELECT {key} AS owner, billed_cost AS cost FROM {line_items} WHERE {fee} UNION ALL "
        f"SELECT {key}, -cost FROM {staged} WHERE category = 'fee') GROUP BY owner HAVING sum(cost) <> 0",
    )
    _prove(
        connection,
        table,
        month,
        "the savings items of each payer and currency add up to the savings of its lines",
        f"SELECT owner || ' differs by ' || sum(cost)::VARCHAR AS detail FROM ("
        f"SELECT {key} AS owner, CASE savings_kind WHEN 'used' THEN list_cost - effective_cost "
        f"ELSE -effective_cost END AS cost FROM {line_items} WHERE savings_kind IN ('used', 'unused') UNION ALL "
        f"SELECT {key}, -cost FROM {staged} WHERE category = 'savings') GROUP BY owner HAVING sum(cost) <> 0",
    )
    _prove(
        connection,
        table,
        month,
        "no account takes more usage lines than it has",
        f"SELECT owner || ': ' || sum(lines)::VARCHAR || ' lines, ' || sum(cost)::VARCHAR AS detail FROM ("
        f"SELECT {key} || ' ' || sub_account_id || ' ' || coalesce(service_code, '') AS owner, 1 AS lines, "
        f"billed_cost AS cost, false AS taken FROM {line_items} WHERE NOT {fee} UNION ALL "
        f"SELECT {key} || ' ' || sub_account_id || ' ' || coalesce(service_code, ''), -1, -cost, true "
        f"FROM {staged} WHERE category = 'account') GROUP BY owner "
        "HAVING sum(lines) < 0 OR (sum(lines) = 0 AND sum(cost) <> 0)",
    )


def prove_allocations(
    connection: duckdb.DuckDBPyConnection, matched_items: str, restored_items: str, staged: str, month: str
) -> None:
    """Prove per item that the rows booked in the month add up to its tranche, and that no item is lost.

    Args:
        connection: where the relations can be read.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of the months with dues.
        restored_items: relation with ``item_id`` of the restored items.
        staged: relation with `splits.ALLOCATION_COLUMNS` as written.
        month: the booking month.

    Raises:
        ProofError: with the item.
    """
    # Instalments by another route than the making: whole units of 10⁻¹⁰ by a running total of rounded shares.
    k = f"datediff('month', (first_booking_month || '-01')::DATE, ({literal(month)} || '-01')::DATE)"
    c = "(cost * 10000000000::DECIMAL(11,0))::HUGEINT"
    due = (
        f"SELECT item_id, {c} AS c, {k} AS k, tranche_count AS n FROM {matched_items} "
        f"WHERE allocator_version IS NOT NULL AND item_id NOT IN (SELECT item_id FROM {restored_items}) "
        f"AND {k} BETWEEN 0 AND tranche_count - 1"
    )
    tranche = "CASE WHEN n = 1 THEN c ELSE sign(c) * (abs(c) * (k + 1) // n - abs(c) * k // n) END"
    failed = f"SELECT item_id FROM {staged} WHERE kind = 'item' AND reason = 'formula_failed'"
    # Summed as DECIMAL, which is as exact, and made units once an item: for every row that took as long as making it.
    booked = (
        f"SELECT item_id, (sum(cost)::{MONEY} * 10000000000::DECIMAL(11,0))::HUGEINT AS c "
        f"FROM {staged} WHERE kind <> 'item' GROUP BY item_id"
    )
    table = "allocations"
    _prove(
        connection,
        table,
        month,
        "the splits and remainders of each item add up to its tranche",
        f"SELECT coalesce(due.item_id, booked.item_id) || ': due ' || coalesce(due.d, 0)::VARCHAR || ', booked ' "
        f"|| coalesce(booked.c, 0)::VARCHAR || ' × 10⁻¹⁰' AS detail FROM "
        f"(SELECT item_id, {tranche} AS d FROM ({due}) WHERE item_id NOT IN ({failed})) AS due "
        f"FULL JOIN ({booked}) AS booked USING (item_id) "
        "WHERE coalesce(due.d, 0) <> coalesce(booked.c, 0) OR due.item_id IS NULL",
    )
    _prove(
        connection,
        table,
        month,
        "the instalments of each item add up to its cost",
        # An item with one instalment has its cost as that: there is nothing to add up.
        f"SELECT item_id AS detail FROM (SELECT item_id, c, n, unnest(range(n)) AS k FROM ({due}) WHERE n > 1) "
        f"GROUP BY item_id, c HAVING sum({tranche}) <> c",
    )
    _prove(
        connection,
        table,
        month,
        "each item of the month is listed once, with its cost",
        f"SELECT coalesce(m.item_id, a.item_id) AS detail FROM "
        f"(SELECT item_id, cost FROM {matched_items} WHERE origin_month = {literal(month)}) AS m FULL JOIN "
        f"(SELECT item_id, sum(cost)::{MONEY} AS cost, count(*) AS n FROM {staged} WHERE kind = 'item' "
        "GROUP BY item_id) AS a USING (item_id) "
        "WHERE m.cost IS DISTINCT FROM a.cost OR coalesce(a.n, 0) <> 1",
    )
    _prove(
        connection,
        table,
        month,
        "an item that is not distributed has no splits",
        # This way round the set that is kept is of items, not of their splits.
        f"SELECT item_id AS detail FROM {staged} WHERE kind <> 'item' AND item_id IN "
        f"(SELECT item_id FROM {staged} WHERE kind = 'item' AND status = 'unchecked_allocated')",
    )
