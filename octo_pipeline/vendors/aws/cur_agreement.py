"""Two reports of one payer and month: counted once if they agree, refused by name if they differ.

A legacy report and a Data Export of all accounts bill the same. An export whose query omits rows, or a view of
estimates, does not, and the order of their names must not decide which of them counts.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import combinations

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import amount
from octo_pipeline.vendors.aws.cur_relations import relation_sql
from octo_pipeline.vendors.landing import Delivery, Landed, remove

AccountCosts = Mapping[tuple[str | None, str | None], Decimal]

# Exports round differently.
_HALF_A_CENT = Decimal("0.005")


def digest_of(costs: AccountCosts) -> str:
    """A digest of what each account is billed; equal digests mean equal bills."""
    lines = sorted(f"{account} {currency} {cost:.10f}" for (account, currency), cost in costs.items() if cost)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def disagreements(root: Location, landed: Sequence[Landed]) -> list[OctoError]:
    """The errors of reports of one payer and month that differ; removes those that are new from the landing.

    Args:
        root: the lake.
        landed: the deliveries of all reports that are offered for a month.
    """
    by_payer: dict[tuple[str, str], dict[str, Landed]] = defaultdict(dict)
    for report in landed:
        by_payer[report.delivery.account, report.delivery.month][report.delivery.version] = report
    errors = []
    for reports in by_payer.values():
        for first, second in combinations(reports.values(), 2):
            if error := _difference(first.delivery, second.delivery):
                errors.append(error)
                for report in (first, second):
                    if report.is_new:
                        remove(root, report.delivery)
                break
    return errors


def _difference(first: Delivery, second: Delivery) -> OctoError | None:
    both = f"{_title(first)} and {_title(second)} are reports of payer {first.account} in {first.month}"
    domains = [delivery.details.get("domain") for delivery in (first, second)]
    if None not in domains and domains[0] != domains[1]:
        return OctoError(
            f"{both}, one of the domain {domains[0]} and one of {domains[1]}, which must not be mixed. Set report in the "
            "document of the source to the one that counts.",
            code="domains-mixed",
            place=second.source,
        )
    digests = [delivery.details.get("account_costs") for delivery in (first, second)]
    if None not in digests and digests[0] == digests[1]:
        return None
    costs = [_costs(delivery) for delivery in (first, second)]
    accounts = costs[0].keys() | costs[1].keys()
    if all(abs(costs[0].get(key, Decimal(0)) - costs[1].get(key, Decimal(0))) < _HALF_A_CENT for key in accounts):
        return None
    return OctoError(
        f"{both} and differ: {_sum(costs[0])} and {_sum(costs[1])}. Set report in the document of the source to the one "
        'that counts, or set "use": false in the document of the other.',
        code="reports-differ",
        place=second.source,
    )


def _title(delivery: Delivery) -> str:
    return f"{delivery.report} ({delivery.source})"


def _costs(delivery: Delivery) -> AccountCosts:
    with shared_connection({}) as con:
        query = render("vendors/aws/account_costs", aws_cur=relation_sql(con, [delivery]))
        return {(account, currency): cost for account, currency, cost in con.execute(query).fetchall()}


def _sum(costs: AccountCosts) -> str:
    by_currency: dict[str, Decimal] = defaultdict(Decimal)
    for (_, currency), cost in costs.items():
        by_currency[currency or "?"] += cost
    sums = ", ".join(amount(cost, currency) for currency, cost in sorted(by_currency.items()))
    accounts = len({account for account, _ in costs})
    return f"{sums or 'nothing'} on {accounts} account{'' if accounts == 1 else 's'}"
