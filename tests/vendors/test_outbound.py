"""A document of the configuration can have no other secret sent than a source's, and no other host asked."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.azure.azure_http import STORAGE_DOMAINS, Http
from octo_pipeline.vendors.azure.client import new_session
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.client import source as bigquery_source
from octo_pipeline.vendors.outbound import Reach
from octo_pipeline.workspace import Workspace

KEY = "the-key-of-the-secrets"
OUR_STORAGE = "https://company.blob.core.windows.net/exports"
EXPORTS = {"vendor": "azure", "kind": "cost_management", "container": OUR_STORAGE, "sas_variable": "OCTO_SOURCE_SAS"}
FOCUS = {"kind": "focus", "container": OUR_STORAGE, "sas_variable": "OCTO_SOURCE_SAS"}


class Listener:
    """A server on loopback that keeps what it was asked, and answers with a redirect."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.location = "/latest/meta-data/iam/security-credentials/"
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.asked.append(self.path)
                self.send_response(302)
                self.send_header("Location", listener.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    thread = threading.Thread(target=listener.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield listener
    listener.server.shutdown()
    thread.join(timeout=10)
    listener.server.server_close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTO_SECRET_KEY", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("OCTO_SOURCE_SAS", "sig=of-the-source")


def asked(tmp_path: Path, document: dict[str, Any], **settings: Any) -> list[Any]:
    """What the document's source offers of a month."""
    folder = tmp_path / "config" / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text(json.dumps(document))
    workspace = Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config", **settings))
    vendor = "focus" if document["kind"] == "focus" else "azure"
    return [offer for source in sources(workspace, vendor) for offer in source.available("2024-01")]


@pytest.mark.parametrize("document", [EXPORTS, FOCUS], ids=["exports", "focus"])
@pytest.mark.parametrize("variable", ["OCTO_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "OCTO_TOKEN", "SAS", "OCTO_SOURCE"])
def test_no_document_has_another_secret_sent(
    tmp_path: Path, listener: Listener, document: dict[str, Any], variable: str
) -> None:
    """Regression: `"sas_variable": "OCTO_SECRET_KEY"` sent the registry's key to the host that the document named."""
    with pytest.raises(OctoError, match=r"begins with OCTO_SOURCE_.*rename the variable"):
        asked(tmp_path, document | {"container": f"{listener.url}/evil", "sas_variable": variable})
    assert listener.asked == []


def test_no_partner_is_signed_in_with_another_secret(tmp_path: Path) -> None:
    guid = "0b0b0b0b-1111-4222-8333-444444444444"
    partner = {
        "vendor": "azure", "kind": "csp", "tenant_id": guid, "client_id": guid, "currencies": ["GBP"],
        "client_secret_variable": "OCTO_SECRET_KEY",
    }  # fmt: skip
    with pytest.raises(OctoError, match="client_secret_variable must be the name of a variable that begins with"):
        asked(tmp_path, partner)


@pytest.mark.parametrize("secret", ["hunter2", "sv=2022-11-02&sig=abc%2Fdef", "OCTO_SOURCE_sig=abc"])
def test_a_secret_typed_for_its_name_is_not_repeated(tmp_path: Path, secret: str) -> None:
    with pytest.raises(OctoError) as refused:
        asked(tmp_path, FOCUS | {"sas_variable": secret})
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/exports",
        "http://company.blob.core.windows.net/exports",
        "https://blob.core.windows.net.evil.example/exports",
        "https://evilblob.core.windows.net/exports",
        "https://company.blob.core.windows.net@evil.example/exports",
        "https://evil.example\\@company.blob.core.windows.net/exports",
        "https://evil.example#.blob.core.windows.net/exports",
        "https://169.254.169.254/latest/meta-data",
        "http://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/exports",
        "https://2852039166/latest/meta-data",
        "https://[fd00:ec2::254]/latest/meta-data",
        "https://metadata.google.internal/computeMetadata/v1",
        "https://evil.exаmple.blob.core.windows.net/exports",
    ],
)
@pytest.mark.parametrize("document", [EXPORTS, FOCUS], ids=["exports", "focus"])
def test_no_document_names_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any], address: str
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it was asked"))
    with pytest.raises(OctoError) as refused:
        asked(tmp_path, document | {"container": address})
    assert refused.value.code in ("source-host-refused", "source-address-wrong", "source-document-wrong")


def test_the_setting_adds_hosts(tmp_path: Path) -> None:
    from octo_pipeline.vendors.azure.storage import ContainerFiles
    from octo_pipeline.vendors.listing import Place

    place = Place(container="https://storage.company.example/exports", sas_variable="OCTO_SOURCE_SAS")
    with pytest.raises(OctoError, match="not one of the vendor's") as refused:
        ContainerFiles(place, {"OCTO_SOURCE_SAS": "s"}, ())
    assert [str(remedy.action) for remedy in refused.value.remedies] == ["set"]
    allowed = Settings(allowed_hosts=" Storage.company.example, other.example").allowed_host_names
    assert ContainerFiles(place, {"OCTO_SOURCE_SAS": "s"}, allowed).place == place.container


@pytest.mark.parametrize("address", ["10.1.2.3", "169.254.169.254", "192.168.0.1", "fe80::1", "fd00::1", "127.0.0.1"])
def test_a_host_of_the_cloud_that_leads_inside_is_not_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    def resolve(host: str, port: object, *_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    reach = Reach(STORAGE_DOMAINS, ())
    with pytest.raises(OctoError, match="is not a public address"):
        Http(new_session(), reach=reach).request("GET", f"{OUR_STORAGE}?comp=list")
    Reach(STORAGE_DOMAINS, ("company.blob.core.windows.net",)).require_public(OUR_STORAGE)


def test_no_redirect_is_followed(tmp_path: Path, listener: Listener) -> None:
    """Regression: a container answered with the address of the instance's credentials, which was asked."""
    for document in (EXPORTS, FOCUS):
        with pytest.raises(OctoError, match=r"answers with a redirect \(HTTP 302\)") as refused:
            asked(tmp_path, document | {"container": f"{listener.url}/exports"})
        assert "sig=" not in str(refused.value)
    assert [path.partition("?")[0] for path in listener.asked] == ["/exports", "/exports"]


@pytest.mark.parametrize(
    "key",
    [
        {"type": "service_account", "token_uri": "{url}/token"},
        {"type": "service_account", "token_uri": "https://oauth2.googleapis.com.evil.example/token"},
        {"type": "external_account", "token_url": "{url}/token", "credential_source": {"file": "/etc/passwd"}},
        {"type": "impersonated_service_account", "service_account_impersonation_url": "{url}/x"},
    ],
)
def test_a_key_file_leads_nowhere_else(tmp_path: Path, listener: Listener, key: dict[str, Any]) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps(key).replace("{url}", listener.url))
    document = GcpSourceDocument(
        billing_account_id="0D1DR5-ADE21G-RF09W1", project="company", dataset="billing", credentials=file
    )
    with pytest.raises(OctoError, match="is not a plain key of a service account"):
        bigquery_source(document).available("2024-01")
    assert listener.asked == []
