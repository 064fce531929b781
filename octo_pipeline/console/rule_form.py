"""The form of an allocator: names, months, criteria, and who pays."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from starlette.datastructures import FormData

from octo_pipeline.console.drafts import (
    Condition,
    alternatives_of,
    button,
    changed_alternatives,
    condition_fields,
    typed_alternatives,
    without_blank,
    written_alternatives,
)
from octo_pipeline.rules.documents import Problem, json_path

# The keys of a document that are a field each.
TEXTS = (
    "id", "name", "description", "category", "step", "startMonth", "endMonth", "expiration", "priority", "defaultAccount",
    "defaultGroup",
)  # fmt: skip
_LISTS = ("criteria", "allocator")
_TARGET = ("type", "value", "formula", "months")
# What saving sets, so that nobody need look at it.
_STAMPS = ("createTime", "updateTime")

Target = Mapping[str, str]


@dataclass(frozen=True)
class RuleForm:
    """The fields of an allocator.

    Attributes:
        texts: the keys of `TEXTS` that have texts or numbers, or nothing.
        alternatives: the criteria; None if they have another shape.
        targets: who pays: type, value, formula, months; None if they have another shape.
        others: the keys that only the JSON shows.
    """

    texts: Mapping[str, str]
    alternatives: tuple[tuple[Condition, ...], ...] | None
    targets: tuple[Target, ...] | None
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """The form that shows a document."""
        texts = {key: text for key in TEXTS if (text := _text(document.get(key))) is not None}
        alternatives = alternatives_of(document.get("criteria"), "and")
        targets = _targets_of(document.get("allocator"))
        own_keys = {*texts, *_STAMPS, *_LISTS}
        hidden = {name for name, rows in zip(_LISTS, (alternatives, targets), strict=True) if rows is None}
        return cls(texts, alternatives, targets, tuple(key for key in document if key not in own_keys or key in hidden))

    @classmethod
    def typed(cls, form: FormData, before: Self | None) -> Self:
        """What was typed; a part that the form did not show stays."""
        texts = {key: str(form[f"text.{key}"]).strip() for key in TEXTS if f"text.{key}" in form}
        alternatives = typed_alternatives(form, "criteria") if "criteria.rows" in form else None
        targets: list[Target] | None = [] if "targets.rows" in form else None
        while targets is not None and f"targets.{len(targets)}.type" in form:
            at = f"targets.{len(targets)}"
            targets.append({name: str(form.get(f"{at}.{name}", "")).strip() for name in _TARGET})
        return cls(texts, alternatives, None if targets is None else tuple(targets), before.others if before else ())

    def changed(self, action: str) -> Self:
        """The form after a button for its rows, such as ``add criteria 0`` or ``remove targets 2``."""
        verb, name, numbers = button(action)
        if name == "criteria" and self.alternatives is not None:
            return replace(self, alternatives=changed_alternatives(self.alternatives, verb, numbers))
        if name == "targets" and self.targets is not None:
            targets = list(self.targets)
            if verb == "add":
                targets.append({**dict.fromkeys(_TARGET, ""), "type": "account"})
            elif verb == "remove" and numbers and numbers[0] < len(targets):
                del targets[numbers[0]]
            return replace(self, targets=tuple(targets))
        return self

    def compact(self) -> Self:
        """The form without rows in which nothing is written."""
        targets = None
        if self.targets is not None:
            targets = tuple(target for target in self.targets if any(target[name] for name in _TARGET[1:]))
        texts = {key: text for key, text in self.texts.items() if text}
        return replace(self, texts=texts, alternatives=without_blank(self.alternatives), targets=targets)

    def fields(self) -> dict[str, str]:
        """The ids of the fields, by the paths of what they show."""
        ids = {key: f"text-{key}" for key in self.texts}
        ids |= condition_fields(self.alternatives, "and", ("criteria",), "criteria")
        for i, target in enumerate(self.targets or ()):
            ids |= {json_path(("allocator", i, name)): f"targets-{i}-{name}" for name in target}
            ids[json_path(("allocator", i))] = f"targets-{i}-type"
        return ids

    def write(self, document: dict[str, Any], before: Self | None) -> list[Problem]:
        """Write what differs from `before` into a document."""
        problems: list[Problem] = []
        for key, text in self.texts.items():
            if before is None or text != before.texts.get(key, ""):
                if text:
                    document[key] = text
                else:
                    document.pop(key, None)
        if self.alternatives is not None and (
            before is None or without_blank(self.alternatives) != without_blank(before.alternatives)
        ):
            document["criteria"] = written_alternatives(self.alternatives, "and", ("criteria",), problems)
        if self.targets is not None and (before is None or self.targets != before.targets):
            document["allocator"] = [{name: text for name, text in target.items() if text} for target in self.targets]
        return problems


def _text(value: object) -> str | None:
    """A field's text; None if the value is none that a field can show."""
    if value is None:
        return ""
    return str(value) if isinstance(value, str) or type(value) is int else None


def _targets_of(written: object) -> tuple[Target, ...] | None:
    if written is None:
        return ()
    if not isinstance(written, list):
        return None
    targets = []
    for entry in written:
        if not isinstance(entry, dict) or not entry.keys() <= set(_TARGET):
            return None
        texts = {name: _text(entry.get(name)) for name in _TARGET}
        if None in texts.values():
            return None
        targets.append({name: text or "" for name, text in texts.items()})
    return tuple(targets)
