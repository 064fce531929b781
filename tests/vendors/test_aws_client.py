"""What AWS refuses, and the network, as sentences; how often is tried again."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from octo_pipeline.vendors.aws import client as resource
from octo_pipeline.vendors.aws.client import AwsAccess, Bucket, translate_aws_errors
from tests.support.reports import refused

ROLE = "arn:aws:iam::111122223333:role/octo"
ACCESS = AwsAccess("111122223333", ROLE, "octo-7f3a", "eu-west-1")


def client_error(code: str, operation: str) -> Exception:
    from botocore.exceptions import ClientError

    return ClientError({"Error": {"Code": code, "Message": "Told so."}}, operation)


@pytest.mark.parametrize(
    ("code", "operation", "parts"),
    [
        ("AccessDenied", "AssumeRole", [ROLE, "trust policy", "ExternalId"]),
        ("AccessDenied", "ListObjectsV2", [f"the role {ROLE} may not do that", "Allow s3:ListBucket"]),
        ("AccessDenied", "GetObject", ["Allow s3:GetObject"]),
        ("ExpiredToken", "GetObject", ["credentials have expired", "Renew them"]),
        ("InvalidClientTokenId", "AssumeRole", ["does not know the credentials"]),
        ("NoSuchBucket", "ListObjectsV2", ["no such bucket", "Check the bucket's name"]),
        ("NoSuchKey", "GetObject", ["it is not there"]),
        ("PermanentRedirect", "ListObjectsV2", ["another region than eu-west-1", "Set its region"]),
        ("SlowDown", "GetObject", ["throttling or unavailable (SlowDown) after 4 tries", "Run this again later"]),
        ("SomethingNew", "GetObject", ["AWS answered SomethingNew: Told so."]),
    ],
)
def test_a_refusal_names_the_account_what_was_tried_and_what_to_do(code, operation, parts):
    said = "AWS account 111122223333: could not read the manifest at s3://b/p"
    with refused(said, *parts), translate_aws_errors(ACCESS, "read the manifest", "s3://b/p"):
        raise client_error(code, operation)


def test_no_credentials_are_a_sentence(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with refused("AWS account 111122223333", "no AWS credentials on this machine", f"assume {ROLE}"):
        Bucket("b", ACCESS).folder("")
    with refused("no AWS credentials on this machine", "AWS_PROFILE"):
        Bucket("b", AwsAccess("111122223333")).folder("")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with refused("nobody", "Fix the AWS configuration"):
        Bucket("b", AwsAccess("111122223333")).folder("")


@pytest.fixture
def answering(monkeypatch):
    """A server on loopback that answers each request with the next of these statuses, and counts them."""
    servers = []

    def start(*statuses: int) -> list[int]:
        asked: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status = statuses[min(len(asked), len(statuses) - 1)]
                asked.append(status)
                code = {503: "SlowDown", 403: "AccessDenied"}.get(status)
                body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode() if code else b"data"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_what_may_be_tried_again_is_and_not_for_ever(answering):
    asked = answering(503, 503, 200)
    assert Bucket("bucket", AwsAccess("111122223333")).read("key") == b"data"
    assert asked == [503, 503, 200]
    asked = answering(503)
    with refused("throttling or unavailable (SlowDown) after 4 tries"):
        Bucket("bucket", AwsAccess("111122223333")).read("key")
    assert asked == [503] * 4


def test_what_may_not_be_tried_again_is_asked_once(answering):
    asked = answering(403)
    with refused("AWS account 111122223333", "may not do that. Allow s3:GetObject"):
        Bucket("bucket", AwsAccess("111122223333")).read("key")
    assert asked == [403]


def test_an_answer_that_is_not_of_aws_is_a_sentence(answering):
    """Regression: botocore's error for it is none of its usual ones, and ended the look at all other payers too."""
    answering(407)
    with refused("AWS account 111122223333: could not assume its role", "Check the proxy of this machine"):
        Bucket("bucket", ACCESS).folder("")


def test_a_server_that_does_not_answer_is_left_after_a_while(monkeypatch):
    import socket

    monkeypatch.setattr(resource, "_READ_SECONDS", 0.2)
    monkeypatch.setattr(resource, "_TRIES", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        with refused("cannot be reached", "after 2 tries", "Run this again later"):
            Bucket("bucket", AwsAccess("111122223333")).read("key")
