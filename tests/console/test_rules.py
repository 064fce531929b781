"""The pages of rules: the list, the editor and what it would do, saving, superseding and removing."""

import json
import re
from html import unescape

import pytest

from octo_pipeline.console.drafts import typed_draft
from octo_pipeline.console.rule_form import RuleForm
from tests.support.editor import fields_of, words_of
from tests.support.small_month import MONTH, fee_allocator

RULE = "a0"
HOSTILE = '<b onx="1">\u202e=cmd|' + "'/x'\"\x1b[31m"


def document_in(page: str) -> dict:
    """The JSON of an editor."""
    return json.loads(fields_of(page)["document"])


def typed(console, changes: dict, path: str = f"/rules/{RULE}", role: str = "editor", to: str = "/rules/try"):
    """The answer to what somebody typed into the editor of a page."""
    return console.post(to, role, fields_of(console.page(path, role)) | changes)


def saved(console, rule: str = RULE) -> dict:
    """The document of a rule as it is in its file."""
    files = (console.workspace.settings.config / "allocators").glob("*.json")
    return next(d for file in files if (d := json.loads(file.read_text())).get("id", file.stem) == rule)


def test_rules_are_listed_with_what_each_moved(console):
    text = console.text(f"/rules?month={MONTH}")
    assert f"{RULE} from {MONTH} 1 USD 100.00 100.00" in text
    assert "New rule" not in text
    assert "New rule" in console.text("/rules", "editor")


def test_a_rule_that_ended_stands_apart_and_invalid_documents_come_first(own_console):
    folder = own_console.workspace.settings.config / "allocators"
    ended = fee_allocator() | {"id": "old", "startMonth": "2023-01", "endMonth": "2023-03", "name": HOSTILE}
    (folder / "old.json").write_text(json.dumps(ended))
    (folder / "broken.json").write_text(json.dumps(fee_allocator() | {"category": "fees"}))
    page = own_console.page("/rules")
    text = own_console.text("/rules")
    assert text.index("broken.json category") < text.index("Fees") < text.index(f"Ended before {MONTH}")
    assert '<b onx="1">' not in page
    assert "\u202e" not in page
    assert "not valid, so it takes nothing" in own_console.text("/rules/broken", "editor")


@pytest.mark.parametrize("editor", ["rules", "cost-groups"])
@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ('{"id": "x", "name": "\\ud800", "and": NaN}', "half of a surrogate pair"),
        ('{"id": "x", "a": ' + "[" * 700 + "]" * 700 + "}", "deep"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, "deep"),
        ('{"id": ' + "9" * 20_000 + "}", "id"),
    ],
)
def test_a_document_that_nothing_can_hold_is_answered(console, editor, document, problem):
    for path, role in ((f"/{editor}/try", "viewer"), (f"/{editor}/save", "editor")):
        for more in (
            {"source": "json"},
            {"source": "form", "text.name": "y", "base": document, "rows": "add criteria"},
        ):
            answer = console.post(path, role, {"document": document, "base": "{}", "month": MONTH} | more)
            assert answer.status_code in (200, 422), (path, more["source"])
            assert problem in words_of(answer.text)


def test_a_document_that_is_not_json_is_shown_as_it_is(own_console):
    (own_console.workspace.settings.config / "allocators" / "broken.json").write_text('{"id": "broken",')
    page = own_console.page("/rules/broken", "editor")
    assert "{&#34;id&#34;: &#34;broken&#34;," in page
    assert "line 1, column 17" in page


def test_the_form_writes_into_the_json(console):
    page = typed(console, {"text.name": "Support", "criteria.0.0.operator": "re:", "source": "form"}).text
    document = document_in(page)
    assert document["name"] == "Support"
    assert document["criteria"] == [{"and": {"lineType": "re:Fee"}}]
    assert document["allocator"] == fee_allocator()["allocator"]


def test_the_json_fills_the_form(console):
    more = {"priority": 3, "expiration": "12", "usageOf": {"metric": "seats"}}
    document = fee_allocator() | {"id": RULE, "criteria": [{"and": {"lineType": "!re:^Us"}}], **more}
    page = typed(console, {"document": json.dumps(document), "source": "json"}).text
    fields = fields_of(page)
    assert (fields["criteria.0.0.operator"], fields["criteria.0.0.value"]) == ("!re:", "^Us")
    assert (fields["text.priority"], fields["text.expiration"]) == ("3", "12")
    assert "Also set, in the JSON alone: usageOf" in words_of(page)
    assert json.loads(fields["document"]) == document


def test_what_the_form_does_not_show_stays(console):
    document = fee_allocator() | {"id": RULE, "priority": 3, "usageOf": {"metric": "seats"}, "endMonth": None}
    page = typed(console, {"document": json.dumps(document), "source": "json"}).text
    page = console.post("/rules/try", "editor", fields_of(page) | {"text.description": "x", "source": "form"}).text
    assert document_in(page) == document | {"description": "x"}


@pytest.mark.parametrize("part", ["criteria", "allocator"])
def test_a_part_of_another_shape_is_left_to_the_json(console, part):
    document = fee_allocator() | {"id": RULE, part: [{"x": 1}]}
    page = typed(console, {"document": json.dumps(document), "source": "json"}).text
    assert "a shape that only the JSON can show" in page
    page = console.post("/rules/try", "editor", fields_of(page) | {"text.name": "x", "source": "form"}).text
    assert document_in(page) == document | {"name": "x"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("add criteria", [{"and": {"lineType": "Fee"}}, {"and": {}}]),
        ("remove criteria 0", []),
        ("remove criteria 0 0", [{"and": {}}]),
        ("add criteria 7", [{"and": {"lineType": "Fee"}}]),
        ("remove criteria x", [{"and": {"lineType": "Fee"}}]),
    ],
)
def test_buttons_change_the_rows(console, rows, expected):
    page = typed(console, {"rows": rows}).text
    assert document_in(page)["criteria"] == expected


def test_a_new_row_is_there_to_be_filled(console):
    page = typed(console, {"rows": "add targets"}).text
    assert fields_of(page)["targets.2.type"] == "account"
    form = fields_of(page) | {"targets.2.value": "9", "targets.2.months": "3", "source": "form"}
    page = console.post("/rules/try", "editor", form).text
    assert document_in(page)["allocator"][2] == {"type": "account", "value": "9", "months": "3"}


def test_a_key_that_is_there_twice_is_not_lost_unseen(console):
    form = fields_of(typed(console, {"rows": "add criteria 0"}).text)
    form |= {"criteria.0.1.key": "lineType", "criteria.0.1.value": "Tax", "source": "form"}
    page = console.post("/rules/try", "editor", form).text
    assert "is there twice" in words_of(page)
    assert console.post("/rules/save", "editor", form).status_code == 422


def test_without_javascript_a_change_of_both_halves_asks_which_counts(console):
    document = json.dumps(fee_allocator() | {"id": RULE, "name": "of the JSON"})
    changes = {"document": document, "text.name": "of the form"}
    assert "Both the form and the JSON were changed" in typed(console, changes).text
    assert document_in(typed(console, changes | {"source": "form"}).text)["name"] == "of the form"
    assert document_in(typed(console, changes | {"source": "json"}).text)["name"] == "of the JSON"
    assert typed(console, changes, to="/rules/save").status_code == 422


def test_every_error_stands_at_its_field_and_in_the_list(console):
    changes = {"text.startMonth": "soon", "targets.1.formula": "cost*", "criteria.0.0.key": "kind", "source": "form"}
    page = typed(console, changes).text
    for field in ("text-startMonth", "targets-1-formula", "criteria-0-0-value"):
        assert re.search(rf'id="problem-{field}"[^>]*>[^<]+<', page), field
        assert f'href="#{field}"' in page
    assert 'id="text-startMonth" name="text.startMonth" value="soon"' in page
    assert page.count('aria-invalid="true"') == 3
    assert "3 things are wrong" in words_of(page)


def test_json_that_cannot_be_read_changes_nothing_in_the_form(console):
    page = typed(console, {"document": '{"id": "x",', "source": "json"}).text
    assert fields_of(page)["text.startMonth"] == MONTH
    assert "line 1, column 12" in words_of(page)
    assert 'aria-invalid="true"' in page


def test_hostile_texts_stay_texts(console):
    page = typed(
        console, {"text.name": HOSTILE, "text.description": "</textarea><script>x</script>", "source": "form"}
    ).text
    assert "<script>x" not in page
    assert '<b onx="1">' not in page
    assert document_in(page)["description"] == "</textarea><script>x</script>"


def test_the_simulation_says_what_the_command_says(console):
    changes = {"text.id": "mine", "of": "", "text.startMonth": MONTH, "do": "simulate", "source": "form"}
    document = {"priority": -1, **fee_allocator(), "id": "mine", "allocator": [{"type": "account", "value": "1"}]}
    page = typed(console, changes | {"document": json.dumps(document), "source": "json"}).text
    text = words_of(page)
    assert f"mine (fee) on {MONTH}: matches 1 item of 100.00 USD." in text
    assert "It would take 1 item (100.00 USD), away from a0; 1 account pays more and 1 less." in text
    assert "Pay more Account Difference 1 +75.00 USD" in text
    assert "Pay less Account Difference 2 -75.00 USD" in text
    assert "Conflicts" in text


def test_a_rule_is_saved_and_noted(own_console):
    answer = typed(own_console, {"text.name": "Support", "source": "form"}, to="/rules/save")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/rules/{RULE}?month={MONTH}")
    assert saved(own_console)["name"] == "Support"
    event = own_console.workspace.registry.audit(1)[0]
    assert (event.actor, event.action, event.subject) == ("the-editor", "save_allocator", RULE)


def test_a_new_rule_needs_an_id_of_its_own(own_console):
    new = {"targets.0.value": "1", "source": "form"}
    answer = typed(own_console, new, "/rules/new", to="/rules/save")
    assert answer.status_code == 422
    assert "is missing; give the rule an id" in words_of(answer.text)
    answer = typed(own_console, new | {"text.id": RULE}, "/rules/new", to="/rules/save")
    assert answer.status_code == 412
    assert f"There is one of the id {RULE} already. Nothing was saved." in words_of(answer.text)
    answer = typed(own_console, new | {"text.id": "a b#c"}, "/rules/new", to="/rules/save")
    assert answer.headers["location"] == f"/rules/a%20b%23c?month={MONTH}"
    assert "a b#c" in own_console.text("/rules/a%20b%23c")


def test_an_id_is_not_changed(console):
    answer = typed(console, {"text.id": "another", "source": "form"}, to="/rules/save")
    assert answer.status_code == 422
    assert f"must stay {RULE}" in words_of(answer.text)


def test_who_saves_second_is_told_and_sees_both(own_console):
    first, second = (fields_of(own_console.page(f"/rules/{RULE}", "editor")) for _ in range(2))
    own_console.post("/rules/save", "editor", first | {"text.name": "first", "source": "form"})
    answer = own_console.post("/rules/save", "editor", second | {"text.name": "second", "source": "form"})
    assert answer.status_code == 412
    assert saved(own_console)["name"] == "first"
    text = words_of(answer.text)
    assert "Somebody saved a0 since you read it" in text
    assert '− "name": "first"' in text and '+ "name": "second"' in text
    assert own_console.post("/rules/save", "editor", fields_of(answer.text)).status_code == 303
    assert saved(own_console)["name"] == "second"


def test_a_second_press_of_the_button_is_no_second_change(own_console):
    form = fields_of(own_console.page(f"/rules/{RULE}", "editor")) | {"text.name": "x", "source": "form"}
    answers = [own_console.post("/rules/save", "editor", form).status_code for _ in range(2)]
    assert answers == [303, 303]
    assert [e.action for e in own_console.workspace.registry.audit(10)].count("save_allocator") == 1


def test_a_rule_takes_the_place_of_another_one(own_console):
    page = own_console.page(f"/rules/{RULE}/supersede", "editor")
    fields = fields_of(page)
    assert (fields["first"], json.loads(fields["document"])["id"]) == ("2024-02", f"{RULE}-from-2024-02")
    answer = own_console.post("/rules/save", "editor", fields | {"first": "2023-01"})
    assert answer.status_code == 422
    assert "so nothing would be left of it" in words_of(answer.text)
    answer = own_console.post("/rules/save", "editor", fields)
    assert answer.status_code == 303
    assert saved(own_console)["endMonth"] == MONTH
    assert saved(own_console, f"{RULE}-from-2024-02")["startMonth"] == "2024-02"


def test_a_rule_is_removed_after_a_page_that_says_what_it_moved(own_console):
    path = f"/rules/{RULE}/remove"
    assert "100.00" in own_console.text(f"{path}?month={MONTH}", "editor")
    seen = re.search(r'name="seen" value="([^"]*)"', own_console.page(path, "editor"))[1]
    assert own_console.post(path, "editor", {"seen": "another"}).status_code == 412
    assert own_console.post(path, "viewer", {"seen": seen}).status_code == 403
    assert own_console.post(path, "editor", {"seen": seen}).status_code == 303
    assert own_console.workspace.configuration.allocators == ()
    assert "No longer there" in own_console.text("/rules")
    assert own_console.get(f"/rules/{RULE}").status_code == 404


def test_viewers_try_and_do_not_save(console):
    page = console.page(f"/rules/{RULE}")
    assert 'formaction="/rules/save"' not in page
    assert typed(console, {"text.name": "x", "source": "form"}, role="viewer").status_code == 200
    answer = typed(console, {"text.name": "x", "source": "form"}, role="viewer", to="/rules/save")
    assert answer.status_code == 403
    for path in ("supersede", "remove"):
        assert console.get(f"/rules/{RULE}/{path}").status_code == 403


def test_a_read_only_configuration_shows_what_to_commit(own_console, monkeypatch):
    form = fields_of(own_console.page(f"/rules/{RULE}", "editor")) | {"text.name": "x", "source": "form"}
    # The tests may run as root, for whom nothing is read-only.
    monkeypatch.setattr("octo_pipeline.api.documents.os.access", lambda *_: False)
    page = own_console.post("/rules/try", "editor", form).text
    assert 'formaction="/rules/save"' not in page
    committed = re.search(r"allocators/a0.json</label><textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    assert json.loads(unescape(committed[1]))["name"] == "x"
    assert own_console.post("/rules/save", "editor", form).status_code == 409
    assert own_console.post(f"/rules/{RULE}/remove", "editor", {"seen": form["seen"]}).status_code == 409


def test_versions_are_listed_and_compared(own_console):
    for name in ("first", "second"):
        typed(own_console, {"text.name": name, "source": "form"}, to="/rules/save")
    text = own_console.text(f"/rules/{RULE}/versions")
    assert text.count("the-editor") == 2
    assert f"with the configuration {MONTH}" in text
    assert '− "name": "first"' in text and '+ "name": "second"' in text
    versions = re.findall(r'name="before" value="([^"]*)"', own_console.page(f"/rules/{RULE}/versions"))
    text = own_console.text(f"/rules/{RULE}/versions?before={versions[-1]}&after={versions[0]}")
    assert '+ "name": "second"' in text and '"name": "first"' not in text
    assert own_console.get("/rules/nothing/versions").status_code == 404


def test_fields_offer_the_values_of_the_month(console):
    page = console.get("/rules/offers", params={"key": "lineType", "month": MONTH, "category": "fee"}).text
    assert '<option value="Fee">' in page
    assert "<option" not in console.get("/rules/offers", params={"key": "nothing", "month": "x"}).text


def test_a_form_without_any_field_is_no_error():
    draft = typed_draft(RuleForm, {"document": "[]", "base": "", "rows": "remove targets"})
    assert draft.document is None


def test_a_rule_that_comes_too_late_is_put_first_by_its_priority(console):
    form = {"text.id": "mine", "of": "", "do": "simulate", "source": "form"}
    page = typed(console, form).text
    assert "It would take nothing: a0 comes first. Give it a lower priority to put it before." in words_of(page)
    page = console.post("/rules/try", "editor", fields_of(page) | {"text.priority": "-1", "do": "simulate"}).text
    assert "It would take 1 item (100.00 USD), away from a0" in words_of(page)


def test_a_month_is_said_to_be_out_of_date_where_its_rules_are(own_console):
    path = own_console.workspace.settings.config / "allocators" / "x.json"
    path.write_text(json.dumps(fee_allocator() | {"id": "x"}))
    sentence = f"{MONTH} is out of date. Since it was made, this has changed:"
    for page in (f"/?month={MONTH}", f"/rules?month={MONTH}", f"/rules/x?month={MONTH}"):
        text = own_console.text(page, "editor")
        assert sentence in text and "rules" in text.partition(sentence)[2]
        assert f"Bring {MONTH} up to date" in text
        assert f"Bring {MONTH} up to date" not in own_console.text(page)
