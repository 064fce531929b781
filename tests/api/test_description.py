"""The description of the API holds: its examples are answered as it says, and hostile requests break nothing."""

import json
import os
import re
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

import octo_pipeline
from octo_pipeline.api import limits
from octo_pipeline.api.app import create_app
from octo_pipeline.api.description import example_address, example_body
from octo_pipeline.api.operations import Operation, Operations
from octo_pipeline.registry.records import Actor
from octo_pipeline.settings import Settings
from tests.support.api import Api, api_in, made
from tests.support.small_month import FEE_OF_100, MONTH, fee_allocator, line_item
from tests.support.workspaces import workspace_in

PACKAGE = Path(octo_pipeline.__file__).parent
ACCOUNT = "111122223333"
# More of them with OCTO_FUZZ_EXAMPLES=100, which takes minutes.
HOSTILE_REQUESTS = int(os.environ.get("OCTO_FUZZ_EXAMPLES", "2"))
# Examples that this lake cannot do although they are right: it has no clouds, no mail server and no closed month.
CANNOT = {
    ("GET", "/months/{month}/drift"),
    ("GET", "/months/{month}/journal"),
    ("POST", "/accounts/{account}/confirm"),
    ("POST", "/accounts/{account}/linked"),
    ("POST", "/accounts/{account}/linked/confirm"),
    ("POST", "/months/{month}/send-statements"),
}
# Examples of things that this lake does not have, or that its state forbids, and the problem that says so.
OTHER_STATE = {
    ("DELETE", "/deliveries/{version}"): "delivery-version-not-one",
    ("DELETE", "/tokens/{token_id}"): "token-id-unknown",
    ("GET", "/allocations/{item_id}"): "item-unknown",
    ("GET", "/allocators/{allocator_id}/versions/{version}"): "version-unknown",
    ("GET", "/cost-groups/{cost_group_id}/versions/{version}"): "version-unknown",
    ("GET", "/deliveries/{version}"): "delivery-version-not-one",
    ("GET", "/explanations"): "month-not-made",
    ("GET", "/months/{month}/readiness"): "month-not-made",
    ("GET", "/operations/{operation_id}"): "operation-unknown",
    ("GET", "/operations/{operation_id}/events"): "operation-unknown",
    ("POST", "/accounts/{account}/sign-in"): "account-unknown",
    ("POST", "/accounts/{account}/sign-in/end"): "account-unknown",
    ("POST", "/allocators/{allocator_id}/supersede/simulate"): "month-not-made",
    ("POST", "/deliveries/{version}/reland"): "delivery-version-not-one",
    ("POST", "/deliveries/{version}/verify"): "delivery-version-not-one",
    ("POST", "/months/{month}/close"): "month-not-made",
    ("POST", "/months/{month}/finalise"): "period-state",
    ("POST", "/months/{month}/reopen"): "period-state",
}


def _done(self: Operations, operation: Operation, work) -> None:
    self._set(operation, "succeeded")


@pytest.fixture(scope="module")
def api(tmp_path_factory) -> Api:
    """A lake that has what the examples name; long work is not done in it."""
    patch = pytest.MonkeyPatch()
    patch.setattr(Operations, "_do", _done)
    patch.setattr(limits, "MOST_REQUESTS", 1_000_000)
    # No cloud is asked, because there is nobody to ask it as.
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        patch.delenv(name, raising=False)
    folder = tmp_path_factory.mktemp("described")
    allocator = fee_allocator(id="support", allocator=[{"type": "account", "value": ACCOUNT, "formula": "cost*usage"}])
    workspace = workspace_in(folder, [line_item(ACCOUNT, "10"), FEE_OF_100], [allocator])
    (folder / "config" / "allocators" / "a0.json").rename(folder / "config" / "allocators" / "support.json")
    shop = {"id": "shop", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": ACCOUNT}}]}}}
    (folder / "config" / "cost_groups" / "shop.json").write_text(json.dumps(shop))
    (folder / "config" / "metrics").mkdir()
    (folder / "config" / "metrics" / "seats.csv").write_text(f"month,account,quantity\n{MONTH},{ACCOUNT},3\n")
    tokens = made(workspace, [MONTH])
    api = api_in(folder, tokens)
    app = api.client.app
    registration = {
        "aws_principal": "arn:aws:iam::999900001111:role/octo",
        "aws_template_url": "https://templates.s3.amazonaws.com/octo",
    }
    app.state.settings = app.state.settings.model_copy(update=registration)
    yield api
    patch.undo()


def _operations() -> list[tuple[str, str]]:
    paths = create_app(Settings(lake="nowhere")).openapi()["paths"]
    # What takes something away comes last.
    listed = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    return sorted(listed, key=lambda entry: entry[0] == "DELETE")


@pytest.mark.slow
def test_each_example_is_answered_as_the_description_says(api):
    description = api.client.app.openapi()
    surprises = []
    for method, path in _operations():
        operation = description["paths"][path][method.lower()]
        body = example_body(operation, description["components"]["schemas"])
        name = (method, path.removeprefix("/api/v1"))
        address = example_address(path, operation).removeprefix("/api/v1")
        headers = {"Content-Type": body[0]} if body else {}
        if method == "PUT" and name[1] in ("/allocators/{allocator_id}", "/cost-groups/{cost_group_id}"):
            headers["If-Match"] = api.ask("GET", address, "admin").headers["etag"]
        if name == ("PUT", "/users/{name}/cost-groups"):
            api.workspace.registry.users.set_role("mia", "viewer", Actor("tester"))
        answer = api.ask(method, address, "admin", content=body[1] if body else None, headers=headers)
        responses = operation["responses"]
        if name in OTHER_STATE:
            is_expected = answer.json()["code"] == OTHER_STATE[name]
        else:
            is_expected = answer.is_success or (answer.status_code == 422 and name in CANNOT)
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        described = responses.get(str(answer.status_code), {}).get("content", {})
        is_described = str(answer.status_code) in responses and (not answer.content or media_type in described)
        if not is_expected or not is_described:
            surprises.append((*name, answer.status_code, media_type, answer.text[:300]))
    assert not surprises, "\n".join(map(str, surprises))


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-ndjson", "application/vnd.apache.parquet"])
def test_a_list_is_described_in_each_of_its_formats(api, media_type):
    responses = api.client.app.openapi()["paths"]["/api/v1/allocations"]["get"]["responses"]
    assert media_type in responses["200"]["content"]
    answer = api.ask("GET", f"/allocations?month={MONTH}", headers={"Accept": media_type})
    assert answer.headers["content-type"].partition(";")[0] == media_type


def test_every_change_says_that_it_can_be_sent_again(api):
    for path, methods in api.client.app.openapi()["paths"].items():
        for method, operation in methods.items():
            names = [parameter["name"] for parameter in operation["parameters"]]
            assert ("Idempotency-Key" in names) == (method != "get"), path


def test_the_page_shows_every_route_and_runs_nothing(api):
    page = api.client.get("/api/docs")
    assert page.status_code == 200
    for path in api.client.app.openapi()["paths"]:
        assert f"<code>{path}</code>" in page.text
    assert "<script" not in page.text and "src=" not in page.text
    assert {address[0] for address in re.findall('href="([^"]*)"', page.text)} == {"#", "/"}
    policy = page.headers["content-security-policy"]
    assert re.match(r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]+'; ", policy)


@pytest.mark.slow
def test_hostile_requests_break_nothing_and_learn_nothing(api):
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", api.client.app)
    headers = {"Authorization": f"Bearer {api.tokens['admin']}"}
    folder = str(api.workspace.settings.config.parent)
    hidden = [api.tokens["viewer"], "Traceback", "site-packages", str(PACKAGE), folder]
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=HOSTILE_REQUESTS, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) | operation.as_strategy())
        def refuse_or_answer(case):
            response = case.call(headers=headers)
            where = (case.method, case.formatted_path, case.query, case.body, response.content)
            assert response.status_code != 500, where
            # The audit trail, which administrators read, says which file was changed.
            is_trail = case.formatted_path == "/api/v1/audit"
            secrets = [secret for secret in hidden if not (is_trail and secret == folder)]
            assert not [secret for secret in secrets if secret.encode() in response.content], where

        refuse_or_answer()
