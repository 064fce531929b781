"""The API over the smallest month that shares a cost, with a user of each role."""

import json
from dataclasses import dataclass
from pathlib import Path

from fastapi.testclient import TestClient

from octo_pipeline.api.app import create_app
from octo_pipeline.registry.records import Actor
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.prepayments import Prepayments
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import workspace_in

ROLES = ("viewer", "editor", "admin")


@dataclass
class Api:
    """The API and what is below it."""

    client: TestClient
    workspace: Workspace
    tokens: dict[str, str]

    def ask(self, method: str, path: str, role: str | None = "viewer", **more):
        """The answer to a request of somebody with this role; of nobody if it is None."""
        headers = more.pop("headers", {})
        if role is not None:
            headers = {"Authorization": f"Bearer {self.tokens[role]}"} | headers
        return self.client.request(method, f"/api/v1{path}", headers=headers, **more)

    def get(self, path: str, **more):
        """The JSON that a viewer gets."""
        answer = self.ask("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()


def month_in(folder: Path) -> dict[str, str]:
    """Make the lake, the configuration and the registry; the tokens are returned."""
    workspace = workspace_in(folder, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator("cost*usage")])
    shop = {"id": "shop", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "1"}}]}}}
    (workspace.settings.config / "cost_groups" / "shop.json").write_text(json.dumps(shop))
    return made(workspace, [MONTH])


def made(workspace: Workspace, months: list[str]) -> dict[str, str]:
    """Make months whose line items are published, and a user of each role, whose tokens are returned."""
    workspace = run(Workspace(workspace.settings), months)
    for table in (InvoiceCosts(), AccountCosts(), CostGroupCosts(), Prepayments()):
        workspace = make(workspace, table, months)
    users = workspace.registry.users
    tokens = {}
    for role in ROLES:
        users.add(f"the-{role}", role, Actor("tester"))
        tokens[role] = users.make_token(f"the-{role}", "tests", Actor("tester"))
    return tokens


def api_in(folder: Path, tokens: dict[str, str]) -> Api:
    """The API of the lake in a folder."""
    settings = Settings(lake=folder / "lake", config=folder / "config")
    return Api(TestClient(create_app(settings), raise_server_exceptions=False), Workspace(settings), tokens)
