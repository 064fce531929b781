"""Accounts and payers that allocators name and nobody knows: a mistyped id takes money without a word (allocation.md §5)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.templates import render
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.workspace import Workspace


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
    named = dict.fromkeys(target for allocator in allocators for target in _targets(allocator))
    months = workspace.lake.months(LINE_ITEMS)
    if not named or not months:
        return []
    known = _billed(workspace, months)
    known |= {
        id for account in workspace.registry.accounts.all() for id in (account.account_id, account.payer_id) if id
    }
    return [
        UnknownTarget(allocator_id, field, id, next(iter(get_close_matches(id, known, n=1, cutoff=0.8)), ""))
        for allocator_id, field, id in named
        if id not in known
    ]


def _targets(allocator: Allocator) -> Iterator[tuple[str, str, str]]:
    for entry in allocator.entries:
        if entry.type in ("account", "payer"):
            yield allocator.id, entry.type, entry.value
    if allocator.default_account:
        yield allocator.id, "defaultAccount", allocator.default_account


def _billed(workspace: Workspace, months: list[str]) -> set[str]:
    lake = workspace.lake
    # The line items of a month are read only where its marts are not made yet.
    marts = set(lake.months(AccountCosts.name)) & set(lake.months(InvoiceCosts.name))
    query = render(
        "services/known_accounts",
        line_items=lake.scan(LINE_ITEMS, [month for month in months if month not in marts], LINE_ITEM_COLUMNS),
        account_costs=lake.scan(AccountCosts.name, sorted(marts), AccountCosts.columns),
        invoice_costs=lake.scan(InvoiceCosts.name, sorted(marts), InvoiceCosts.columns),
    )
    with lake.connect() as connection:
        return {id for (id,) in connection.execute(query).fetchall() if id is not None}
