"""`octo serve` as a process on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.model.errors import OctoError
from octo_pipeline.settings import load_settings
from tests.support.small_month import MONTH


def test_the_command_serves_until_it_is_stopped(own_api):
    port = _free_port()
    settings = own_api.workspace.settings
    environment = os.environ | {"OCTO_LAKE": str(settings.lake), "OCTO_CONFIG": str(settings.config)}
    command = [sys.executable, "-m", "octo_pipeline.cli.main", "serve", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        address = f"http://127.0.0.1:{port}/api/v1/allocations?month={MONTH}"
        answer = _asked(address, own_api.tokens["viewer"], server)
        assert answer.json() == own_api.get(f"/allocations?month={MONTH}")
        assert requests.get(address, timeout=10).status_code == 401
        assert "server" not in answer.headers
    finally:
        server.send_signal(signal.SIGINT)
        printed, _ = server.communicate(timeout=30)
    assert f"http://127.0.0.1:{port}/api/openapi.json" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(("proxies", "is_believed"), [("", False), ("10.0.0.5, 10.1.0.0/16", True)])
def test_only_named_proxies_say_who_asks(own_api, monkeypatch, proxies, is_believed):
    """Regression: uvicorn believes X-Forwarded-For of whoever is on this machine, if nobody says otherwise."""
    passed = {}

    def run(server, sockets):
        passed.update(vars(server.config))
        for listening in sockets:
            listening.close()

    monkeypatch.setattr("uvicorn.Server.run", run)
    settings = own_api.workspace.settings
    environment = {
        "OCTO_LAKE": str(settings.lake),
        "OCTO_CONFIG": str(settings.config),
        "OCTO_TRUSTED_PROXIES": proxies,
    }
    result = CliRunner().invoke(app, ["serve", "--port", str(_free_port())], env=environment)
    assert result.exit_code == 0, result.output
    assert (passed["proxy_headers"], passed["forwarded_allow_ips"]) == (is_believed, proxies.replace(" ", ""))


def test_a_proxy_is_an_address_or_a_network():
    with pytest.raises(OctoError, match="OCTO_TRUSTED_PROXIES is not valid: proxy is not an address or network"):
        load_settings(trusted_proxies="10.0.0.5,proxy")


def test_a_port_that_is_taken_is_one_sentence_and_no_link():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "octo_pipeline.cli.main", "serve", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "sign-in" not in ended.stdout
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use." in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _asked(address: str, token: str, server: subprocess.Popen) -> requests.Response:
    for _ in range(300):
        assert server.poll() is None, server.stdout.read()
        try:
            return requests.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=10)
        except requests.ConnectionError:
            time.sleep(0.2)
    raise AssertionError("The server did not answer.")
