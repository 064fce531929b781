"""Who an amount is posted to: accounts and cost groups to cost centres and ledger accounts (docs/journal.md).

This module reads ``cost_centres.csv``. What is posted belongs in `octo_pipeline.outputs.journal`.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import quoted_json
from octo_pipeline.rules.conditions import Condition, parse_condition
from octo_pipeline.rules.documents import DocumentError, Problem, read_table

FILE = "cost_centres.csv"
HEADER = ("owner_type", "owner_id", "cost_centre", "ledger_account", "name", "email")

# Who has costs. The other types are ledger accounts of a payer, which belong to no cost centre.
OWNERS = ("account", "group")
OWNER_TYPES = (*OWNERS, "payer", "prepayments", "rounding")


@dataclass(frozen=True)
class CostCentre:
    """One line: where the amounts of an owner, or of several that a pattern matches, are posted.

    Attributes:
        owner_type: account or group; or, of a payer, ``payer`` (what its invoices are posted to), ``prepayments`` or
            ``rounding``.
        owner_id: the id, or a condition such as ``re:^4000``; of a ledger account the payer's.
        cost_centre: empty only for ledger accounts of a payer.
        name: of the cost centre; may be empty.
        email: who gets its statement; may be empty.
    """

    owner_type: str
    owner_id: str
    cost_centre: str
    ledger_account: str
    name: str
    email: str

    @cached_property
    def condition(self) -> Condition:
        """What the owner's id must be."""
        return parse_condition(self.owner_id)


@dataclass(frozen=True)
class CostCentres:
    """The lines of the file, in its order."""

    lines: tuple[CostCentre, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def of(self, owner_type: str, owner_id: str) -> CostCentre | None:
        """The line of an owner: the one with its id, else the first whose pattern matches; None if there is none."""
        exact = self._by_id.get((owner_type, owner_id))
        if exact:
            return exact
        return next((line for line in self._patterns.get(owner_type, ()) if line.condition.holds(owner_id)), None)

    def contact(self, cost_centre: str) -> tuple[str, str]:
        """The name and the email of a cost centre; empty where no line has them."""
        return self._contacts.get(cost_centre, ("", ""))

    @cached_property
    def _contacts(self) -> Mapping[str, tuple[str, str]]:
        contacts: dict[str, tuple[str, str]] = {}
        for line in self.lines:
            name, email = contacts.get(line.cost_centre, ("", ""))
            contacts[line.cost_centre] = (name or line.name, email or line.email)
        return contacts

    @cached_property
    def _by_id(self) -> Mapping[tuple[str, str], CostCentre]:
        return {(line.owner_type, line.condition.text): line for line in self.lines if line.condition.kind == "eq"}

    @cached_property
    def _patterns(self) -> Mapping[str, Sequence[CostCentre]]:
        patterns: dict[str, list[CostCentre]] = {}
        for line in self.lines:
            if line.condition.kind != "eq":
                patterns.setdefault(line.owner_type, []).append(line)
        return patterns


def load_cost_centres(path: Path) -> CostCentres:
    """Read the cost centres; without the file there are none.

    Raises:
        DocumentError: with every wrong line.
    """
    text = read_table(path)
    return CostCentres() if text is None else _parse(text, path.name)


def _parse(text: str, file: str) -> CostCentres:
    numbered: dict[tuple[str, str], int] = {}
    lines: list[CostCentre] = []
    contacts: dict[tuple[str, str], tuple[str, int]] = {}
    problems: list[Problem] = []
    for number, written in enumerate(text.splitlines() or [""], start=1):
        try:
            cells = [cell.strip() for cell in next(csv.reader([written]), [])]
            if number == 1:
                _check_header(cells)
                continue
            if not any(cells):
                continue
            line = _line(cells)
            earlier = numbered.setdefault((line.owner_type, line.condition.written), number)
            if earlier != number:
                raise OctoError(
                    f"{line.owner_type} {line.owner_id} is in line {earlier} already; keep one",
                    code="cost-centre-repeated",
                )
            _check_contacts(line, number, contacts)
            lines.append(line)
        except (OctoError, csv.Error) as error:
            problems.append(Problem(file, f"line {number}", str(error)))
            if number == 1:
                break
    if problems:
        raise DocumentError(problems)
    return CostCentres(tuple(lines))


def _check_header(cells: list[str]) -> None:
    if cells != list(HEADER):
        raise OctoError(
            f"must be the header {','.join(HEADER)}, not {quoted_json(','.join(cells))}",
            code="cost-centres-header-wrong",
        )


def _line(cells: Sequence[str]) -> CostCentre:
    if len(cells) != len(HEADER):
        raise OctoError(
            f"has {len(cells)} values; it must have {len(HEADER)}: {','.join(HEADER)}", code="cost-centre-malformed"
        )
    line = CostCentre(*cells)
    if line.owner_type not in OWNER_TYPES:
        raise OctoError(
            f"{quoted_json(line.owner_type)} is not a type of owner; write {', '.join(OWNER_TYPES[:-1])} or "
            f"{OWNER_TYPES[-1]}",
            code="cost-centre-malformed",
        )
    required = (
        ("owner_id", "cost_centre", "ledger_account") if line.owner_type in OWNERS else ("owner_id", "ledger_account")
    )
    for name in required:
        if not getattr(line, name):
            raise OctoError(f"has no {name}; fill it in", code="cost-centre-malformed")
    if line.email and ("@" not in line.email.strip("@") or any(character.isspace() for character in line.email)):
        raise OctoError(f"{quoted_json(line.email)} is not an email address", code="cost-centre-malformed")
    # Patterns are checked here, so that nobody meets them in the middle of an export.
    _ = line.condition
    return line


def _check_contacts(line: CostCentre, number: int, contacts: dict[tuple[str, str], tuple[str, int]]) -> None:
    """Refuse a second name or email of a cost centre: a statement has one."""
    for kind, value in (("name", line.name), ("email", line.email)):
        earlier, earlier_number = (
            contacts.setdefault((line.cost_centre, kind), (value, number)) if value else (value, number)
        )
        if line.cost_centre and earlier != value:
            raise OctoError(
                f"cost centre {line.cost_centre} has the {kind} {earlier} in line {earlier_number}, not {value}; keep one",
                code="cost-centre-repeated",
            )


def read_cost_centres(rows: Iterable[Sequence[str]]) -> CostCentres:
    """The cost centres of `written_rows`."""
    return CostCentres(tuple(CostCentre(*row) for row in rows))


def written_rows(cost_centres: CostCentres) -> list[list[str]]:
    """The lines as lists of text, in the order of `HEADER`."""
    return [[getattr(line, name) for name in HEADER] for line in cost_centres.lines]
