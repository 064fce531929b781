"""Why a partition was made again, in words: which inputs changed, and who changed a rule.

The names of inputs belong to the tables; here they become words for people.
"""

from collections.abc import Iterable

from octo_pipeline.model.months import is_month
from octo_pipeline.registry.records import AuditEvent
from octo_pipeline.tables.graph import StalePartition
from octo_pipeline.workspace import Workspace

# Inputs whose names are not words for people. The others are tables, or words already.
_WORDS = {
    "closed": "what is known",
    "code": "the program",
    "landing": "the delivered bills",
    "allocators": "rules",
    "restored": "restored items",
}
# What people do to documents in the audit trail, by the kind of input, and how far back it is looked for.
_EDITS = {
    "allocators": {"save_allocator": "saved", "supersede_allocator": "superseded", "remove_allocator": "removed"},
    "cost_groups": {"save_cost_group": "saved", "remove_cost_group": "removed"},
}
_EVENTS = 1_000


def in_words(changed: str) -> str:
    """A changed input for people: ``rules``, ``rule support``, or ``matched items of 2024-01``."""
    name, _, of = changed.partition("/")
    if is_month(of):
        return f"{_WORDS.get(name, name.replace('_', ' '))} of {of}"
    if of and name in ("allocators", "cost_groups"):
        return f"{'rule' if name == 'allocators' else 'cost group'} {of}"
    return _WORDS.get(name, name.replace("_", " "))


def changed_since(partitions: Iterable[StalePartition], month: str) -> tuple[str, ...]:
    """What changed since a month was made, as people read it; empty if it is current."""
    return tuple(
        sorted({in_words(name) for partition in partitions if partition.month == month for name in partition.changed})
    )


def reasons(workspace: Workspace, changed: Iterable[str]) -> list[str]:
    """A phrase for each changed input; of a rule or cost group that people changed here also who did it and when.

    Args:
        workspace: whose audit trail.
        changed: as in `octo_pipeline.tables.table.Materialised`.
    """
    names = list(changed)
    edits: list[AuditEvent] = []
    if any(name.startswith(tuple(f"{kind}/" for kind in _EDITS)) for name in names):
        edits = workspace.registry.audit(_EVENTS)
    phrases = []
    for name in names:
        kind, _, document_id = name.partition("/")
        actions = _EDITS.get(kind, {})
        edit = next((event for event in edits if event.subject == document_id and event.action in actions), None)
        by = f", {actions[edit.action]} by {edit.actor} on {edit.at:%Y-%m-%d %H:%M} UTC" if edit else ""
        phrases.append(f"{in_words(name)}{by}")
    return list(dict.fromkeys(phrases))
