"""Azure's documents and folders as an installation's sources."""

import json

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
from tests.emulators.azure import CLIENT, TENANT

CSP = {
    "vendor": "azure", "kind": "csp", "tenant_id": TENANT, "client_id": CLIENT, "client_secret_variable": "OCTO_SOURCE_CSP_SECRET",
    "currencies": ["GBP"],
}  # fmt: skip


def configured(tmp_path, *documents, **settings):
    folder = tmp_path / "config" / "sources"
    folder.mkdir(parents=True)
    for number, document in enumerate(documents):
        (folder / f"{number}.json").write_text(json.dumps(document))
    return sources(Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config", **settings)), "azure")


def test_every_kind_of_source(tmp_path, monkeypatch):
    monkeypatch.setenv("OCTO_SOURCE_CSP_SECRET", "s")
    monkeypatch.setenv("OCTO_SOURCE_SAS", "s")
    exports = {"vendor": "azure", "kind": "cost_management"}
    container = {
        "container": "https://store.blob.core.windows.net/exports",
        "sas_variable": "OCTO_SOURCE_SAS",
        "prefix": "daily/",
    }
    (tmp_path / "csp" / TENANT / "2024-05" / "usage-billed-G1").mkdir(parents=True)
    (tmp_path / "csp" / TENANT / "2024-05" / "usage-billed-G1" / "manifest.json").write_text("{}")
    found = configured(
        tmp_path, CSP, exports | container, exports | {"folder": "/exports"}, azure_exports=tmp_path / "csp"
    )
    assert [(type(one).__name__, one.name, one.account) for one in found] == [
        ("AzureExportSource", "azure at /exports", None),
        ("AzureCspFolderSource", f"azure at {tmp_path}/csp", None),
        ("AzureExportSource", "azure at https://store.blob.core.windows.net/exports/daily/", None),
        ("AzureCspSource", f"azure partner {TENANT}", TENANT),
    ]


def test_what_another_vendors_document_lacks_stops_no_other_vendor(tmp_path, monkeypatch):
    """Regression: a variable that was not set for Azure left AWS without sources too."""
    monkeypatch.delenv("OCTO_SOURCE_CSP_SECRET", raising=False)
    aws = {"vendor": "aws", "account": "999988887777", "bucket": "company-cur"}
    with pytest.raises(OctoError, match="OCTO_SOURCE_CSP_SECRET"):
        configured(tmp_path, CSP, aws)
    (source,) = sources(Workspace(Settings(lake=tmp_path / "lake", config=tmp_path / "config")), "aws")
    assert source.account == "999988887777"


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (CSP, "needs the secret in the environment variable OCTO_SOURCE_CSP_SECRET, which is not set"),
        (CSP | {"client_secret": "hunter2"}, "client_secret: Extra inputs are not permitted"),
        (CSP | {"kind": "ea"}, "kind: Input should be 'csp'"),
        ({"vendor": "azure", "kind": "cost_management"}, "give either folder or container"),
        # Regression: a list as vendor was a traceback.
        ({"vendor": ["azure"]}, "vendor must be one of aws, azure, gcp, not"),
    ],
)
def test_a_document_that_is_wrong_is_a_sentence_without_secrets(tmp_path, monkeypatch, document, sentence):
    monkeypatch.delenv("OCTO_SOURCE_CSP_SECRET", raising=False)
    with pytest.raises(OctoError, match=sentence) as found:
        configured(tmp_path, document)
    assert "hunter2" not in str(found.value)
