"""deploy/Caddyfile in Debian's Caddy: who comes through to Dagster, and with what."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.emulators.postgresql import free_port

CADDYFILE = Path(__file__).parent.parent.parent / "deploy" / "Caddyfile"
CADDY = shutil.which("caddy")
PASSWORD = "a password of tests"
SIGNED_IN = {"Authorization": f"Basic {b64encode(f'ana:{PASSWORD}'.encode()).decode()}"}

pytestmark = [
    pytest.mark.several,
    pytest.mark.skipif(CADDY is None, reason="Caddy is not installed (Debian: apt-get install caddy)"),
]


class Backend(BaseHTTPRequestHandler):
    """Answers everything with the port that was asked."""

    def _answer(self) -> None:
        body = str(self.server.server_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def proxy(tmp_path_factory) -> Iterator[tuple[int, dict[str, int]]]:
    """The proxy's port, and the port of what is behind each name."""
    folder = tmp_path_factory.mktemp("caddy")
    servers = {name: ThreadingHTTPServer(("127.0.0.1", 0), Backend) for name in ("console", "webserver", "viewer")}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    behind = {name: server.server_address[1] for name, server in servers.items()}
    port = free_port()
    # Only what a test needs: certificates of its own, other ports, and nobody to administer it.
    options = f"{{\n\tadmin off\n\thttp_port {free_port()}\n\thttps_port {port}\n\tskip_install_trust\n}}\n"
    text = "".join(f"{line}\ttls internal\n" if line.startswith("{$") else line for line in CADDYFILE.open())
    (folder / "Caddyfile").write_text(options + text)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "OCTO_HOST": f"costs.localhost:{port}",
        "DAGSTER_HOST": f"dagster.localhost:{port}",
        "DAGSTER_VIEW_HOST": f"view.localhost:{port}",
        "DAGSTER_USER": "ana",
        "DAGSTER_PASSWORD_HASH": subprocess.run(
            [CADDY, "hash-password", "--plaintext", PASSWORD], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "OCTO_CONSOLE": f"127.0.0.1:{behind['console']}",
        "DAGSTER_WEBSERVER": f"127.0.0.1:{behind['webserver']}",
        "DAGSTER_VIEWER": f"127.0.0.1:{behind['viewer']}",
    }
    with (folder / "log").open("wb") as log:
        command = [CADDY, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                ask(port, "costs", "GET", "/")
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield port, behind
    finally:
        process.terminate()
        process.wait(10)
        for server in servers.values():
            server.shutdown()
            server.server_close()


def ask(port: int, name: str, method: str, path: str, **headers: str) -> tuple[int, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    # The name chooses the certificate before anything is asked.
    plain = socket.create_connection(("127.0.0.1", port), 10)
    connection.sock = context.wrap_socket(plain, server_hostname=f"{name}.localhost")
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    connection.request(method, path, headers={"Host": f"{name}.localhost:{port}"} | sent)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize("name", ["dagster", "view"])
def test_nobody_comes_through_to_dagster_without_signing_in(proxy, name):
    port, _ = proxy
    for method, path in (("GET", "/"), ("GET", "/graphql?query={version}"), ("POST", "/graphql")):
        assert ask(port, name, method, path, Origin=f"https://{name}.localhost:{port}")[0] == 401
    assert ask(port, name, "GET", "/", Authorization="Basic YW5hOndyb25n")[0] == 401


@pytest.mark.parametrize(("name", "server"), [("dagster", "webserver"), ("view", "viewer")])
def test_only_pages_of_its_own_change_something(proxy, name, server):
    """Regression: Dagster runs mutations by GET and asks for no origin, so any page in a browser could launch runs."""
    port, behind = proxy
    own = f"https://{name}.localhost:{port}"
    through = (200, str(behind[server]))
    assert ask(port, name, "GET", "/runs", **SIGNED_IN) == through
    assert ask(port, name, "POST", "/graphql", **SIGNED_IN, Origin=own) == through
    assert ask(port, name, "GET", "/graphql", **SIGNED_IN, Origin=own, Upgrade="websocket") == through
    refused = [
        ("GET", "/graphql?query=mutation{x}", {}),
        ("GET", "/graphql?query=mutation{x}", {"Origin": own}),
        ("POST", "/graphql", {}),
        ("POST", "/graphql", {"Origin": "https://evil.example.com"}),
        ("POST", "/graphql", {"Origin": "null"}),
        ("GET", "/graphql", {"Origin": "https://evil.example.com", "Upgrade": "websocket"}),
        ("GET", "/graphql/", {}),
        ("POST", "/report_asset_materialization/x", {"Origin": own}),
        ("DELETE", "/runs", {"Origin": own}),
    ]
    for method, path, headers in refused:
        assert ask(port, name, method, path, **SIGNED_IN, **headers)[0] == 403, (method, path, headers)


def test_the_console_signs_people_in_itself(proxy):
    port, behind = proxy
    assert ask(port, "costs", "POST", "/api/v1/months") == (200, str(behind["console"]))
