"""Conditions on text values, as criteria (allocation.md §5) and cost groups (§11) write them.

This module has the prefixes, the check of patterns and the list of maps that both documents share. Which keys a
map may have, and what the list means, belongs in `allocator` and `cost_group`.

A condition means the same in SQL and in Python: both use RE2, which matches a pattern anywhere unless it is anchored.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import re2

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Sql, is_one_of, regexp_matches
from octo_pipeline.model.wording import quoted_json
from octo_pipeline.rules.documents import Location, not_text, refuse

MAX_PATTERN = 10_000

# Half of what DuckDB's RE2 allows (8 MiB): the two versions need slightly different memory for a pattern (448 and
# 446 times \pL fit), and DuckDB must not refuse in the middle of a run what was accepted here.
_MAX_MEMORY = 4 << 20


@dataclass(frozen=True)
class Condition:
    """What a value must be; null counts as the empty string.

    Attributes:
        kind: the value equals the text, matches the pattern, or does not match it.
        text: the text or the RE2 pattern.
        has_prefix: false for equality written as the plain text; only `written` differs.
    """

    kind: Literal["eq", "re", "not_re"]
    text: str
    has_prefix: bool = field(default=True, compare=False)

    @property
    def written(self) -> str:
        """The condition as it is written in the document."""
        return (_PREFIXES[self.kind] if self.has_prefix else "") + self.text

    def sql(self, column: Sql) -> Sql:
        """The condition as a truth value that is never null.

        Args:
            column: SQL of a VARCHAR.
        """
        if self.kind == "eq":
            return equals_any_sql(column, [self.text])
        matches = regexp_matches(_not_null(column), self.text)
        return matches if self.kind == "re" else Sql(f"NOT {matches}")

    def holds(self, value: str | None) -> bool:
        """Whether the condition holds for the value, exactly as its SQL decides."""
        if self.kind == "eq":
            return (value or "") == self.text
        matches = _compiled(self.text).search(value or "") is not None
        return matches == (self.kind == "re")


# One map of a document: key -> the condition on it. All of them must hold.
Conditions = Mapping[str, Condition]

_PREFIXES: dict[Literal["eq", "re", "not_re"], str] = {"eq": "eq:", "re": "re:", "not_re": "!re:"}


def equals_any_sql(column: Sql, texts: Sequence[str]) -> Sql:
    """A truth value that is never null: the column equals one of the texts."""
    return is_one_of(_not_null(column), texts)


def parse_condition(written: str) -> Condition:
    """Read ``eq:x``, ``x``, ``re:x`` or ``!re:x``.

    Raises:
        OctoError: it has another prefix that begins with ``!``, a NUL character, or a pattern that RE2 refuses.
    """
    if "\0" in written:
        raise OctoError(f"{quoted_json(written)} has a NUL character; remove it", code="nul-character")
    for kind, prefix in _PREFIXES.items():
        if written.startswith(prefix):
            text = written.removeprefix(prefix)
            if kind != "eq":
                _check_pattern(text)
            return Condition(kind, text)
    if written.startswith("!"):
        raise OctoError(
            f"{quoted_json(written)} begins with '!' but not with '!re:'; write '!re:pattern' for values without a "
            f"match, or {quoted_json('eq:' + written)} for this very text",
            code="condition-malformed",
        )
    return Condition("eq", written, has_prefix=False)


def pattern_hints(alternatives: Iterable[Conditions]) -> list[str]:
    """A sentence for each text that is compared as it is written, and looks as if a pattern was meant."""
    written = dict.fromkeys(
        condition.text for conditions in alternatives for condition in conditions.values() if not condition.has_prefix
    )
    return [
        f"{quoted_json(text)} is compared as it is written, sign by sign; for a pattern write {quoted_json(pattern)}"
        for text in written
        if (pattern := _meant_pattern(text))
    ]


def _meant_pattern(text: str) -> str:
    """The pattern that somebody meant who wrote the text without a prefix; empty if it looks like a text."""
    if ".*" in text or text.startswith("^") or text.endswith("$"):
        return f"re:{text}"
    if text.strip("*") and text != text.strip("*"):
        start, end = "" if text.startswith("*") else "^", "" if text.endswith("*") else "$"
        return f"re:{start}{re2.escape(text.strip('*'))}{end}"
    return ""


def parse_alternatives(
    value: object, *, word: str, keys: Collection[str] | None, prefixes: Collection[str] = ()
) -> tuple[Conditions, ...]:
    """Read a list (OR) of ``{word: {key: condition}}`` (AND).

    Args:
        value: the JSON value.
        word: ``and`` or ``andFilters``.
        keys: the keys that a map may have; None for free text.
        prefixes: what else a key may begin with, such as ``tag:``; the name of a tag follows.

    Raises:
        ValidationError: with every flaw in it.
    """
    if not isinstance(value, list):
        raise ValueError(f"must be a list of {{{quoted_json(word)}: {{key: value}}}}, not {quoted_json(value)}")
    flaws: list[tuple[Location, str]] = []
    allowed = _Keys(keys, prefixes)
    alternatives = [_parse_alternative(item, (i,), word, allowed, flaws) for i, item in enumerate(value)]
    if flaws:
        refuse(flaws)
    return tuple(alternatives)


def written_alternatives(alternatives: Iterable[Conditions], *, word: str) -> list[dict[str, dict[str, str]]]:
    """The JSON value from which `parse_alternatives` reads these alternatives."""
    return [{word: {key: condition.written for key, condition in conditions.items()}} for conditions in alternatives]


def _not_null(column: Sql) -> Sql:
    return Sql(f"coalesce({column}, '')")


@dataclass(frozen=True)
class _Keys:
    """The keys that a map may have."""

    names: Collection[str] | None
    prefixes: Collection[str]

    @property
    def allowed(self) -> str:
        """Them as a part of a sentence."""
        if self.names is None:
            return "any tag or label key"
        return ", ".join([*self.names, *(f"{prefix}KEY" for prefix in self.prefixes)])

    def flaw(self, key: str) -> str:
        """What is wrong with a key, if anything."""
        if not key if self.names is None else key in self.prefixes:
            return "a tag or label key cannot be empty"
        if self.names is None or key in self.names or key.startswith(tuple(self.prefixes)):
            return ""
        return f"unknown key; allowed: {self.allowed}"


def _parse_alternative(
    item: object, location: Location, word: str, keys: _Keys, flaws: list[tuple[Location, str]]
) -> Conditions:
    if not isinstance(item, dict):
        flaws.append((location, f"must be an object {{{quoted_json(word)}: {{key: value}}}}, not {quoted_json(item)}"))
        return {}
    flaws.extend(((*location, key), f"unknown key; allowed: {word}") for key in item if key != word)
    conditions = item.get(word)
    if not isinstance(conditions, dict) or not conditions:
        flaws.append(((*location, word), f"must be an object with at least one key; allowed: {keys.allowed}"))
        return {}
    parsed = {}
    for key, written in conditions.items():
        flaw = keys.flaw(key)
        if flaw:
            flaws.append(((*location, word, key), flaw))
        if not isinstance(written, str):
            hint = '; write "" for null or empty' if written is None else ""
            flaws.append(((*location, word, key), not_text(written) + hint))
            continue
        try:
            parsed[key] = parse_condition(written)
        except OctoError as error:
            flaws.append(((*location, word, key), str(error)))
    return parsed


def _check_pattern(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise OctoError(
            f"the pattern has {len(pattern):,} characters and {MAX_PATTERN:,} are allowed; split it into several maps",
            code="pattern-too-long",
        )
    try:
        compiled = _compiled(pattern)
    except (re2.error, UnicodeEncodeError) as error:
        raise OctoError(
            f"{quoted_json(pattern)} is not a pattern that RE2 accepts: {_reason(error)}; see RE2's syntax, "
            "which has no look-around and no back-references",
            code="pattern-malformed",
        ) from error
    # DuckDB's RE2 is older and knows only the first spelling of named groups.
    if compiled.groupindex and "(?<" in pattern:
        raise OctoError(
            f"{quoted_json(pattern)} names a group by (?<…>); write (?P<…>), or a plain group",
            code="pattern-group-malformed",
        )


@lru_cache(maxsize=1000)
def _compiled(pattern: str) -> Any:
    # re2's own cache is asked with the options, which are made anew each time: that takes most of a search.
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    return re2.compile(pattern, options)


def _reason(error: Exception) -> str:
    reason = error.args[0]
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)
