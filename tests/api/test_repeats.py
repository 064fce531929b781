"""Requests that are sent again under one key."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from octo_pipeline.registry import answers
from octo_pipeline.registry.users import Users
from tests.support.small_month import fee_allocator

MIA = {"name": "mia", "role": "viewer"}


def post(api, path, key, role="admin", **more):
    return api.ask("POST", path, role, headers={"Idempotency-Key": key}, **more)


def test_a_repeated_change_is_done_once_and_answered_the_same(own_api):
    first = post(own_api, "/users", "one", json=MIA)
    again = post(own_api, "/users", "one", json=MIA)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert first.headers["content-type"] == again.headers["content-type"]
    # Without a key, or under another, it is another request.
    assert post(own_api, "/users", "two", json=MIA).json()["code"] == "user-already-known"
    assert own_api.ask("POST", "/users", "admin", json=MIA).status_code == 409
    actions = [event["action"] for event in own_api.ask("GET", "/audit", "admin").json()]
    assert actions.count("add_user") == 4
    half = fee_allocator("cost*0.5", id="half")
    saved = [
        own_api.ask("PUT", "/allocators/half", "editor", json=half, headers={"Idempotency-Key": "one"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in saved] == [201, 201]
    assert saved[0].headers["etag"] == saved[1].headers["etag"]


def test_a_key_belongs_to_one_request_of_one_caller(own_api):
    post(own_api, "/users", "one", json=MIA)
    for path, body in (("/users", MIA | {"role": "editor"}), ("/tokens", MIA), ("/users?x=1", MIA)):
        answer = post(own_api, path, "one", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    # Somebody else's key is another key, and is not told what was answered.
    assert post(own_api, "/users", "one", "viewer", json=MIA).json()["code"] == "caller-lacks-role"
    wrong = own_api.client.post(
        "/api/v1/users", json=MIA, headers={"Idempotency-Key": "one", "Authorization": "Bearer octo_0_x"}
    )
    assert (wrong.status_code, wrong.json()["code"]) == (401, "token-refused")
    assert post(own_api, "/users", "x" * 201, json=MIA).json()["code"] == "idempotency-key-wrong"
    assert post(own_api, "/users", " ", json=MIA).json()["code"] == "idempotency-key-wrong"
    assert own_api.ask("GET", "/months", headers={"Idempotency-Key": "one"}).status_code == 200


def test_of_two_at_once_one_is_told_to_wait(own_api, monkeypatch):
    started, release = Event(), Event()
    add = Users.add

    def slow_add(self, *arguments):
        started.set()
        assert release.wait(30)
        add(self, *arguments)

    monkeypatch.setattr(Users, "add", slow_add)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, own_api, "/users", "one", json=MIA)
        assert started.wait(30)
        second = post(own_api, "/users", "one", json=MIA)
        release.set()
        assert first.result().status_code == 201
    assert (second.status_code, second.json()["code"]) == (409, "request-under-way")
    assert post(own_api, "/users", "one", json=MIA).status_code == 201


def test_of_many_at_once_one_is_done(own_api):
    with ThreadPoolExecutor(8) as pool:
        answers_of_all = list(pool.map(lambda _: post(own_api, "/users", "one", json=MIA), range(8)))
    assert {answer.status_code for answer in answers_of_all} <= {201, 409}
    assert 201 in {answer.status_code for answer in answers_of_all}
    assert {a.json()["code"] for a in answers_of_all if a.status_code == 409} <= {"request-under-way"}


def test_a_failure_of_the_server_is_not_kept(own_api, monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(Users, "add", broken)
        assert post(own_api, "/users", "one", json=MIA).status_code == 500
    assert post(own_api, "/users", "one", json=MIA).status_code == 201


def test_a_secret_is_not_kept(own_api):
    body = {"user": "the-viewer", "label": "x"}
    token = post(own_api, "/tokens", "one", json=body).json()["token"]
    again = post(own_api, "/tokens", "one", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "answer-not-kept")
    assert token.encode() not in (own_api.workspace.registry.path).read_bytes()


def test_answers_are_kept_for_a_day(own_api, monkeypatch):
    post(own_api, "/users", "one", json=MIA)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(UTC) + timedelta(hours=25)

    monkeypatch.setattr(answers, "datetime", Tomorrow)
    assert post(own_api, "/users", "one", json=MIA).json()["code"] == "user-already-known"


def test_a_run_is_one_operation(own_api):
    first, second = (post(own_api, "/months/2024-02/run", "one", "editor") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    assert len(own_api.get("/operations")) == 1


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_every_changing_method_can_be_repeated(own_api, method):
    own_api.ask("POST", "/users", "admin", json=MIA)
    path = "/users/mia/cost-groups" if method == "PUT" else "/users/mia"
    body = {"PUT": {"cost_groups": ["shop"]}, "PATCH": {"role": "editor"}, "DELETE": None}[method]
    answer_of = lambda: own_api.ask(method, path, "admin", json=body, headers={"Idempotency-Key": "k"})  # noqa: E731
    first, second = answer_of(), answer_of()
    assert first.status_code == second.status_code < 300
    assert first.content == second.content
