"""The lake as a viewer of some cost groups sees it.

Such a viewer sees the accounts that are wholly in the groups in a month, and what is booked on the groups themselves. An
account that is partly in another group would show that group's costs, so of it only the costs of the viewer's own groups
are seen (``cost_group_costs``).

`LimitedWorkspace` refuses whatever it cannot filter: tables without a condition here, allocators, metrics, registered
accounts and what closings kept. So a service that knows nothing of limits raises instead of telling too much. A service
that makes its result from everything and filters it afterwards asks `LimitedWorkspace.whole`.

Of what is booked on their accounts and was billed elsewhere, viewers see what they pay and by which rule, and nothing that
describes the item.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Never

from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql
from octo_pipeline.model.templates import render
from octo_pipeline.registry.periods import Period
from octo_pipeline.registry.store import Registry
from octo_pipeline.registry.stored_secrets import Secrets
from octo_pipeline.rules.cost_centres import CostCentres
from octo_pipeline.rules.cost_group import CostGroup, group_document, group_sql
from octo_pipeline.workspace import Closing, Configuration, Workspace

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from octo_pipeline.lake.store import Location

# How a row of a table is known to be theirs: SQL of the account or of the cost group that it belongs to.
_SEEN_BY: dict[str, dict[str, str]] = {
    "account_costs": {
        "account": "case when owner_type = 'account' then owner_id end",
        "group": "case when owner_type = 'group' then owner_id end",
    },
    "cost_group_costs": {"group": "cost_group_id"},
    LINE_ITEMS: {"account": "sub_account_id"},
    "prepayments": {"account": "source_account"},
}
# Columns of explained allocations that describe the item; they are null where it was billed on somebody else.
HIDDEN_OF_OTHERS = (
    "payer", "source_account", "source_account_name", "source_group", "usage_date", "charge_description", "operation",
    "usage_type", "region_id", "commitment_discount_type", "commitment_discount_id", "offer_class", "savings_kind", "tags",
    "project_labels", "publisher_name", "item_cost", "item_effective_cost", "tranche_cost", "tranche_effective_cost",
    "entry_type", "entry_value",
)  # fmt: skip


def limited_error(what: str) -> OctoError:
    """The error for what cannot be shown to a viewer of some cost groups."""
    return OctoError(
        f"{what[0].upper()}{what[1:]} cannot be limited to the cost groups that you may see. Ask somebody who may see "
        "everything.",
        code="reader-limited",
    )


@dataclass(frozen=True)
class LimitedWorkspace(Workspace):
    """A workspace that shows what belongs to some cost groups, and refuses the rest.

    Attributes:
        whole: the workspace that shows everything.
        groups: the ids of cost groups; that of a family stands for all of its groups.
    """

    whole: Workspace = field(kw_only=True)
    groups: tuple[str, ...] = field(kw_only=True)

    @cached_property
    def lake(self) -> "LimitedLake":
        """The lake, whose tables have the rows that belong to the groups."""
        return LimitedLake(self)

    @property
    def registry(self) -> Registry:
        """Refused: it has accounts, decisions and users of everybody."""
        raise limited_error("the registry")

    @property
    def secrets(self) -> Secrets:
        """Refused."""
        raise limited_error("the registry")

    @cached_property
    def periods(self) -> "dict[str, Period]":
        """The months that were ever closed."""
        return self.whole.periods

    @cached_property
    def configuration(self) -> Configuration:
        """The documents of the groups alone."""
        return self._seen(self.whole.configuration)

    def configuration_of(self, month: str) -> Configuration:
        """The documents of the groups alone, as a month is computed with them."""
        return self._seen(self.whole.configuration_of(month))

    def closing(self, month: str) -> Closing:
        """Refused: it keeps the rules of everybody."""
        if self.lake.is_whole:
            return self.whole.closing(month)
        raise limited_error(f"what was kept when {month} was closed")

    def sees_group(self, cost_group: str) -> bool:
        """Whether a cost group is one of the groups."""
        return any(cost_group == group or cost_group.startswith(f"{group}/") for group in self.groups)

    def owners(self, month: str) -> set[tuple[str, str]]:
        """Who of a month is seen: (owner type, owner id)."""
        return set(self._owners_of(self.lake, month))

    def others(self, month: str) -> set[tuple[str, str]]:
        """Who of a month is not seen."""
        return set(self._owners_of(self.whole.lake, month)) - self.owners(month)

    def _owners_of(self, lake: Lake, month: str) -> list[tuple[str, str]]:
        costs = lake.scan("account_costs", [month], {"owner_type": "VARCHAR", "owner_id": "VARCHAR"})
        with lake.connect() as connection:
            return connection.execute(render("tables/owners", account_costs=costs)).fetchall()

    def _seen(self, configuration: Configuration) -> Configuration:
        groups = {name: group for name, group in configuration.cost_groups.items() if self.sees_group(name)}
        return replace(
            configuration,
            allocators=(),
            cost_groups=groups,
            metrics={},
            problems=(),
            cost_centres=CostCentres(),
            registered_accounts=(),
        )


class LimitedLake(Lake):
    """A lake in which tables have the rows that belong to some cost groups, and all else is refused.

    Attributes:
        is_whole: whether everything is read at the moment, to be filtered afterwards.
    """

    def __init__(self, workspace: LimitedWorkspace) -> None:
        whole = workspace.whole
        super().__init__(whole.lake.root, memory_limit=whole.settings.memory_limit, temp=whole.settings.temp)
        self._workspace = workspace
        self.is_whole = False

    @contextmanager
    def everything(self) -> Iterator[None]:
        """Read whole tables for a query that is filtered afterwards."""
        self.is_whole = True
        try:
            yield
        finally:
            self.is_whole = False

    def scan(
        self,
        table: str,
        months: Sequence[str] | None,
        columns: "Mapping[str, str]",
        *,
        month_as: str | None = None,
        row_number_as: str | None = None,
        rows: tuple[int, int] | None = None,
    ) -> Relation:
        """As `Lake.scan`, with the rows that belong to the groups.

        Raises:
            OctoError: rows of this table cannot be told apart.
        """
        if self.is_whole:
            return super().scan(table, months, columns, month_as=month_as, row_number_as=row_number_as, rows=rows)
        # The numbers of rows are those of the whole table.
        if table not in _SEEN_BY or row_number_as is not None or rows is not None:
            raise limited_error(f"the table {table.replace('_', ' ')}")
        by = _SEEN_BY[table]
        scanned = super().scan(table, months, columns, month_as="scanned_month")
        query = render(
            "tables/seen_rows",
            rows=scanned,
            seen_columns=list(columns),
            month_as=month_as,
            seen_by={"account": by.get("account", "null"), "group": by.get("group")},
            seen_groups=self._workspace.groups,
            seen_months=self._seen_months(self.months(table) if months is None else months) if "account" in by else [],
        )
        return Relation(f"({query})")

    def seen_allocations(self, explained: Sql, months: Sequence[str]) -> Sql:
        """Those of the explained allocations of some months that are booked on what is seen.

        What describes an item that was billed on somebody else is null.
        """
        return render(
            "tables/seen_allocations",
            explained_allocations=explained,
            hidden=HIDDEN_OF_OTHERS,
            seen_groups=self._workspace.groups,
            seen_months=self._seen_months(months),
        )

    def _seen_months(self, months: Sequence[str]) -> list[dict[str, Any]]:
        """Of each month the relations and conditions that say which accounts are wholly in the groups."""
        owner_columns = {"owner_type": "VARCHAR", "owner_id": "VARCHAR"}
        return [
            {
                "month": month,
                "line_items": super(LimitedLake, self).scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
                "account_costs": super(LimitedLake, self).scan("account_costs", [month], owner_columns),
                **self._conditions(month),
            }
            for month in months
        ]

    def _conditions(self, month: str) -> "dict[str, list[Sql]]":
        groups = self._workspace.whole.configuration_of(month).cost_groups
        documents = [(name, *_document(groups, name)) for name in self._workspace.groups]
        matching = [
            document.sql() if is_family else group_sql(groups, name)
            for name, document, is_family in documents
            # What containers use is no line item, so it says nothing of whose an account is.
            if document is not None and document.of is None
        ]
        naming = [
            document.account_sql(vendor=Sql("null::varchar"), account=Sql("owner_id"))
            for _, document, _ in documents
            if document is not None and document.by is None
        ]
        return {"matching": matching, "naming": [condition for condition in naming if condition]}

    def path(self, table: str, month: str) -> "Location":
        """As `Lake.path`, for whoever reads everything."""
        return super().path(table, month)

    def parquet_files(self, *folder: str) -> "dict[Location, Hashable]":
        """Refused: these files have rows of everybody."""
        self._require_whole(folder)
        return super().parquet_files(*folder)

    def path_of(self, *names: str) -> "Location":
        """Refused, as `parquet_files`."""
        self._require_whole(names)
        return super().path_of(*names)

    def read_text(self, *names: str) -> str | None:
        """Refused, as `parquet_files`."""
        self._require_whole(names)
        return super().read_text(*names)

    def stage(self, table: str, month: str) -> Never:
        """Refused: nothing is made from a part of the rows."""
        raise limited_error(f"the table {table.replace('_', ' ')}")

    def _require_whole(self, names: Sequence[str]) -> None:
        if not self.is_whole:
            raise limited_error(f"the folder {'/'.join(names)}")


def limited(workspace: Workspace, groups: Sequence[str]) -> LimitedWorkspace:
    """The workspace as a viewer of these cost groups sees it."""
    return LimitedWorkspace(workspace.settings, workspace.run_id, whole=workspace, groups=tuple(groups))


def _document(groups: "Mapping[str, CostGroup]", name: str) -> tuple[CostGroup | None, bool]:
    """The document of a group, and whether the id is that of a whole family."""
    family = groups.get(name)
    if family is not None and family.by:
        return family, True
    named = group_document(groups, name)
    return (named[0] if named else None), False
