"""The journal of a month: what finance posts so that cost centres pay for what accounts and cost groups use.

Stages:
1. The exact amounts, by owner: of each invoice what every owner pays and what is due later, of earlier months the
   instalments, of closed months the corrections, and what the steps hand on. Each of these is an entry, and adds up to 0.
2. Everybody's cost centre and ledger account (`octo_pipeline.rules.cost_centres`).
3. Lines in the minor unit of the currency. An invoice is rounded; prepayments are the difference of the rounded balances
   before and after the month, so that nothing is left of them in the end; what owners pay is the rest, by largest
   remainder.
4. The proofs, before anything is written.

Of a closed month it is what was closed: the bill and the invoices are those that the closing kept.

Drawback: an item whose charges stand on several invoices is posted with the one that has most of it; what the others have
of it is a line of its own on both.
"""

from dataclasses import dataclass
from typing import Literal

import duckdb

from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.currency import minor_digits
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.rules.cost_centres import FILE, OWNER_TYPES, OWNERS, CostCentres
from octo_pipeline.rules.documents import DocumentError
from octo_pipeline.services.periods import PROVISIONAL, state_in_words
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.closings import closed_bill, closed_invoices
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.workspace import Workspace

By = Literal["cost-centre", "account", "group"]

# What a line has instead of a cost centre or ledger account where cost_centres.csv has none.
UNMAPPED = "unmapped"

PROOFS = (
    Proof("costs", "each owner is charged what it pays in the end", "outputs/proof_journal_costs"),
    Proof(
        "prepayments",
        "prepayments change by what is due later, exactly and in their rounded balances",
        "outputs/proof_journal_prepayments",
    ),
    Proof("balanced", "the debits of each entry are its credits", "outputs/proof_journal_balanced"),
    Proof("invoices", "each invoice is credited with its cents", "outputs/proof_journal_invoices"),
    Proof("near", "no line is three cents away from its exact amount", "outputs/proof_journal_near"),
)


@dataclass(frozen=True)
class Books:
    """What a month's journal is made of, as relations.

    Attributes:
        bill: what the bill says by charge and invoice; columns of ``tables/bill``.
        invoices: rows of ``invoice_costs``.
        explained: explained allocations, without corrections.
        corrections: rows of ``corrections``.
        prepayments: rows of ``prepayments``.
        account_costs: rows of ``account_costs``.
        account_groups: account and the cost group that it is posted to; None if accounts are posted by themselves.
    """

    bill: Relation
    invoices: Relation
    explained: Relation
    corrections: Relation
    prepayments: Relation
    account_costs: Relation
    account_groups: Relation | None = None


@dataclass(frozen=True)
class Journal:
    """A proved journal.

    Attributes:
        state: provisional, or how the month was closed.
        lines: by entry; debits and credits are text with the decimals of their currency.
        sums: one row per entry: debits, credits and what they are made of.
        unmapped: who has no line in cost_centres.csv, each as its type and id.
    """

    month: str
    state: str
    lines: Rows
    sums: Rows
    unmapped: tuple[str, ...]

    @property
    def is_provisional(self) -> bool:
        """Whether the month is open, so that its amounts can still change."""
        return self.state == PROVISIONAL


def journal_of(workspace: Workspace, month: str, by: By) -> Journal:
    """The journal of a month.

    Args:
        workspace: the lake.
        month: the booking month.
        by: one line per cost centre and ledger account, or per account and cost group; by group, accounts that are wholly
            in one cost group stand under it.

    Raises:
        OctoError: the month is not made, there are no cost centres to post to, or a proof fails.
    """
    cost_centres = _cost_centres(workspace, month, by)
    lake = workspace.lake
    lake.require([month], InvoiceCosts.name, AccountCosts.name, CostGroupCosts.name, Prepayments.name)
    with lake.connect() as connection:
        bill, invoices = _bill(connection, workspace, month)
        books = Books(
            bill=bill,
            invoices=invoices,
            explained=Relation(f"({explained_allocations(workspace, [month], has_corrections=False)})"),
            corrections=lake.scan(Corrections.name, [month], Corrections.columns),
            prepayments=lake.scan(Prepayments.name, [month], Prepayments.columns),
            account_costs=lake.scan(AccountCosts.name, [month], AccountCosts.columns),
            account_groups=account_groups(connection, workspace, month, cost_centres) if by == "group" else None,
        )
        return post(connection, books, cost_centres, month, by, state_in_words(workspace, month))


def post(
    connection: duckdb.DuckDBPyConnection, books: Books, cost_centres: CostCentres, month: str, by: By, state: str
) -> Journal:
    """Post what the books of a month say, and prove it.

    Args:
        connection: where the relations can be read; temporary tables are made in it.
        books: the month's tables.
        cost_centres: who is posted where.
        month: the booking month.
        by: one line per cost centre and ledger account, or per account and cost group.
        state: provisional, or how the month was closed.

    Raises:
        ProofError: the tables contradict each other.
    """
    amounts = create_temp_table(
        connection,
        "journal_amounts",
        render(
            "outputs/journal_amounts",
            bill=books.bill,
            invoices=books.invoices,
            explained=books.explained,
            corrections=books.corrections,
            month=month,
        ),
    )
    grouped = amounts
    if books.account_groups:
        by_group = render("outputs/journal_by_group", journal_amounts=amounts, account_groups=books.account_groups)
        grouped = create_temp_table(connection, "journal_amounts_by_group", by_group)
    owners = Rows.fetched(connection, render("outputs/journal_owners", journal_amounts=grouped))
    currencies = _currencies(connection, amounts)
    journal = create_temp_table(
        connection,
        "journal",
        render(
            "outputs/journal",
            journal_amounts=grouped,
            owners=_posted_to(connection, owners, cost_centres),
            currencies=currencies,
            prepayments=books.prepayments,
            month=month,
            state=state,
            by=by,
        ),
    )
    prove(
        connection,
        "journal",
        month,
        PROOFS,
        remedy=f"The tables of {month} are not of one run; run it again.",
        journal_amounts=amounts,
        journal=journal,
        currencies=currencies,
        prepayments=books.prepayments,
        invoices=books.invoices,
        account_costs=books.account_costs,
    )
    lines = Rows.fetched(connection, render("outputs/journal_lines", journal=journal))
    sums = Rows.fetched(connection, render("outputs/journal_sums", journal=journal))
    return Journal(month, state, lines, sums, _unmapped(owners, lines, cost_centres))


def account_groups(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str, cost_centres: CostCentres
) -> Relation:
    """A relation of accounts and the cost groups that they are posted to.

    The groups are those that the cost centres name, or all if they name none.
    """
    lake = workspace.lake
    scanned = lake.scan(CostGroupCosts.name, [month], CostGroupCosts.columns)
    query = render("outputs/journal_group_ids", cost_group_costs=scanned)
    group_ids = [group_id for (group_id,) in connection.execute(query).fetchall()]
    named = [group_id for group_id in group_ids if cost_centres.of("group", group_id)]
    query = render(
        "outputs/journal_groups",
        cost_group_costs=scanned,
        account_costs=lake.scan(AccountCosts.name, [month], AccountCosts.columns),
        group_ids=named or group_ids,
    )
    return create_temp_table(connection, "account_groups", query)


def _cost_centres(workspace: Workspace, month: str, by: By) -> CostCentres:
    configuration = workspace.configuration_of(month)
    if not len(configuration.cost_centres):
        problems = [problem for problem in configuration.problems if problem.file == FILE]
        if problems:
            raise DocumentError(problems)
        if by == "cost-centre":
            raise OctoError(
                f"There are no cost centres to post {month} to: {workspace.settings.config / FILE} does not exist or has no "
                "lines. Write who is posted where, or post by account.",
                code="cost-centres-missing",
                place=str(workspace.settings.config / FILE),
            )
    return configuration.cost_centres


def _unmapped(owners: Rows, lines: Rows, cost_centres: CostCentres) -> tuple[str, ...]:
    if not len(cost_centres):
        return ()
    unmapped = [f"{kind} {name}" for kind, name in owners.rows if kind in OWNERS and not cost_centres.of(kind, name)]
    for posting, payer, ledger_account in lines.select("posting", "payer", "ledger_account"):
        if posting != "cost" and ledger_account == UNMAPPED:
            unmapped.append(f"{posting if posting in OWNER_TYPES else 'payer'} {payer}")
    return tuple(dict.fromkeys(unmapped))


def _bill(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> tuple[Relation, Relation]:
    """What the month's bill says by charge and invoice, and what its invoices bill."""
    if workspace.is_closed(month):
        return closed_bill(workspace, month), closed_invoices(workspace, month)
    lake = workspace.lake
    query = render("tables/bill", line_items=lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS))
    return create_temp_table(connection, "bill", query), lake.scan(InvoiceCosts.name, [month], InvoiceCosts.columns)


def _currencies(connection: duckdb.DuckDBPyConnection, amounts: Relation) -> Relation:
    """A relation of currencies: their decimals in books, how many minor units they have, and one of these in 10⁻¹⁰."""
    names = [
        name for (name,) in connection.execute(render("outputs/journal_currencies", journal_amounts=amounts)).fetchall()
    ]
    columns = {"currency": "VARCHAR", "digits": "INTEGER", "minor_units": "DECIMAL(5, 0)", "unit": "HUGEINT"}
    rows = [(name, (digits := minor_digits(name)), 10**digits, 10 ** (10 - digits)) for name in names]
    return create_temp_table(connection, "currencies", rows_sql(columns, rows))


def _posted_to(connection: duckdb.DuckDBPyConnection, owners: Rows, cost_centres: CostCentres) -> Relation:
    """A relation of (owner_type, owner_id, cost_centre, ledger_account, name) of everybody that something is posted to."""
    rows = []
    for owner_type, owner_id in owners.rows:
        for kind in (owner_type,) if owner_type in OWNERS else ("payer", "prepayments", "rounding"):
            line = cost_centres.of(kind, owner_id)
            if line:
                rows.append((kind, owner_id, line.cost_centre, line.ledger_account, line.name))
            elif len(cost_centres):
                cost_centre = UNMAPPED if kind in OWNERS else ""
                rows.append((kind, owner_id, cost_centre, UNMAPPED, f"no line in {FILE}"))
            else:
                rows.append((kind, owner_id, "", "", ""))
    columns = dict.fromkeys(("owner_type", "owner_id", "cost_centre", "ledger_account", "name"), "VARCHAR")
    return create_temp_table(connection, "posted_to", rows_sql(columns, rows))
