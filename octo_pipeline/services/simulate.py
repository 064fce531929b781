"""What an allocator would do to the items of a month. Nothing is written to the lake.

The functions that make the tables also match and book the items here, in one in-memory connection. How a simulation is
printed belongs in the command line; which months become stale by a change belongs in `graph`.

Assumptions: the live allocators are those in the configuration folder now, whether or not the lake was run with them;
restored items stay restored.

Stages:
1. ``live`` and ``merged``: the month's items with the live allocators, and with the candidate added (or replacing the
   live allocator of the same id). Who takes the candidate's items in ``merged`` gives the conflicts. The live items are
   matched as a run does, and kept (`prepared_months`); those of the candidate are looked for alone, and added.
2. ``alone``: the items of the month that the candidate matches, as if there were no other allocator. They are those that
   it takes in ``merged``, and those that another takes and it matches, too.
3. ``live`` and ``merged`` are reduced to the items that change hands, and to those that decide whether savings do. The
   three sides are booked together in every month in which an item is due and of which the lake has line items. For
   later months, the instalments due in them are listed.
4. The balances of the month, where there are rules for them, with the live rules and with the candidate
   (`simulated_steps`). A candidate for balances takes them ``alone`` as if it were the only rule of its step; everything
   else is as it is live.
5. The difference between ``merged`` and ``live``, per booking month, category, account and currency.

Edge cases: items of other origin months are not booked, because their pinned allocators stay until those months are run
again; they are counted instead. A candidate that is the same as the live allocator changes nothing.
Drawback: all rows of the result are held in Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from octo_pipeline.allocation import matching, resolution, shares, splits
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.allocation.items import ITEM_COLUMNS, items_sql, uniform_item_sql
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import add_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Relation, Sql, is_one_of, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import LEFT_REASONS, amount, counted
from octo_pipeline.rules.allocator import Allocator, criterion_sql, hints_of, values_named
from octo_pipeline.rules.cost_group import group_document, group_sql
from octo_pipeline.services.prepared_months import PreparedMonth, prepared_month
from octo_pipeline.services.simulated_steps import MonthBeforeSteps, earlier_items, step_rules
from octo_pipeline.services.targets import UnknownTarget, unknown_targets
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.tables.dues import origins_read
from octo_pipeline.tables.metrics import counting_months, quantities
from octo_pipeline.tables.restored_items import create_restored_items
from octo_pipeline.workspace import Workspace

# The tables of a simulation that people read, in the order in which they are shown, and their titles.
SECTIONS: dict[str, str] = {
    "matched_costs": "Matched",
    "matched_items": "Matched items",
    "bookings": "Splits and remainders",
    "accounts": "Who gets how much",
    "later_instalments": "Due in later months",
    "over_allocated": "Hands out more than there is",
    "failed": "Cannot be split",
    "unresolved": "Resolves to nobody",
    "conflicts": "Conflicts",
    "not_reached": "Outside its months",
    "commitment_lines": "Covered by a savings plan, without negation",
    "covered_usage": "Usage that moves together with its savings",
    "differences": "Difference to what is live",
}

# A filter for each target is tried on every line item.
_MOST_CONDITIONS = 200

_RESTORED = Relation("restored_items")


@dataclass(frozen=True)
class Simulation:
    """What an allocator would do to the items billed in a month.

    Attributes:
        month: the origin month of the items.
        replaces: the version of the live allocator of the same id, None if there is none.
        matched_costs: per currency, how many items the candidate matches and their cost.
        matched_items: the items it matches; ``taken_by`` is who takes each when it is live.
        taken: per currency, how many of them it takes, and from which live allocator.
        bookings: every split and remainder of the candidate alone, in the months that have usage data.
        accounts: the bookings summed per booking month, target account and kind.
        later_instalments: what falls in booking months of which the lake has no line items yet.
        over_allocated: in months in which more is handed out than there is, all items together, the items that are handed
            out too much of; ``cost`` is the remainder of the item, ``net_cost`` that of all items.
        unresolved: entries that resolve to nobody, per booking month.
        failed: items whose formula, metric or family fails, per booking month, with the amount that is not distributed.
        conflicts: who takes the items that the candidate and a live allocator both match.
        not_reached: what it would match in this month and earlier ones if they were in its window.
        earlier_origins: what it matches in earlier months with instalments due in this one; they are not simulated.
        commitment_lines: per account, lines that a savings plan covers and whose negation it does not match.
        covered_usage: per account and commitment, usage that a commitment covers and that is distributed while what it
            saved is distributed too, where the candidate does either.
        differences: per booking month, category, account and currency, the net amount on the account from items that
            change hands: live, simulated and the difference, in both measures.
        account_changes: the differences of each account in all booking months together, the largest first.
        warnings: a sentence for everything that deserves attention.
    """

    allocator: Allocator
    month: str
    replaces: str | None
    matched_costs: Rows
    matched_items: Rows
    taken: Rows
    bookings: Rows
    accounts: Rows
    later_instalments: Rows
    over_allocated: Rows
    unresolved: Rows
    failed: Rows
    conflicts: Rows
    not_reached: Rows
    earlier_origins: Rows
    commitment_lines: Rows
    covered_usage: Rows
    differences: Rows
    account_changes: Rows
    warnings: tuple[str, ...]

    @property
    def tables(self) -> dict[str, Rows]:
        """All its tables by name."""
        return {field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), Rows)}

    @property
    def headline(self) -> str:
        """The sentence that a simulation begins with: what it matches."""
        matched = ", ".join(
            f"{counted(items, 'item')} of {amount(cost, currency)}"
            + (f" (amortised {amount(effective, currency)})" if effective not in (cost, 0) else "")
            for currency, items, cost, effective in self.matched_costs.rows
        )
        replaces = "; it replaces the one that is saved" if self.replaces else ""
        allocator = self.allocator
        return f"{allocator.id} ({allocator.category}) on {self.month}: matches {matched or 'nothing'}{replaces}."

    @property
    def consequence(self) -> str:
        """The sentence about what changes; empty if it takes nothing, of which a warning says why."""
        if not self.taken:
            return ""
        counts: dict[str, int] = {}
        for owner, items in self.taken.select("taken_from", "items"):
            if owner not in (None, self.allocator.id):
                counts[owner] = counts.get(owner, 0) + items
        total = sum(self.taken.column("items"))
        away = " and ".join(
            f"{'' if items == total else f'{items:,} of them '}away from {owner}" for owner, items in counts.items()
        )
        changes = self.account_changes.column("difference")
        more, less = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
        verb = "are credited" if self.allocator.category == "savings" else "pay"
        who = f"{counted(more, 'account')} {verb} more and {less:,} less" if changes else "no account's cost changes"
        if more == 1:
            who = who.replace(" are ", " is ").replace(" pay ", " pays ")
        return f"It would take {counted(total, 'item')} ({self.taken.total()}){', ' + away if away else ''}; {who}."

    @property
    def values(self) -> dict[str, Any]:
        """All of it for programs, as JSON values: amounts are texts with all of their digits."""
        return {
            "allocator": self.allocator.normalised(),
            "version": self.allocator.version,
            "month": self.month,
            "replaces": self.replaces,
            "warnings": self.warnings,
        } | {name: rows.records() for name, rows in self.tables.items()}


def current_or_latest(workspace: Workspace, now: datetime) -> str:
    """The month that a document is tried on if none is named: the current one if the lake has it, else the latest.

    Args:
        workspace: the lake.
        now: the current time, with a time zone.
    """
    current = f"{now:%Y-%m}"
    months = workspace.lake.months(LINE_ITEMS)
    return current if not months or current in months else months[-1]


def simulate(workspace: Workspace, allocator: Allocator, month: str, *, ended: Allocator | None = None) -> Simulation:
    """Compute what the allocator would do to the items billed in the month, alone and beside the live ones.

    Args:
        workspace: the lake, the live configuration and the decisions, which are only read.
        allocator: the candidate; it replaces a live allocator of the same id.
        month: the origin month of the items.
        ended: a live allocator as it will be beside the candidate, if it gets an end with it.

    Raises:
        OctoError: the lake has no line items of the month, or an exchange rate is missing.
    """
    months = workspace.lake.months(LINE_ITEMS)
    if month not in months:
        raise OctoError(
            f"The lake has no cost line items of {month}, so there is nothing to simulate. "
            + (f"It has {months[0]} to {months[-1]}; choose one of them." if months else "It has no month yet."),
            code="month-not-made",
            place=month,
            remedy=Remedy("run", month=month),
        )
    with prepared_month(workspace, month) as prepared:
        return _Simulator(prepared, workspace, allocator, month, ended).run()


class _Simulator:
    """One simulation, with what its stages share."""

    def __init__(
        self,
        prepared: PreparedMonth,
        workspace: Workspace,
        candidate: Allocator,
        month: str,
        ended: Allocator | None,
    ) -> None:
        self._prepared = prepared
        self._connection = prepared.connection
        self._workspace = workspace
        self._candidate = candidate
        self._month = month
        self._live = workspace.configuration.allocators
        self._replaced = next((a for a in self._live if a.id == candidate.id), None)
        self._submitted = [candidate, *([ended] if ended else [])]
        ids = {a.id for a in self._submitted}
        merged = [*(a for a in self._live if a.id not in ids), *self._submitted]
        self._merged = sorted(merged, key=lambda a: a.precedence)
        self._months_with_data = workspace.lake.months(LINE_ITEMS)

    def run(self) -> Simulation:
        live_items = self._match()
        self._create_restored(live_items)
        matched = self._matched(live_items)
        covered_usage = self._fetch("simulation_covered_usage", candidate=self._candidate.id, restored_items=_RESTORED)
        self._keep_what_changes_hands(live_items)
        later_months = self._book()
        self._book_steps()
        if self._candidate.category == "balance":
            matched = self._matched(Relation("live_step_items"))
        tables: dict[str, Rows] = {
            "matched_costs": self._fetch("simulation_matched_costs"),
            **matched,
            "bookings": self._fetch("simulation_bookings"),
            "accounts": self._fetch("simulation_accounts"),
            "later_instalments": self._later_instalments(later_months),
            "over_allocated": self._fetch(
                "over_allocated", explained_allocations=render("services/simulation_of_side", side="alone")
            ),
            "unresolved": self._fetch("simulation_unresolved", resolved=self._candidate_resolved),
            "failed": self._fetch("simulation_failed"),
            "not_reached": self._not_reached(),
            "earlier_origins": self._earlier_origins(),
            "commitment_lines": self._fetch("simulation_commitment_lines"),
            "covered_usage": covered_usage,
            "differences": self._fetch("simulation_differences"),
            "account_changes": self._fetch(
                "simulation_account_changes", differences_query=render("services/simulation_differences")
            ),
        }
        restored = self._count("simulation_restored_items", restored_items=_RESTORED)
        moved = self._count("simulation_moved_items")
        return Simulation(
            allocator=self._candidate,
            month=self._month,
            replaces=self._replaced.version if self._replaced else None,
            warnings=(
                *_warnings(self._candidate, self._month, tables, restored, moved),
                *self._target_sentences(),
                *_unknown_sentence(unknown_targets(self._workspace, [self._candidate])),
            ),
            **tables,
        )

    def _fetch(self, template: str, **pieces: object) -> Rows:
        return Rows.fetched(self._connection, render(f"services/{template}", **pieces))

    def _matched(self, live_items: Relation) -> dict[str, Rows]:
        return {
            "matched_items": self._fetch("simulation_matched_items"),
            "taken": self._fetch(
                "simulation_taken",
                live_items=live_items,
                candidate=self._candidate.id,
            ),
            "conflicts": self._fetch("simulation_conflicts", candidate=self._candidate.id),
        }

    def _line_items(self, months: Sequence[str]) -> Relation:
        if list(months) == [self._month]:
            return self._prepared.lines
        return self._workspace.lake.scan(LINE_ITEMS, months, LINE_ITEM_COLUMNS)

    def _create_restored(self, live_items: Relation) -> None:
        # Balances depend on what is due from earlier months, too.
        origins = sorted({*origins_read(self._workspace.lake, self._month), self._month})
        decisions = self._workspace.registry.restored_items(origins)
        tables = ["alone_items", live_items, "merged_items", earlier_items(self._workspace, self._month)]
        items = Relation(f"({' union all by name '.join(f'from {table}' for table in tables)})")
        create_restored_items(self._connection, decisions, items)

    def _match(self) -> Relation:
        """Create ``merged_items`` and ``alone_items``; returns the live items."""
        # An item has one category, so allocators of other categories keep their items.
        ids = {a.id for a in self._submitted}
        replaced = [a for a in self._live if a.id in ids]
        own = sorted({a.category for a in (*self._submitted, *replaced)} - {"balance"})
        # Whether the saving of a commitment moves depends on who takes its lines as fees and usage.
        is_bound = (
            any(a.category == "savings" for a in (*self._live, *self._submitted)) and self._prepared.has_commitments
        )
        categories = matching.CATEGORIES if is_bound else own
        live_items = self._prepared.live_items(categories)
        self._create("submitted_items", self._submitted_items_sql())
        merged = render(
            "services/simulation_merged_items",
            allocators=matching.allocators_sql(matching.applying(self._merged, self._month), self._month),
            submitted_ids=sorted(ids),
            live_items=live_items,
            columns=list(ITEM_COLUMNS),
        )
        self._create("merged_matches", merged)
        of_category = {
            category: render("services/simulation_of_category", items="merged_matches", category=category)
            for category in categories
        }
        self._create("merged_items", self._prepared.with_moving(self._merged, of_category))
        candidate = self._candidate
        alone = render(
            "services/simulation_alone",
            allocator_id=candidate.id,
            version=candidate.version,
            document=candidate.document,
            first_booking_month=candidate.first_booking_month(self._month),
            tranche_count=candidate.tranche_count,
        )
        self._create("alone_items", alone)
        return live_items

    def _submitted_items_sql(self) -> Sql:
        """SQL of `ITEM_COLUMNS` and ``submitted_ids``: the items that the submitted allocators match in the month."""
        applying = [a for a in matching.applying(self._submitted, self._month) if a.category != "balance"]
        if not applying:
            return rows_sql(ITEM_COLUMNS | {"submitted_ids": "VARCHAR[]"}, [])
        categories = {
            category: {
                "columns": uniform_item_sql(category),
                "query": items_sql(category, self._prepared.lines),
                "allocators": {a.id: _alternatives(a) for a in applying if a.category == category},
            }
            for category in sorted({a.category for a in applying})
        }
        return render("services/simulation_submitted_items", categories=categories)

    def _book_steps(self) -> None:
        """Book the balances of the month with the live rules and with the candidate, beside the items that change hands."""
        month, candidate = self._month, self._candidate
        live, merged = step_rules(self._live, month), step_rules(self._merged, month)
        # A candidate that does not apply in the month takes nothing, but its entries are resolved.
        alone = [candidate] if candidate.category == "balance" else []
        rules = {a.version: a for a in (*live, *merged, *alone)}
        if not rules:
            return
        others = [[a for a in side if a.category != "balance"] for side in (self._live, self._merged)]
        before_live = self._before_steps("live", others[0], rules)
        before_merged = before_live if others[0] == others[1] else self._before_steps("merged", others[1], rules)
        before_live.book("live", live)
        before_merged.book("merged", merged)
        for side in ("live", "merged"):
            self._add_bookings(side, Sql(f"from {side}_step_bookings"))
        if alone:
            of_other_steps = [a for a in merged if a.step != candidate.step]
            before_merged.book("alone", [*of_other_steps, *step_rules(alone, month)])
            self._show_balances(before_merged)

    def _before_steps(
        self, name: str, allocators: Sequence[Allocator], rules: Mapping[str, Allocator]
    ) -> MonthBeforeSteps:
        return MonthBeforeSteps(
            self._connection, self._workspace, name, self._month, allocators, list(rules.values()), _RESTORED
        )

    def _show_balances(self, before: MonthBeforeSteps) -> None:
        """Put the balances that the candidate takes alone in the place of its items."""
        version = self._candidate.version
        self._create("alone_items", render("services/simulation_taken_balances", candidate=version))
        self._connection.execute("delete from sided_bookings where side = 'alone'")
        self._add_bookings("alone", render("services/simulation_balance_bookings"))
        self._create("merged_items", Sql("from merged_step_items"))
        self._create("takers", render("services/simulation_takers"))
        self._candidate_resolved, self._candidate_shares = (
            Relation(f"({render('services/simulation_in_month', query=f'from {rows}', month=self._month)})")
            for rows in (self._of_candidate(before.resolved), self._of_candidate(before.shares))
        )

    def _add_bookings(self, side: str, query: Sql) -> None:
        rows = render("services/simulation_on_side", query=query, side=side)
        self._connection.execute(f"insert into sided_bookings by name {rows}")

    def _of_candidate(self, relation: Relation) -> Relation:
        query = render("services/simulation_of_version", relation=relation, candidate=self._candidate.version)
        return Relation(f"({query})")

    def _keep_what_changes_hands(self, live_items: Relation) -> None:
        self._create("takers", render("services/simulation_takers"))
        self._create("unchanged", render("services/simulation_unchanged", live_items=live_items))
        for table, items in (("live_items", live_items), ("merged_items", Relation("merged_items"))):
            self._create(table, render("services/simulation_changed_items", items=items))

    def _create(self, name: str, query: Sql) -> None:
        create_temp_table(self._connection, name, query)

    def _book(self) -> list[str]:
        """Book the items of all sides into ``sided_bookings``.

        A pass takes fifty statements, most of which take longer to plan than to run. So all sides are booked in one, in which
        an item has an id of its own on each side.

        Returns:
            The later months in which the candidate's items are due and of which the lake has no line items.
        """
        self._create("sided_items", render("services/simulation_sided_items"))
        self._create("sided_restored_items", render("services/simulation_sided_restored_items"))
        for table, columns in (
            ("booked_resolved", resolution.RESOLVED_ACCOUNT_COLUMNS),
            ("booked_shares", shares.USAGE_SHARE_COLUMNS),
            ("booked_rows", splits.ALLOCATION_COLUMNS),
        ):
            self._create(table, rows_sql({"booking_month": "VARCHAR", **columns}, []))
        by_version = {a.version: a for a in (*self._live, *self._submitted)}
        facts = matching.due_facts(self._connection, Relation("sided_items"))
        due = {month: {version: by_version[version] for version in sorted(facts[month])} for month in facts}
        candidates_months = {month for month in due if self._candidate.version in due[month]}
        # The items are listed in their origin month, and the candidate's entries must be resolved in some month.
        of_month = due.setdefault(self._month, {})
        if not candidates_months & set(self._months_with_data):
            of_month[self._candidate.version] = self._candidate
        for month in sorted(due.keys() & set(self._months_with_data)):
            self._book_month(month, list(due[month].values()))
        explained = explained_sql("booked_rows", "sided_items", "booked_shares")
        self._create("sided_bookings", render("services/simulation_sided_bookings", query=explained))
        self._candidate_resolved = self._of_candidate(Relation("booked_resolved"))
        self._candidate_shares = self._of_candidate(Relation("booked_shares"))
        return sorted(candidates_months - set(self._months_with_data))

    def _count(self, template: str, **pieces: object) -> int:
        (count,) = self._fetch(template, **pieces).column("items")
        return int(count)

    def _book_month(self, month: str, allocators: Sequence[Allocator]) -> None:
        line_items = self._line_items([month])
        container_usage = self._workspace.lake.scan(ContainerUsage.name, [month], ContainerUsage.columns)
        configuration = self._workspace.configuration
        payers = values_named(allocators, "payer")
        self._add(
            "booked_resolved",
            month,
            resolution.resolved_accounts_sql(
                self._connection,
                line_items,
                container_usage,
                Relation("sided_items"),
                month,
                allocators,
                configuration.cost_groups,
                self._workspace.registered_accounts(payers, month),
            ),
        )
        self._add(
            "booked_shares",
            month,
            shares.usage_shares_sql(
                self._connection,
                line_items,
                container_usage,
                _of_month("booked_resolved", month),
                month,
                allocators,
                configuration.cost_groups,
                quantities(self._workspace, allocators, month),
                configuration.rates,
                self._workspace.settings.base_currency,
            ),
        )
        failed_before = Relation(f"({render('services/simulation_failed_items')})")
        query = splits.allocations_sql(
            self._connection,
            Relation("sided_items"),
            _of_month("booked_shares", month),
            Relation("sided_restored_items"),
            month,
            allocators,
            failed_before,
        )
        self._add("booked_rows", month, query)

    def _target_sentences(self) -> list[str]:
        """What deserves attention of cost groups as targets, and of the metric, in the month."""
        month, groups = self._month, self._workspace.configuration.cost_groups
        sentences = []
        for (metric_id, _), counts in counting_months(self._workspace, [self._candidate], month).items():
            if counts is None:
                sentences.append(
                    f"The metric {metric_id} has no row of {month}, so nothing is distributed in it. Deliver it."
                )
            elif counts.month != month:
                sentences.append(f"The metric {metric_id} has no row of {month} yet; that of {counts.month} counts.")
        targets = self._fetch("simulation_targets", month=month, shares=self._candidate_shares)
        for group_id, entry_value, share in targets.select("group_id", "entry_value", "untagged_share"):
            if share is not None:
                sentences.append(
                    f"{entry_value} has the rest without a value among its targets: {group_id} has {share:.2%} of the usage "
                    f"in {month}. A pattern that ends in '/.' leaves it out."
                )
        ids = sorted({group_id for group_id in targets.column("group_id") if group_id})
        conditions = [group_sql(groups, group_id) for group_id in ids if not self._is_of_containers(group_id)]
        accounts = sorted({account_id for account_id in targets.column("account_id") if account_id})
        if accounts and conditions:
            conditions.append(is_one_of(Sql("coalesce(sub_account_id, '')"), accounts))
        if len(conditions) > 1:
            overlaps = self._fetch(
                "simulation_overlaps", line_items=self._line_items([month]), conditions=conditions[:_MOST_CONDITIONS]
            )
            if overlaps:
                sentences.append(
                    f"Several of its targets have {overlaps.total()} of the usage of {month} in common, which counts for each "
                    "of them."
                )
        return sentences

    def _is_of_containers(self, group_id: str) -> bool:
        document = group_document(self._workspace.configuration.cost_groups, group_id)
        return document is not None and document[0].of is not None

    def _add(self, table: str, month: str, query: Sql) -> None:
        rows = render("services/simulation_in_month", query=query, month=month)
        self._connection.execute(f"insert into {table} by name {rows}")

    def _later_instalments(self, months: Sequence[str]) -> Rows:
        if not months:
            return Rows(("booking_month", "currency", "cost", "effective_cost"), ())
        due = splits.instalments_sql(Relation("alone_items"), _RESTORED, months)
        return self._fetch("later_instalments", instalments=due)

    def _not_reached(self) -> Rows:
        months = [m for m in self._months_with_data if m <= self._month and not self._candidate.matches_month(m)]
        return self._matched_in(months)

    def _earlier_origins(self) -> Rows:
        candidate = self._candidate
        months = [
            m
            for m in self._months_with_data
            if m < self._month
            and candidate.matches_month(m)
            and self._month < add_months(candidate.first_booking_month(m), candidate.tranche_count)
        ]
        return self._matched_in(months)

    def _matched_in(self, months: Sequence[str]) -> Rows:
        """What the criteria match in these months, in the candidate's window or not; of balances nothing is looked up."""
        if not months or self._candidate.category == "balance":
            return Rows(("month", "currency", "items", "cost", "effective_cost"), ())
        items = items_sql(self._candidate.category, self._line_items(months))
        return self._fetch(
            "simulation_matched_in_months", items_query=items, alternatives=_alternatives(self._candidate)
        )


def _alternatives(allocator: Allocator) -> list[str]:
    """SQL of the alternatives of the criteria, over the columns of line items."""
    return [
        " and ".join(condition.sql(criterion_sql(column)) for column, condition in conditions.items())
        for conditions in allocator.criteria
    ]


def _of_month(table: str, month: str) -> Relation:
    return Relation(f"({render('services/simulation_of_month', table=table, month=month)})")


def _warnings(allocator: Allocator, month: str, tables: Mapping[str, Rows], restored: int, moved: int) -> list[str]:
    sentences = _taken_before_sentence(allocator, tables["matched_items"])
    if not tables["matched_items"]:
        sentences.append(f"It matches no item of {month}. Compare its criteria and its months with the items.")
    sentences += [f"{hint}." for _, hint in hints_of(allocator)]
    if restored:
        are = "is restored and stays" if restored == 1 else "are restored and stay"
        sentences.append(f"{restored} of the items it matches {are} undistributed until re-applied.")
    if moved:
        stay = "stays" if moved == 1 else "stay"
        sentences.append(
            f"{counted(moved, 'saving')} {stay} undistributed: a rule for fees or usage distributes that unused part of a "
            "commitment as a cost already."
        )
    sentences += _not_reached_sentence(allocator, tables["not_reached"])
    if tables["earlier_origins"]:
        earlier = tables["earlier_origins"]
        sentences.append(
            f"It also matches {_counted(earlier)} of {_span(earlier)} ({earlier.total()}) with instalments due in "
            f"{month}. They are not shown here; simulate the months in which they were billed."
        )
    sentences += _unresolved_sentence(tables["unresolved"])
    if tables["over_allocated"]:
        surplus = _surplus(tables["over_allocated"])
        sentences.append(
            f"It hands out {surplus.total()} more than there is; the default account, or the item's own account, bears the "
            "difference. Check the formulas."
        )
    if tables["failed"]:
        measure = ""
        if set(tables["failed"].column("reason")) == {"formula_failed (effective)"}:
            measure = " for the amortised cost"
        formulas = [reason for reason in tables["failed"].column("reason") if reason.startswith("formula_failed")]
        why = f"a formula fails{measure} (division by zero, overflow)"
        if not formulas:
            why = " and ".join(sorted({LEFT_REASONS[reason] for reason in tables["failed"].column("reason")}))
        sentences.append(f"{tables['failed'].total()} could not be distributed: {why}.")
    if tables["commitment_lines"]:
        accounts = ", ".join(tables["commitment_lines"].column("account")[:5])
        sentences.append(
            f"It takes {tables['commitment_lines'].total()} of usage that a savings plan covers without its negation "
            f"(accounts {accounts}). Nobody was billed that much. Let the criteria match SavingsPlanNegation lines too."
        )
    sentences += _covered_sentence(tables["covered_usage"])
    return sentences


def _covered_sentence(rows: Rows) -> list[str]:
    """Who pays on-demand prices for what another used."""
    if not rows:
        return []
    accounts = sorted(set(rows.column("account")))
    total = Rows(("currency", "cost"), tuple(rows.select("currency", "effective_cost"))).total()
    return [
        f"{total} of usage that commitments cover is allocated together with what it saved: {', '.join(accounts[:5])} "
        f"{'pays' if len(accounts) == 1 else 'pay'} on-demand prices for what others used. Leave out the usage or the savings."
    ]


def _unknown_sentence(targets: Sequence[UnknownTarget]) -> list[str]:
    if not targets:
        return []
    return [
        f"Nobody knows {', '.join(map(str, targets))}: never billed in any month and not registered. A mistyped id takes money "
        "without a word."
    ]


def _taken_before_sentence(allocator: Allocator, matched_items: Rows) -> list[str]:
    """The first thing to know of an allocator whose items all go to others."""
    takers = sorted(set(matched_items.column("taken_by")) - {None})
    if not takers or allocator.id in takers:
        return []
    comes = "comes" if len(takers) == 1 else "come"
    return [
        f"It would take nothing: {' and '.join(takers[:3])} {comes} first. Give it a lower priority to put it before."
    ]


def _surplus(rows: Rows) -> Rows:
    """What is handed out too much of, by currency and month."""
    nets = dict.fromkeys(rows.select("booking_month", "currency", "net_cost", "net_effective_cost"))
    columns = ("currency", "cost", "effective_cost")
    return Rows(columns, tuple((currency, abs(cost), abs(effective)) for _, currency, cost, effective in nets))


def _not_reached_sentence(allocator: Allocator, rows: Rows) -> list[str]:
    if not rows:
        return []
    window = f"from {allocator.start}" + (f" to {allocator.end}" if allocator.end else "")
    return [
        f"It would match {_counted(rows)} of {_span(rows)} ({rows.total()}), but it is only valid {window}. "
        "Adjust startMonth, endMonth or expiration to include them."
    ]


def _counted(rows: Rows) -> str:
    return counted(sum(rows.column("items")), "item")


def _span(rows: Rows) -> str:
    months = sorted(set(rows.column("month")))
    return months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"


def _unresolved_sentence(rows: Rows) -> list[str]:
    named = dict.fromkeys(zip(rows.column("entry_type"), rows.column("entry_value"), strict=True))
    if not named:
        return []
    names = ", ".join(f"{kind} {value}" for kind, value in named)
    months = ", ".join(sorted(set(rows.column("booking_month"))))
    return [f"Nobody gets the share of {names} in {months}: it resolves to no account. Check the value."]
