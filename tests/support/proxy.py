"""deploy/Caddyfile in Debian's Caddy on loopback, and requests that come through it by TLS."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.emulators.postgresql import free_port

CADDYFILE = Path(__file__).parent.parent.parent / "deploy" / "Caddyfile"
PASSWORD = "a password of tests"
SIGNED_IN = {"Authorization": f"Basic {b64encode(f'ana:{PASSWORD}'.encode()).decode()}"}


def caddy() -> str:
    """The program; skips the test if it is not installed."""
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("Caddy is not installed (Debian: apt-get install caddy)")
    return program


def proxy_command(folder: Path, port: int, behind: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """What starts the proxy, and its environment.

    Args:
        folder: for its configuration and certificates.
        port: of TLS.
        behind: console, webserver and viewer -> host and port. The names of their sites are costs, dagster and view.
    """
    program = caddy()
    # Only what a test needs: certificates of its own, other ports, and nobody to administer it.
    options = f"{{\n\tadmin off\n\thttp_port {free_port()}\n\thttps_port {port}\n\tskip_install_trust\n}}\n"
    text = "".join(f"{line}\ttls internal\n" if line.startswith("{$") else line for line in CADDYFILE.open())
    (folder / "Caddyfile").write_text(options + text)
    hashed = subprocess.run(
        [program, "hash-password", "--plaintext", PASSWORD], capture_output=True, text=True, check=True
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "OCTO_HOST": f"costs.localhost:{port}",
        "DAGSTER_HOST": f"dagster.localhost:{port}",
        "DAGSTER_VIEW_HOST": f"view.localhost:{port}",
        "DAGSTER_USER": "ana",
        "DAGSTER_PASSWORD_HASH": hashed.stdout.strip(),
        "OCTO_CONSOLE": behind["console"],
        "DAGSTER_WEBSERVER": behind["webserver"],
        "DAGSTER_VIEWER": behind["viewer"],
    }
    return [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], environment


def ask_through(
    port: int, site: str, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, str]:
    """Status, headers and body of the answer to a request that is sent to one of the sites."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    # The name chooses the certificate before anything is asked.
    plain = socket.create_connection(("127.0.0.1", port), 60)
    try:
        connection.sock = context.wrap_socket(plain, server_hostname=f"{site}.localhost")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": f"{site}.localhost:{port}"} | sent)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        plain.close()
        connection.close()
