"""The console over the smallest month that shares a cost, with a browser of each role."""

import re
import shutil
from dataclasses import dataclass, field
from html import unescape

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from octo_pipeline.console.app import create_app
from octo_pipeline.console.visit import form_token
from octo_pipeline.registry.records import Caller
from octo_pipeline.workspace import Workspace
from tests.support.api import Api, api_in


@dataclass
class Console:
    """The console and what is below it."""

    api: Api
    clients: dict[str | None, TestClient] = field(default_factory=dict)

    @property
    def workspace(self) -> Workspace:
        """The lake as it is now."""
        return Workspace(self.api.workspace.settings)

    def client(self, role: str | None) -> TestClient:
        """The browser of somebody with this role; of nobody if it is None."""
        if role not in self.clients:
            client = TestClient(
                create_app(self.api.workspace.settings, hosts=("testserver",)), raise_server_exceptions=False,
                follow_redirects=False,
            )  # fmt: skip
            if role is not None:
                session = self.workspace.registry.sessions.begin(Caller(None, self.api.tokens[role]), "token")
                client.cookies.set("octo_session", session)
            self.clients[role] = client
        return self.clients[role]

    def get(self, path: str, role: str | None = "viewer", **more) -> Response:
        """The answer to a request."""
        return self.client(role).get(path, **more)

    def page(self, path: str, role: str = "viewer") -> str:
        """The HTML of a page that there is."""
        answer = self.get(path, role)
        assert answer.status_code == 200, answer.text
        return answer.text

    def text(self, path: str, role: str = "viewer") -> str:
        """What people read on a page, on one line."""
        content = self.page(path, role).partition('<main id="content"')[2]
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", content)).split())

    def post(self, path: str, role: str | None = "editor", form: dict | None = None, **more) -> Response:
        """The answer to a form that is sent from a page of the console."""
        client = self.client(role)
        data = {"form_token": form_token(client.cookies["octo_session"]) if role else "", **(form or {})}
        return client.post(path, data=data, **more)


@pytest.fixture(scope="module")
def console(made_month, tmp_path_factory) -> Console:
    """The console of a lake that the tests of a module only read."""
    folder, tokens = made_month
    return Console(api_in(shutil.copytree(folder, tmp_path_factory.mktemp("console") / "copy"), tokens))


@pytest.fixture
def own_console(made_month, tmp_path) -> Console:
    """The console of a lake that a test changes."""
    folder, tokens = made_month
    return Console(api_in(shutil.copytree(folder, tmp_path / "copy"), dict(tokens)))
