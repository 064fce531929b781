"""Another process at the registry: run as a script by the tests that claim something about several processes.

It waits for a line on stdin, so that several begin at once, and prints one JSON value.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Decision
from octo_pipeline.registry.store import Registry


def decision(name: str, action: str = "restore") -> Decision:
    item_id = hashlib.md5(name.encode()).hexdigest()
    return Decision(action, item_id, "2024-01", "fee", f"process {name}", "billed twice", datetime.now(UTC))


def one_by_one(registry: Registry, name: str, count: str) -> int:
    return sum(registry.record_decisions([decision(f"{name}-{i}")]) for i in range(int(count)))


def at_once(registry: Registry, name: str, count: str) -> int:
    same_actor = decision(name).actor
    now = datetime.now(UTC)
    ids = (hashlib.md5(f"{name}-{i}".encode()).hexdigest() for i in range(int(count)))
    return registry.record_decisions(
        [Decision("restore", i, "2024-01", "fee", same_actor, "billed twice", now) for i in ids]
    )


def race(registry: Registry, count: str) -> dict[str, Any]:
    won, refusals = [], []
    for i in range(int(count)):
        try:
            registry.record_decisions([decision(f"wanted-{i}")])
            won.append(i)
        except OctoError as refusal:
            refusals.append(str(refusal))
    return {"won": won, "refusals": refusals}


def watch(registry: Registry, until: str) -> list[list[int]]:
    """Every (decisions, events) seen until there are so many decisions; a line says that it watches."""
    seen = [[len(registry.restored_items()), len(registry.audit())]]
    print("watching", flush=True)
    while seen[-1][0] < int(until):
        counts = [len(registry.restored_items()), len(registry.audit())]
        if counts not in seen:
            seen.append(counts)
    return seen


COMMANDS: dict[str, Callable[..., Any]] = {
    "one_by_one": one_by_one,
    "at_once": at_once,
    "race": race,
    "watch": watch,
}

if __name__ == "__main__":
    command, url, *arguments = sys.argv[1:]
    sys.stdin.readline()
    print(json.dumps(COMMANDS[command](Registry(url), *arguments)))
