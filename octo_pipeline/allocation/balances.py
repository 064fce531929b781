"""Balances and the steps that hand them on, after all fees and usage of a booking month (allocation.md §17).

Stages:
1. ``balances_before``: what each owner has of a currency in both measures, from its line items and the fee and
   account-usage rows booked in the month (``balances_booked``, which can be made by part and read from all of them).
2. For each step, in order: ``balances_takers``, the rule that takes each owner's balance; ``balances_items``, the
   balances that are taken; their splits, as those of any item; and ``balances_after``, what the owners have then.

All items of a step see the balances before it, because a step is booked as a whole.

The targets and shares of the rules have to be known before there is a balance. `candidates` says for which owners
there can be one: everybody with line items, with items that are due, or on whom something can be booked.

Drawback: every criterion is tried on every owner, of whom there are far fewer than items.
"""

from collections.abc import Sequence

import duckdb

from octo_pipeline.allocation import splits
from octo_pipeline.allocation.items import item_id_sql
from octo_pipeline.allocation.matching import MATCHED_ITEM_COLUMNS
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import BALANCE_COLUMNS, TAGS
from octo_pipeline.model.sql import Relation, Sql, identifier, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.conditions import Condition

# The columns of the items of every category.
TAKEN_ITEM_COLUMNS: dict[str, str] = MATCHED_ITEM_COLUMNS | BALANCE_COLUMNS

# What the columns of `splits.BALANCE_ITEM_COLUMNS` are called in items.
_ITEM_COLUMNS = {"own_account_id": "sub_account_id", "currency": "billing_currency"}

# Criteria columns of which an owner has a list: it meets a condition if any of its values does.
_LISTS = {"billing_account_id": "payers", "vendor": "vendors"}


def items_sql(matched_items: Relation, allocations: Relation | None = None) -> Sql:
    """SQL of the items of every category.

    Args:
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS`.
        allocations: relation with `splits.ALLOCATION_COLUMNS`, which hold the balances; None where there are none.

    Returns:
        SQL of `TAKEN_ITEM_COLUMNS`.
    """
    return render(
        "allocation/balances_and_items",
        matched_items=matched_items,
        allocations=allocations,
        no_tags=Sql(f"map {{}}::{TAGS}"),
    )


def in_steps(allocators: Sequence[Allocator]) -> dict[int, list[Allocator]]:
    """The rules of each step that has any, both in the order in which they take balances."""
    steps: dict[int, list[Allocator]] = {}
    for allocator in sorted(allocators, key=lambda a: a.precedence):
        if allocator.step is not None:
            steps.setdefault(allocator.step, []).append(allocator)
    return dict(sorted(steps.items()))


def candidates(
    connection: duckdb.DuckDBPyConnection,
    line_items: Relation,
    matched_items: Relation,
    resolved_accounts: Relation,
    month: str,
    allocators: Sequence[Allocator],
) -> Relation:
    """Who can have a balance that a rule matches, before anything is booked.

    Args:
        connection: where the relations can be read; temporary tables are made in it.
        line_items: relation with the columns of ``cost_line_items``, of the booking month.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS` of `origin_months(month)`.
        resolved_accounts: relation with `resolution.RESOLVED_ACCOUNT_COLUMNS`: the targets of all allocators.
        month: the booking month.
        allocators: the allocators with something due in the month, of every category.

    Returns:
        A relation of (allocator_version, own_account_id, own_group_id).
    """
    defaults = [(a.default_account, a.default_group) for a in allocators if a.default_account or a.default_group]
    owners = create_temp_table(
        connection,
        "balances_candidates",
        render(
            "allocation/balances_candidates",
            line_items=line_items,
            matched_items=matched_items,
            resolved_accounts=resolved_accounts,
            month=month,
            defaults=rows_sql({"own_account_id": "VARCHAR", "own_group_id": "VARCHAR"}, defaults),
        ),
    )
    _create_facts(connection, line_items)
    rules = [a for a in allocators if a.category == "balance"]
    query = render(
        "allocation/balances_candidate_owners", matches=_matches(owners, rules), allocators=_numbered_sql(rules)
    )
    return create_temp_table(connection, "balances_candidate_owners", query)


def booked_sql(booked: Relation, matched_items: Relation) -> Sql:
    """SQL of what the fee and account-usage rows booked in a month take from owners and give to them, summed.

    Args:
        booked: relation with `splits.BOOKED_COLUMNS`: all rows of these items that are booked in the month.
        matched_items: relation with `matching.MATCHED_ITEM_COLUMNS`: the items.

    Returns:
        SQL of (sub_account_id, own_group_id, billing_currency, cost, effective_cost).
    """
    return render("allocation/balances_booked", booked=booked, matched_items=matched_items)


def book_steps(
    connection: duckdb.DuckDBPyConnection,
    booked: Relation,
    line_items: Relation,
    usage_shares: Relation,
    restored_items: Relation,
    month: str,
    allocators: Sequence[Allocator],
) -> Relation:
    """Hand on the balances of a booking month, step by step.

    Args:
        connection: where the relations can be read; temporary tables are made in it, those of `splits` among them.
        booked: relation with the columns of `booked_sql`: what the rows of the other categories move in the month.
        line_items: relation with the columns of ``cost_line_items``, of the booking month.
        usage_shares: relation with `shares.USAGE_SHARE_COLUMNS` of the booking month.
        restored_items: relation with the ``item_id`` of the restored items.
        month: the booking month.
        allocators: the rules for balances that apply in the month.

    Returns:
        A relation with `splits.ALLOCATION_COLUMNS`: the rows of all steps.
    """
    balances = create_temp_table(
        connection,
        "balances",
        render("allocation/balances_before", line_items=line_items, booked=booked),
    )
    _create_facts(connection, line_items)
    rows = create_temp_table(connection, "balances_rows", rows_sql(splits.ALLOCATION_COLUMNS, []))
    for step, of_step in in_steps(allocators).items():
        takers = create_temp_table(connection, "balances_takers", _takers_sql(balances, of_step))
        items = create_temp_table(
            connection,
            "balances_items",
            render(
                "allocation/balances_items",
                balances=balances,
                takers=takers,
                item_id=item_id_sql("balance"),
                month=month,
                step=step,
            ),
        )
        booked_in_step = splits.allocations_sql(
            connection, items, usage_shares, restored_items, month, of_step, of_balances=True
        )
        step_rows = create_temp_table(
            connection,
            "balances_step_rows",
            render(
                "allocation/balances_step_rows",
                booked_rows=booked_in_step,
                items=items,
                step=step,
                row_columns={name: _ITEM_COLUMNS.get(name, name) for name in splits.BALANCE_ITEM_COLUMNS},
            ),
        )
        connection.execute(f"insert into {rows} by name from {step_rows}")
        balances = create_temp_table(
            connection,
            f"balances_after_{step}",
            render("allocation/balances_after", balances=balances, items=items, booked=step_rows),
        )
    return rows


def _create_facts(connection: duckdb.DuckDBPyConnection, line_items: Relation) -> None:
    create_temp_table(connection, "balances_facts", render("allocation/balances_facts", line_items=line_items))


def _takers_sql(owners: Relation, allocators: Sequence[Allocator]) -> Sql:
    """SQL of the rule that takes the balance of each owner and currency, and those in conflict with it.

    Args:
        owners: relation with sub_account_id, own_group_id and billing_currency.
        allocators: the rules of one step, in the order in which they take balances.
    """
    return render(
        "allocation/balances_takers",
        matches=_matches(owners, allocators),
        allocators=_numbered_sql(allocators),
        allocator_ids=[a.id for a in allocators],
    )


def _matches(owners: Relation, allocators: Sequence[Allocator]) -> Relation:
    criteria = [_criteria_sql(a) for a in allocators]
    return Relation(f"({render('allocation/balances_matches', owners=owners, criteria=criteria)})")


def _numbered_sql(allocators: Sequence[Allocator]) -> Sql:
    columns = {"number": "INTEGER", "allocator_id": "VARCHAR", "allocator_version": "VARCHAR", "document": "VARCHAR"}
    return rows_sql(columns, [(i, a.id, a.version, a.document) for i, a in enumerate(allocators)])


def _criteria_sql(allocator: Allocator) -> Sql:
    alternatives = (
        " and ".join(_condition_sql(column, condition) for column, condition in conditions.items())
        for conditions in allocator.criteria
    )
    return Sql(" or ".join(f"({alternative})" for alternative in alternatives))


def _condition_sql(column: str, condition: Condition) -> Sql:
    if values := _LISTS.get(column):
        return Sql(f"len(list_filter({values}, lambda value: {condition.sql(Sql('value'))})) > 0")
    return condition.sql(identifier(column))
