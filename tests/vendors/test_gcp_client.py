"""What a person reads when BigQuery refuses or is not there, and how often it was asked before."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.client import BigQueryDataset, Endpoint, source
from octo_pipeline.vendors.source import Source
from tests.support.reports import refused

ACCOUNT = "0D1DR5-ADE21G-RF09W"
DOCUMENT = GcpSourceDocument(billing_account_id=ACCOUNT, project="finance-1", dataset="billing", location="EU")


@dataclass
class Refusals:
    """A server that answers everything with one refusal."""

    status: int = 500
    reason: str = "backendError"
    requests: int = 0
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def dataset(self, patience: float = 1.5) -> BigQueryDataset:
        endpoint = Endpoint(f"http://127.0.0.1:{self.port}", f"127.0.0.1:{self.port}")
        return BigQueryDataset(DOCUMENT, endpoint=endpoint, patience=patience)


@pytest.fixture
def refusals() -> Iterator[Refusals]:
    state = Refusals()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with state.lock:
                state.requests += 1
            error = {"reason": state.reason, "message": f"it is {state.reason}"}
            body = json.dumps({"error": {"code": state.status, "message": error["message"], "errors": [error]}})
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(state.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (403, "accessDenied", ("a permission is missing (", "BigQuery Data Viewer on the dataset finance-1.billing")),
        (404, "notFound", ("Check that the dataset finance-1.billing exists in the location EU",)),
        (400, "invalidQuery", ("BigQuery refuses it (", "it is invalidQuery")),
    ],
)
def test_what_will_not_pass_is_told_at_once(refusals, status, reason, said):
    refusals.status, refusals.reason = status, reason

    with refused(f"the billing export of {ACCOUNT} in finance-1.billing failed", *said):
        refusals.dataset(patience=60).rows("SELECT 1", {})
    assert refusals.requests == 1


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (403, "rateLimitExceeded", ("Google's limit is reached", "Run this again later")),
        (429, "rateLimitExceeded", ("Google's limit is reached", "quota")),
        (503, "backendError", ("BigQuery cannot be reached (", "it is backendError")),
    ],
)
def test_what_may_pass_is_tried_again_but_not_for_ever(refusals, status, reason, said):
    refusals.status, refusals.reason = status, reason

    with refused(f"the billing export of {ACCOUNT} in finance-1.billing failed", *said):
        refusals.dataset().location()
    assert refusals.requests > 1


def test_a_server_that_is_not_there_is_unreachable(refusals):
    dataset = BigQueryDataset(DOCUMENT, endpoint=Endpoint("http://127.0.0.1:9", "127.0.0.1:9"), patience=0.5)

    with refused(ACCOUNT, "BigQuery cannot be reached", "Check the network"):
        dataset.location()


def test_credentials_that_are_nowhere_are_asked_for(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")

    with refused(ACCOUNT, "there are no credentials", "application default credentials"):
        BigQueryDataset(DOCUMENT).location()


@pytest.mark.parametrize("text", [None, "no JSON", '{"type": "service_account", "private_key": "secret-key"}'])
def test_a_key_file_that_is_none_is_named_and_its_content_is_not(tmp_path: Path, text):
    file = tmp_path / "key.json"
    if text is not None:
        file.write_text(text)

    with pytest.raises(OctoError) as caught:
        BigQueryDataset(DOCUMENT.model_copy(update={"credentials": file})).location()
    sentence = str(caught.value)
    assert all(part in sentence for part in (ACCOUNT, str(file), "`credentials`"))
    assert "secret-key" not in sentence


def test_a_key_file_that_cannot_be_opened_is_named(tmp_path: Path):
    with refused(f"The key file {tmp_path}", ACCOUNT, "cannot be read (Is a directory)", "`credentials`"):
        BigQueryDataset(DOCUMENT.model_copy(update={"credentials": tmp_path})).location()


def test_a_source_is_made_without_reaching_anything(monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
    made: Source = source(DOCUMENT)

    assert (made.vendor, made.account, made.name) == ("gcp", ACCOUNT, f"gcp {ACCOUNT} at finance-1.billing")


@pytest.mark.parametrize(
    "change",
    [
        {"billing_account_id": "0d1dr5-ade21g-rf09w1"},
        {"billing_account_id": "0D1DR5-ADE21G"},
        {"billing_account_id": "0D1DR5-ADE21G-RF09W1\n"},
        {"dataset": "a`; DROP TABLE b"},
        {"project": "a`b"},
        {"table": "gcp_billing_export_v1"},
        {"vendor": "aws"},
    ],
)
def test_a_document_with_a_mistake_is_refused(change):
    with pytest.raises(ValidationError):
        GcpSourceDocument.model_validate(DOCUMENT.model_dump() | change)
