"""Accounts and payers that allocators name and nobody knows: a mistyped id takes money without a word (allocation.md §5)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.sql import rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.workspace import Workspace

# An id of twelve digits with one wrong, missing or swapped has 0.91 or more; two random ones have less than 0.8.
_LEAST_SIMILARITY = 0.9


@dataclass(frozen=True)
class UnknownTarget:
    """An account or payer that was never billed and is not registered.

    Attributes:
        field: ``account``, ``payer`` or ``defaultAccount``.
        similar: the known id that is spelled most like it, or an empty text.
    """

    allocator_id: str
    field: str
    id: str
    similar: str

    def __str__(self) -> str:
        """It as a part of a sentence."""
        return f"{self.field} {self.id}{f' (is it {self.similar}?)' if self.similar else ''}"


def unknown_targets(workspace: Workspace, allocators: Iterable[Allocator]) -> list[UnknownTarget]:
    """The accounts and payers that allocators name and that no month of the lake and no registration knows.

    A lake without months knows nobody, so nothing is unknown in it.
    """
    named = list(dict.fromkeys(target for allocator in allocators for target in _targets(allocator)))
    lake = workspace.lake
    months = lake.months(LINE_ITEMS)
    if not named or not months:
        return []
    # The line items of a month are read only where its marts are not made yet.
    marts = set(lake.months(AccountCosts.name)) & set(lake.months(InvoiceCosts.name))
    registered = [
        (id,) for account in workspace.registry.accounts.all() for id in (account.account_id, account.payer_id)
    ]
    columns = {"position": "INTEGER", "allocator_id": "VARCHAR", "field": "VARCHAR", "id": "VARCHAR"}
    query = render(
        "services/unknown_targets",
        named_targets=rows_sql(columns, [(position, *target) for position, target in enumerate(named)]),
        registered_ids=rows_sql({"id": "VARCHAR"}, registered),
        least_similarity=_LEAST_SIMILARITY,
        line_items=lake.scan(LINE_ITEMS, [month for month in months if month not in marts], LINE_ITEM_COLUMNS),
        account_costs=lake.scan(AccountCosts.name, sorted(marts), AccountCosts.columns),
        invoice_costs=lake.scan(InvoiceCosts.name, sorted(marts), InvoiceCosts.columns),
    )
    with lake.connect() as connection:
        return [UnknownTarget(*row) for row in connection.execute(query).fetchall()]


def _targets(allocator: Allocator) -> Iterator[tuple[str, str, str]]:
    for entry in allocator.entries:
        if entry.type in ("account", "payer"):
            yield allocator.id, entry.type, entry.value
    if allocator.default_account:
        yield allocator.id, "defaultAccount", allocator.default_account
