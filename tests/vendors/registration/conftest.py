"""An installation whose administrator registers accounts."""

from pathlib import Path

import pytest

from octo_pipeline.services import access as acting
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
from tests.emulators.aws_accounts import PRINCIPAL, TEMPLATE_URL, aws_accounts

__all__ = ["aws_accounts"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    monkeypatch.setenv("OCTO_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("OCTO_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("OCTO_AWS_PRINCIPAL", PRINCIPAL)
    monkeypatch.setenv("OCTO_AWS_TEMPLATE_URL", TEMPLATE_URL)
    monkeypatch.setenv("OCTO_GCP_SERVICE_ACCOUNT", "octo@company.iam.gserviceaccount.com")
    monkeypatch.setattr(acting, "os_user", lambda: "ana")
    workspace = Workspace(Settings())
    workspace.registry.users.add("ana", "admin", "ana")
    return workspace
