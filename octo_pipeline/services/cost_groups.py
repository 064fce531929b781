"""Cost group documents: what they match in a month, who names them, saving and removing them.

What a document means belongs in `octo_pipeline.rules`, what saved groups cost in `costs`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from octo_pipeline.allocation.resolution import family_rows
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import Sql, literal
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import amount, counted
from octo_pipeline.registry.records import Actor
from octo_pipeline.rules.allocator import Allocator, group_problems
from octo_pipeline.rules.conditions import Condition, pattern_hints
from octo_pipeline.rules.cost_centres import FILE as COST_CENTRES
from octo_pipeline.rules.cost_group import CostGroup, parse_cost_group
from octo_pipeline.rules.documents import is_unset, read_object
from octo_pipeline.services.costs import unknown_cost_group
from octo_pipeline.services.documents import DocumentFolder, as_text, see_documents, unlink, version_as_recorded, write
from octo_pipeline.services.simulate import current_or_latest
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.container_usage import ContainerUsage
from octo_pipeline.tables.limited import LimitedWorkspace
from octo_pipeline.workspace import Workspace

# A preview lists no more accounts and no more groups than this, the largest; its totals count all.
MOST_LISTED = 1_000


@dataclass(frozen=True)
class GroupSubmission:
    """A cost group document that is about to be saved.

    Attributes:
        file: its file, for messages.
        document: the JSON object to save.
        group: the document, parsed.
    """

    file: str
    document: dict[str, Any]
    group: CostGroup


@dataclass(frozen=True)
class GroupUse:
    """A document of the configuration that means a cost group.

    Attributes:
        document: the allocator's id, or the file of the cost centres.
        path: where in it.
        value: what is written there.
        is_pattern: whether it is a pattern, which just matches less without the group.
    """

    document: str
    path: str
    value: str
    is_pattern: bool


@dataclass(frozen=True)
class GroupPreview:
    """What a cost group document matches in a month; nothing is saved.

    Attributes:
        group: the document.
        month: the month.
        totals: per currency how many accounts, groups and line items, and what they were billed.
        accounts: what was billed of each account that it matches, the largest first; not more than `MOST_LISTED`.
        groups: of a family the same of each of its groups.
        hints: what is allowed and hardly meant, a sentence each.
    """

    group: CostGroup
    month: str
    totals: Rows
    accounts: Rows
    groups: Rows
    hints: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The sentence that a preview begins with: what the document matches."""
        kind = "Family" if self.group.by else "Cost group"
        matched = ", ".join(
            f"{counted(accounts, 'account')} with {counted(line_items, 'line item')} of {amount(cost, currency)}"
            + (f" (amortised {amount(effective, currency)})" if effective != cost else "")
            for currency, accounts, line_items, cost, effective in self.totals.select(
                "currency", "accounts", "line_items", "cost", "effective_cost"
            )
        )
        return f"{kind} {self.group.id} in {self.month}: matches {matched or 'nothing'}."

    @property
    def values(self) -> dict[str, Any]:
        """The preview for programs."""
        return {
            "id": self.group.id,
            "version": self.group.version,
            "month": self.month,
            "is_family": self.group.by is not None,
            "totals": self.totals.records(),
            "accounts": self.accounts.records(),
            "groups": self.groups.records(),
            "hints": [{"path": "combinations", "message": hint} for hint in self.hints],
        }


def folder_of(config: Path) -> DocumentFolder:
    """The cost group documents of a configuration folder."""
    replacing = Remedy("cost-groups add", "FILE", replace=True, to="replace it")
    return DocumentFolder(config / "cost_groups", CostGroup, "cost group", replacing)


def path_of(workspace: Workspace, group_id: str) -> Path:
    """The file that has the cost group, even if it is not valid.

    Raises:
        OctoError: no file has it that the reader may see, or several do.
    """
    is_hidden = isinstance(workspace, LimitedWorkspace) and not workspace.sees_group(group_id)
    path = None if is_hidden else folder_of(workspace.settings.config).find(group_id)
    if path is None:
        raise unknown_cost_group(group_id)
    return path


def submitted_group(content: bytes, file: str) -> GroupSubmission:
    """Read a document that is about to be saved.

    Args:
        content: the document.
        file: its name, for messages and as its id if it has none.

    Raises:
        DocumentError: the document is not valid; it has everything that is wrong.
    """
    group = parse_cost_group(content, file=file)
    written = read_object(content, file=file)
    # The id that a document lacks is added in front.
    document = {"id": group.id} | written | {"id": group.id} if is_unset(written, "id") else written
    return GroupSubmission(file, document, group)


def save_group(workspace: Workspace, submission: GroupSubmission, actor: Actor, *, replace: bool) -> Path:
    """Save a document in the configuration folder and note who did.

    Returns:
        Its file.

    Raises:
        OctoError: its id is taken and `replace` is False, allocators that name it would no longer be valid, or the file
            cannot be written.
    """
    group = submission.group
    target = folder_of(workspace.settings.config).target_of(group.id, replace=replace)
    _require_allocators_valid(workspace, group)
    see_documents(workspace)
    write(target, as_text(submission.document).encode())
    saved = version_as_recorded("cost_group", group)
    details = {"file": str(target), "version": group.version}
    workspace.registry.documents.save([saved], actor, "save_cost_group", group.id, details)
    return target


def remove_group(workspace: Workspace, group_id: str, actor: Actor) -> None:
    """Remove a cost group's document and note who did.

    Raises:
        OctoError: there is no such cost group, a rule or a cost centre names it, or its file cannot be removed.
    """
    path = path_of(workspace, group_id)
    names = [f"{use.document} ({use.path})" for use in uses_of(workspace, group_id) if not use.is_pattern]
    if names:
        raise OctoError(
            f"The cost group {group_id} is named by {', '.join(names)}. Take it out of there first; nothing was removed.",
            code="cost-group-named",
            place=group_id,
        )
    unlink(path)
    workspace.registry.note(actor, "remove_cost_group", group_id, {"file": str(path)})


def uses_of(workspace: Workspace, group_id: str) -> list[GroupUse]:
    """Which allocators and cost centres mean a cost group, by its id or by a pattern; of a family also its groups.

    Patterns over the groups of a family are tried with what they write before the slash, since the values differ from
    month to month.
    """
    configuration = workspace.configuration
    uses = [use for allocator in configuration.allocators for use in _uses_in(allocator, group_id)]
    for line in configuration.cost_centres.lines:
        if line.owner_type == "group" and _means(line.condition, group_id):
            uses.append(GroupUse(COST_CENTRES, f"group {line.owner_id}", line.owner_id, line.condition.kind != "eq"))
    return uses


def _uses_in(allocator: Allocator, group_id: str) -> Iterator[GroupUse]:
    for i, entry in enumerate(allocator.entries):
        if entry.pattern is not None:
            if _means(Condition("re", entry.pattern), group_id):
                yield GroupUse(allocator.id, f"allocator[{i}].value", entry.value, True)
        elif entry.type in ("group", "costgroup") and _is_of(entry.value, group_id):
            yield GroupUse(allocator.id, f"allocator[{i}].value", entry.value, False)
    if allocator.usage_of.kind == "costGroup" and _is_of(allocator.usage_of.id, group_id):
        yield GroupUse(allocator.id, "usageOf.costGroup", allocator.usage_of.id, False)
    if allocator.default_group and _is_of(allocator.default_group, group_id):
        yield GroupUse(allocator.id, "defaultGroup", allocator.default_group, False)
    for i, conditions in enumerate(allocator.criteria):
        condition = conditions.get("own_group_id")
        if condition and _means(condition, group_id):
            yield GroupUse(allocator.id, f"criteria[{i}].and.group", condition.written, condition.kind != "eq")


def _is_of(written: str, group_id: str) -> bool:
    """Whether an id is that of the group or, of a family, of one of its groups."""
    return written.partition("/")[0] == group_id


def _means(condition: Condition, group_id: str) -> bool:
    return (
        _is_of(condition.text, group_id)
        if condition.kind == "eq"
        else condition.holds(group_id) or condition.holds(f"{group_id}/")
    )


def _require_allocators_valid(workspace: Workspace, group: CostGroup) -> None:
    """Refuse a document that makes live allocators invalid, because what they take would be left where it is."""
    groups = workspace.configuration.cost_groups
    changed = {**groups, group.id: group}
    for allocator in workspace.configuration.allocators:
        problems = group_problems(allocator, changed, file=allocator.id)
        if problems:
            raise OctoError(
                f"The allocator {allocator.id} would no longer be valid: {problems[0].path}: {problems[0].message}. "
                "Nothing was saved.",
                code="cost-group-needed-otherwise",
                place=group.id,
            )


def preview_group(workspace: Workspace, group: CostGroup, month: str | None, now: datetime) -> GroupPreview:
    """What a document matches in the line items of a month.

    An account without a line item of its own is listed with 0 if a filter names it alone and something is booked on it.

    Args:
        workspace: the lake.
        group: the document.
        month: the month; None for the current month if the lake has it, else the latest.
        now: the current time, with a time zone.

    Raises:
        OctoError: the lake has no line items of the month.
    """
    lake = workspace.lake
    month = month or current_or_latest(workspace, now)
    lake.require([month], LINE_ITEMS)
    line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
    rows = family_rows(group, line_items, lake.scan(ContainerUsage.name, [month], ContainerUsage.columns))
    is_of_containers = group.of == "containers"
    with lake.connect() as connection:
        matches = create_temp_table(
            connection,
            "previewed_matches",
            render(
                "services/cost_group_matches",
                rows=rows,
                condition=group.sql(),
                group_id=_group_id(group),
                is_of_containers=is_of_containers,
                line_items=line_items,
                account_costs=lake.scan(AccountCosts.name, [month], AccountCosts.columns),
                account_condition=group.account_sql(vendor=Sql("vendor"), account=Sql("account")),
            ),
        )
        totals, accounts, groups = (
            Rows.fetched(connection, render(f"services/cost_group_preview_{part}", matches=matches, most=MOST_LISTED))
            for part in ("totals", "accounts", "groups")
        )
    hints = pattern_hints(group.maps())
    if not accounts:
        hints.append(f"it matches nothing in {month}")
    return GroupPreview(group, month, totals, accounts, groups if group.by else Rows(groups.columns, ()), tuple(hints))


def _group_id(group: CostGroup) -> Sql:
    return Sql(f"{literal(f'{group.id}/')} || {group.by.value_sql()}") if group.by else literal(group.id)
