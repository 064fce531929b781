"""BigQuery on loopback: bqemulator with free ports and a home folder of its own, started and stopped by a fixture."""

import io
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from octo_pipeline.vendors.gcp.client import Endpoint

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".emulators" / "bigquery" / "bin" / "python"
SECONDS = 60


@dataclass(frozen=True)
class BigQueryServer:
    """A running emulator; `write` makes what a billing export would have made."""

    endpoint: Endpoint

    def client(self, project: str) -> Any:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.bigquery import Client

        return Client(
            project=project,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.endpoint.rest},
        )

    def create(self, table: str, schema: Sequence[Any], location: str = "EU") -> None:
        """Make an empty ingestion-partitioned table, in place of one that may be there."""
        from google.cloud import bigquery

        project, dataset, _ = table.split(".")
        client = self.client(project)
        described = bigquery.Dataset(f"{project}.{dataset}")
        described.location = location
        client.create_dataset(described, exists_ok=True)
        client.delete_table(table, not_found_ok=True)
        made = bigquery.Table(table, schema=schema)
        made.time_partitioning = bigquery.TimePartitioning("DAY")
        client.create_table(made)

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        from google.cloud import bigquery

        client = self.client(table.split(".")[0])
        lines = "\n".join(json.dumps(row) for row in rows).encode()
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            schema=client.get_table(table).schema,
        )
        client.load_table_from_file(io.BytesIO(lines), table, job_config=config).result()


@pytest.fixture(scope="session")
def bigquery_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    """A BigQuery that all tests of this process share; each takes a dataset of its own."""
    home = tmp_path_factory.mktemp("bigquery")
    assert PYTHON.exists(), "bqemulator is not installed: run `make .emulators/bigquery/installed`"
    rest, storage = _free_port(), _free_port()
    command = [
        str(PYTHON), str(Path(__file__).with_name("bigquery_server.py")), "start", "--no-admin", "--ephemeral",
        "--rest-port", str(rest), "--grpc-port", str(storage), "--log-level", "error",
    ]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        # The Avro extension would be downloaded.
        "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",
    }
    log = home / "bigquery.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=output, stderr=output)
    try:
        _wait(process, f"http://127.0.0.1:{rest}/bigquery/v2/projects/any/datasets", log)
        yield BigQueryServer(Endpoint(f"http://127.0.0.1:{rest}", f"127.0.0.1:{storage}"))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    for _ in range(SECONDS * 10):
        assert process.poll() is None, f"bqemulator ended: {log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"bqemulator does not answer: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
