"""A document that is being edited: its JSON, which is the truth, and a form that shows the same and writes into it.

The form knows the usual parts of a document. It writes only what was changed in it, so that everything else that the JSON
has stays as it was written there. A part that has another shape than the form can show is left to the JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from starlette.datastructures import FormData

from octo_pipeline.rules.documents import HALF_OF_A_PAIR, TOO_DEEP, DocumentError, Problem, json_path, read_object
from octo_pipeline.services.documents import as_text

# How a condition begins, and what that means.
OPERATORS = {"": "is", "re:": "matches", "!re:": "does not match", "eq:": "is exactly"}


class DocumentForm(Protocol):
    """The fields of a kind of document."""

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """The form that shows a document."""

    @classmethod
    def typed(cls, form: FormData, before: Self | None) -> Self:
        """What was typed into a form, of which `before` is what was in it."""

    def changed(self, action: str) -> Self:
        """The form after a button for its rows."""

    def compact(self) -> Self:
        """The form without rows in which nothing is written."""

    def fields(self) -> dict[str, str]:
        """The ids of the fields, by the paths of what they show."""

    def write(self, document: dict[str, Any], before: Self | None) -> list[Problem]:
        """Write what differs from `before` into a document. Returns what cannot be written."""


F = TypeVar("F", bound=DocumentForm)


@dataclass(frozen=True)
class Condition:
    """A row of a form: a key and what its value must be."""

    key: str = ""
    operator: str = ""
    value: str = ""

    @property
    def is_blank(self) -> bool:
        """Whether nothing is written in it."""
        return not self.key and not self.value

    @property
    def written(self) -> str:
        """The value as documents have it."""
        # Without a prefix, a text that begins with one would mean something else.
        prefix = "eq:" if not self.operator and self.value.startswith(("re:", "eq:", "!")) else self.operator
        return prefix + self.value


@dataclass(frozen=True)
class Draft:
    """The JSON and the form as a page shows them.

    Attributes:
        text: the JSON.
        document: the same, parsed; None if it cannot be read.
        base: the JSON that the form was filled from.
        form: what the form shows.
        problems: what keeps the two apart: JSON that cannot be read, or a part of the form that JSON cannot have.
        is_torn: whether both were changed, and nobody said which one counts.
    """

    text: str
    document: dict[str, Any] | None
    base: str
    form: Any
    problems: tuple[Problem, ...] = ()
    is_torn: bool = False


def draft_of(kind: type[F], text: str) -> Draft:
    """A document as it is saved, or as a new one begins."""
    document, problems = _read(text)
    return Draft(text, document, text, kind.of(document or {}), problems)


def typed_draft(kind: type[F], form: FormData) -> Draft:
    """The draft after somebody typed.

    Args:
        kind: the form's kind.
        form: the JSON (``document``), the form's fields, the JSON that these were filled from (``base``), which of the
            two was typed into (``source``: form, json, or unknown), and a button for rows (``rows``).
    """
    text, base = (_unix(form.get(name)) for name in ("document", "base"))
    source = str(form.get("source", ""))
    document, problems = _read(text)
    base_document, _ = _read(base)
    before = None if base_document is None else kind.of(base_document)
    rows, source = str(form.get("rows", "")), str(form.get("source", ""))
    typed = kind.typed(form, before).changed(rows)
    if source == "json" or before is None or typed.compact() == before.compact():
        fields = typed if text == base else kind.of(document or base_document or {})
        return Draft(text, document, base if document is None else text, fields, problems)
    if document is None:
        return Draft(text, None, base, typed, problems)
    if text != base and source != "form" and not rows:
        return Draft(text, document, base, typed, is_torn=True)
    problems = tuple(typed.write(document, before))
    return Draft(as_text(document), document, as_text(document), typed, problems)


def alternatives_of(written: object, word: str) -> tuple[tuple[Condition, ...], ...] | None:
    """Rows for a list of ``{word: {key: value}}``; None if it has another shape."""
    if written is None:
        return ()
    if not isinstance(written, list):
        return None
    alternatives = []
    for item in written:
        conditions = item.get(word) if isinstance(item, dict) and set(item) == {word} else None
        if not isinstance(conditions, dict) or not all(isinstance(value, str) for value in conditions.values()):
            return None
        alternatives.append(tuple(_condition(key, value) for key, value in conditions.items()))
    return tuple(alternatives)


def written_alternatives(
    alternatives: Sequence[Sequence[Condition]], word: str, path: tuple[str | int, ...], problems: list[Problem]
) -> list[dict[str, Any]]:
    """The JSON value of rows. A key that occurs twice in one alternative is added to the problems."""
    written = []
    for i, conditions in enumerate(alternatives):
        values: dict[str, str] = {}
        for condition in conditions:
            if condition.is_blank:
                continue
            if condition.key in values:
                message = "is there twice; write one pattern for both values, or add an alternative"
                problems.append(Problem("", json_path((*path, i, word, condition.key)), message))
                continue
            values[condition.key] = condition.written
        written.append({word: values})
    return written


def typed_alternatives(form: FormData, prefix: str) -> tuple[tuple[Condition, ...], ...]:
    """The rows that were typed: ``<prefix>.<alternative>.<row>.key``, ``.operator`` and ``.value``."""
    alternatives: list[tuple[Condition, ...]] = []
    while f"{prefix}.{len(alternatives)}.rows" in form:
        at = f"{prefix}.{len(alternatives)}"
        rows: list[Condition] = []
        while f"{at}.{len(rows)}.key" in form:
            key, operator, value = (
                str(form.get(f"{at}.{len(rows)}.{name}", "")) for name in ("key", "operator", "value")
            )
            rows.append(Condition(key.strip(), operator if operator in OPERATORS else "", value))
        alternatives.append(tuple(rows))
    return tuple(alternatives)


def without_blank(alternatives: tuple[tuple[Condition, ...], ...] | None) -> tuple[tuple[Condition, ...], ...] | None:
    """The alternatives without rows in which nothing is written."""
    if alternatives is None:
        return None
    return tuple(tuple(row for row in rows if not row.is_blank) for rows in alternatives)


def changed_alternatives(
    alternatives: tuple[tuple[Condition, ...], ...], verb: str, numbers: Sequence[int]
) -> tuple[tuple[Condition, ...], ...]:
    """The alternatives after a button: add one, add a row to one, or remove either."""
    lists = [list(rows) for rows in alternatives]
    match verb, list(numbers):
        case "add", []:
            lists.append([Condition()])
        case "add", [i] if i < len(lists):
            lists[i].append(Condition())
        case "remove", [i] if i < len(lists):
            del lists[i]
        case "remove", [i, k] if i < len(lists) and k < len(lists[i]):
            del lists[i][k]
    return tuple(tuple(rows) for rows in lists)


def condition_fields(
    alternatives: Sequence[Sequence[Condition]] | None, word: str, path: tuple[str | int, ...], prefix: str
) -> dict[str, str]:
    """The ids of the fields of rows, by the paths of what they show."""
    ids = {}
    for i, rows in enumerate(alternatives or ()):
        ids[json_path((*path, i))] = ids[json_path((*path, i, word))] = f"{prefix}-{i}-0-key"
        for k, row in enumerate(rows):
            ids.setdefault(json_path((*path, i, word, row.key)), f"{prefix}-{i}-{k}-value")
    return ids


def button(action: str) -> tuple[str, str, list[int]]:
    """What a button for rows does: a verb, the list, and the numbers in it, as in ``remove targets 2``."""
    verb, _, rest = action.partition(" ")
    name, *numbers = rest.split(" ")
    return verb, name, [int(number) for number in numbers if number.isascii() and number.isdigit()]


def _condition(key: str, written: str) -> Condition:
    operator = next((prefix for prefix in OPERATORS if prefix and written.startswith(prefix)), "")
    return Condition(key, operator, written.removeprefix(operator))


def _read(text: str) -> tuple[dict[str, Any] | None, tuple[Problem, ...]]:
    try:
        document = read_object(text, file="")
        # What no page could show and no file could hold, wherever it is in the document.
        as_text(document).encode()
    except DocumentError as error:
        return None, error.problems
    except UnicodeEncodeError:
        return None, (Problem("", "", HALF_OF_A_PAIR),)
    except RecursionError:
        return None, (Problem("", "", TOO_DEEP),)
    return document, ()


def _unix(value: object) -> str:
    """The text with the line ends that it had before a browser sent it."""
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""
