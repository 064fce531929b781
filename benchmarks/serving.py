"""What a running server takes to answer: the application of `octo serve`, asked in this process."""

import json
from collections.abc import Iterator
from pathlib import Path

from fastapi.testclient import TestClient

from benchmarks.measure import Row, octo, timed
from octo_pipeline.api.limits import SESSION
from octo_pipeline.console.app import create_app
from octo_pipeline.registry.records import Actor, Caller
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import order
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace

DEMO_MONTH = "2024-01"


def simulating(folder: Path, runs: int) -> Iterator[Row]:
    """A rule tried on a month of the demo by the API: the first time, and again with another text."""
    home = folder / "demo"
    environment = {
        "OCTO_LAKE": str(home / "lake"),
        "OCTO_CONFIG": str(home / "config"),
        "OCTO_AWS_EXPORTS": str(home / "exports" / "aws"),
        "OCTO_AZURE_EXPORTS": str(home / "exports" / "azure"),
        "OCTO_GCP_EXPORTS": str(home / "exports" / "gcp"),
        "OCTO_START_MONTH": DEMO_MONTH,
        "DAGSTER_HOME": "",
    }
    octo("sample", str(home / "exports"), "--from", DEMO_MONTH, "--to", DEMO_MONTH, environment=environment)
    octo("run", "--month", DEMO_MONTH, environment=environment)
    workspace = Workspace(Settings(lake=home / "lake", config=home / "config"))
    document = json.loads((home / "config" / "allocators" / "enterprise-support.json").read_text())
    with TestClient(create_app(workspace.settings)) as client:
        headers = {"Authorization": f"Bearer {_token(workspace)}"}

        def simulate(description: str) -> None:
            answer = client.post(
                f"/api/v1/allocators/simulate?month={DEMO_MONTH}",
                headers=headers,
                json=document | {"description": description},
            )
            if answer.status_code != 200:
                raise SystemExit(f"The simulation failed: {answer.text}")

        what = "simulate by the API, a month of the demo"
        yield timed(f"{what}, the first time", [lambda: simulate("first")], "")
        yield timed(what, [lambda i=i: simulate(f"again {i}") for i in range(runs)], "≤ 0.15 s")


def pages(workspace: Workspace, month: str, splits: int) -> Iterator[Row]:
    """The console's pages of a month with so many splits, each asked for the first time."""
    for table in order():
        if table.group == "marts":
            materialise(workspace, table, month)
    with TestClient(create_app(workspace.settings, hosts=("testserver",))) as client:
        caller = Caller(None, _token(workspace))
        client.cookies.set(SESSION, workspace.registry.sessions.begin(caller, "token"))

        def get(path: str) -> None:
            answer = client.get(path)
            if answer.status_code != 200:
                raise SystemExit(f"The page {path} failed: {answer.text}")

        # What a server reads once, such as the templates that all pages have in common.
        get("/users")
        for name, path in (("the month", f"/?month={month}"), ("allocations", f"/allocations?month={month}")):
            yield timed(f"console, {name}, {splits:,} splits", [lambda path=path: get(path)], "≤ 1 s")


def _token(workspace: Workspace) -> str:
    users = workspace.registry.users
    users.add("bench", "admin", Actor("bench"))
    return users.make_token("bench", "bench", Actor("bench"))
