"""Limits, headers, and errors that say nothing they should not."""

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


def test_too_many_requests_wait(own_api, monkeypatch):
    monkeypatch.setattr(limits, "MOST_REQUESTS", 3)
    statuses = [own_api.ask("GET", "/months").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


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
