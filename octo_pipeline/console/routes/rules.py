"""Rules: the allocators in their order, what each moved, and the editor that shows what a change would do."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from starlette.datastructures import FormData
from starlette.responses import Response

from octo_pipeline.api.documents import in_turn, require_seen, require_writable
from octo_pipeline.console.drafts import OPERATORS, Draft, draft_of, typed_draft
from octo_pipeline.console.rule_form import RuleForm
from octo_pipeline.console.saved import (
    DiffLine,
    SavedDocument,
    compared,
    differences,
    is_writable,
    placed,
    saved_document,
)
from octo_pipeline.console.visit import Editing, Typed, Viewing, Visit
from octo_pipeline.model.columns import LINE_ITEMS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, is_month, parse_month
from octo_pipeline.model.rows import Rows
from octo_pipeline.rules.allocator import Allocator, hints_of
from octo_pipeline.rules.documents import DocumentError, Problem, is_unset
from octo_pipeline.services import rules
from octo_pipeline.services.attributes import attribute_values, attributes, values_query
from octo_pipeline.services.documents import as_text
from octo_pipeline.services.remembered import remembered
from octo_pipeline.services.simulate import SECTIONS, Simulation, simulate
from octo_pipeline.services.summary import moved_by_rules
from octo_pipeline.services.versions import versions_of

router = APIRouter()

_FOLDER = "allocators"
_CATEGORIES = ("fee", "account", "savings", "balance")
_MOST_ACCOUNTS = 5
_MOST_ROWS = 20
_MOST_OFFERS = 50
# What a new rule begins with; what it lacks is said where it belongs.
_NEW = {
    "id": "",
    "category": "fee",
    "startMonth": "",
    "criteria": [{"and": {"lineType": "Fee"}}],
    "allocator": [{"type": "account", "value": "", "formula": "cost*usage"}],
}
# Sections that the page shows in its own way, or whose rows the headline sums up.
_OWN_SECTIONS = ("matched_costs", "differences")


@dataclass(frozen=True)
class _Aim:
    """What a form is about.

    Attributes:
        of: the rule that is changed; empty for a new one.
        seen: the version of it that was seen.
        supersedes: the rule whose place the document takes; empty if it takes none's.
        first: from which month on.
        month: the month that it is tried on.
    """

    of: str = ""
    seen: str = ""
    supersedes: str = ""
    first: str = ""
    month: str = ""


@dataclass(frozen=True)
class _Checked:
    """A draft with what is wrong with it.

    Attributes:
        submission: what would be saved; None while something is wrong.
        succession: with the end of the rule before it, if it takes another one's place.
        problems: what is wrong.
        hints: what is allowed and hardly meant.
    """

    draft: Draft
    submission: rules.Submission | None
    succession: rules.Succession | None
    problems: tuple[Problem, ...]
    hints: tuple[Problem, ...]


@dataclass(frozen=True)
class _Trial:
    """What a page shows of a simulation, however large that is.

    Attributes:
        headline: what the document matches.
        consequence: what changes.
        notes: what was assumed.
        warnings: what deserves attention.
        changes: who pays most more and most less: a title, the rows, and how many there are besides.
        sections: the other tables: a title, the first rows, and how many there are.
    """

    headline: str
    consequence: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    changes: list[tuple[str, list[tuple[Any, ...]], int]]
    sections: list[tuple[str, Rows, int]]


@router.get("/rules")
def rules_page(visit: Viewing) -> HTMLResponse:
    """The rules in the order in which they take items."""
    workspace, month = visit.workspace, visit.month
    moved = _all_moved(visit) or Rows((), ())
    by_rule: dict[str, list[dict[str, Any]]] = {}
    for row in moved.rows:
        record = dict(zip(moved.columns, row, strict=True))
        by_rule.setdefault(record["allocator"], []).append(record)
    configuration = workspace.configuration
    at = month or f"{datetime.now(UTC):%Y-%m}"
    ended = [a for a in configuration.allocators if a.end and a.end < at]
    current = [a for a in configuration.allocators if a not in ended]
    known = {a.id for a in configuration.allocators}
    return visit.page(
        "rules",
        month=month,
        current=current,
        ended=ended,
        moved=by_rule,
        removed=sorted(by_rule.keys() - known),
        problems=[p for p in configuration.problems if p.file.startswith(f"{_FOLDER}/")],
        is_writable=is_writable(workspace, _FOLDER),
        closed=workspace.closed_months,
    )


@router.get("/rules/new")
def new_page(visit: Viewing, copy: Annotated[str, Query(max_length=100)] = "") -> HTMLResponse:
    """A new rule, or a copy of one."""
    if copy:
        saved = _required(visit, copy)
        draft = draft_of(RuleForm, saved.text)
        document = {k: v for k, v in (draft.document or {}).items() if k not in ("createTime", "updateTime")}
        text = as_text(document | {"id": f"{copy}-2"}) if draft.document else saved.text
    else:
        text = as_text(_NEW | {"startMonth": visit.month or f"{datetime.now(UTC):%Y-%m}"})
    return _editor(visit, draft_of(RuleForm, text), _Aim(month=visit.month or ""))


@router.get("/rules/offers")
def offers(
    visit: Viewing,
    key: Annotated[str, Query(max_length=1_000)] = "",
    category: Annotated[str, Query(max_length=20)] = "",
    text: Annotated[str, Query(max_length=200)] = "",
    month: Annotated[str, Query(max_length=7)] = "",
) -> HTMLResponse:
    """Values that a key has in a month, for a field to offer."""
    rows = Rows(("value", "name", "line_items"), ())
    its_category = category if category in _CATEGORIES[:3] else None
    try:
        query = values_query(
            visit.workspace,
            key,
            parse_month(month),
            category=its_category,
            text=text,
            most=_MOST_OFFERS,
        )
        rows = attribute_values(visit.workspace, query)
    except OctoError:
        # A key that is not there yet while somebody types it, or a month without data: nothing is offered.
        pass
    return visit.page("offers", rows=rows)


@router.get("/rules/{rule_id}")
def rule_page(visit: Viewing, rule_id: str) -> HTMLResponse:
    """One rule: what it moved, and the editor."""
    saved = _required(visit, rule_id)
    aim = _Aim(of=rule_id, seen=saved.version, month=visit.month or "")
    return _editor(visit, draft_of(RuleForm, saved.text), aim)


@router.get("/rules/{rule_id}/supersede")
def supersede_page(visit: Editing, rule_id: str) -> HTMLResponse:
    """A rule that takes the place of another one from a month on."""
    saved = _required(visit, rule_id)
    document = draft_of(RuleForm, saved.text).document or {}
    unset = ("createTime", "updateTime", "startMonth", "endMonth", "expiration")
    first = _first_month(visit, rule_id)
    text = as_text({k: v for k, v in document.items() if k not in unset} | {"id": f"{rule_id}-from-{first}"})
    aim = _Aim(seen=saved.version, supersedes=rule_id, first=first, month=visit.month or "")
    return _editor(visit, draft_of(RuleForm, text), aim)


@router.get("/rules/{rule_id}/versions")
def versions_page(
    visit: Viewing,
    rule_id: str,
    before: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[str, Query(max_length=64)] = "",
) -> HTMLResponse:
    """What a rule said and says, and what differs between two of its versions."""
    versions = versions_of(visit.workspace, "allocator", rule_id)
    return visit.page(
        "versions", path=f"/rules/{quote(rule_id, safe='')}", **compared(versions, rule_id, before, after)
    )


@router.get("/rules/{rule_id}/remove")
def remove_page(visit: Editing, rule_id: str) -> HTMLResponse:
    """What removing a rule means."""
    saved = _required(visit, rule_id)
    return visit.page(
        "rule_remove",
        rule_id=rule_id,
        saved=saved,
        month=visit.month,
        moved=_moved(visit, rule_id),
        is_writable=is_writable(visit.workspace, _FOLDER),
        closed=visit.workspace.closed_months,
    )


@router.post("/rules/{rule_id}/remove")
@in_turn
def remove(visit: Editing, rule_id: str, form: Typed) -> Response:
    """Remove a rule."""
    require_writable(visit.workspace, _FOLDER)
    require_seen(str(form.get("seen", "")), _required(visit, rule_id).version)
    rules.remove(visit.workspace, rule_id, visit.actor)
    return visit.redirect(
        "/rules", f"{rule_id} is removed. Months that were made with it stay until they are made again."
    )


@router.post("/rules/try")
def try_draft(visit: Viewing, form: Typed) -> HTMLResponse:
    """What was typed, taken over from the form into the JSON or the other way, with what is wrong and what it would do."""
    return _editor(
        visit, typed_draft(RuleForm, form), _aim(form), is_typed=True, is_simulated=form.get("do") == "simulate"
    )


@router.post("/rules/save")
@in_turn
def save(visit: Editing, form: Typed) -> Response:
    """Save a rule, or one that takes the place of another."""
    workspace, aim = visit.workspace, _aim(form)
    require_writable(workspace, _FOLDER)
    draft = typed_draft(RuleForm, form)
    checked = _check(visit, draft, aim)
    submission = checked.submission
    if submission is None or draft.is_torn:
        return _editor(visit, draft, aim, is_typed=True, status_code=422)
    saved = (
        _saved(visit, aim.of or aim.supersedes) if aim.of or aim.supersedes else _saved(visit, submission.allocator.id)
    )
    if (saved.version if saved else "") != (aim.seen if aim.of or aim.supersedes else ""):
        if saved and not aim.supersedes and _is_same(saved, submission):
            return _saved_redirect(visit, submission.allocator, aim)
        return _editor(visit, draft, aim, is_typed=True, status_code=412, saved=saved)
    try:
        if checked.succession is not None:
            rules.save_succession(workspace, checked.succession, visit.actor)
        else:
            rules.save(workspace, submission, visit.actor, replace=bool(aim.of))
    except OctoError as error:
        problem = Problem("", "id", visit.sentence(error))
        return _editor(visit, draft, aim, is_typed=True, status_code=422, refusal=(problem,))
    return _saved_redirect(visit, submission.allocator, aim)


def _first_month(visit: Visit, rule_id: str) -> str:
    """The month that a successor is offered to start in: the newest one, if the rule has one before it that it keeps."""
    if not visit.months:
        return f"{datetime.now(UTC):%Y-%m}"
    newest = visit.months[-1]
    rule = next((a for a in visit.workspace.configuration.allocators if a.id == rule_id), None)
    keeps_one = rule is not None and rule.first_origin < newest and newest not in visit.workspace.closed_months
    return newest if keeps_one else add_months(newest, 1)


def _saved_redirect(visit: Visit, allocator: Allocator, aim: _Aim) -> Response:
    ended = f" {aim.supersedes} ends before {aim.first}." if aim.supersedes else ""
    months = [m for m in visit.months if allocator.matches_month(m) and m not in visit.workspace.closed_months]
    again = f" Bring {', '.join(months[-3:])} up to date, so that it counts there." if months else ""
    path = visit.address(f"/rules/{quote(allocator.id, safe='')}", month=aim.month)
    return visit.redirect(path, f"{allocator.id} is saved.{ended}{again}")


def _editor(
    visit: Visit,
    draft: Draft,
    aim: _Aim,
    *,
    is_typed: bool = False,
    is_simulated: bool = False,
    status_code: int = 200,
    saved: SavedDocument | None = None,
    refusal: tuple[Problem, ...] = (),
) -> HTMLResponse:
    workspace = visit.workspace
    checked = _check(visit, draft, aim)
    problems = checked.problems + refusal
    trial, obstacle = None, ""
    if is_simulated and not problems:
        # A page that is opened again, and a change that is taken back, ask for what was computed before.
        asked = hashlib.sha256("\0".join((draft.text, aim.of, aim.supersedes, aim.first)).encode()).hexdigest()
        try:
            trial = remembered(workspace, f"trial {asked}", aim.month, lambda: _trial(visit, checked, aim))
        except OctoError as error:
            obstacle = visit.sentence(error)
    months = workspace.lake.months(LINE_ITEMS)
    overtaken: list[DiffLine] = []
    if saved is not None:
        overtaken = differences(saved.text, draft.text)
    is_read_only = not is_writable(workspace, _FOLDER)
    submission = checked.submission
    return visit.page(
        "rule",
        status_code=status_code,
        has_month=not is_typed,
        aim=replace(aim, seen=saved.version) if saved and (aim.of or aim.supersedes) else aim,
        draft=draft,
        form=draft.form,
        is_typed=is_typed,
        **placed(problems, draft.form.fields() | {"first": "first"}, is_shown=is_typed or bool(aim.of)),
        hints=checked.hints,
        trial=trial,
        obstacle=obstacle,
        months=months,
        overtaken=overtaken,
        is_overtaken=status_code == 412,
        is_read_only=is_read_only,
        to_commit=_to_commit(checked) if is_read_only and submission else [],
        closed=workspace.closed_months,
        keys=_keys(str(draft.form.texts.get("category") or "fee")),
        categories=_CATEGORIES,
        operators=OPERATORS,
        moved=_moved(visit, aim.of) if aim.of and not is_typed else None,
        month=visit.month,
        rule=next((a for a in workspace.configuration.allocators if a.id == aim.of), None),
        groups=[g.id for g in workspace.configuration.cost_groups.values() if not g.by],
    )


def _check(visit: Visit, draft: Draft, aim: _Aim) -> _Checked:
    """What is wrong with a draft: all of it, with the paths."""
    if draft.document is None or draft.problems:
        return _Checked(draft, None, None, draft.problems, ())
    if is_unset(draft.document, "id") and not aim.of:
        missing = Problem("", "id", "is missing; give the rule an id")
        others = _check_content(visit, as_text({**draft.document, "id": "x"}).encode(), draft, aim).problems
        return _Checked(draft, None, None, (missing, *others), ())
    checked = _check_content(visit, draft.text.encode(), draft, aim)
    if checked.submission and aim.of and checked.submission.allocator.id != aim.of:
        message = f"must stay {aim.of}, by which months know the rule; copy the rule to have one of another id"
        return replace(checked, submission=None, problems=(Problem("", "id", message),))
    return checked


def _check_content(visit: Visit, content: bytes, draft: Draft, aim: _Aim) -> _Checked:
    workspace, now = visit.workspace, datetime.now(UTC)
    succession = None
    try:
        if aim.supersedes:
            first = parse_month(aim.first)
            succession = rules.succession(workspace, aim.supersedes, content, "", first, now)
            submission = succession.successor
        else:
            # A document without an id has that of its file.
            submission = rules.submitted(workspace, content, f"{aim.of}.json", now)
    except DocumentError as error:
        return _Checked(draft, None, None, error.problems, ())
    except OctoError as error:
        return _Checked(draft, None, None, (Problem("", "first", visit.sentence(error)),), ())
    hints = [Problem("", path, f"{hint}.") for path, hint in hints_of(submission.allocator)]
    hints += rules.unknown_metrics(workspace, {"": submission.allocator})
    return _Checked(draft, submission, succession, (), tuple(hints))


def _simulated(visit: Visit, checked: _Checked, aim: _Aim) -> tuple[Simulation, list[str]]:
    month = aim.month if is_month(aim.month) else None
    if checked.succession is not None:
        planned = checked.succession
        months = visit.workspace.lake.months(LINE_ITEMS)
        tried = (
            planned.first_month if planned.first_month in months or month is None else max(planned.first_month, month)
        )
        successor = planned.successor.allocator
        simulation = simulate(visit.workspace, successor, tried, ended=planned.predecessor.allocator)
        return simulation, rules.frozen_note(visit.workspace, successor)
    assert checked.submission is not None  # noqa: S101 # nosec B101 - nothing is wrong
    return rules.simulate_submission(visit.workspace, checked.submission, datetime.now(UTC), month)


def _trial(visit: Visit, checked: _Checked, aim: _Aim) -> _Trial:
    simulation, notes = _simulated(visit, checked, aim)
    return _Trial(
        headline=simulation.headline,
        consequence=simulation.consequence or ("" if simulation.differences else "No account’s cost would change."),
        notes=tuple(notes),
        warnings=simulation.warnings,
        changes=_changes(simulation),
        sections=_sections(simulation),
    )


def _changes(simulation: Simulation) -> list[tuple[str, list[tuple[Any, ...]], int]]:
    """Who pays most more, and who most less: a title, the rows, and how many there are besides."""
    rows = simulation.account_changes.select("account", "currency", "difference")
    more, less = [row for row in rows if row[2] > 0], [row for row in rows if row[2] < 0]
    words = ("Are credited more", "Are credited less")
    titles = words if simulation.allocator.category == "savings" else ("Pay more", "Pay less")
    return [
        (title, side[:_MOST_ACCOUNTS], max(len(side) - _MOST_ACCOUNTS, 0))
        for title, side in zip(titles, (more, less), strict=True)
        if side
    ]


def _sections(simulation: Simulation) -> list[tuple[str, Rows, int]]:
    """The other tables of a simulation that have rows, as `octo allocators simulate` shows them."""
    sections = []
    for name, title in SECTIONS.items():
        rows = simulation.tables[name]
        if name not in _OWN_SECTIONS and rows:
            columns = [c for c in rows.columns if c not in ("item_id",) and any(v is not None for v in rows.column(c))]
            short = Rows(rows.columns, rows.rows[:_MOST_ROWS]).picked(columns).without_repeated_costs()
            sections.append((title, short, len(rows)))
    return sections


def _to_commit(checked: _Checked) -> list[tuple[str, str]]:
    """The files to commit where the configuration comes from: names and texts."""
    assert checked.submission is not None  # noqa: S101 # nosec B101 - the caller looked
    files = [(f"{_FOLDER}/{checked.submission.allocator.id}.json", as_text(checked.submission.document))]
    if checked.succession is not None:
        predecessor = checked.succession.predecessor
        files.append((f"{_FOLDER}/{predecessor.allocator.id}.json", as_text(predecessor.document)))
    return files


def _keys(category: str) -> list[tuple[str, str]]:
    """The keys that criteria of a category may have, with what they mean."""
    rows = attributes().select("category", "key", "meaning")
    return [(key, meaning) for its_category, key, meaning in rows if its_category == category]


def _moved(visit: Visit, rule_id: str) -> Rows | None:
    """What a rule moved in the month; None if the month has no results."""
    rows = _all_moved(visit)
    return None if rows is None else Rows(rows.columns, tuple(row for row in rows.rows if row[0] == rule_id))


def _all_moved(visit: Visit) -> Rows | None:
    workspace, month = visit.workspace, visit.month
    if month is None or month not in visit.months:
        return None
    return remembered(workspace, "moved", month, lambda: moved_by_rules(workspace, month))


def _saved(visit: Visit, rule_id: str) -> SavedDocument | None:
    folder = rules.folder_of(visit.workspace.settings.config)
    live = next((a for a in visit.workspace.configuration.allocators if a.id == rule_id), None)
    return saved_document(folder, rule_id, live)


def _required(visit: Visit, rule_id: str) -> SavedDocument:
    rules.path_of(rules.folder_of(visit.workspace.settings.config), rule_id)
    saved = _saved(visit, rule_id)
    assert saved is not None  # noqa: S101 # nosec B101 - path_of raises
    return saved


def _is_same(saved: SavedDocument, submission: rules.Submission) -> bool:
    """Whether what is saved already is what was sent, as after a second press of the button."""
    document = draft_of(RuleForm, saved.text).document or {}
    unstamped = [
        {k: v for k, v in d.items() if k not in ("createTime", "updateTime")} for d in (document, submission.document)
    ]
    return unstamped[0] == unstamped[1]


def _aim(form: FormData) -> _Aim:
    return _Aim(**{name: str(form.get(name, "")) for name in ("of", "seen", "supersedes", "first", "month")})
