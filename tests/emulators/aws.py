"""AWS on loopback: moto's server, with S3, STS and what else it knows, started and stopped by a fixture.

`s3_server` is for the lake in a bucket: moto made as strict as S3 where the lake relies on it. Both share moto's state
of this process, so a test uses one of them.
"""

import http.client
import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4
from xml.sax.saxutils import escape

import pytest

KEY, SECRET, REGION = "test-key", "test-secret", "eu-central-1"


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """The URL of an AWS that all tests of this process share."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty AWS that the program's own clients talk to; returns an S3 client of its own."""
    import boto3
    import requests

    requests.post(f"{aws_server}/moto-api/reset", timeout=10).raise_for_status()
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="company-cur")
    return s3


@dataclass
class Stalling:
    """An AWS that says nothing more in the middle of some answers.

    Attributes:
        address: its URL.
        parts: the texts that are all in the address of such an answer; none for an AWS that answers.
        is_there: whether it has come to one.
        is_over: ends them all.
    """

    address: str
    parts: tuple[str, ...] = ()
    is_there: threading.Event = field(default_factory=threading.Event)
    is_over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def stalling_aws(aws_server: str) -> Iterator[Stalling]:
    """A server before the given one, which passes on what it is asked and what is answered."""
    host = urlsplit(aws_server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection(host.hostname or "", host.port)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "GET" and stalling.parts and all(part in self.path for part in stalling.parts):
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                stalling.is_there.set()
                stalling.is_over.wait(600)
            else:
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = forward

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stalling = Stalling(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield stalling
    finally:
        stalling.is_over.set()
        server.shutdown()
        server.server_close()


def upload(s3: Any, folder: Path, prefix: str = "", bucket: str = "company-cur") -> list[str]:
    """Put a folder's files into a bucket; manifests last, as AWS does. Returns the keys."""
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: ("anifest" in p.name, str(p)))
    keys = [f"{prefix}{path.relative_to(folder).as_posix()}" for path in files]
    for path, key in zip(files, keys, strict=True):
        s3.upload_file(str(path), bucket, key)
    return keys


@dataclass(frozen=True)
class S3Server:
    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to take this server for S3."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def bucket(self) -> str:
        name = f"lake-{uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name


class _Strict:
    """What moto lacks: one write at a time, none of half a body, and the conditions of uploads in parts.

    moto checks a condition and writes in two steps, between which another request may write.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] not in ("PUT", "POST", "DELETE"):
            return self._app(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length:
            return _refuse(start_response, "400 Bad Request", "IncompleteBody")
        environ["wsgi.input"] = io.BytesIO(body)
        with self._lock:
            wanted = environ.get("HTTP_IF_MATCH")
            if wanted and "uploadId=" in environ["QUERY_STRING"] and self._etag(environ) != wanted:
                return _refuse(start_response, "412 Precondition Failed", "PreconditionFailed")
            wanted, source = environ.get("HTTP_X_AMZ_COPY_SOURCE_IF_MATCH"), environ.get("HTTP_X_AMZ_COPY_SOURCE")
            if wanted and source and self._etag(environ, f"/{source.lstrip('/')}") not in (None, wanted):
                return _refuse(start_response, "412 Precondition Failed", "PreconditionFailed")
            return self._app(environ, start_response)

    def _etag(self, environ: dict[str, Any], path: str | None = None) -> str | None:
        found: dict[str, str] = {}
        asked = environ | {
            "REQUEST_METHOD": "HEAD",
            "QUERY_STRING": "",
            "wsgi.input": io.BytesIO(),
            "CONTENT_LENGTH": "0",
        }
        if path:
            asked |= {"PATH_INFO": unquote(path), "RAW_URI": path, "REQUEST_URI": path}
        for name in ("HTTP_IF_MATCH", "HTTP_X_AMZ_COPY_SOURCE"):
            asked.pop(name, None)
        list(self._app(asked, lambda status, headers, exc=None: found.update({k.lower(): v for k, v in headers})))
        return found.get("etag")


def _refuse(start_response: Any, status: str, code: str) -> list[bytes]:
    start_response(status, [("Content-Type", "application/xml")])
    return [f"<Error><Code>{escape(code)}</Code><Message>refused</Message></Error>".encode()]


def strict_server(port: int = 0) -> Any:
    """The server of `s3_server`, without buckets, before it serves."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        # Without it every answer waits for the delayed acknowledgement of the one before.
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: object) -> None:
            pass

    app = _Strict(DomainDispatcherApplication(create_backend_app))
    return make_server("127.0.0.1", port, app, threaded=True, request_handler=Quiet)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server without buckets that ends with the tests."""
    server = strict_server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield S3Server(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()
