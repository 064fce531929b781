"""Reads deploy/grafana-dashboard.json by Grafana's own SDK, which keeps only what the schema of dashboards has: `make schemas`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

FILE = Path("deploy/grafana-dashboard.json")


def lost(written: Any, read: Any, path: str = "") -> Iterator[str]:
    """What is written and was not read, or read otherwise."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from lost(value, read.get(key), f"{path}.{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, (one_written, one_read) in enumerate(zip(written, read, strict=True)):
            yield from lost(one_written, one_read, f"{path}[{number}]")
    elif written != read:
        yield f"{path.removeprefix('.')}: {json.dumps(written)} is read as {json.dumps(read)}"


def main() -> None:
    """Exit with 1 if something is not in the schema."""
    register_default_plugins()
    written = json.loads(FILE.read_text("utf-8"))
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
    if problems := list(lost(written, read)):
        sys.exit("\n".join(f"{FILE}: {problem}" for problem in problems))
    sys.stdout.write(f"{FILE}: {len(written['panels'])} panels, nothing that Grafana's schema does not have.\n")


if __name__ == "__main__":
    main()
