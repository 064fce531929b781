"""Why a partition was made again, in words: which inputs changed, and who changed a rule.

The names of inputs belong to the tables; here they become words for people.
"""

from collections.abc import Iterable

from octo_pipeline.model.months import is_month
from octo_pipeline.registry.records import AuditEvent
from octo_pipeline.workspace import Workspace

# Inputs whose names are not words for people. The others are tables, or words already.
_WORDS = {
    "code": "the program",
    "landing": "the delivered bills",
    "allocators": "rules",
    "restored": "restored items",
}
# What people do to a rule in the audit trail, and how far back it is looked for.
_EDITS = {"save_allocator": "saved", "supersede_allocator": "superseded", "remove_allocator": "removed"}
_EVENTS = 1_000


def in_words(changed: str) -> str:
    """A changed input for people: ``rules``, ``rule support``, or ``matched items of 2024-01``."""
    name, _, of = changed.partition("/")
    if is_month(of):
        return f"{name.replace('_', ' ')} of {of}"
    if of and name in ("allocators", "cost_groups"):
        return f"{'rule' if name == 'allocators' else 'cost group'} {of}"
    return _WORDS.get(name, name.replace("_", " "))


def reasons(workspace: Workspace, changed: Iterable[str]) -> list[str]:
    """A phrase for each changed input; of a rule that people changed here also who did it and when.

    Args:
        workspace: whose audit trail.
        changed: as in `octo_pipeline.tables.table.Materialised`.
    """
    names = list(changed)
    edits: list[AuditEvent] = []
    if any(name.startswith("allocators/") for name in names):
        edits = [event for event in workspace.registry.audit(_EVENTS) if event.action in _EDITS]
    phrases = []
    for name in names:
        kind, _, rule = name.partition("/")
        edit = next((event for event in edits if event.subject == rule), None) if kind == "allocators" else None
        by = f", {_EDITS[edit.action]} by {edit.actor} on {edit.at:%Y-%m-%d %H:%M} UTC" if edit else ""
        phrases.append(f"{in_words(name)}{by}")
    return list(dict.fromkeys(phrases))
