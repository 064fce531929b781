"""Takes the pictures of the Dagster UI, the console and a statement that the pages show: `make pictures`, on the demo's data.

Starts `dagster dev` with the environment it is given on a free port of this machine, drives the system's Chromium
and writes PNGs into docs/images/. Needs playwright and a browser; it is not part of the tests.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import FloatRect, Page, ViewportSize, sync_playwright

_ROOT = Path(__file__).parent.parent
_IMAGES = Path(__file__).parent / "images"
_SIZE: ViewportSize = {"width": 1280, "height": 760}
_START_SECONDS = 180
_RUN_SECONDS = 180
_WAIT = 60_000
_STOP_SECONDS = 20

# What the picture of the launchpad shows: the rule of docs/first-allocator.md.
_RUN_CONFIG = {
    "ops": {
        "simulate": {
            "config": {
                "month": "2024-03",
                "allocator": {
                    "id": "athena-queries",
                    "category": "account",
                    "startMonth": "2024-03",
                    "criteria": [{"and": {"account": "222233334444", "productCode": "AmazonAthena"}}],
                    "allocator": [{"type": "costgroup", "value": "product-teams", "formula": "cost*0.8*usage"}],
                },
            }
        }
    }
}
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
_LOADED = """
{ workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { ... on PythonError { message } } } } } }
"""
_STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


@contextmanager
def dagster_ui(dagster: str, workspace: str = "workspace.yaml") -> Iterator[str]:
    """The address of a Dagster UI with its daemon, which is gone at the end, with the processes it starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [dagster, "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(port)]
    # A session of its own, so that its children can be stopped with it.
    process = subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, process)
        yield address
    finally:
        _send(process, signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print("dagster dev takes long to stop; it is ended now.", file=sys.stderr)
        _send(process, signal.SIGKILL)


def _send(process: "subprocess.Popen[bytes]", what: signal.Signals) -> None:
    """Signal the process and its children, those that are left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, what)


def _wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"`{' '.join(map(str, process.args))}` ended with {process.returncode}; run it by hand.")
        with suppress(OSError):
            locations = ask(address, _LOADED)["workspaceOrError"]["locationEntries"]
            if all(location["loadStatus"] == "LOADED" for location in locations):
                for location in locations:
                    if message := (location["locationOrLoadError"] or {}).get("message"):
                        raise SystemExit(message)
                return
        time.sleep(1)
    raise SystemExit(f"The Dagster UI did not answer at {address} in {_START_SECONDS} seconds.")


def ask(address: str, query: str, **variables: Any) -> Any:
    """The data that the UI's API answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


def simulated(address: str) -> str:
    """Run simulate_allocator and return the run's id."""
    params = {
        "selector": {
            "repositoryLocationName": "octo_pipeline",
            "repositoryName": "__repository__",
            "jobName": "simulate_allocator",
        },
        "runConfigData": json.dumps(_RUN_CONFIG),
    }
    launched = ask(address, _LAUNCH, params=params)["launchRun"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise SystemExit(f"simulate_allocator could not be launched: {launched}")
    run = str(launched["run"]["runId"])
    until = time.monotonic() + _RUN_SECONDS
    while (status := ask(address, _STATUS, id=run)["runOrError"]["status"]) != "SUCCESS":
        if status in ("FAILURE", "CANCELED") or time.monotonic() > until:
            raise SystemExit(f"The run {run} of simulate_allocator is {status}.")
        time.sleep(1)
    return run


def _picture(page: Page, name: str, clip: FloatRect | None = None) -> None:
    page.wait_for_timeout(1500)  # animations
    page.screenshot(path=_IMAGES / f"{name}.png", clip=clip)
    print(f"{name}.png {(_IMAGES / f'{name}.png').stat().st_size:,} bytes")


def take(page: Page, address: str, run: str) -> None:
    """All pictures, in the order in which the pages show them."""
    page.set_default_timeout(_WAIT)

    # Cards are drawn with their figures only where there is room for them.
    page.set_viewport_size({"width": 1600, "height": 780})
    page.goto(f"{address}/locations/octo_pipeline/asset-groups/allocation/lineage")
    page.get_by_text("usage_shares").first.wait_for()
    _picture(page, "asset-graph", clip={"x": 240, "y": 104, "width": 1360, "height": 676})
    page.set_viewport_size(_SIZE)

    page.goto(f"{address}/assets/account_costs?view=overview")
    shown = page.get_by_text("[Show Markdown]")
    shown.first.wait_for()
    _picture(page, "asset-overview")

    # The latest materialisation's tables: the largest accounts, and the chart.
    shown.nth(1).click()
    _picture(page, "chart")
    page.keyboard.press("Escape")

    page.goto(f"{address}/assets/allocations?view=partitions&partition=2024-03")
    page.get_by_text("dagster/row_count").first.wait_for()
    _picture(page, "partitions")

    page.goto(f"{address}/assets/allocations?view=checks")
    page.get_by_text("conserved_over_months").first.wait_for()
    _picture(page, "checks")

    page.goto(f"{address}/locations/octo_pipeline/jobs/simulate_allocator/playground/setup-from-run/{run}")
    page.get_by_text("athena-queries").first.wait_for()
    _picture(page, "launchpad")

    page.goto(f"{address}/runs/{run}")
    page.get_by_text("Who gets how much").first.wait_for()
    # The tables of the output: warnings, matched, who gets how much.
    shown.nth(2).click()
    _picture(page, "simulation")


@contextmanager
def console() -> Iterator[str]:
    """The link that signs in to a console on the lake of the environment; its server is gone at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "octo_pipeline.cli.main", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        link = process.stdout.readline().removeprefix("Console: ").strip()
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        yield link
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_STOP_SECONDS)


_PAGES = {
    "console-month": "/?month=2024-03",
    "console-allocations": "/allocations?month=2024-03&text=support",
    "console-rules": "/rules?month=2024-03",
    "console-cost-group": "/cost-groups/product-teams?month=2024-03",
    "console-accounts": "/accounts?month=2024-03",
    "console-statements": "/statements?month=2024-03",
    "console-data": "/data?month=2024-03",
    "console-users": "/users",
}


def take_console(page: Page) -> None:
    """The pages of the console; nothing is changed."""
    page.set_viewport_size({"width": 1280, "height": 900})
    with console() as link:
        page.goto(link)
        address = link.partition("/sign-in")[0]
        for name, path in _PAGES.items():
            page.goto(address + path)
            _picture(page, name)

        page.goto(f"{address}/allocations?month=2024-03&allocator=enterprise-support")
        page.locator("table.list a.row").first.click()
        _picture(page, "console-item")

        # What moves if a rule hands out less is shown as it is typed.
        page.goto(f"{address}/rules/enterprise-support?month=2024-03")
        page.get_by_text("Matched items").wait_for()
        page.get_by_label("Formula").fill("cost*0.8*usage")
        page.get_by_text("Pay less").wait_for()
        _picture(page, "console-rule")

        page.goto(f"{address}/accounts/aws/111122223333?month=2024-03&against=2024-02")
        page.locator("#why").evaluate("heading => heading.scrollIntoView()")
        _picture(page, "console-account")


def take_statement(page: Page, folder: Path) -> None:
    """The page of a cost centre for March, its upper part."""
    arguments = [str(folder), "--month", "2024-03", "--owner", "CC-2050"]
    subprocess.run([sys.executable, "-m", "octo_pipeline.cli.main", "statements", *arguments], check=True, cwd=_ROOT)
    (statement,) = folder.glob("*.html")
    page.goto(statement.as_uri())
    page.screenshot(path=_IMAGES / "statement.png", full_page=True, clip={"x": 0, "y": 0, "width": 820, "height": 1130})


def main() -> None:
    """Take the pictures; the argument is the `dagster` to start."""
    browser_path = shutil.which("chromium")
    if browser_path is None:
        raise SystemExit("There is no chromium on this machine; install it (Debian: apt-get install chromium).")
    _IMAGES.mkdir(exist_ok=True)
    with dagster_ui(sys.argv[1]) as address, sync_playwright() as playwright:
        run = simulated(address)
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        take(browser.new_page(viewport=_SIZE), address, run)
        take_console(browser.new_page(viewport=_SIZE))
        with tempfile.TemporaryDirectory() as folder:
            take_statement(browser.new_page(viewport={"width": 820, "height": 760}), Path(folder))
        browser.close()


if __name__ == "__main__":
    main()
