"""Checks: what deserves somebody's attention although every amount is conserved.

A check looks at published partitions and says in its first line how much money is affected and what to do. The proofs
that guard a publication belong in the files of their tables.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from octo_pipeline.allocation import splits
from octo_pipeline.allocation.resolution import FAMILY_TOO_LARGE, MOST_VALUES
from octo_pipeline.allocation.shares import METRIC_MISSING
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.currency import OTHER_MINOR_DIGITS
from octo_pipeline.model.months import add_months, booking_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation, Sql, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import counted
from octo_pipeline.rules.cost_centres import FILE, OWNERS
from octo_pipeline.rules.rates import newest_rates, units_of_base
from octo_pipeline.services.targets import unknown_targets
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.allocations import Allocations
from octo_pipeline.tables.corrections import Corrections, changed_months, why_changed
from octo_pipeline.tables.dues import origins_read, pinned_allocators
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.items import scan_items
from octo_pipeline.tables.known import first_open_month
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.metrics import counting_months, quantities
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.usage_shares import UsageShares
from octo_pipeline.workspace import Workspace

Severity = Literal["warning", "error"]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check on a month.

    Attributes:
        summary: one sentence; if the check fails, how much money is affected and what to do.
        details: one row per finding, at most 100, with `columns`.
    """

    passed: bool
    summary: str
    columns: tuple[str, ...] = ()
    details: tuple[tuple[Any, ...], ...] = ()

    def rows(self) -> Rows:
        """The findings as a table."""
        return Rows(self.columns, self.details)


@dataclass(frozen=True)
class Check:
    """A check of one table."""

    name: str
    table: str
    severity: Severity
    description: str
    run: Callable[[Workspace, str], CheckResult]


def _result(
    workspace: Workspace,
    query: Sql,
    columns: tuple[str, ...],
    sentence: Callable[[list[tuple[Any, ...]]], str],
    good: str,
) -> CheckResult:
    with workspace.lake.connect() as connection:
        rows = connection.execute(query).fetchall()
    if not rows:
        return CheckResult(True, good)
    return CheckResult(False, sentence(rows), columns, tuple(rows[:100]))


def _money(rows: Sequence[tuple[Any, ...]], cost: int, currency: int) -> str:
    """The total of the rows per currency, as a text."""
    totals: dict[str, Any] = {}
    for row in rows:
        totals[row[currency]] = totals.get(row[currency], 0) + row[cost]
    return ", ".join(f"{total:,.2f} {name}" for name, total in sorted(totals.items()))


def _both(rows: list[tuple[Any, ...]], cost: int, effective_cost: int, currency: int) -> str:
    """The same in both measures; the amortised total only if it differs."""
    billed, effective = _money(rows, cost, currency), _money(rows, effective_cost, currency)
    return billed if billed == effective else f"{billed}, amortised {effective},"


def _unknown_line_types(workspace: Workspace, month: str) -> CheckResult:
    line_items = workspace.lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
    return _result(
        workspace,
        render("services/check_line_types", line_items=line_items),
        ("vendor", "line_type", "currency", "lines", "cost"),
        lambda rows: (
            f"{_money(rows, 4, 2)} on unrecognised line types, counted as Adjustment: "
            f"{', '.join(sorted({str(r[1]) for r in rows}))}. Decide which charge category they are."
        ),
        "Every line type is known.",
    )


def _conflicts(workspace: Workspace, month: str) -> CheckResult:
    items = workspace.lake.scan(MatchedItems.name, [month], MatchedItems.columns)
    return _conflicts_among(workspace, items, "No item is matched by two allocators.")


def _conflicts_in_steps(workspace: Workspace, month: str) -> CheckResult:
    items = Relation(f"({render('services/balances', items=scan_items(workspace.lake, [month]))})")
    return _conflicts_among(workspace, items, "No balance is matched by two allocators of a step.")


def _conflicts_among(workspace: Workspace, items: Relation, good: str) -> CheckResult:
    return _result(
        workspace,
        render("services/check_conflicts", items=items),
        ("taken by", "also matched by", "currency", "items", "cost"),
        lambda rows: (
            f"{_money(rows, 4, 2)} matched by several rules; the first by priority, createTime and id took it: "
            + "; ".join(f"{r[0]} before {r[1]}" for r in rows[:3])
            + ". Narrow their criteria."
        ),
        good,
    )


def _unresolved_values(workspace: Workspace, month: str) -> CheckResult:
    accounts = workspace.lake.scan(ResolvedAccounts.name, [month], ResolvedAccounts.columns)
    return _result(
        workspace,
        render("services/check_entries", resolved_accounts=accounts),
        ("allocator", "type", "value"),
        lambda rows: (
            "Nobody gets the share of "
            + ", ".join(f"{r[1]} {r[2]} ({r[0]})" for r in rows[:5])
            + f" in {month}: it resolves to no account. Its part falls to the default account."
        ),
        "Every entry resolves to at least one account.",
    )


def _unknown_targets(workspace: Workspace, month: str) -> CheckResult:
    unknown = unknown_targets(workspace, pinned_allocators(workspace.lake, month))
    if not unknown:
        return CheckResult(True, "Every account and payer that an allocator names was billed or is registered.")
    return CheckResult(
        False,
        f"{', '.join(f'{target} of {target.allocator_id}' for target in unknown[:5])} "
        f"{'was' if len(unknown) == 1 else 'were'} never billed and {'is' if len(unknown) == 1 else 'are'} not registered, "
        "and may take money all the same. Correct the ids, or register the accounts.",
        ("allocator", "field", "id", "similar"),
        tuple((target.allocator_id, target.field, target.id, target.similar) for target in unknown[:100]),
    )


def _earlier_rates(workspace: Workspace, month: str) -> CheckResult:
    lake, base = workspace.lake, workspace.configuration_of(month).base_currency
    query = render(
        "services/check_rates",
        usage_shares=lake.scan(UsageShares.name, [month], UsageShares.columns),
        line_items=lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
        base_currency=base,
    )
    with lake.connect() as connection:
        converted = {currency for (currency,) in connection.execute(query).fetchall()}
    rates = newest_rates(workspace.configuration_of(month).rates, month)
    earlier = [rates[currency] for currency in sorted(converted & rates.keys()) if rates[currency].month != month]
    if not earlier:
        return CheckResult(True, "Every rate that was used is of the month.")
    named = ", ".join(f"{rate.currency} of {rate.month} ({rate.rate.normalize():f})" for rate in earlier)
    return CheckResult(
        False,
        f"Usage of {month} was compared at earlier rates: {named}. Add the rates of {month} to exchange_rates.csv.",
        ("currency", "month of the rate", "rate"),
        tuple((rate.currency, rate.month, rate.rate) for rate in earlier),
    )


def _over_allocation(workspace: Workspace, month: str) -> CheckResult:
    bookings = explained_allocations(workspace, [month], has_corrections=False, has_shares=False)
    with workspace.lake.connect() as connection:
        # Few months have any, and to list millions of items takes longer than to add them up.
        exceeding = connection.execute(render("services/check_over_allocation", explained_allocations=bookings))
        if exceeding.fetchall() == [(0,)]:
            return CheckResult(True, "No allocator hands out more than there is.")
        rows = Rows.fetched(connection, render("services/over_allocated", explained_allocations=bookings))
    nets = sorted(
        {
            (name, currency, abs(net), abs(effective))
            for name, currency, net, effective in rows.select(
                "allocator_id", "currency", "net_cost", "net_effective_cost"
            )
        }
    )
    return CheckResult(
        False,
        f"{', '.join(dict.fromkeys(name for name, *_ in nets))} handed out {_both(nets, 2, 3, 1)} more than there was; the "
        "default account bears the difference. Check the formulas.",
        ("allocator", "item", "currency", "tranche", "remainder", "effective tranche", "effective remainder"),
        tuple(
            rows.select(
                "allocator_id",
                "item_id",
                "currency",
                "tranche_cost",
                "cost",
                "tranche_effective_cost",
                "effective_cost",
            )[:100]
        ),
    )


def _failed_formulas(workspace: Workspace, month: str) -> CheckResult:
    lake = workspace.lake
    allocations = lake.scan(Allocations.name, [month], Allocations.columns)
    items = scan_items(lake, origins_read(lake, month))
    return _result(
        workspace,
        render("services/check_formulas", allocations=allocations, items=items),
        ("allocator", "item", "currency", "cost", "effective cost", "reason"),
        lambda rows: (
            f"{_both(rows, 3, 4, 2)} could not be distributed: a formula of "
            f"{', '.join(sorted({r[0] for r in rows}))} fails{_where_failed(r[5] for r in rows)} (division by zero, "
            f"overflow). Fix it and run {month} again."
        ),
        "Every formula has a result.",
    )


def _not_split(
    workspace: Workspace, month: str, reason: str, why: Callable[[list[str]], str], good: str
) -> CheckResult:
    lake = workspace.lake
    query = render(
        "services/check_not_split",
        allocations=lake.scan(Allocations.name, [month], Allocations.columns),
        items=scan_items(lake, origins_read(lake, month)),
        reason=reason,
    )
    return _result(
        workspace,
        query,
        ("allocator", "currency", "items", "cost", "effective cost"),
        lambda rows: f"{_both(rows, 3, 4, 1)} could not be distributed in {month}: {why(sorted({r[0] for r in rows}))}",
        good,
    )


def _missing_metrics(workspace: Workspace, month: str) -> CheckResult:
    metrics = {a.id: a.usage_of.id for a in pinned_allocators(workspace.lake, month)}

    def why(allocator_ids: list[str]) -> str:
        names = ", ".join(sorted({f"{metrics[name]} (of {name})" for name in allocator_ids}))
        return f"the metric {names} has no row of {month}. Deliver it and run {month} again."

    return _not_split(workspace, month, METRIC_MISSING, why, "Every metric that weighs has rows of the month.")


def _large_families(workspace: Workspace, month: str) -> CheckResult:
    return _not_split(
        workspace,
        month,
        FAMILY_TOO_LARGE,
        lambda names: (
            f"{', '.join(names)} {'names' if len(names) == 1 else 'name'} a family of more than {MOST_VALUES:,} cost groups. "
            f"Name fewer, or narrow its filters, and run {month} again."
        ),
        "No allocator names a family of too many cost groups.",
    )


def _carried_metrics(workspace: Workspace, month: str) -> CheckResult:
    counting = counting_months(workspace, pinned_allocators(workspace.lake, month), month)
    carried = sorted((m.metric_id, m.month) for m in counting.values() if m and m.month != month)
    if not carried:
        return CheckResult(True, "Every metric that weighs is of the month.")
    return CheckResult(
        False,
        f"{', '.join(f'{metric} is of {earlier}' for metric, earlier in carried)}: {month} has no row yet. Deliver it and "
        f"run {month} again.",
        ("metric", "month"),
        tuple(carried[:100]),
    )


def _unlisted_quantities(workspace: Workspace, month: str) -> CheckResult:
    allocators = pinned_allocators(workspace.lake, month)
    counting = counting_months(workspace, allocators, month)
    weighing = [
        (a.id, a.version, a.usage_of.id, counts.month)
        for a in allocators
        if a.weighs_by_metric and (counts := counting[a.usage_of.id, a.usage_of.carry_forward])
    ]
    columns = dict.fromkeys(("allocator_id", "allocator_version", "metric_id", "month"), "VARCHAR")
    query = render(
        "services/check_unlisted_quantities",
        weighing_allocators=rows_sql(columns, weighing),
        quantities=quantities(workspace, allocators, month),
        usage_shares=workspace.lake.scan(UsageShares.name, [month], UsageShares.columns),
    )
    return _result(
        workspace,
        query,
        ("allocator", "metric", "rows", "quantity", "first"),
        lambda rows: (
            "; ".join(
                f"{r[3]:,.2f} of {r[1]} is of {counted(r[2], 'account or group')} that {r[0]} does not list"
                for r in rows[:3]
            )
            + ", and does not count. Add entries for them, or leave it so."
        ),
        "Every row of a metric is of somebody that its allocator lists.",
    )


def _where_failed(reasons: Iterable[str]) -> str:
    """In which measure, where it is not the billed one that people look at first."""
    return " for the amortised cost" if set(reasons) == {"formula_failed (effective)"} else ""


def _invalid_documents(workspace: Workspace, month: str) -> CheckResult:
    problems = workspace.configuration.problems
    if not problems:
        return CheckResult(True, "Every document of the configuration is valid.")
    count = len({problem.file for problem in problems})
    outcome = "is left out until it is fixed" if count == 1 else "are left out until they are fixed"
    return CheckResult(
        False,
        f"{counted(count, 'document')} {outcome}: {problems[0]}",
        ("file", "path", "problem"),
        tuple((p.file, p.path, p.message) for p in problems[:100]),
    )


def _lake_conservation(workspace: Workspace, month: str) -> CheckResult:
    """Compare what is booked for the month's items, in the booking months that are made, with what is due in them."""
    lake = workspace.lake
    metadata = lake.metadata(MatchedItems.name, month)
    made = set(lake.months(Allocations.name))
    absent = sorted(set(metadata.facts["due"]) - made) if metadata else []
    # All months that can have rows of these items, because a month in which nothing is due any more may still have some.
    present = [m for m in booking_months(month) if m in made]
    # A balance is distributed whole in its own month, which its proofs guard.
    items = lake.scan(MatchedItems.name, [month], MatchedItems.columns)
    allocations = lake.scan(Allocations.name, present, Allocations.columns, month_as="booking_month")
    # What closed months booked is corrected in later ones.
    corrected = lake.scan(Corrections.name, None, Corrections.columns)
    booked = Relation(f"({render('services/booked_and_corrected', allocations=allocations, corrections=corrected)})")
    left = render("services/check_left_items", allocations=booked, month=month)
    due = splits.instalments_sql(items, Relation(f"({left})"), present)
    with lake.connect() as connection:
        rows = connection.execute(
            render("services/check_instalments", instalments=due, allocations=booked, month=month)
        ).fetchall()
    if rows:
        months = sorted({r[2] for r in rows})
        return CheckResult(
            False,
            f"{_both(rows, 4, 6, 1)} of the items of {month} is not booked as it is due in {', '.join(months)}, which "
            f"{'was' if len(months) == 1 else 'were'} made before {month} last changed. Run "
            f"{'it' if len(months) == 1 else 'them'} again.",
            ("item", "currency", "booking_month", "due", "difference", "effective_due", "effective_difference"),
            tuple(rows[:100]),
        )
    waiting = f" Not made yet: {', '.join(absent)}." if absent else ""
    return CheckResult(True, f"All instalments of the items of {month} are booked as they are due.{waiting}")


def _unconvertible(workspace: Workspace, month: str) -> CheckResult:
    lake, base = workspace.lake, workspace.configuration_of(month).base_currency
    costs = lake.scan(AccountCosts.name, [month], AccountCosts.columns)
    with lake.connect() as connection:
        rows = connection.execute(render("services/check_currencies", account_costs=costs)).fetchall()
    rates = units_of_base(workspace.configuration_of(month).rates, month, base)
    lacking = [row for row in rows if row[0] not in rates]
    if not lacking:
        return CheckResult(True, f"Every amount is known in {base}.")
    return CheckResult(
        False,
        f"{_money(lacking, 3, 0)} of costs have no value in {base}: exchange_rates.csv has no rate for "
        f"{', '.join(row[0] for row in lacking)} in {month} or earlier. Add one and run {month} again.",
        ("currency", "owners", "billed", "final cost"),
        tuple(lacking[:100]),
    )


def _prepayments_carried(workspace: Workspace, month: str) -> CheckResult:
    lake, before = workspace.lake, add_months(month, -1)
    if not {month, before} <= set(lake.months(Prepayments.name)):
        return CheckResult(True, f"There is nothing to compare with: {before} has no prepayments yet.")
    query = render(
        "services/check_prepayments_carried",
        prepayments=lake.scan(Prepayments.name, [month], Prepayments.columns),
        previous_prepayments=lake.scan(Prepayments.name, [before], Prepayments.columns),
    )
    return _result(
        workspace,
        query,
        ("item", "currency", "difference", "effective difference"),
        lambda rows: (
            f"{month} begins with {_both(rows, 2, 3, 1)} more prepaid than {before} ended with. Run {before} and {month} "
            "again, in this order."
        ),
        f"{month} begins with what {before} ended with.",
    )


def _prepayments_reconcile(workspace: Workspace, month: str) -> CheckResult:
    lake = workspace.lake
    if not all(month in lake.months(table) for table in (AccountCosts.name, Prepayments.name)):
        return CheckResult(True, f"There is nothing to compare yet: {month} is not made to the end.")
    query = render(
        "services/check_prepayments_reconcile",
        account_costs=lake.scan(AccountCosts.name, [month], AccountCosts.columns),
        corrections=lake.scan(Corrections.name, [month], Corrections.columns),
        prepayments=lake.scan(Prepayments.name, [month], Prepayments.columns),
    )
    return _result(
        workspace,
        query,
        ("currency", "difference", "effective difference"),
        lambda rows: (
            f"Accounts pay {_both(rows, 1, 2, 0)} more than the bill of {month} and its prepayments explain. Run {month} again."
        ),
        "What accounts pay is the bill, less what it adds to the prepayments.",
    )


def _closed_as_known(workspace: Workspace, month: str) -> CheckResult:
    if not workspace.is_closed(month):
        return CheckResult(True, f"{month} is open.")
    cause = why_changed(workspace, month)
    corrected_in = first_open_month(workspace)
    if cause == "code" and month not in changed_months(workspace, corrected_in or ""):
        return CheckResult(
            False,
            f"Only another version of the program computes {month} otherwise than it was closed; nothing is booked of it until "
            "somebody accepts it.",
        )
    if cause and corrected_in is None:
        return CheckResult(
            False,
            f"{month} is known otherwise than it was closed ({cause}), and the lake has no open month to correct it in.",
        )
    return CheckResult(True, f"{month} is as it was closed, or is corrected in {corrected_in}.")


def _covered_usage_moved(workspace: Workspace, month: str) -> CheckResult:
    lake = workspace.lake
    query = render(
        "services/check_covered_usage",
        matched_items=lake.scan(MatchedItems.name, [month], MatchedItems.columns),
        allocations=lake.scan(Allocations.name, [month], Allocations.columns),
    )
    return _result(
        workspace,
        query,
        ("account", "commitment", "usage allocated by", "savings allocated by", "currency", "effective cost"),
        lambda rows: (
            f"{_money(rows, 5, 4)} of usage that commitments cover is allocated by {_listed({r[2] for r in rows})}, and what "
            f"it saved by {_listed({r[3] for r in rows})}: {_listed({r[0] for r in rows})} "
            f"{'pays' if len({r[0] for r in rows}) == 1 else 'pay'} on-demand prices for what others used. Leave out the "
            "usage or the savings."
        ),
        "No usage that a commitment covers is allocated together with its savings.",
    )


def _owners_without_cost_centre(workspace: Workspace, month: str) -> CheckResult:
    cost_centres = workspace.configuration_of(month).cost_centres
    if not len(cost_centres):
        return CheckResult(True, f"Nothing is posted: {FILE} has no lines.")
    lake = workspace.lake
    query = render(
        "services/check_cost_centres",
        account_costs=lake.scan(AccountCosts.name, [month], AccountCosts.columns),
        invoice_costs=lake.scan(InvoiceCosts.name, [month], InvoiceCosts.columns),
        prepayments=lake.scan(Prepayments.name, [month], Prepayments.columns),
    )
    with lake.connect() as connection:
        posted = connection.execute(query).fetchall()
    mapped = {owner: cost_centres.of(*owner) for owner in {(kind, name) for kind, name, *_ in posted}}
    rows = [row for row in posted if mapped[row[0], row[1]] is None]
    if not rows:
        return CheckResult(True, "Every owner has a cost centre, and every payer its ledger accounts.")
    owners = [row for row in rows if row[0] in OWNERS]
    names = list(dict.fromkeys(f"{kind} {name}" for kind, name, *_ in owners or rows))
    named = f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
    lacking = f"{_money(owners, 3, 2)} of {named} has no cost centre" if owners else f"{named} has no ledger account"
    return CheckResult(
        False,
        f"{lacking}, so the journal posts it as unmapped. Add {'it' if len(names) == 1 else 'them'} to {FILE}.",
        ("type", "id", "currency", "cost"),
        tuple(rows[:100]),
    )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _invoices(workspace: Workspace, month: str) -> CheckResult:
    lake = workspace.lake
    currencies = rows_sql(
        {"currency": "VARCHAR", "digits": "INTEGER"}, [(name, digits) for name, digits in OTHER_MINOR_DIGITS.items()]
    )
    query = render(
        "services/check_invoices",
        invoice_costs=lake.scan(InvoiceCosts.name, [month], InvoiceCosts.columns),
        line_items=lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
        minor_digits=currencies,
    )
    return _result(
        workspace,
        query,
        ("payer", "invoice", "currency", "invoiced", "in line items", "difference", "tolerance"),
        lambda rows: (
            f"{_money(rows, 5, 2)} more or less on {counted(len(rows), 'invoice')} than in the line items that name it, such as "
            f"{rows[0][1]} of payer {rows[0][0]}. Lines of several invoices may be one line item: compare by invoice_costs."
        ),
        "What every invoice bills is in the line items that name it.",
    )


CHECKS: tuple[Check, ...] = (
    Check(
        "unknown_line_types",
        "cost_line_items",
        "warning",
        "Every line type of the vendors has its own charge category.",
        _unknown_line_types,
    ),
    Check(
        "valid_documents",
        "matched_items",
        "error",
        "Every document of the configuration is valid.",
        _invalid_documents,
    ),
    Check(
        "invoices_reconcile",
        "invoice_costs",
        "warning",
        "Each invoice bills what the line items that name it add up to, within the tolerance of FOCUS.",
        _invoices,
    ),
    Check("no_conflicts", "matched_items", "warning", "No item is matched by two allocators.", _conflicts),
    Check(
        "values_resolve",
        "resolved_accounts",
        "warning",
        "Every allocator entry resolves to at least one account.",
        _unresolved_values,
    ),
    Check(
        "targets_known",
        "resolved_accounts",
        "warning",
        "Every account and payer that an allocator names was billed in some month or is registered.",
        _unknown_targets,
    ),
    Check(
        "rates_current",
        "usage_shares",
        "warning",
        "Usage in several currencies is compared at the rates of the month.",
        _earlier_rates,
    ),
    Check(
        "no_over_allocation",
        "allocations",
        "warning",
        "No allocator hands out more in a month than it takes, all of its items together.",
        _over_allocation,
    ),
    Check(
        "no_conflicts_in_steps",
        "allocations",
        "warning",
        "No balance is matched by two allocators of a step.",
        _conflicts_in_steps,
    ),
    Check("formulas_hold", "allocations", "error", "Every formula has a result.", _failed_formulas),
    Check(
        "metrics_delivered",
        "allocations",
        "error",
        "Every metric that weighs has rows of the month.",
        _missing_metrics,
    ),
    Check(
        "families_small",
        "allocations",
        "error",
        f"No allocator names a family of more than {MOST_VALUES:,} cost groups.",
        _large_families,
    ),
    Check(
        "metrics_current",
        "usage_shares",
        "warning",
        "No metric is carried forward from an earlier month.",
        _carried_metrics,
    ),
    Check(
        "metrics_listed",
        "usage_shares",
        "warning",
        "Every row of a metric is of an account or cost group that its allocator lists.",
        _unlisted_quantities,
    ),
    Check(
        "conserved_over_months",
        "allocations",
        "warning",
        "The instalments that are booked in all months add up to the month's items.",
        _lake_conservation,
    ),
    Check(
        "base_currency_known",
        "account_costs",
        "warning",
        "Every currency has a rate to the base currency.",
        _unconvertible,
    ),
    Check(
        "prepayments_carried",
        "prepayments",
        "warning",
        "The month begins with the prepayments that the month before ended with.",
        _prepayments_carried,
    ),
    Check(
        "prepayments_reconcile",
        "prepayments",
        "warning",
        "What accounts pay is the bill, less what it adds to the prepayments.",
        _prepayments_reconcile,
    ),
    Check(
        "closed_as_known",
        "corrections",
        "warning",
        "What a closed month is known as otherwise is booked in an open one.",
        _closed_as_known,
    ),
    Check(
        "covered_usage_once",
        "allocations",
        "warning",
        "No usage that a commitment covers is allocated together with its savings.",
        _covered_usage_moved,
    ),
    Check(
        "owners_have_cost_centres",
        "account_costs",
        "warning",
        "Everybody that a journal posts something to is in cost_centres.csv, if there is one.",
        _owners_without_cost_centre,
    ),
)


def failed_checks(workspace: Workspace, month: str, severity: Severity) -> list[tuple[Check, CheckResult]]:
    """The checks of a severity that fail for a month, and what they say."""
    results = ((check, check.run(workspace, month)) for check in CHECKS if check.severity == severity)
    return [(check, result) for check, result in results if not result.passed]
