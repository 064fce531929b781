"""Azure on loopback: Microsoft's login, Graph partner billing with its blobs, Partner Center, and Azurite."""

import base64
import gzip
import hashlib
import hmac
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

TENANT = "0b0b0b0b-1111-4222-8333-444444444444"
CLIENT = "0c0c0c0c-1111-4222-8333-444444444444"
SECRET = "the-secret-of-the-application"
ROOT = Path(__file__).parent.parent.parent
# The account and key that Azurite is documented to start with.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def blob(*lines: dict[str, Any]) -> bytes:
    """The content of a blob of the partner billing export."""
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), mtime=0)


@dataclass
class FakeAzure:
    """What a partner has, what goes wrong, and what was asked.

    Attributes:
        exports: ``unbilled/current/GBP``, ``billed/<invoice>`` or ``reconciliation/<invoice>`` -> blobs by name.
        invoices: as Partner Center lists them.
        throttled: how many more answers are 429.
        running: how many polls an operation takes.
        failed: the error that operations end in.
        expired: SAS tokens that storage refuses.
        cut: how many more blob answers break off in the middle.
        login_error: what the login answers instead of a token.
    """

    url: str = ""
    exports: dict[str, dict[str, bytes]] = field(default_factory=dict)
    invoices: list[dict[str, str]] = field(default_factory=list)
    throttled: int = 0
    running: int = 1
    failed: dict[str, str] | None = None
    expired: set[str] = field(default_factory=set)
    cut: int = 0
    wrong_md5: bool = False
    extra_blobs: int = 0
    login_error: str | None = None
    refresh_tokens: list[str] = field(default_factory=lambda: ["refresh-0"])
    forbidden: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    grants: list[dict[str, str]] = field(default_factory=list)
    polls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sas: int = 1

    def usage(self, key: str, *lines: dict[str, Any]) -> None:
        """Let an export have one blob of these lines."""
        self.exports[key] = {"part-0.json.gz": blob(*lines)}

    def manifest(self, key: str) -> dict[str, Any]:
        """The manifest of an export, with the SAS of now."""
        blobs = self.exports.get(key, {})
        etag = hashlib.sha256(b"".join(blobs[name] for name in sorted(blobs))).hexdigest()[:12]
        return {
            "id": base64.urlsafe_b64encode(key.encode()).decode(),
            "schemaVersion": "2",
            "dataFormat": "compressedJSONLines",
            "eTag": etag,
            "partnerTenantId": TENANT,
            "rootDirectory": f"{self.url}/storage/{key}",
            "sasToken": f"sig=sas-{self.sas}",
            "partitionType": "default",
            "blobCount": len(blobs) + self.extra_blobs,
            "blobs": [{"name": name, "partitionValue": "default"} for name in blobs],
        }

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """What the login answers."""
        self.grants.append(form)
        if form.get("client_secret") != SECRET:
            return 401, _refused("invalid_client", "AADSTS7000215: Invalid client secret provided.")
        if self.login_error:
            return 400, _refused("invalid_grant", self.login_error)
        answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": 3600, "access_token": f"for {form['scope']}"}
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] != self.refresh_tokens[-1]:
                return 400, _refused("invalid_grant", "AADSTS700082: The refresh token has expired.")
            self.refresh_tokens.append(f"refresh-{len(self.refresh_tokens)}")
            answer["refresh_token"] = self.refresh_tokens[-1]
        if form["grant_type"] == "authorization_code":
            answer["refresh_token"] = self.refresh_tokens[-1]
        return 200, answer


def _refused(error: str, text: str) -> dict[str, Any]:
    return {"error": error, "error_description": f"{text} Trace ID: 0", "error_codes": []}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeAzure

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._answer("GET", {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        is_json = "json" in self.headers.get("Content-Type", "")
        self._answer("POST", json.loads(body) if is_json else dict(urllib.parse.parse_qsl(body)))

    def _answer(self, method: str, body: dict[str, str]) -> None:
        fake, parts = self.fake, urllib.parse.urlsplit(self.path)
        path, query = parts.path, dict(urllib.parse.parse_qsl(parts.query))
        fake.asked.append((method, path))
        if path.startswith("/login/"):
            return self._login(path, body)
        if path.startswith("/storage/"):
            return self._blob(path.removeprefix("/storage/"), query)
        if fake.throttled:
            fake.throttled -= 1
            return self._send(429, {}, {"Retry-After": "7"})
        service = (
            "https://graph.microsoft.com" if path.startswith("/graph/") else "https://api.partnercenter.microsoft.com"
        )
        if not self.headers.get("Authorization", "").startswith(f"Bearer for {service}/"):
            return self._send(401, {"error": {"code": "InvalidAuthenticationToken", "message": "no token"}})
        if path == "/partner/v1/invoices":
            start, size = int(query["offset"]), int(query["size"])
            return self._send(200, {"items": fake.invoices[start : start + size]})
        if fake.forbidden:
            return self._send(403, {"error": {"code": "Forbidden", "message": "Insufficient privileges"}})
        return self._graph(path.removeprefix("/graph/v1.0/reports/partners/billing"), body)

    def _login(self, path: str, body: dict[str, str]) -> None:
        tenant = path.split("/")[2]
        if tenant != TENANT:
            return self._send(400, _refused("invalid_tenant", f"AADSTS90002: Tenant '{tenant}' not found."))
        if path.endswith("/.well-known/openid-configuration"):
            base = f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0"
            return self._send(
                200,
                {
                    "token_endpoint": f"{base}/token",
                    "authorization_endpoint": f"{base}/authorize",
                    "device_authorization_endpoint": f"{base}/devicecode",
                    "issuer": f"https://login.microsoftonline.com/{tenant}/v2.0",
                },
            )
        return self._send(*self.fake.token(body))

    def _graph(self, path: str, body: dict[str, str]) -> None:
        fake = self.fake
        keys = {
            "/usage/unbilled/export": "unbilled/{billingPeriod}/{currencyCode}",
            "/usage/billed/export": "billed/{invoiceId}",
            "/reconciliation/billed/export": "reconciliation/{invoiceId}",
        }
        if path in keys:
            name = base64.urlsafe_b64encode(keys[path].format(**body).encode()).decode()
            place = f"{fake.url}/graph/v1.0/reports/partners/billing/operations/{name}"
            return self._send(202, {}, {"Location": place, "Retry-After": "5"})
        kind, name = path.strip("/").split("/")
        key = base64.urlsafe_b64decode(name).decode()
        if kind == "manifests":
            return self._send(200, fake.manifest(key))
        fake.polls[key] += 1
        if fake.polls[key] <= fake.running:
            return self._send(200, {"status": "running"}, {"Retry-After": "11"})
        fake.polls[key] = 0
        if fake.failed:
            return self._send(200, {"status": "failed", "error": fake.failed})
        return self._send(200, {"status": "succeeded", "resourceLocation": fake.manifest(key)})

    def _blob(self, path: str, query: dict[str, str]) -> None:
        fake = self.fake
        key = next(key for key in fake.exports if path.startswith(f"{key}/"))
        name = path.removeprefix(f"{key}/")
        if query.get("sig") in fake.expired:
            if query["sig"] == f"sas-{fake.sas}":
                fake.sas += 1
            self._send(403, {})
            return
        content = fake.exports[key][name]
        digest = base64.b64encode(hashlib.md5(content).digest()).decode()
        start = int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{digest}"')
        if not start:
            self.send_header("Content-MD5", digest if not fake.wrong_md5 else base64.b64encode(b"0" * 16).decode())
        self.end_headers()
        whole = content[start:]
        if fake.cut:
            fake.cut -= 1
            whole = whole[: len(whole) // 2]
            self.close_connection = True
        self.wfile.write(whole)

    def _send(self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def fake_azure() -> Iterator[FakeAzure]:
    """A partner without usage, whose login, Graph, Partner Center and storage are on loopback."""
    fake = FakeAzure()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()


def login_session(url: str) -> requests.Session:
    """A session in which Microsoft's login is the fake: msal insists on https and its own address."""

    class Rerouted(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            request.url = (request.url or "").replace("https://login.microsoftonline.com", f"{url}/login")
            return super().send(request, **kwargs)

    session = requests.Session()
    session.mount("https://login.microsoftonline.com/", Rerouted())
    return session


@dataclass(frozen=True)
class Azurite:
    """A storage account with one container."""

    container: str

    def sas(self, permissions: str = "rl", *, minutes: int = 30) -> str:
        """A SAS for the container, made with the account's key; negative minutes are over already."""
        version, name = "2020-12-06", self.container.rsplit("/", 1)[1]
        expiry = f"{datetime.now(UTC) + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"
        resource = f"/blob/{AZURITE_ACCOUNT}/{name}"
        text = "\n".join([permissions, "", expiry, resource, "", "", "", version, "c", "", "", "", "", "", "", ""])
        key = base64.b64decode(AZURITE_KEY)
        signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
        return urllib.parse.urlencode({"sv": version, "se": expiry, "sr": "c", "sp": permissions, "sig": signature})

    def put(self, name: str, content: bytes) -> None:
        """Upload a blob."""
        answer = requests.put(
            f"{self.container}/{name}?{self.sas('rwcl')}",
            data=content,
            headers={"x-ms-blob-type": "BlockBlob", "x-ms-version": "2020-12-06"},
            timeout=10,
        )
        assert answer.status_code == 201, answer.text


@pytest.fixture(scope="session")
def azurite_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Azurite's storage account, started for this process."""
    script = ROOT / ".emulators/azurite/node_modules/azurite/dist/src/blob/main.js"
    node = shutil.which("node")
    assert node and script.is_file(), "Azurite is not installed: run `make emulators`."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [node, str(script), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--skipApiVersionCheck",
         "--inMemoryPersistence", "--silent", "--disableTelemetry"],
        cwd=tmp_path_factory.mktemp("azurite"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def azurite(azurite_url: str) -> Azurite:
    """An empty container."""
    name = f"exports{time.monotonic_ns()}"
    date = f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S GMT}"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2020-12-06\n/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest())
    answer = requests.put(
        f"{azurite_url}/{name}?restype=container",
        headers={
            "x-ms-date": date,
            "x-ms-version": "2020-12-06",
            "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{signature.decode()}",
        },
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    return Azurite(f"{azurite_url}/{name}")


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        assert process.poll() is None, "Azurite ended as soon as it was started."
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("Azurite does not answer.")
