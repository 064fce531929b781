"""Cost groups: what each costs and its trend, one of them in all sections, and the editor that shows what it matches."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from starlette.datastructures import FormData
from starlette.responses import Response

from octo_pipeline.api.documents import in_turn, require_seen, require_writable
from octo_pipeline.console.drafts import OPERATORS, Draft, draft_of, typed_draft
from octo_pipeline.console.group_form import LISTS, GroupForm
from octo_pipeline.console.saved import SavedDocument, compared, differences, is_writable, placed, saved_document
from octo_pipeline.console.visit import Editing, Seeing, Typed, Viewing, Visit
from octo_pipeline.model.columns import LINE_ITEMS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, is_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.rules.conditions import pattern_hints
from octo_pipeline.rules.documents import DocumentError, Problem, is_unset
from octo_pipeline.services import cost_groups
from octo_pipeline.services.attributes import COST_GROUP, attributes
from octo_pipeline.services.costs import cost_group_costs, cost_group_totals
from octo_pipeline.services.documents import as_text
from octo_pipeline.services.remembered import remembered
from octo_pipeline.services.versions import versions_of

router = APIRouter()

_FOLDER = "cost_groups"
_TREND_MONTHS = 12
_MOST_ROWS = 200
_MOST_PREVIEWED = 20
_NEW = {"id": "", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": ""}}]}}}
# The tabs of a group: what its costs are listed by.
_BY = {
    "month": ("Month", "month"),
    "service": ("Service", "service_code"),
    "account": ("Account", "account"),
    "vendor": ("Vendor", "vendor"),
    "group": ("Group", "cost_group_id"),
}
_BY_KINDS = {"": "no family: one group", "tag": "tag", "label": "label", "projectLabel": "label of the project", "account": "account", "payer": "payer"}  # fmt: skip

Trend = list[tuple[str, Decimal]]


@dataclass(frozen=True)
class _Listed:
    """What a group costs in one currency.

    Attributes:
        costs: by month, the last being the month of the page.
    """

    currency: str
    costs: Trend

    @property
    def current(self) -> Decimal:
        """The costs of the month."""
        return self.costs[-1][1]

    @property
    def change(self) -> Decimal | None:
        """By which part they differ from those of the month before; None if there were none."""
        before = self.costs[-2][1] if len(self.costs) > 1 else Decimal(0)
        return (self.current - before) / before if before > 0 else None


@dataclass(frozen=True)
class _Aim:
    """What a form is about: the group that is changed, the version of it that was seen, and the month that is tried."""

    of: str = ""
    seen: str = ""
    month: str = ""


@router.get("/cost-groups")
def cost_groups_page(visit: Seeing) -> HTMLResponse:
    """The cost groups with what each costs."""
    groups = visit.workspace.configuration.cost_groups
    listed = _listed(visit)
    # Of a family, somebody may see one group and not the document, which says what all of them are by.
    names = (name.partition("/") for name in visit.user.cost_groups or () if name.partition("/")[0] not in groups)
    of_families = sorted({(family, value) for family, slash, value in names if slash})
    return visit.page(
        "cost_groups",
        month=visit.month,
        groups=list(groups.values()),
        listed=listed,
        removed=sorted(listed.keys() - groups.keys() - {family for family, _ in of_families}),
        of_families=of_families,
        problems=[] if _is_limited(visit) else _problems(visit),
        is_limited=_is_limited(visit),
        is_writable=is_writable(visit.workspace, _FOLDER),
    )


@router.get("/cost-groups/new")
def new_page(visit: Viewing, copy: Annotated[str, Query(max_length=100)] = "") -> HTMLResponse:
    """A new cost group, or a copy of one."""
    text = as_text(_NEW)
    if copy:
        text = _required(visit, copy).text
        document = draft_of(GroupForm, text).document
        text = as_text(document | {"id": f"{copy}-2"}) if document else text
    return _editor(visit, draft_of(GroupForm, text), _Aim(month=visit.month or ""))


@router.get("/cost-groups/{group_id}")
def cost_group_page(
    visit: Seeing,
    group_id: str,
    by: Literal["month", "account", "service", "vendor", "group"] | None = None,
    value: Annotated[str | None, Query(max_length=10_000)] = None,
) -> Response:
    """What a group costs, section by section; of a family also one of its groups."""
    workspace, month = visit.workspace, visit.month
    group = workspace.configuration.cost_groups.get(group_id)
    if group is None and group_id not in _listed(visit):
        # A document that is not valid can only be edited; one that nobody has is an error.
        _required(visit, group_id)
        return visit.redirect(visit.address(f"/cost-groups/{quote(group_id, safe='')}/edit"))
    is_family = group is not None and group.by is not None and value is None
    chosen = by if by and (by != "group" or is_family) else "group" if is_family else "month"
    shown_id = group_id if value is None else f"{group_id}/{value}"
    months = _months(visit) if chosen == "month" else [month] if month in visit.months and month else []
    costs = cost_group_costs(workspace, shown_id, months, _BY[chosen][1]) if months else Rows((), ())
    trend = cost_group_costs(workspace, shown_id, _months(visit), "month") if months else Rows((), ())
    return visit.page(
        "cost_group",
        group_id=group_id,
        shown_id=shown_id,
        group=group,
        value=value,
        is_family=is_family,
        month=month,
        by=chosen,
        tabs={name: title for name, (title, _) in _BY.items() if name != "group" or is_family},
        costs=_shown(costs),
        count=len(costs),
        trends=_trends(trend, _months(visit)),
        totals=sorted(_totals(trend, month), key=lambda total: -abs(total[1])),
        uses=[] if _is_limited(visit) or group is None else cost_groups.uses_of(workspace, group_id),
        is_limited=_is_limited(visit),
    )


@router.get("/cost-groups/{group_id}/edit")
def edit_page(visit: Viewing, group_id: str) -> HTMLResponse:
    """The editor of a group."""
    saved = _required(visit, group_id)
    return _editor(
        visit, draft_of(GroupForm, saved.text), _Aim(of=group_id, seen=saved.version, month=visit.month or "")
    )


@router.get("/cost-groups/{group_id}/versions")
def versions_page(
    visit: Viewing,
    group_id: str,
    before: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[str, Query(max_length=64)] = "",
) -> HTMLResponse:
    """What a group said and says, and what differs between two of its versions."""
    versions = versions_of(visit.workspace, "cost_group", group_id)
    return visit.page(
        "versions", path=f"/cost-groups/{quote(group_id, safe='')}", **compared(versions, group_id, before, after)
    )


@router.get("/cost-groups/{group_id}/remove")
def remove_page(visit: Editing, group_id: str) -> HTMLResponse:
    """What removing a group means."""
    return visit.page(
        "cost_group_remove",
        group_id=group_id,
        saved=_required(visit, group_id),
        month=visit.month,
        listed=_listed(visit).get(group_id, []),
        uses=cost_groups.uses_of(visit.workspace, group_id),
        closed=visit.workspace.closed_months,
        is_writable=is_writable(visit.workspace, _FOLDER),
    )


@router.post("/cost-groups/{group_id}/remove")
@in_turn
def remove(visit: Editing, group_id: str, form: Typed) -> Response:
    """Remove a group that no rule names."""
    require_writable(visit.workspace, _FOLDER)
    require_seen(str(form.get("seen", "")), _required(visit, group_id).version)
    cost_groups.remove_group(visit.workspace, group_id, visit.actor)
    return visit.redirect(
        "/cost-groups", f"{group_id} is removed. Months that were made with it stay until they are made again."
    )


@router.post("/cost-groups/try")
def try_draft(visit: Viewing, form: Typed) -> HTMLResponse:
    """What was typed, taken over from the form into the JSON or the other way, with what is wrong and what it matches."""
    is_tried = form.get("do") == "simulate"
    return _editor(visit, typed_draft(GroupForm, form), _aim(form), is_typed=True, is_tried=is_tried)


@router.post("/cost-groups/save")
@in_turn
def save(visit: Editing, form: Typed) -> Response:
    """Save a group."""
    workspace, aim = visit.workspace, _aim(form)
    require_writable(workspace, _FOLDER)
    draft = typed_draft(GroupForm, form)
    submission, _ = _check(draft, aim)
    if submission is None or draft.is_torn:
        return _editor(visit, draft, aim, is_typed=True, status_code=422)
    group = submission.group
    saved = _saved(visit, aim.of or group.id)
    path = visit.address(f"/cost-groups/{quote(group.id, safe='')}", month=aim.month)
    notice = f"{group.id} is saved. Bring the months up to date in which it is to count."
    if (saved.version if saved else "") != (aim.seen if aim.of else ""):
        if saved and (draft_of(GroupForm, saved.text).document or {}) == submission.document:
            return visit.redirect(path, notice)
        return _editor(visit, draft, aim, is_typed=True, status_code=412, saved=saved)
    try:
        cost_groups.save_group(workspace, submission, visit.actor, replace=bool(aim.of))
    except OctoError as error:
        problem = Problem("", "id", visit.sentence(error))
        return _editor(visit, draft, aim, is_typed=True, status_code=422, refusal=(problem,))
    return visit.redirect(path, notice)


def _editor(
    visit: Visit,
    draft: Draft,
    aim: _Aim,
    *,
    is_typed: bool = False,
    is_tried: bool = False,
    status_code: int = 200,
    saved: SavedDocument | None = None,
    refusal: tuple[Problem, ...] = (),
) -> HTMLResponse:
    workspace = visit.workspace
    submission, problems = _check(draft, aim)
    problems += refusal
    preview, obstacle = None, ""
    if is_tried and submission is not None:
        try:
            month = aim.month if is_month(aim.month) else None
            preview = cost_groups.preview_group(workspace, submission.group, month, datetime.now(UTC))
        except OctoError as error:
            obstacle = visit.sentence(error)
    is_read_only = not is_writable(workspace, _FOLDER)
    file = f"{_FOLDER}/{submission.group.id}.json" if submission else ""
    hints = (
        [Problem("", "combinations", f"{hint}.") for hint in pattern_hints(submission.group.maps())]
        if submission
        else []
    )
    return visit.page(
        "cost_group_editor",
        status_code=status_code,
        has_month=False,
        aim=replace(aim, seen=saved.version) if saved and aim.of else aim,
        draft=draft,
        form=draft.form,
        is_typed=is_typed,
        **placed(problems, draft.form.fields(), is_shown=is_typed or bool(aim.of)),
        hints=hints,
        preview=preview,
        obstacle=obstacle,
        months=workspace.lake.months(LINE_ITEMS),
        overtaken=differences(saved.text, draft.text) if saved else [],
        is_overtaken=status_code == 412,
        is_read_only=is_read_only,
        to_commit=[(file, as_text(submission.document))] if is_read_only and submission else [],
        closed=workspace.closed_months,
        keys=[
            (key, meaning)
            for category, key, values, meaning in attributes().select("category", "key", "values", "meaning")
            if (category, values) == (COST_GROUP, "text")
        ],
        operators=OPERATORS,
        lists=LISTS,
        by_kinds=_BY_KINDS,
        most=_MOST_PREVIEWED,
    )


def _check(draft: Draft, aim: _Aim) -> tuple[cost_groups.GroupSubmission | None, tuple[Problem, ...]]:
    """What would be saved, or everything that is wrong with it."""
    if draft.document is None or draft.problems:
        return None, draft.problems
    content, missing = draft.text.encode(), list[Problem]()
    if is_unset(draft.document, "id") and not aim.of:
        missing = [Problem("", "id", "is missing; give the group an id")]
        content = as_text({**draft.document, "id": "x"}).encode()
    try:
        # A document without an id has that of its file.
        submission = cost_groups.submitted_group(content, f"{aim.of}.json")
    except DocumentError as error:
        return None, (*missing, *error.problems)
    if aim.of and submission.group.id != aim.of:
        message = (
            f"must stay {aim.of}, by which rules and months know the group; copy the group to have one of another id"
        )
        missing = [Problem("", "id", message)]
    return (None if missing else submission), tuple(missing)


def _listed(visit: Visit) -> dict[str, list[_Listed]]:
    """What each group costs in the month and in those before it, by currency; the largest currency first."""
    workspace, months = visit.workspace, _months(visit)
    if not months:
        return {}
    rows = remembered(workspace, "cost groups", months[-1], lambda: cost_group_totals(workspace, months))
    costs: dict[str, dict[str, dict[str, Decimal]]] = {}
    for group_id, month, currency, cost in rows.select("cost_group", "month", "currency", "cost"):
        costs.setdefault(group_id, {}).setdefault(currency, {})[month] = cost
    return {
        group_id: sorted(
            (
                _Listed(currency, [(month, by_month.get(month, Decimal(0))) for month in months])
                for currency, by_month in currencies.items()
            ),
            key=lambda listed: -abs(listed.current),
        )
        for group_id, currencies in costs.items()
    }


def _months(visit: Visit) -> list[str]:
    """The months with results up to that of the page, not more than a year."""
    month = visit.month
    if month is None or month not in visit.months:
        return []
    return [m for m in visit.months if add_months(month, 1 - _TREND_MONTHS) <= m <= month]


def _trends(rows: Rows, months: list[str]) -> dict[str, Trend]:
    """The costs of each currency by month."""
    costs: dict[str, dict[str, Decimal]] = {}
    for month, currency, cost in rows.select("month", "currency", "cost") if rows.rows else []:
        costs.setdefault(currency, {})[month] = cost
    trends = {currency: [(m, by_month.get(m, Decimal(0))) for m in months] for currency, by_month in costs.items()}
    return dict(sorted(trends.items(), key=lambda trend: -abs(trend[1][-1][1])))


def _totals(rows: Rows, month: str | None) -> list[tuple[str, Decimal, Decimal]]:
    """Currency, cost and savings of a month."""
    listed = rows.select("month", "currency", "cost", "savings") if rows.rows else []
    return [(currency, cost, savings) for its_month, currency, cost, savings in listed if its_month == month]


def _shown(costs: Rows) -> Rows:
    """The first rows, without what is 0 in most installations, nor amortised costs that repeat the billed ones."""
    rare = [name for name in ("balance", "correction") if name in costs.columns and not any(costs.column(name))]
    return costs.first(_MOST_ROWS).picked([n for n in costs.columns if n not in rare]).without_repeated_costs()


def _problems(visit: Visit) -> list[Problem]:
    return [p for p in visit.workspace.configuration.problems if p.file.startswith(f"{_FOLDER}/")]


def _is_limited(visit: Visit) -> bool:
    return visit.user.cost_groups is not None


def _saved(visit: Visit, group_id: str) -> SavedDocument | None:
    folder = cost_groups.folder_of(visit.workspace.settings.config)
    return saved_document(folder, group_id, visit.workspace.configuration.cost_groups.get(group_id))


def _required(visit: Visit, group_id: str) -> SavedDocument:
    cost_groups.path_of(visit.workspace, group_id)
    saved = _saved(visit, group_id)
    assert saved is not None  # noqa: S101 # nosec B101 - path_of raises
    return saved


def _aim(form: FormData) -> _Aim:
    return _Aim(**{name: str(form.get(name, "")) for name in ("of", "seen", "month")})
