"""What does not add up of the causes of changed costs, whatever the costs are."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from random import Random

import duckdb

from octo_pipeline.services.causes import Change, changes_of, changes_of_owners, subject_of
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.workspace import Workspace

Costs = dict[tuple[str, str], tuple[Decimal, Decimal]]


def wrong_causes(workspace: Workspace, months: Sequence[str], dice: Random) -> list[str]:
    """The violations between two months that follow on each other, of all owners and of one cost group.

    The causes of each owner add up to what account_costs says of both months, in both measures, and those of a group to what
    cost_group_costs says; what is not named is at most 1 % of all changes.
    """
    pairs = list(pairwise(months))
    if not pairs:
        return []
    before, after = dice.choice(pairs)
    owners = {f"{kind} {name}": [(kind, name)] for kind, name in _owners(workspace, (before, after))}
    lines = _violations(
        changes_of_owners(workspace, owners, before, after),
        *(
            _costs(
                workspace,
                f"SELECT owner_type || ' ' || owner_id, currency, final_cost, amortised_final_cost FROM {costs}",
            )
            for costs in (_scan(workspace, AccountCosts, month) for month in (before, after))
        ),
    )
    groups = sorted(
        {
            row[0]
            for month in (before, after)
            for row in _fetched(
                workspace, f"SELECT DISTINCT cost_group_id FROM {_scan(workspace, CostGroupCosts, month)}"
            )
        }
    )
    if groups:
        group = dice.choice(groups)
        query = (
            "SELECT cost_group_id, currency, sum(cost), sum(effective_cost) FROM {} "
            "WHERE cost_group_id = '{}' AND section NOT LIKE 'savings%' GROUP BY ALL"
        )
        subject = subject_of(workspace, f"group/{group}", (before, after))
        lines += _violations(
            changes_of(workspace, subject, before, after),
            *(
                _costs(workspace, query.format(_scan(workspace, CostGroupCosts, month), group.replace("'", "''")))
                for month in (before, after)
            ),
        )
    return lines


def _violations(changes: Sequence[Change], before: Costs, after: Costs) -> list[str]:
    none = (Decimal(0), Decimal(0))
    lines = []
    keys = {(change.subject, change.currency) for change in changes}
    lines += [f"no causes of {key}" for key in before.keys() | after.keys() if key not in keys]
    for change in changes:
        key = (change.subject, change.currency)
        for measure, name in enumerate(("difference", "effective_difference")):
            total = after.get(key, none)[measure] - before.get(key, none)[measure]
            causes = [getattr(cause, name) for cause in change.causes]
            if sum(causes, Decimal(0)) != total:
                lines.append(f"{key} {name}: the causes are {sum(causes)}, the change is {total}")
            unnamed = [abs(getattr(cause, name)) for cause in change.causes[len(change.named()) :]]
            if sum(unnamed) > sum(map(abs, causes)) / 100:
                lines.append(f"{key} {name}: {sum(unnamed)} of {sum(map(abs, causes))} are not named")
    return lines


def _owners(workspace: Workspace, months: Sequence[str]) -> set[tuple[str, str]]:
    return {
        row
        for month in months
        for row in _fetched(
            workspace, f"SELECT DISTINCT owner_type, owner_id FROM {_scan(workspace, AccountCosts, month)}"
        )
    }


def _scan(workspace: Workspace, table: type[AccountCosts] | type[CostGroupCosts], month: str) -> str:
    return workspace.lake.scan(table.name, [month], table.columns)


def _costs(workspace: Workspace, query: str) -> Costs:
    return {(name, currency): (cost, effective) for name, currency, cost, effective in _fetched(workspace, query)}


def _fetched(workspace: Workspace, query: str) -> list[tuple]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()
