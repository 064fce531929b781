"""Limits, headers, and errors that say nothing they should not."""

import asyncio
import json
import re
from pathlib import Path

from octo_pipeline.api import limits
from octo_pipeline.api.problems import STATUSES

ROOT = Path(__file__).parents[2]


def test_a_long_body_is_refused(api):
    answer = api.ask("POST", "/allocators/validate", content=b" " * (limits.MOST_BYTES + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")

    def chunks():
        for _ in range(limits.MOST_BYTES // 65536 + 1):
            yield b" " * 65536

    answer = api.ask("POST", "/allocators/validate", content=chunks())
    assert answer.status_code == 413


def test_a_body_that_never_ends_is_given_up(api, monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    sent = []

    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/allocators/validate",
        "headers": [],
        "query_string": b"",
    }
    asyncio.run(api.client.app(scope, receive, send))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == "body-too-slow"


def test_each_caller_is_counted_by_themselves(own_api, monkeypatch):
    monkeypatch.setattr(limits, "MOST_REQUESTS", 3)
    # The first of each is counted by address, because nothing is known of the token.
    statuses = [own_api.ask("GET", "/months").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 200, 429]
    refused = own_api.ask("GET", "/months")
    assert (refused.headers["retry-after"], refused.json()["code"]) == ("60", "too-many-requests")
    # Behind one proxy the others go on.
    assert own_api.ask("GET", "/months", "editor").status_code == 200
    nobody = [own_api.ask("GET", "/months", None).status_code for _ in range(3)]
    assert nobody == [401, 429, 429]


def test_tokens_that_are_tried_out_are_counted_by_address(own_api, monkeypatch):
    monkeypatch.setattr(limits, "MOST_WRONG", 3)
    assert own_api.ask("GET", "/months").status_code == 200

    def tried(number):
        return own_api.client.get(
            "/api/v1/months", headers={"Authorization": f"Bearer octo_{number:08x}_x"}
        ).status_code

    assert [tried(number) for number in range(5)] == [401, 401, 401, 429, 429]
    # Who is known goes on, and so does who shows nothing.
    assert own_api.ask("GET", "/months").status_code == 200
    assert own_api.client.get("/api/openapi.json").status_code == 200
    # One that is not known yet waits, as it may be one more that is tried out.
    assert own_api.ask("GET", "/months", "editor").status_code == 429


def test_a_repeated_request_leaves_its_token_known(own_api, monkeypatch):
    """Regression: an answer that was kept made the token unknown, so it waited with those that are tried out."""
    monkeypatch.setattr(limits, "MOST_WRONG", 1)
    more = {"json": {"name": "mia", "role": "viewer"}, "headers": {"Idempotency-Key": "one"}}
    assert [own_api.ask("POST", "/users", "admin", **more).status_code for _ in range(2)] == [201, 201]
    assert own_api.client.get("/api/v1/months", headers={"Authorization": "Bearer octo_0_x"}).status_code == 401
    assert own_api.ask("GET", "/months", "admin").status_code == 200


def test_a_revoked_token_is_no_longer_known(own_api, monkeypatch):
    monkeypatch.setattr(limits, "MOST_WRONG", 1)
    assert own_api.ask("GET", "/months").status_code == 200
    own_api.workspace.registry.users.remove("the-viewer", "the-admin")
    assert [own_api.ask("GET", "/months").status_code for _ in range(2)] == [401, 429]


def test_what_is_remembered_of_callers_is_bounded(own_api, monkeypatch):
    monkeypatch.setattr(limits, "_MOST_CALLERS", 5)
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr(limits.time, "monotonic", lambda: next(clock))
    counts = limits._Counts(lambda: 3)
    for number in range(50):
        counts.add(str(number))
    assert len(counts._times) <= 6


def test_every_answer_has_the_headers(api):
    for answer in (api.ask("GET", "/months"), api.ask("GET", "/months", None), api.ask("GET", "/nothing")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


def test_an_unexpected_error_says_nothing(api, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a secret path /home/somebody")

    monkeypatch.setattr("octo_pipeline.api.routes.months.periods.periods_of", fail)
    answer = api.ask("GET", "/months")
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    assert "somebody" not in answer.text


def test_a_lake_that_is_gone_is_said(own_api):
    own_api.workspace.settings.config.rename(own_api.workspace.settings.config.with_name("away"))
    answer = own_api.ask("GET", "/allocators")
    assert (answer.status_code, answer.json()["code"]) == (503, "configuration-missing")


def test_statuses_are_of_codes_that_exist():
    sources = "".join(path.read_text() for path in (ROOT / "octo_pipeline").rglob("*.py") if path.name != "problems.py")
    codes = set(re.findall(r'code="([a-z-]+)"', sources)) | {"too-many-requests"}
    assert STATUSES.keys() - codes == set()
