"""deploy/Caddyfile in Debian's Caddy: who comes through to Dagster, and with what."""

import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.emulators.postgresql import free_port
from tests.support.proxy import SIGNED_IN, ask_through, proxy_command

pytestmark = pytest.mark.several


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
    command, environment = proxy_command(folder, port, {name: f"127.0.0.1:{number}" for name, number in behind.items()})
    with (folder / "log").open("wb") as log:
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


def ask(port: int, site: str, method: str, path: str, **headers: str) -> tuple[int, str]:
    status, _, body = ask_through(port, site, method, path, **headers)
    return status, body


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
