"""deploy/grafana-dashboard.json asked of a real Prometheus, which asks a real `octo serve` as docs/alerts.md says."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dagster as dg
import pytest
import yaml

from octo_pipeline.model.months import add_months
from octo_pipeline.tables.graph import TABLES
from tests.emulators.postgresql import free_port
from tests.support.api import api_in
from tests.support.installation import ROOT, answers, wait_until
from tests.support.landed_files import land_files

DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
PROMETHEUS = shutil.which("prometheus")

pytestmark = [
    pytest.mark.several,
    pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed (Debian: apt-get install prometheus)"),
]


@contextmanager
def running(command: list[str], address: str, folder: Path, **environment: str) -> Iterator[str]:
    """A process, as soon as it answers."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment or None)
    try:
        wait_until(lambda: answers(address) or process.poll() is not None, address, 120)
        assert process.poll() is None, (folder / "log").read_text()
        yield address
    finally:
        # The console would wait for its work.
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def prometheus(made_month, tmp_path_factory) -> Iterator[str]:
    """The address of a Prometheus that asks a console every second."""
    folder = tmp_path_factory.mktemp("watched")
    made, tokens = made_month
    api = api_in(shutil.copytree(made, folder / "copy"), tokens)
    settings = api.workspace.settings
    # An account that is late, a run of each table, and some work of the server.
    land_files(api.workspace.lake.root, month=add_months(datetime.now(UTC).strftime("%Y-%m"), -2))
    (folder / "dagster").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        with dg.DagsterInstance.get() as instance:
            for table in TABLES:
                event = dg.AssetMaterialization(table.name, partition="2024-01", metadata={"seconds": 1.5})
                instance.report_runless_asset_event(event)
    port, own_port = free_port(), free_port()
    environment = {"OCTO_LAKE": settings.lake, "OCTO_CONFIG": str(settings.config), "PYTHONPATH": str(ROOT)}
    serve = [sys.executable, "-m", "octo_pipeline.cli.main", "serve", "--port", str(port)]

    # As it is in the page for administrators, with an address of this machine.
    (text,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", (ROOT / "docs" / "alerts.md").read_text(), re.DOTALL)
    scrapes = yaml.safe_load(text)
    (job,) = scrapes["scrape_configs"]
    (folder / "octo-token").write_text(tokens["viewer"])
    job["authorization"]["credentials_file"] = str(folder / "octo-token")
    job["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    job["scrape_interval"] = job["scrape_timeout"] = "1s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(scrapes))
    watch = [str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with ExitStack() as stack:
        console = stack.enter_context(
            running(serve, f"http://127.0.0.1:{port}", folder, DAGSTER_HOME=str(folder / "dagster"), **environment)
        )
        request = urllib.request.Request(
            f"{console}/api/v1/months/2024-01/run",
            method="POST",
            headers={"Authorization": f"Bearer {tokens['admin']}"},
        )
        urllib.request.urlopen(request, timeout=60).close()
        address = f"127.0.0.1:{own_port}"
        yield stack.enter_context(
            running([*watch, f"--web.listen-address={address}"], f"http://{address}/-/ready", folder)
        ).removesuffix("/-/ready")


def asked(prometheus: str, expression: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{urlencode({'query': expression})}", timeout=30) as answer:
        return json.load(answer)["data"]["result"]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_each_panel_has_data(prometheus, title, expression):
    series: list[dict[str, Any]] = []

    def has_data() -> bool:
        with suppress(OSError):
            series[:] = [s for s in asked(prometheus, expression) if s["value"][1] != "NaN"]
        return bool(series)

    wait_until(has_data, title, 60)
    print(f"{title}: {[(series['metric'], series['value'][1]) for series in series]}")
