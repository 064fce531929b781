"""Why what an account, a cost group or a cost centre costs changed from one month to another.

Assumptions: a month's cost is made of parts, each of which is read from the rows that booked it. The parts of a month
add up to what its tables say, so the differences of the parts are the whole difference.

Stages:
1. `_Parts` lists the parts of both months: own usage by service, region and usage type; fees that stay; what each rule
   books; steps; savings, which count in the amortised cost alone; and corrections.
2. ``causes`` compares them. A change of usage is its price (Δprice × old quantity) and its quantity (Δquantity × new
   price), a change of what a rule books is its pool (Δpool × old share) and its share (Δshare × new pool). The first of a
   pair is rounded to ten places and the second takes the rest.
3. A proof compares: the parts of each month are what the month's table says, and the causes add up to the difference.

Edge cases: a closed month whose delivery changed since has no line items any more that add up to it. Then both months are
compared by service, without quantities. Usage whose quantity is 0 or negative has neither price nor quantity.

Drawback: a usage type that is sold in several units has a quantity that means little, and so has its price.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Literal

import duckdb

from octo_pipeline.allocation import cost_groups
from octo_pipeline.allocation.items import item_id_sql
from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import COST_GROUP_COLUMNS, LINE_ITEM_COLUMNS, LINE_ITEMS, MONEY
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.sql import Relation, Sql, literal, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import amount, quoted
from octo_pipeline.rules.cost_group import group_document, group_sql
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.closings import closed_usage
from octo_pipeline.tables.corrections import Corrections
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.explained_allocations import explained_allocations
from octo_pipeline.tables.limited import LimitedWorkspace, limited_error
from octo_pipeline.workspace import Workspace

# The smallest causes that together are at most this part of all changes need no name.
_UNNAMED = Decimal("0.01")

_PART_COLUMNS: dict[str, str] = {
    "subject": "VARCHAR",
    "currency": "VARCHAR",
    "part": "VARCHAR",
    "rule": "VARCHAR",
    "allocator_version": "VARCHAR",
    "vendor": "VARCHAR",
    "service_code": "VARCHAR",
    "service_name": "VARCHAR",
    "region_id": "VARCHAR",
    "usage_type": "VARCHAR",
    "what": "VARCHAR",
    "taken_by": "VARCHAR",
    "quantity": MONEY,
    "cost": MONEY,
    "effective_cost": MONEY,
}
# Where a cause names a rule.
_RULES = ("rule", "taken_by_before", "taken_by_after")
_OWNER_COLUMNS = {"subject": "VARCHAR", "owner_type": "VARCHAR", "owner_id": "VARCHAR"}


@dataclass(frozen=True)
class Subject:
    """Whose costs are explained.

    Attributes:
        kind: what it is.
        id: the account's, the group's or the cost centre's.
        owners: the owners whose costs are its own, as (owner type, owner id); none for a cost group, whose costs are what
            its filters match and its accounts bear.
    """

    kind: Literal["account", "cost group", "cost centre"]
    id: str
    owners: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cause:
    """A reason why a cost changed, with its amounts in both measures.

    Attributes:
        part: usage, fee (which stays where it was billed), allocated, instalment, step_in, step_out, savings_in,
            savings_out, correction, or section (of a cost group whose closed month has no more detail).
        effect: price, quantity, pool, share, new, gone or changed.
        what: of a fee its line type, of a correction the closed month, of a section its name.
        taken_by_before: a rule that hands on usage or fees like these in the month before; likewise ``taken_by_after``.
        versions_before: the rule's versions that booked in the month before; likewise ``versions_after``.
    """

    subject: str
    currency: str
    part: str
    effect: str
    rule: str | None
    vendor: str | None
    service_code: str | None
    service_name: str | None
    region_id: str | None
    usage_type: str | None
    what: str | None
    taken_by_before: str | None
    versions_before: list[str]
    quantity_before: Decimal | None
    cost_before: Decimal
    pool_cost_before: Decimal | None
    effective_cost_before: Decimal
    pool_effective_cost_before: Decimal | None
    taken_by_after: str | None
    versions_after: list[str]
    quantity_after: Decimal | None
    cost_after: Decimal
    pool_cost_after: Decimal | None
    effective_cost_after: Decimal
    pool_effective_cost_after: Decimal | None
    difference: Decimal
    effective_difference: Decimal

    @property
    def is_new_version(self) -> bool:
        """Whether the rule was edited in between."""
        return bool(self.versions_before and self.versions_after) and self.versions_before != self.versions_after

    def with_names(self, rules: Mapping[str, str]) -> "Cause":
        """The same with the rules under the names that they have, by their ids."""
        names = {name: rules.get(rule, rule) for name in _RULES if (rule := getattr(self, name))}
        return replace(self, **names)

    @property
    def in_words(self) -> str:
        """The cause as people read it, without its amount."""
        service = self.service_name or self.service_code
        match self.part:
            case "usage" | "fee":
                return f"{_joined(service, self.usage_type, self.region_id, self.what)}: {self._usage_in_words}"
            case "section":
                return f"{_joined(self.what, service)}: {self._effect_in_words}"
            case "correction":
                return f"Corrections of {self.what}{f', rule {self.rule}' if self.rule else ', the bill itself'}: {self._effect_in_words}"
            case "step_out" | "savings_out":
                what = "Costs handed on in a step" if self.part == "step_out" else "Savings given to others"
                return f"{what} by the rule {self.rule}: {self._effect_in_words}"
        shared = {
            "instalment": "Instalments of the rule",
            "step_in": "Step of the rule",
            "savings_in": "Savings by the rule",
        }
        edited = ""
        if self.is_new_version:
            before, after = (", ".join(v[:8] for v in vs) for vs in (self.versions_before, self.versions_after))
            edited = f", edited ({before} to {after})"
        return f"{shared.get(self.part, 'Rule')} {self.rule}{edited}: {self._share_in_words}"

    @property
    def _usage_in_words(self) -> str:
        before, after = self._shown(
            self.cost_before, self.effective_cost_before, self.cost_after, self.effective_cost_after
        )
        match self.effect:
            case "price" if self.quantity_before and self.quantity_after:
                return f"price {_figures(before / self.quantity_before)} to {_figures(after / self.quantity_after)}"
            case "quantity":
                return f"quantity {_figures(self.quantity_before)} to {_figures(self.quantity_after)}"
            case "gone" if self.taken_by_after:
                return f"now handed on by the rule {self.taken_by_after}"
            case "new" if self.taken_by_before:
                return f"no longer handed on by the rule {self.taken_by_before}"
        return self._effect_in_words

    @property
    def _effect_in_words(self) -> str:
        if self.effect != "changed":
            return self.effect
        before, after = self._shown(
            self.cost_before, self.effective_cost_before, self.cost_after, self.effective_cost_after
        )
        return f"{amount(before)} to {amount(after)}"

    @property
    def _share_in_words(self) -> str:
        none = Decimal(0)
        pool_before, pool_after = self._shown(
            self.pool_cost_before or none,
            self.pool_effective_cost_before or none,
            self.pool_cost_after or none,
            self.pool_effective_cost_after or none,
        )
        if self.effect == "pool":
            return f"what it books, from {amount(pool_before)} to {amount(pool_after)}"
        if self.effect == "share" and pool_before and pool_after:
            before, after = self._shown(
                self.cost_before, self.effective_cost_before, self.cost_after, self.effective_cost_after
            )
            return f"its share, from {100 * before / pool_before:.2f} % to {100 * after / pool_after:.2f} %"
        return self.effect

    def _shown(
        self, before: Decimal, effective_before: Decimal, after: Decimal, effective_after: Decimal
    ) -> tuple[Decimal, Decimal]:
        """The amounts of the measure that the cause is about: the billed one, unless only the amortised one changed."""
        return (before, after) if self.difference else (effective_before, effective_after)


def _joined(*names: str | None) -> str:
    return " · ".join(filter(None, names)) or "Without a service"


def _figures(value: Decimal | None) -> str:
    """A quantity or a price: whole numbers from a thousand on, else six figures."""
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.{max(5 - value.adjusted(), 0)}f}" if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class Change:
    """What a subject costs in two months in one currency, and why it changed.

    Attributes:
        causes: all of them, the largest first; they add up to the differences exactly.
    """

    subject: str
    currency: str
    before: Decimal
    after: Decimal
    effective_before: Decimal
    effective_after: Decimal
    causes: tuple[Cause, ...]

    @property
    def difference(self) -> Decimal:
        """By how much the final cost changed."""
        return self.after - self.before

    @property
    def effective_difference(self) -> Decimal:
        """By how much the amortised final cost changed."""
        return self.effective_after - self.effective_before

    def named(self, least: int = 0) -> tuple[Cause, ...]:
        """The largest causes: without those that together are at most 1 % of all changes, in either measure.

        Args:
            least: how many are named at least, if there are as many.
        """
        unnamed = [_UNNAMED * sum(map(abs, differences)) for differences in self._differences(self.causes)]
        count = len(self.causes)
        rest = [Decimal(0), Decimal(0)]
        while count > least:
            cause = self.causes[count - 1]
            rest = [rest[0] + abs(cause.difference), rest[1] + abs(cause.effective_difference)]
            if rest[0] > unnamed[0] or rest[1] > unnamed[1]:
                break
            count -= 1
        return self.causes[:count]

    @staticmethod
    def _differences(causes: Sequence[Cause]) -> tuple[list[Decimal], list[Decimal]]:
        return [cause.difference for cause in causes], [cause.effective_difference for cause in causes]


def subject_of(workspace: Workspace, owner: str, months: Sequence[str]) -> Subject:
    """Whom an id names: an account, a cost group, or a cost centre.

    Args:
        workspace: whose lake.
        owner: the id, with or without ``account/``, ``group/`` or ``cost-centre/`` before it.
        months: the months in which it may have costs; the cost centres are those of the last one.

    Raises:
        OctoError: a month was not run, nobody of that id has costs in one of the months, or the id names several.
    """
    workspace.lake.require(months, AccountCosts.name, CostGroupCosts.name)
    lake = workspace.lake
    query = render(
        "services/cause_owners",
        account_costs=lake.scan(AccountCosts.name, months, AccountCosts.columns),
        cost_group_costs=lake.scan(CostGroupCosts.name, months, CostGroupCosts.columns),
    )
    with lake.connect() as connection:
        owners = set(connection.execute(query).fetchall())
    families = {
        group.id for month in months for group in workspace.configuration_of(month).cost_groups.values() if group.by
    }
    tabled = {group for kind, group in owners if kind == "cost group"}
    tabled |= {family for family in families if any(group.startswith(f"{family}/") for group in tabled)}
    subjects = [
        *(Subject("account", name, ((kind, name),)) for kind, name in sorted(owners) if kind == "account"),
        *(Subject("cost group", group) for group in sorted(tabled)),
        # A group that has no table can still have something booked on it.
        *(
            Subject("cost group", name, ((kind, name),))
            for kind, name in sorted(owners)
            if kind == "group" and name not in tabled
        ),
        *(Subject("cost centre", *members) for members in _cost_centres(workspace, owners, months[-1]).items()),
    ]
    return _only(owner, subjects, months)


def _cost_centres(
    workspace: Workspace, owners: Iterable[tuple[str, str]], month: str
) -> dict[str, tuple[tuple[str, str], ...]]:
    """The owners of each cost centre."""
    cost_centres = workspace.configuration_of(month).cost_centres
    members: dict[str, tuple[tuple[str, str], ...]] = {}
    for kind, name in sorted(owners):
        line = cost_centres.of(kind, name)
        if line:
            members[line.cost_centre] = (*members.get(line.cost_centre, ()), (kind, name))
    return members


def _only(owner: str, subjects: Sequence[Subject], months: Sequence[str]) -> Subject:
    prefixes = {"account": "account", "cost group": "group", "cost centre": "cost-centre"}
    by_name = {f"{prefixes[subject.kind]}/{subject.id}": subject for subject in subjects}
    return by_name[owner_named(owner, {name: subject.id for name, subject in by_name.items()}, months)]


def owner_named(owner: str, ids: Mapping[str, str], months: Sequence[str]) -> str:
    """Whom somebody means who names an owner by its id, or in full.

    Args:
        owner: what was named.
        ids: the owners by their full names, such as ``account/1``.
        months: the months in which they have costs.

    Returns:
        The full name.

    Raises:
        OctoError: nobody or more than one is called so.
    """
    names = [name for name, own_id in ids.items() if own_id == owner] or [name for name in ids if name == owner]
    if len(names) == 1:
        return names[0]
    if names:
        raise OctoError(
            f"{quoted(owner)} names several: {', '.join(names)}. Name one of them in full.",
            code="owner-ambiguous",
            place=owner,
        )
    nearest = get_close_matches(owner, sorted(set(ids.values())), n=1, cutoff=0.5)
    suggestion = f" Did you mean {nearest[0]}?" if nearest else ""
    raise OctoError(
        f"No account, cost group or cost centre {quoted(owner)} has costs in {' or '.join(months)}.{suggestion}",
        code="owner-unknown",
        place=owner,
        remedy=() if nearest else Remedy("accounts costs", month=months[-1], to="see who has"),
    )


def changes_of(workspace: Workspace, subject: Subject, before: str, after: str) -> tuple[Change, ...]:
    """Why the cost of a subject changed, by currency.

    Args:
        workspace: whose lake.
        subject: of `subject_of`.
        before: the month that is compared with.
        after: the month.

    Raises:
        OctoError: a month was not run, or a limited reader may see the subject in one of them only.
        ProofError: the causes do not add up, because the lake changed since the months were made.
    """
    if isinstance(workspace, LimitedWorkspace):
        # The sum is proved against everything, and it is told of those alone who are seen in both months.
        hidden = {owner for month in (before, after) for owner in workspace.others(month)}
        if hidden & set(subject.owners):
            raise limited_error(f"the change of {subject.id} since {before}")
        workspace = workspace.whole
    workspace.lake.require((before, after), AccountCosts.name, CostGroupCosts.name)
    if subject.owners:
        return changes_of_owners(workspace, {subject.id: subject.owners}, before, after)
    with workspace.lake.connect() as connection:
        return _explained(connection, _PartsOfGroup(connection, workspace, subject.id), before, after).changes


def changes_of_owners(
    workspace: Workspace, owners: Mapping[str, Iterable[tuple[str, str]]], before: str, after: str
) -> tuple[Change, ...]:
    """The same for many subjects at once, each with its owners as (owner type, owner id)."""
    workspace.lake.require((before, after), AccountCosts.name, CostGroupCosts.name)
    with workspace.lake.connect() as connection:
        return explain_owners(connection, workspace, owners, before, after).changes


@dataclass(frozen=True)
class Explained:
    """What the costs of subjects are made of, and why they changed.

    Attributes:
        parts: relation of the parts of the month, which add up to what each subject pays: subject, currency, part, rule,
            vendor, service_code, service_name, what, cost, effective_cost and what else `Cause` has of one month.
        pools: relation of what each rule books on everybody: part, rule, currency, cost and effective_cost.
        allocations: relation of the month's explained allocations.
        owners: relation of the subjects and their owners: subject, owner_type and owner_id.
        changes: by subject and currency.
    """

    parts: Relation
    pools: Relation
    allocations: Relation
    owners: Relation
    changes: tuple[Change, ...]


def explain_owners(
    connection: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    owners: Mapping[str, Iterable[tuple[str, str]]],
    before: str,
    after: str,
) -> Explained:
    """The parts of a month by subject, and their changes; against a month that is not made everything is new.

    Args:
        connection: temporary tables are made in it.
        workspace: whose lake.
        owners: of each subject its owners, as (owner type, owner id).
        before: the month that is compared with.
        after: the month.

    Raises:
        OctoError: the month was not run.
        ProofError: as `changes_of`.
    """
    workspace.lake.require((after,), AccountCosts.name, CostGroupCosts.name)
    return _explained(connection, _PartsOfOwners(connection, workspace, owners), before, after)


class _Parts:
    """What costs are made of in a month, as temporary tables.

    Attributes:
        ids: SQL of the ids of a line's items by category.
        compared: the columns by which the parts of a closed month are compared with what its closing kept.
        owners: relation of the subjects and their owners; that of a cost group has none.
    """

    ids: Mapping[str, Sql]
    compared: Sequence[str] = ("subject", "currency", "part", "rule", "vendor", "service_code", "what")

    def __init__(self, connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
        self._connection = connection
        self._workspace = workspace
        self.owners = Relation(f"({rows_sql(_OWNER_COLUMNS, [])})")
        self.ids = {category: item_id_sql(category) for category in ("fee", "account")}

    def explained(self, month: str, name: str) -> Relation:
        """The month's explained allocations."""
        query = explained_allocations(self._workspace, [month], has_corrections=False)
        return create_temp_table(self._connection, f"explained_{name}", query)

    def _line_items(self, month: str) -> Relation:
        return self._workspace.lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)

    def made(self, month: str, name: str, explained: Relation) -> tuple[Relation, bool]:
        """The month's parts, and whether they have regions and quantities."""
        of_lines = create_temp_table(self._connection, f"parts_{name}", self._of_lines(month, explained))
        if not self._workspace.is_closed(month):
            return of_lines, True
        as_closed = create_temp_table(self._connection, f"closed_parts_{name}", self._as_closed(month, explained))
        differ = render(
            "services/cause_parts_differ", parts_of_lines=of_lines, parts_as_closed=as_closed, compared=self.compared
        )
        is_changed = self._connection.execute(differ).fetchone() is not None
        return (as_closed, False) if is_changed else (of_lines, True)

    def undetailed(self, month: str, parts: Relation) -> Relation:
        """The month's parts without regions and quantities."""
        query = render("services/cause_parts_by_service", detailed_parts=parts)
        return create_temp_table(self._connection, f"{parts}_by_service", query)

    def _of_lines(self, month: str, explained: Relation) -> Sql:
        raise NotImplementedError

    def _as_closed(self, month: str, explained: Relation) -> Sql:
        raise NotImplementedError

    def booked(self, before: str, after: str) -> Sql:
        """What the tables say."""
        raise NotImplementedError


class _PartsOfOwners(_Parts):
    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        workspace: Workspace,
        owners: Mapping[str, Iterable[tuple[str, str]]],
    ) -> None:
        super().__init__(connection, workspace)
        rows = [(subject, kind, name) for subject, members in owners.items() for kind, name in members]
        self.owners = create_temp_table(connection, "owners", rows_sql(_OWNER_COLUMNS, rows))

    def _of_lines(self, month: str, explained: Relation) -> Sql:
        return self._rendered(month, explained, is_as_closed=False)

    def _as_closed(self, month: str, explained: Relation) -> Sql:
        return self._rendered(month, explained, is_as_closed=True)

    def _rendered(self, month: str, explained: Relation, *, is_as_closed: bool) -> Sql:
        lake = self._workspace.lake
        return render(
            "services/cause_owner_parts",
            part_columns=_PART_COLUMNS,
            owners=self.owners,
            line_items=self._line_items(month),
            explained=explained,
            corrections=lake.scan(Corrections.name, [month], Corrections.columns),
            closed_usage=closed_usage(self._workspace, month) if is_as_closed else None,
            is_as_closed=is_as_closed,
            item_ids=self.ids,
        )

    def booked(self, before: str, after: str) -> Sql:
        costs = (
            self._workspace.lake.scan(AccountCosts.name, [month], AccountCosts.columns) for month in (before, after)
        )
        return render(
            "services/causes_booked",
            owners=self.owners,
            **dict(zip(("costs_before", "costs_after"), costs, strict=True)),
        )


class _PartsOfGroup(_Parts):
    # Its sections are other parts.
    compared = ("currency",)

    def __init__(self, connection: duckdb.DuckDBPyConnection, workspace: Workspace, cost_group: str) -> None:
        super().__init__(connection, workspace)
        self._cost_group = cost_group

    def _pieces(self, month: str) -> dict[str, Any]:
        groups = self._workspace.configuration_of(month).cost_groups
        family = groups.get(self._cost_group)
        name = literal(self._cost_group)
        is_family = family is not None and family.by is not None
        of_group = f"(cost_group_id = {name} or starts_with(cost_group_id, {literal(self._cost_group + '/')}))"
        costs = self._workspace.lake.scan(CostGroupCosts.name, [month], CostGroupCosts.columns)
        return {
            "subject": self._cost_group,
            "is_of_group": Sql(of_group if is_family else f"cost_group_id = {name}"),
            "cost_group_costs": costs,
        }

    def _of_lines(self, month: str, explained: Relation) -> Sql:
        groups = self._workspace.configuration_of(month).cost_groups
        document = groups.get(self._cost_group)
        if document is None:
            named = group_document(groups, self._cost_group)
            document = named[0] if named else None
            condition = group_sql(groups, self._cost_group)
        else:
            condition = document.sql()
        line_items = self._line_items(month)
        tabled = cost_groups.tabled_groups(self._connection, line_items, [document] if document else [])
        matches = create_temp_table(
            self._connection, "group_matches", cost_groups.matches_sql(line_items, explained, tabled)
        )
        return render(
            "services/cause_group_parts",
            part_columns=_PART_COLUMNS,
            line_items=line_items,
            explained=explained,
            condition=condition,
            filtered=("vendor", *COST_GROUP_COLUMNS.values(), "tags", "project_labels"),
            members=cost_groups.members_sql(matches, explained, tabled),
            item_ids=self.ids,
            **self._pieces(month),
        )

    def _as_closed(self, month: str, explained: Relation) -> Sql:
        return render("services/cause_group_sections", part_columns=_PART_COLUMNS, **self._pieces(month))

    def undetailed(self, month: str, parts: Relation) -> Relation:
        sections = render("services/cause_group_sections", part_columns=_PART_COLUMNS, **self._pieces(month))
        return create_temp_table(self._connection, f"{parts}_by_section", sections)

    def booked(self, before: str, after: str) -> Sql:
        pieces = self._pieces(after)
        costs_after = pieces.pop("cost_group_costs")
        costs_before = self._pieces(before)["cost_group_costs"]
        return render("services/causes_booked_of_group", costs_before=costs_before, costs_after=costs_after, **pieces)


def _explained(connection: duckdb.DuckDBPyConnection, parts: _Parts, before: str, after: str) -> Explained:
    pieces: dict[str, Relation] = {}
    detailed = True
    for name, month in {"before": before, "after": after}.items():
        explained = parts.explained(month, name)
        pools = render("services/cause_pools", explained=explained)
        pieces[f"pools_{name}"] = create_temp_table(connection, f"pools_{name}", pools)
        pieces[f"parts_{name}"], is_detailed = parts.made(month, name, explained)
        detailed = detailed and is_detailed
    parts_after = pieces["parts_after"]
    if not detailed:
        for name, month in {"parts_before": before, "parts_after": after}.items():
            pieces[name] = parts.undetailed(month, pieces[name])
    causes = create_temp_table(connection, "causes", render("services/causes", **pieces))
    booked = create_temp_table(connection, "booked_costs", parts.booked(before, after))
    compared = connection.execute(
        render(
            "services/causes_compared",
            booked=booked,
            parts_before=pieces["parts_before"],
            parts_after=pieces["parts_after"],
            causes=causes,
        )
    ).fetchall()
    by_subject: dict[tuple[str, str], list[Cause]] = {}
    for cause in sorted((Cause(*row) for row in connection.table(causes).fetchall()), key=_largest_first):
        by_subject.setdefault((cause.subject, cause.currency), []).append(cause)
    changes = []
    for row in compared:
        _prove(row, before, after)
        subject, currency, cost_before, cost_after, effective_before, effective_after, *_ = row
        named = tuple(by_subject.get((subject, currency), ()))
        changes.append(Change(subject, currency, cost_before, cost_after, effective_before, effective_after, named))
    return Explained(parts_after, pieces["pools_after"], explained, parts.owners, tuple(changes))


def _largest_first(cause: Cause) -> tuple[Any, ...]:
    names = (cause.part, cause.rule, cause.vendor, cause.service_code, cause.region_id, cause.usage_type, cause.what)
    return (-max(abs(cause.difference), abs(cause.effective_difference)), *(name or "" for name in names), cause.effect)


def _prove(row: tuple[Any, ...], before: str, after: str) -> None:
    """Prove that the parts of both months are what the tables say, and that the causes add up to the difference.

    Raises:
        ProofError: one of it does not hold.
    """
    subject, currency, *amounts = row
    booked, parts, differences = amounts[:4], amounts[4:8], amounts[8:]
    for month, booked_cost, part in zip((before, after) * 2, booked, parts, strict=True):
        if booked_cost != part:
            raise ProofError(
                f"What {subject} costs in {month} is {amount(booked_cost, currency)}, and its parts are "
                f"{amount(part, currency)}: the lake changed since {month} was made. Make {month} again."
            )
    for difference, (earlier, later) in zip(differences, ((booked[0], booked[1]), (booked[2], booked[3])), strict=True):
        if difference != later - earlier:
            raise ProofError(
                f"The causes of the change of {subject} add up to {difference:f} {currency}, and the change is "
                f"{later - earlier:f} {currency}."
            )
