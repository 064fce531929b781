"""What a closing keeps of the rules: with it the month is computed as long as it is closed (periods.md).

Allocators hold for the items of the origin months that the closing froze; cost groups, metrics, rates, the base currency,
cost centres and the registered accounts for the booking month that was closed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.rules.cost_centres import CostCentres, read_cost_centres, written_rows
from octo_pipeline.rules.cost_group import CostGroup, parse_cost_group
from octo_pipeline.rules.metrics import Metric, Quantity
from octo_pipeline.rules.rates import Rate


@dataclass(frozen=True)
class FrozenRules:
    """The rules of a closed month.

    Attributes:
        metrics: of each metric the rows of the newest month that had any.
        registered_accounts: (payer, account) of all of them.
    """

    allocators: tuple[Allocator, ...]
    cost_groups: Mapping[str, CostGroup]
    rates: tuple[Rate, ...]
    base_currency: str
    metrics: Mapping[str, Metric]
    registered_accounts: tuple[tuple[str, str], ...]
    cost_centres: CostCentres

    def to_json(self) -> dict[str, Any]:
        """The rules as JSON values; amounts as text."""
        return {
            "allocators": [allocator.document for allocator in self.allocators],
            "cost_groups": [group.document for group in self.cost_groups.values()],
            "rates": [[rate.month, rate.currency, str(rate.rate)] for rate in self.rates],
            "base_currency": self.base_currency,
            "metrics": {
                metric.id: [[q.month, q.target_type, q.target_id, str(q.quantity)] for q in metric.quantities]
                for metric in self.metrics.values()
            },
            "registered_accounts": [list(account) for account in self.registered_accounts],
            "cost_centres": written_rows(self.cost_centres),
        }


def read_frozen_rules(values: Mapping[str, Any]) -> FrozenRules:
    """The rules of `FrozenRules.to_json`.

    Raises:
        DocumentError: a document is not valid any more.
    """
    groups = [parse_cost_group(document, file="closed cost group") for document in values["cost_groups"]]
    return FrozenRules(
        allocators=tuple(Allocator.from_document(document) for document in values["allocators"]),
        cost_groups={group.id: group for group in groups},
        rates=tuple(Rate(month, currency, Decimal(rate)) for month, currency, rate in values["rates"]),
        base_currency=values["base_currency"],
        metrics={name: Metric(name, _quantities(rows)) for name, rows in values["metrics"].items()},
        registered_accounts=tuple((payer, account) for payer, account in values["registered_accounts"]),
        # Months that were closed before there were cost centres kept none.
        cost_centres=read_cost_centres(values.get("cost_centres", [])),
    )


def _quantities(rows: Sequence[Sequence[Any]]) -> tuple[Quantity, ...]:
    return tuple(Quantity(month, kind, target, Decimal(quantity)) for month, kind, target, quantity in rows)
