"""Statements: for every cost centre, or every account and cost group, a page that says what it pays in a month and why.

Stages:
1. Whom there are statements for, and their owners. What each pays in cents is what the journal charges it.
2. The lines: what was used, what was allocated by which rule, instalments, corrections; and the causes of the change since
   the month before (`octo_pipeline.services.causes`).
3. Lines and causes in the minor unit of the currency, by largest remainder, so that they add up to the cents of the journal.
4. The proof, before anything is written.

How a page looks and where it is written belongs in `statement_pages`, how it is sent in `statement_mail`.

Drawback: the smallest lines of a long list are shown as one line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb

from octo_pipeline.allocation.proofs import Proof, prove
from octo_pipeline.allocation.temp_tables import create_temp_table
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS, MONEY
from octo_pipeline.model.currency import minor_digits
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months
from octo_pipeline.model.rows import Rows
from octo_pipeline.model.sql import rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import plain
from octo_pipeline.outputs.journal import UNMAPPED, By, account_groups, journal_of
from octo_pipeline.rules.cost_centres import CostCentres
from octo_pipeline.services.causes import Cause, Change, Explained, explain_owners, owner_named
from octo_pipeline.services.periods import PROVISIONAL
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.limited import LimitedWorkspace
from octo_pipeline.workspace import Workspace

# People do not read longer lists; what is left out is one line with its sum.
_MOST_LINES = 12
_MOST_CAUSES = 14

PROOFS = (
    Proof(
        "lines",
        "the lines of each statement are what the journal charges, exactly and in minor units, and its causes are the change",
        "outputs/proof_statements_lines",
    ),
)
_LINE_COLUMNS = {
    "subject": "VARCHAR", "currency": "VARCHAR", "block": "VARCHAR", "position": "BIGINT", "line_count": "BIGINT",
    "part": "VARCHAR", "rule": "VARCHAR", "service": "VARCHAR", "what": "VARCHAR", "pool": MONEY, "instalment": "INTEGER",
    "instalment_count": "INTEGER", "cost": MONEY, "effective_cost": MONEY,
}  # fmt: skip
_TARGET_COLUMNS = {
    "subject": "VARCHAR",
    "currency": "VARCHAR",
    "bucket": "VARCHAR",
    "exact_cost": MONEY,
    "target": "HUGEINT",
}
# As wide as a digit, where a hyphen is not.
_MINUS = "\u2212"
_TITLES = {
    "used": "Own usage and fees",
    "allocated": "Allocated by rules",
    "instalments": "Instalments of what was paid before",
    "corrections": "Corrections of closed months",
}

Owner = tuple[str, str]
# The exact amount of a subject in a currency, and the same in minor units.
Charges = dict[tuple[str, str], tuple[Decimal, int]]


@dataclass(frozen=True)
class Line:
    """A line of a statement; the amount is written in the decimals of its currency."""

    what: str
    detail: str
    amount: str


@dataclass(frozen=True)
class Block:
    """Lines with a title, and their sum."""

    title: str
    lines: tuple[Line, ...]
    total: str


@dataclass(frozen=True)
class Section:
    """What a statement says in one currency.

    Attributes:
        total: what is paid.
        amortised: the same with commitments as part of what they cover; empty if it is not another amount.
        savings: for information; they are part of the amortised amount alone.
        previous: what was paid in the month before; empty if that is not known.
        change: the difference to it, with a sign.
        causes: why it changed; they add up to the change.
    """

    currency: str
    total: str
    amortised: str
    blocks: tuple[Block, ...]
    savings: tuple[Line, ...]
    previous: str
    change: str
    causes: tuple[Line, ...]


@dataclass(frozen=True)
class Statement:
    """The page of a cost centre, an account or a cost group.

    Attributes:
        subject: its id, unique among the statements of a month.
        id: as people know it.
        kind: what it is.
        email: who gets it; empty if nobody does.
        owners: the accounts and cost groups whose costs it has, each with its name.
        state: provisional, or how the month was closed.
    """

    subject: str
    id: str
    kind: str
    name: str
    email: str
    month: str
    previous_month: str
    state: str
    owners: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def is_provisional(self) -> bool:
        """Whether the month is open, so that its amounts can still change."""
        return self.state == PROVISIONAL

    @property
    def title(self) -> str:
        """How people call it."""
        return self.name or self.id


@dataclass(frozen=True)
class Payer:
    """Whom a statement is for, and what they pay.

    Attributes:
        subject: its id, unique among the statements of a month.
        id: as people know it.
        kind: what it is.
        email: who gets the statement; empty if nobody does.
        amounts: by currency, in its minor units.
    """

    subject: str
    id: str
    kind: str
    name: str
    email: str
    amounts: tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True)
class _Subject:
    id: str
    kind: str
    name: str
    email: str
    owners: tuple[Owner, ...]


def statements_of(
    workspace: Workspace, month: str, owners: Sequence[str] = (), by: By | None = None
) -> tuple[Statement, ...]:
    """The statements of a month, proved; for a limited reader, of those of whom they see everything.

    Args:
        workspace: whose lake.
        month: the month.
        owners: only of these cost centres, accounts or cost groups; empty for all.
        by: cost centres, or accounts and cost groups, or cost groups with the accounts that are wholly in one; cost centres
            if there are any, unless `owners` are others.

    Raises:
        OctoError: the month was not run, or an owner has no costs in it.
        ProofError: the amounts do not add up.
    """
    workspace.lake.require([month], AccountCosts.name)
    before = add_months(month, -1)
    made = workspace.lake.months(AccountCosts.name)
    hidden, workspace = _hidden(workspace, month)
    with workspace.lake.connect() as connection:
        known = {m: _owners(connection, workspace, m) for m in (before, month)}
        kind, subjects = _seen_subjects(connection, workspace, month, known, hidden, owners, by)
        chosen = _chosen(subjects, owners, month)
        journal = journal_of(workspace, month, kind)
        charges = _charges(journal.lines)
        explained = explain_owners(
            connection, workspace, {key: subject.owners for key, subject in chosen.items()}, before, month
        )
        charges = {key: charge for key, charge in charges.items() if key[0] in chosen}
        previous = _previous(workspace, before, kind, explained.changes) if before in made else {}
        names = _names(connection, workspace, month)
        rules = {
            allocator.id: allocator.name or allocator.id for allocator in workspace.configuration_of(month).allocators
        }
        lines = _lines(connection, explained, charges, previous, rules, month)
    sections = _sections(lines, explained.changes, charges, previous, rules)
    return tuple(
        Statement(
            key,
            plain(subject.id),
            subject.kind,
            plain(subject.name or names.get(subject.id) or ""),
            subject.email,
            month,
            before if previous else "",
            journal.state,
            tuple(_named(owner, names) for owner in subject.owners if owner in known[month]),
            sections[key],
        )
        for key, subject in chosen.items()
        if sections.get(key)
    )


def payers_of(workspace: Workspace, month: str, by: By | None = None) -> tuple[Payer, ...]:
    """Whom there are statements of a month for, and what each pays, in the cents of the journal.

    That takes a part of the time of `statements_of`, which also says why.

    Args:
        workspace: whose lake.
        month: the month.
        by: as in `statements_of`.

    Raises:
        OctoError: the month was not run.
    """
    workspace.lake.require([month], AccountCosts.name)
    hidden, workspace = _hidden(workspace, month)
    with workspace.lake.connect() as connection:
        known = {m: _owners(connection, workspace, m) for m in (add_months(month, -1), month)}
        kind, subjects = _seen_subjects(connection, workspace, month, known, hidden, (), by)
        names = _names(connection, workspace, month)
    amounts: dict[str, list[tuple[str, Decimal]]] = {}
    for (subject, currency), (_, minor) in _charges(journal_of(workspace, month, kind).lines).items():
        amounts.setdefault(subject, []).append((currency, Decimal(minor).scaleb(-minor_digits(currency))))
    return tuple(
        Payer(
            key,
            plain(subject.id),
            subject.kind,
            plain(subject.name or names.get(subject.id) or ""),
            subject.email,
            tuple(sorted(amounts[key])),
        )
        for key, subject in subjects.items()
        if key in amounts
    )


def full_name(kind: str, subject: str) -> str:
    """The name of a subject that is unique among all kinds."""
    return f"cost-centre/{subject}" if kind == "Cost centre" else subject


def _hidden(workspace: Workspace, month: str) -> tuple[set[Owner], Workspace]:
    """Whom a limited reader may not see, and the workspace that shows everything."""
    if not isinstance(workspace, LimitedWorkspace):
        return set(), workspace
    # A statement compares two months, so who is seen in one of them has none.
    months = (add_months(month, -1), month)
    return {owner for seen_month in months for owner in workspace.others(seen_month)}, workspace.whole


def _seen_subjects(
    connection: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    month: str,
    known: Mapping[str, set[Owner]],
    hidden: set[Owner],
    owners: Sequence[str],
    by: By | None,
) -> tuple[By, dict[str, _Subject]]:
    """Whom statements are for, and by what they are made."""
    cost_centres = workspace.configuration_of(month).cost_centres
    kind = by or _kind(owners, cost_centres, known[month])
    groups = account_groups(connection, workspace, month, cost_centres) if kind == "group" else None
    group_of = dict(connection.table(groups).fetchall()) if groups else {}
    everybody = {owner for month_owners in known.values() for owner in month_owners}
    subjects = _subjects(kind, everybody, cost_centres, group_of)
    return kind, {key: subject for key, subject in subjects.items() if not hidden & set(subject.owners)}


def _names(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> dict[str, str]:
    """The names that the bill has for accounts."""
    line_items = workspace.lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
    return dict(connection.execute(render("outputs/statement_names", line_items=line_items)).fetchall())


def _owners(connection: duckdb.DuckDBPyConnection, workspace: Workspace, month: str) -> set[Owner]:
    costs = workspace.lake.scan(AccountCosts.name, [month], AccountCosts.columns)
    return set(connection.execute(render("outputs/statement_owners", account_costs=costs)).fetchall())


def _kind(owners: Sequence[str], cost_centres: CostCentres, known: Iterable[Owner]) -> By:
    """Cost centres, if there are any and not only accounts and cost groups are asked for."""
    if not len(cost_centres):
        return "account"
    centres = {line.cost_centre for owner in known if (line := cost_centres.of(*owner))}
    others = {name for _, name in known} | {f"{kind}/{name}" for kind, name in known}
    return "account" if owners and all(owner in others and owner not in centres for owner in owners) else "cost-centre"


def _subjects(
    by: By, owners: Iterable[Owner], cost_centres: CostCentres, group_of: Mapping[str, str]
) -> dict[str, _Subject]:
    members: dict[str, list[Owner]] = {}
    if by != "cost-centre":
        kinds = {"account": "Account", "group": "Cost group"}
        for kind, name in sorted(owners):
            is_in_group = kind == "account" and name in group_of
            members.setdefault(f"group/{group_of[name]}" if is_in_group else f"{kind}/{name}", []).append((kind, name))
        subjects = {}
        for key in sorted(members):
            kind, _, name = key.partition("/")
            email = _email(cost_centres, (kind, name))
            subjects[key] = _Subject(name, kinds[kind], "", email, tuple(members[key]))
        return subjects
    for owner in sorted(owners):
        line = cost_centres.of(*owner)
        members.setdefault(line.cost_centre if line else UNMAPPED, []).append(owner)
    return {
        name: _Subject(name, "Cost centre", *cost_centres.contact(name), tuple(members[name]))
        for name in sorted(members)
    }


def _email(cost_centres: CostCentres, owner: Owner) -> str:
    line = cost_centres.of(*owner)
    return cost_centres.contact(line.cost_centre)[1] if line else ""


def _chosen(subjects: Mapping[str, _Subject], owners: Sequence[str], month: str) -> dict[str, _Subject]:
    if not owners:
        return dict(subjects)
    keys = {full_name(subject.kind, key): key for key, subject in subjects.items()}
    ids = {name: subjects[key].id for name, key in keys.items()}
    chosen = [keys[owner_named(owner, ids, [month])] for owner in owners]
    return {key: subjects[key] for key in chosen}


def _charges(lines: Rows) -> Charges:
    """What a journal charges each subject."""
    charges: Charges = {}
    columns = ("posting", "cost_centre", "owner_type", "owner_id", "currency", "debit", "credit", "exact_amount")
    for posting, cost_centre, owner_type, owner_id, currency, debit, credit, exact in lines.select(*columns):
        if posting != "cost":
            continue
        key = (f"{owner_type}/{owner_id}" if owner_id else cost_centre, currency)
        minor = int((Decimal(debit or 0) - Decimal(credit or 0)).scaleb(minor_digits(currency)))
        earlier = charges.get(key, (Decimal(0), 0))
        charges[key] = (earlier[0] + exact, earlier[1] + minor)
    return charges


def _previous(workspace: Workspace, before: str, by: By, changes: Sequence[Change]) -> dict[tuple[str, str], int]:
    """What was paid in the month before, in minor units: what its journal charged, if that was for the same owners."""
    try:
        charged = _charges(journal_of(workspace, before, by).lines)
    except OctoError:
        # A month that nobody can post any more, such as one without invoices, is still one to compare with.
        charged = {}
    previous = {}
    for change in changes:
        key = (change.subject, change.currency)
        exact, minor = charged.get(key, (Decimal(0), 0))
        # With other cost centres than today's, a journal charged somebody else.
        if abs(exact - change.before).scaleb(minor_digits(change.currency)) >= 1:
            minor = int(change.before.scaleb(minor_digits(change.currency)).to_integral_value(rounding="ROUND_HALF_UP"))
        previous[key] = minor
    return previous


def _lines(
    connection: duckdb.DuckDBPyConnection,
    explained: Explained,
    charges: Charges,
    previous: Mapping[tuple[str, str], int],
    rules: Mapping[str, str],
    month: str,
) -> list[dict[str, Any]]:
    """All lines and causes with what they are in minor units, proved."""
    listed = render(
        "outputs/statement_lines",
        subject_parts=explained.parts,
        rule_pools=explained.pools,
        allocations=explained.allocations,
        owners=explained.owners,
        most=_MOST_LINES,
    )
    causes = rows_sql(_LINE_COLUMNS, _cause_rows(explained.changes, rules) if previous else [])
    statement_lines = create_temp_table(
        connection, "statement_lines", render("outputs/statement_all_lines", listed=listed, causes_query=causes)
    )
    # The journal has no line of less than half a minor unit, so exact amounts are those of the tables.
    exact = dict.fromkeys(charges, Decimal(0)) | {(c.subject, c.currency): c.after for c in explained.changes}
    targets = [(*key, "lines", f"{cost:f}", str(charges.get(key, (Decimal(0), 0))[1])) for key, cost in exact.items()]
    if previous:
        targets += [
            (*key, "change", f"{change.difference:f}", str(charges.get(key, (Decimal(0), 0))[1] - previous[key]))
            for change in explained.changes
            if (key := (change.subject, change.currency)) in previous
            and any(cause.difference for cause in change.causes)
        ]
    currencies = sorted({change.currency for change in explained.changes})
    units = [(name, 10 ** (10 - minor_digits(name))) for name in currencies]
    pieces = {
        "statement_targets": create_temp_table(connection, "statement_targets", rows_sql(_TARGET_COLUMNS, targets)),
        "currencies": create_temp_table(
            connection, "statement_currencies", rows_sql({"currency": "VARCHAR", "unit": "HUGEINT"}, units)
        ),
        "statement_lines": statement_lines,
    }
    amounts = create_temp_table(connection, "statement_amounts", render("outputs/statement_amounts", **pieces))
    remedy = f"The tables of {month} are not of one run; run it again."
    prove(connection, "statements", month, PROOFS, remedy=remedy, statement_amounts=amounts, **pieces)
    rows = Rows.fetched(
        connection, render("outputs/statement_rows", statement_amounts=amounts, statement_lines=statement_lines)
    )
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]


def _causes(change: Change, rules: Mapping[str, str]) -> list[tuple[str, int, Decimal]]:
    """The causes of what is paid, the largest first: a sentence, how many causes it is about, and their sum.

    A page has no room for every usage type, so usage is summed up by service and effect.
    """
    effects = {"new": "new and gone usage", "gone": "new and gone usage", "changed": "usage without a quantity"}
    groups: dict[str, list[Cause]] = {}
    for number, cause in enumerate(change.causes):
        if cause.difference:
            effect = effects.get(cause.effect, cause.effect)
            own = f"{cause.service_name or cause.service_code}: {effect}" if cause.part == "usage" else str(number)
            groups.setdefault(own, []).append(cause)
    texts = [
        (
            text if len(causes) > 1 else causes[0].with_names(rules).in_words,
            len(causes),
            sum((cause.difference for cause in causes), Decimal(0)),
        )
        for text, causes in groups.items()
    ]
    return sorted(texts, key=lambda text: -abs(text[2]))


def _cause_rows(changes: Sequence[Change], rules: Mapping[str, str]) -> list[tuple[str | int | None, ...]]:
    rows: list[tuple[str | int | None, ...]] = []
    for change in changes:
        texts = _causes(change, rules)
        named = texts if len(texts) == _MOST_CAUSES + 1 else texts[:_MOST_CAUSES]
        if rest := texts[len(named) :]:
            count = sum(number for _, number, _ in rest)
            named = [*named, (f"{count:,} smaller causes", count, sum((cost for *_, cost in rest), Decimal(0)))]
        for position, (text, count, difference) in enumerate(named, start=1):
            values: dict[str, str | int] = {
                "subject": change.subject,
                "currency": change.currency,
                "block": "change",
                "position": position,
                "line_count": count,
                "what": _spaced(plain(text)),
                "cost": f"{difference:f}",
                "effective_cost": "0",
            }
            rows.append(tuple(values.get(name) for name in _LINE_COLUMNS))
    return rows


def _sections(
    lines: Sequence[Mapping[str, Any]],
    changes: Sequence[Change],
    charges: Charges,
    previous: Mapping[tuple[str, str], int],
    rules: Mapping[str, str],
) -> dict[str, tuple[Section, ...]]:
    by_key: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        by_key.setdefault((line["subject"], line["currency"]), []).append(line)
    sections: dict[str, list[tuple[int, Section]]] = {}
    for change in changes:
        key = (change.subject, change.currency)
        own = by_key.get(key, [])
        if own:
            total = charges.get(key, (Decimal(0), 0))[1]
            section = _section(change, own, total, previous.get(key), rules)
            sections.setdefault(change.subject, []).append((-abs(total), section))
    # The largest amount first, whatever its currency.
    return {
        subject: tuple(section for _, section in sorted(of_subject, key=lambda s: (s[0], s[1].currency)))
        for subject, of_subject in sections.items()
    }


def _section(
    change: Change, lines: Sequence[Mapping[str, Any]], total: int, previous: int | None, rules: Mapping[str, str]
) -> Section:
    currency = change.currency
    blocks = []
    for block, title in _TITLES.items():
        own = [line for line in lines if line["block"] == block]
        if own:
            written = tuple(Line(*_described(line, rules), _written(int(line["minor"]), currency)) for line in own)
            blocks.append(Block(title, written, _written(sum(int(line["minor"]) for line in own), currency)))
    savings = tuple(
        Line(*_described(line, rules), _rounded(-line["effective_cost"], currency))
        for line in lines
        if line["block"] == "savings"
    )
    causes = tuple(
        Line(plain(line["what"]), "", _signed(int(line["minor"]), currency))
        for line in lines
        if line["block"] == "change"
    )
    is_amortised = change.after != change.effective_after
    return Section(
        currency,
        _written(total, currency),
        _rounded(change.effective_after, currency) if is_amortised else "",
        tuple(blocks),
        savings,
        "" if previous is None else _written(previous, currency),
        "" if previous is None else _signed(total - previous, currency),
        causes,
    )


def _described(line: Mapping[str, Any], rules: Mapping[str, str]) -> tuple[str, str]:
    """What a line is, and what explains it."""
    if line["line_count"] > 1:
        return f"{line['line_count']:,} smaller lines", ""
    rule = plain(rules.get(line["rule"], line["rule"] or ""))
    service = plain(line["service"] or "Without a service")
    match line["block"]:
        case "used":
            return service, plain(line["what"] or "")
        case "instalments":
            return service, f"{line['instalment']} of {line['instalment_count']}, billed in {line['what']}, {rule}"
        case "corrections":
            return f"Correction of {line['what']}", rule or "the bill itself"
        case "savings":
            return rule, "given to others" if line["part"] == "savings_out" else ""
    if line["part"] == "step_out":
        return rule, "handed on in a step"
    details = []
    if line["pool"] and 0 <= line["cost"] / line["pool"] <= 1:
        share = f"{100 * line['cost'] / line['pool']:.2f} %"
        details.append(_spaced(f"{share} of {_rounded(line['pool'], line['currency'])}"))
    if line["part"] == "step_in":
        details.append("received in a step")
    return rule, ", ".join(details)


def _named(owner: Owner, names: Mapping[str, str]) -> str:
    kind, name = owner
    called = names.get(name) if kind == "account" else None
    return plain(f"{called} ({name})" if called and called != name else name)


def _written(minor: int, currency: str) -> str:
    digits = minor_digits(currency)
    return f"{Decimal(minor).scaleb(-digits):,.{digits}f}".replace("-", _MINUS)


def _signed(minor: int, currency: str) -> str:
    return f"{'+' if minor > 0 else ''}{_written(minor, currency)}"


def _rounded(amount: Decimal, currency: str) -> str:
    """An amount that is no part of a sum of cents."""
    digits = minor_digits(currency)
    return f"{round(amount, digits) + 0:,.{digits}f}".replace("-", _MINUS)


def _spaced(text: str) -> str:
    """A percentage never stands on two lines."""
    return text.replace(" %", "\u00a0%")
