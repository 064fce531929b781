"""Allocators over the API: validate, simulate, save under a version, supersede, remove."""

import json

from tests.support.small_month import MONTH, fee_allocator

NEW = fee_allocator("cost*0.5", id="half")


def test_a_document_is_saved_once_and_changed_under_its_version(own_api):
    assert own_api.ask("PUT", "/allocators/half", "viewer", json=NEW).status_code == 403
    made = own_api.ask("PUT", "/allocators/half", "editor", json=NEW)
    assert made.status_code == 201
    assert made.json()["createTime"]
    sent = own_api.ask("GET", "/allocators/half")
    assert (sent.json(), sent.headers["etag"]) == (made.json(), made.headers["etag"])
    assert [row["id"] for row in own_api.get("/allocators")["items"]] == ["a0", "half"]

    third = NEW | {"allocator": [{"type": "account", "value": "1", "formula": "cost/3"}]}
    blind = own_api.ask("PUT", "/allocators/half", "editor", json=third)
    assert (blind.status_code, blind.json()["code"]) == (412, "document-changed-meanwhile")
    again = own_api.ask("PUT", "/allocators/half", "editor", json=third, headers={"If-None-Match": "*"})
    assert again.status_code == 412
    mine = {"If-Match": made.headers["etag"]}
    changed = own_api.ask("PUT", "/allocators/half", "editor", json=third, headers=mine)
    assert changed.status_code == 200
    # Somebody else has seen the first version.
    late = own_api.ask("PUT", "/allocators/half", "editor", json=NEW, headers=mine)
    assert late.status_code == 412
    assert own_api.get("/allocators/half")["allocator"] == third["allocator"]
    assert own_api.ask("DELETE", "/allocators/half", "editor", headers=mine).status_code == 412
    assert own_api.ask("DELETE", "/allocators/half", "editor").status_code == 204
    assert own_api.ask("GET", "/allocators/half").status_code == 404
    events = own_api.ask("GET", "/audit", "admin").json()
    assert [(e["actor"], e["action"]) for e in events[:3]] == [
        ("the-editor", "remove_allocator"),
        ("the-editor", "save_allocator"),
        ("the-editor", "save_allocator"),
    ]


def test_what_is_wrong_is_at_its_place(api):
    wrong = NEW | {"allocator": [{"type": "account", "value": "1", "formula": "cost*"}], "categroy": "fee"}
    answer = api.ask("POST", "/allocators/validate", content=json.dumps(wrong))
    assert (answer.status_code, answer.json()["code"]) == (422, "document-wrong")
    assert {problem["path"] for problem in answer.json()["problems"]} == {"categroy", "allocator[0].formula"}
    twice = api.ask("POST", "/allocators/validate", content='{"startMonth": "2024-01", "startMonth": "2024-02"}')
    assert "startMonth" in twice.json()["detail"]
    for content in (b"", b"[]", b"\xff", b'{"a":' * 5000, b'"\\ud800"'):
        assert api.ask("POST", "/allocators/validate", content=content).status_code == 422
    right = api.ask("POST", "/allocators/validate", json=NEW)
    assert right.json()["id"] == "half"


def test_a_simulation_says_what_would_happen_and_saves_nothing(api):
    answer = api.ask("POST", f"/allocators/simulate?month={MONTH}", json=NEW | {"id": "a0"})
    simulation = answer.json()
    assert [row["cost"] for row in simulation["matched_items"]] == ["100.0000000000"]
    assert {row["account"]: row["difference"] for row in simulation["differences"]} == {
        "1": "25.0000000000",
        "2": "-25.0000000000",
    }
    assert [row["id"] for row in api.get("/allocators")["items"]] == ["a0"]
    assert api.ask("POST", "/allocators/simulate?month=1999-01", json=NEW).json()["code"] == "month-not-made"


def test_an_allocator_is_succeeded(own_api):
    following = {key: value for key, value in NEW.items() if key != "startMonth"}
    path = "/allocators/a0/supersede?from=2024-03"
    assert own_api.ask("POST", "/allocators/a0/supersede/simulate?from=2024-03", json=following).status_code == 404
    done = own_api.ask("POST", path, "editor", json=following).json()
    assert (done["ended"]["endMonth"], done["started"]["startMonth"]) == ("2024-02", "2024-03")
    again = own_api.ask("POST", path, "editor", json=following)
    assert (again.status_code, again.json()["code"]) == (409, "document-exists")


def test_a_read_only_configuration_is_not_changed(own_api, monkeypatch):
    # The tests may run as root, for whom nothing is read-only.
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("allocators"))
    answer = own_api.ask("PUT", "/allocators/half", "editor", json=NEW)
    assert (answer.status_code, answer.json()["code"]) == (409, "configuration-read-only")
    assert not (own_api.workspace.settings.config / "allocators" / "half.json").exists()


def test_an_id_in_the_address_leads_nowhere_else(own_api):
    for name in ("..%2f..%2fx", "%2e%2e", "a%00b", "x" * 5000):
        answer = own_api.ask("PUT", f"/allocators/{name}", "editor", json=NEW)
        assert answer.status_code in (404, 422), name
    assert {file.name for file in (own_api.workspace.settings.config / "allocators").iterdir()} == {"a0.json"}
