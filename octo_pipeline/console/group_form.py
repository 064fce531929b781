"""The form of a cost group: names, what a family is by, and the filters of each vendor."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic.alias_generators import to_camel
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
from octo_pipeline.model.vendors import CLOUDS
from octo_pipeline.rules.cost_group import VendorOptions
from octo_pipeline.rules.documents import Problem

_WORD = "andFilters"
_TEXTS = ("id", "name", "description")
# The lists that the options of each vendor may have.
LISTS: dict[str, tuple[str, ...]] = {
    f"{vendor.name}Options": (
        "filters",
        *map(to_camel, VendorOptions.label_columns),
        *map(to_camel, vendor.label_filters),
    )
    for vendor in CLOUDS.values()
}
_ALL_OF = ("account", "payer")

Alternatives = tuple[tuple[Condition, ...], ...]


@dataclass(frozen=True)
class Block:
    """A list of filters: of a vendor, one of its lists. A vendor without any has a block without filters."""

    vendor: str
    name: str
    alternatives: Alternatives

    @property
    def title(self) -> str:
        """What it is called."""
        word = {"filters": "line items", "tagFilters": "tags", "labelFilters": "labels of resources"}
        return (
            f"{CLOUDS[self.vendor.removesuffix('Options')].provider_name}, {word.get(self.name, 'labels of projects')}"
        )

    @property
    def offers(self) -> str:
        """What its keys are names of, as editors ask for values: ``tag``, ``projectLabel``, or columns if it is empty."""
        return {"filters": "", "projectLabelFilters": "projectLabel"}.get(self.name, "tag")


@dataclass(frozen=True)
class GroupForm:
    """The fields of a cost group.

    Attributes:
        texts: the keys that have texts, or nothing; ``by`` and ``key`` say what a family is by, ``of`` where its values are.
        blocks: the filters; None if they have another shape.
        others: the keys that only the JSON shows.
    """

    texts: Mapping[str, str]
    blocks: tuple[Block, ...] | None
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """The form that shows a document."""
        texts = {key: document.get(key) or "" for key in _TEXTS if isinstance(document.get(key, ""), str | None)}
        texts |= _by_of(document)
        blocks = _blocks_of(document.get("combinations"))
        own_keys = {
            *_TEXTS,
            *(("by", "of") if "by" in texts else ()),
            *(("combinations",) if blocks is not None else ()),
        }
        others = [key for key in document if key not in own_keys]
        if blocks is not None and "options" in (document.get("combinations") or {}):
            others.append("combinations.options")
        return cls(texts, blocks, tuple(others))

    @classmethod
    def typed(cls, form: FormData, before: Self | None) -> Self:
        """What was typed; a part that the form did not show stays."""
        keys = (*_TEXTS, "by", "key", "of")
        texts = {key: str(form[f"text.{key}"]).strip() for key in keys if f"text.{key}" in form}
        blocks: list[Block] | None = [] if "blocks.rows" in form else None
        while blocks is not None and f"blocks.{len(blocks)}.list" in form:
            vendor, _, name = str(form[f"blocks.{len(blocks)}.list"]).partition(".")
            if name not in LISTS.get(vendor, ()):
                break
            blocks.append(Block(vendor, name, typed_alternatives(form, f"block{len(blocks)}")))
        return cls(texts, None if blocks is None else tuple(blocks), before.others if before else ())

    def changed(self, action: str) -> Self:
        """The form after a button, such as ``add awsOptions.filters``, ``add block0 1`` or ``remove block0``."""
        verb, name, numbers = button(action)
        if self.blocks is None or not name:
            return self
        vendor, _, its_list = name.partition(".")
        if verb == "add" and its_list in LISTS.get(vendor, ()):
            return replace(self, blocks=(*self.blocks, Block(vendor, its_list, ((Condition(),),))))
        number = name.removeprefix("block")
        at = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else len(self.blocks)
        if at >= len(self.blocks):
            return self
        blocks = list(self.blocks)
        if verb == "drop":
            del blocks[at]
        else:
            blocks[at] = replace(blocks[at], alternatives=changed_alternatives(blocks[at].alternatives, verb, numbers))
        return replace(self, blocks=tuple(blocks))

    def compact(self) -> Self:
        """The form without rows in which nothing is written."""
        texts = {key: text for key, text in self.texts.items() if text}
        return replace(self, texts=texts, blocks=_compact(self.blocks))

    def fields(self) -> dict[str, str]:
        """The ids of the fields, by the paths of what they show."""
        ids = {key: f"text-{key}" for key in self.texts}
        ids |= {f"by.{self.texts.get('by', '')}": "text-key"}
        for i, block in enumerate(self.blocks or ()):
            path = ("combinations", block.vendor, block.name)
            ids |= condition_fields(block.alternatives, _WORD, path, f"block{i}")
        return ids

    def write(self, document: dict[str, Any], before: Self | None) -> list[Problem]:
        """Write what differs from `before` into a document."""
        problems: list[Problem] = []
        changed = {key for key, text in self.texts.items() if before is None or text != before.texts.get(key, "")}
        for key in changed & {*_TEXTS, "of"}:
            _set(document, key, self.texts[key] or None)
        if changed & {"by", "key"}:
            kind = self.texts.get("by", "")
            _set(document, "by", {kind: True if kind in _ALL_OF else self.texts.get("key", "")} if kind else None)
        if self.blocks is not None and (before is None or _compact(self.blocks) != _compact(before.blocks)):
            kept = document.get("combinations") or {}
            combinations: dict[str, Any] = {}
            for block in self.blocks:
                path = ("combinations", block.vendor, block.name)
                written = written_alternatives(block.alternatives, _WORD, path, problems)
                lists = combinations.setdefault(block.vendor, {})
                if written:
                    lists[block.name] = [*lists.get(block.name, []), *written]
            if "options" in kept:
                combinations["options"] = kept["options"]
            document["combinations"] = combinations
        return problems


def _set(document: dict[str, Any], key: str, value: object) -> None:
    if value is None:
        document.pop(key, None)
    else:
        document[key] = value


def _compact(blocks: tuple[Block, ...] | None) -> tuple[Block, ...] | None:
    if blocks is None:
        return None
    return tuple(replace(block, alternatives=without_blank(block.alternatives) or ()) for block in blocks)


def _by_of(document: dict[str, Any]) -> dict[str, str]:
    """The fields of a family; none if they have another shape."""
    by, of = document.get("by"), document.get("of") or ""
    if not isinstance(of, str):
        return {}
    if not by:
        return {"by": "", "key": "", "of": of}
    if not isinstance(by, dict) or len(by) != 1:
        return {}
    ((kind, key),) = by.items()
    if key is not True and not isinstance(key, str):
        return {}
    return {"by": kind, "key": "" if key is True else key, "of": of}


def _blocks_of(written: object) -> tuple[Block, ...] | None:
    """Blocks for the combinations; None if they have another shape."""
    if written is None:
        return ()
    if not isinstance(written, dict) or not written.keys() <= {*LISTS, "options"}:
        return None
    blocks: list[Block] = []
    for vendor, options in written.items():
        if vendor == "options":
            continue
        if not isinstance(options, dict) or not options.keys() <= set(LISTS[vendor]):
            return None
        its_blocks = list(_lists_of(vendor, options))
        if any(block is None for block in its_blocks):
            return None
        blocks += [block for block in its_blocks if block] or [Block(vendor, "filters", ())]
    return tuple(blocks)


def _lists_of(vendor: str, options: dict[str, Any]) -> Iterator[Block | None]:
    for name, written in options.items():
        alternatives = alternatives_of(written, _WORD)
        yield None if alternatives is None else Block(vendor, name, alternatives)
