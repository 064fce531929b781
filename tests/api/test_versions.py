"""The versions of allocators and cost groups over the API."""

import json

from octo_pipeline.services.months import make_months
from octo_pipeline.workspace import Workspace
from tests.support.small_month import MONTH, fee_allocator

HALF = fee_allocator("cost*0.5", id="a0")


def listed(api, path: str) -> list[tuple]:
    rows = api.get(f"{path}/versions")["items"]
    return [(row["saved_by"], row["is_live"], row["months"]) for row in rows]


def test_each_saved_document_is_listed_with_who_and_the_months_pinned_to_it(own_api):
    # It was written into the folder, and the month was made with it.
    assert listed(own_api, "/allocators/a0") == [(None, True, MONTH)]
    seen = {"If-Match": own_api.ask("GET", "/allocators/a0").headers["etag"]}
    assert own_api.ask("PUT", "/allocators/a0", "editor", json=HALF, headers=seen).status_code == 200
    assert listed(own_api, "/allocators/a0") == [("the-editor", True, ""), (None, False, MONTH)]
    newest, oldest = own_api.get("/allocators/a0/versions")["items"]
    assert (newest["at"] > oldest["at"], newest["version"]) == (
        True,
        own_api.ask("GET", "/allocators/a0").headers["etag"].strip('"'),
    )
    before = own_api.get(f"/allocators/a0/versions/{oldest['version'][:8]}")
    assert (before["months"], before["document"]["allocator"][0]["formula"]) == ([MONTH], "cost*usage")
    # It is still known when it is gone.
    assert own_api.ask("DELETE", "/allocators/a0", "editor").status_code == 204
    assert listed(own_api, "/allocators/a0") == [("the-editor", False, ""), (None, False, MONTH)]


def test_both_documents_of_a_succession_are_kept(own_api):
    following = {key: value for key, value in HALF.items() if key != "startMonth"} | {"id": "next"}
    assert own_api.ask("POST", "/allocators/a0/supersede?from=2024-03", "editor", json=following).status_code == 200
    assert listed(own_api, "/allocators/a0") == [("the-editor", True, ""), (None, False, MONTH)]
    assert listed(own_api, "/allocators/next") == [("the-editor", True, "")]


def test_a_document_that_was_committed_elsewhere_is_recorded_when_a_month_is_made(own_api):
    file = own_api.workspace.settings.config / "allocators" / "committed.json"
    for formula in ("cost*0.1", "cost*0.2"):
        file.write_text(json.dumps(fee_allocator(formula)))
        list(make_months(Workspace(own_api.workspace.settings), ["1999-01"]))
    versions = own_api.workspace.registry.documents.of("allocator", "committed")
    assert [json.loads(v.document)["allocator"][0]["formula"] for v in versions] == ["cost*0.1", "cost*0.2"]
    assert {v.saved_by for v in versions} == {None}


def test_a_cost_group_has_versions_with_the_months_made_with_it(own_api):
    assert listed(own_api, "/cost-groups/shop") == [(None, True, MONTH)]
    other = {"id": "shop", "combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "2"}}]}}}
    seen = {"If-Match": own_api.ask("GET", "/cost-groups/shop").headers["etag"]}
    assert own_api.ask("PUT", "/cost-groups/shop", "editor", json=other, headers=seen).status_code == 200
    assert listed(own_api, "/cost-groups/shop") == [("the-editor", True, ""), (None, False, MONTH)]
    version = own_api.get("/cost-groups/shop/versions")["items"][0]["version"]
    assert own_api.get(f"/cost-groups/shop/versions/{version}")["document"] == other


def test_what_there_is_not_is_said(api):
    for path, code in (
        ("/allocators/nope/versions", "allocator-unknown"),
        ("/cost-groups/nope/versions", "cost-group-unknown"),
        ("/allocators/a0/versions/zz", "version-unknown"),
        ("/allocators/a0/versions/%1b%5b31m", "version-unknown"),
        ("/cost-groups/%3cscript%3e/versions", "cost-group-unknown"),
    ):
        answer = api.ask("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (404, code), path
