"""The pages of cost groups: the list, one of them, the editor and what it matches, saving and removing."""

import json
import re

import pytest

from octo_pipeline.console.group_form import GroupForm
from octo_pipeline.registry.records import Actor
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from tests.support.case import make
from tests.support.editor import fields_of, words_of
from tests.support.small_month import MONTH, fee_allocator

GROUP = "shop"
HOSTILE = '<b onx="1">=cmd'
FAMILY = {"id": "teams", "by": {"tag": "team"}, "combinations": {"awsOptions": {}}}


def typed(console, changes: dict, path: str = f"/cost-groups/{GROUP}/edit", role: str = "editor", to: str = "try"):
    """The answer to what somebody typed into the editor of a page."""
    return console.post(f"/cost-groups/{to}", role, fields_of(console.page(path, role)) | changes)


def saved(console, group: str = GROUP) -> dict:
    """The document of a group as it is in its file."""
    return json.loads((console.workspace.settings.config / "cost_groups" / f"{group}.json").read_text())


def test_groups_are_listed_with_what_they_cost(console):
    text = console.text(f"/cost-groups?month={MONTH}")
    assert "shop aws USD 35.00" in text
    assert "New cost group" not in text
    assert "New cost group" in console.text("/cost-groups", "editor")


@pytest.mark.parametrize(
    ("by", "row"),
    [
        ("month", f"{MONTH} USD 10.00 0.00 25.00 35.00"),
        ("account", "1 USD 10.00 0.00 25.00 35.00"),
        ("service", "AmazonEC2 USD"),
        ("vendor", "aws USD"),
    ],
)
def test_a_group_has_its_sections_in_tabs(console, by, row):
    assert row in console.text(f"/cost-groups/{GROUP}?month={MONTH}&by={by}")


def test_a_group_says_who_names_it(own_console):
    document = fee_allocator() | {"id": "x", "allocator": [{"type": "costgroup", "value": GROUP}]}
    (own_console.workspace.settings.config / "allocators" / "x.json").write_text(json.dumps(document))
    assert "x as who pays" in own_console.text(f"/cost-groups/{GROUP}")
    page = own_console.page(f"/cost-groups/{GROUP}/remove", "editor")
    assert "Remove it" not in page
    seen = re.search(r'name="seen" value="([^"]*)"', page)[1]
    assert own_console.post(f"/cost-groups/{GROUP}/remove", "editor", {"seen": seen}).status_code == 409


def test_a_group_that_nobody_has_is_not_here(console):
    assert console.get("/cost-groups/nothing").status_code == 404
    assert console.get("/cost-groups/nothing/edit").status_code == 404


def test_invalid_documents_lead_to_the_editor(own_console):
    folder = own_console.workspace.settings.config / "cost_groups"
    (folder / "bad.json").write_text(
        json.dumps({"combinations": {"awsOptions": {"filters": [{"andFilters": {"x": "y"}}]}}})
    )
    assert "bad.json" in own_console.text("/cost-groups")
    assert own_console.get("/cost-groups/bad").headers["location"].startswith("/cost-groups/bad/edit")
    assert "combinations.awsOptions.filters[0].andFilters.x" in own_console.text("/cost-groups/bad/edit", "editor")


def test_the_form_writes_into_the_json(console):
    changes = {"text.name": "Shop", "block0.0.0.operator": "re:", "block0.0.0.value": "^1", "source": "form"}
    document = json.loads(fields_of(typed(console, changes).text)["document"])
    filters = [{"andFilters": {"account": "re:^1"}}]
    assert document == {"id": GROUP, "combinations": {"awsOptions": {"filters": filters}}, "name": "Shop"}


def test_buttons_add_and_remove_lists_of_filters(console):
    page = typed(console, {"rows": "add gcpOptions.projectLabelFilters"}).text
    form = fields_of(page) | {"block1.0.0.key": "team", "block1.0.0.value": "core", "source": "form"}
    page = console.post("/cost-groups/try", "editor", form).text
    combinations = json.loads(fields_of(page)["document"])["combinations"]
    assert combinations["gcpOptions"] == {"projectLabelFilters": [{"andFilters": {"team": "core"}}]}
    page = console.post("/cost-groups/try", "editor", fields_of(page) | {"rows": "drop block0"}).text
    assert json.loads(fields_of(page)["document"])["combinations"] == {"gcpOptions": combinations["gcpOptions"]}


@pytest.mark.parametrize(
    "rows", ["drop block9", "drop block", "add nothing.filters", "remove block0 9", "x", "add block0 x"]
)
def test_a_button_that_is_none_changes_nothing_that_is_there(console, rows):
    page = typed(console, {"rows": rows}).text
    assert "account" in fields_of(page)["document"]


def test_a_family_is_typed(console):
    changes = {"text.by": "tag", "text.key": "team", "source": "form"}
    document = json.loads(fields_of(typed(console, changes).text)["document"])
    assert document["by"] == {"tag": "team"}
    assert GroupForm.of(FAMILY).texts["key"] == "team"
    written = dict(FAMILY)
    assert GroupForm.of(FAMILY).write(written, None) == []
    assert written == FAMILY | {"combinations": {"awsOptions": {}}}


def test_a_family_is_listed_as_one_and_lists_its_groups(own_console):
    folder = own_console.workspace.settings.config / "cost_groups"
    family = {"id": "each", "name": HOSTILE, "by": {"account": True}, "combinations": {"awsOptions": {}}}
    (folder / "each.json").write_text(json.dumps(family))
    make(own_console.workspace, CostGroupCosts(), [MONTH])
    assert "each aws by account USD 140.00" in own_console.text(f"/cost-groups?month={MONTH}")
    assert "<b onx" not in own_console.page(f"/cost-groups?month={MONTH}")
    text = own_console.text(f"/cost-groups/each?month={MONTH}")
    assert "each/2 USD 30.00 0.00 75.00 105.00" in text and "The groups of a family share nothing" in text
    assert "105.00 USD" in own_console.text(f"/cost-groups/each?month={MONTH}&value=2")


def test_vendors_that_the_form_does_not_show_stay(console):
    options = [{"vendor": "oci", "filters": [{"andFilters": {"account": "o"}}]}]
    document = saved(console)
    document["combinations"]["options"] = options
    page = typed(console, {"document": json.dumps(document), "source": "json"}).text
    assert "combinations.options" in words_of(page)
    form = fields_of(page) | {"block0.0.0.value": "2", "source": "form"}
    page = console.post("/cost-groups/try", "editor", form).text
    assert json.loads(fields_of(page)["document"])["combinations"]["options"] == options


def test_errors_stand_at_their_fields(console):
    page = typed(console, {"block0.0.0.key": "acount", "source": "form"}).text
    assert re.search(r'id="problem-block0-0-0-value"[^>]*>[^<]+<', page)
    assert "unknown key" in words_of(page)


def test_the_preview_says_what_the_command_says(console):
    text = words_of(typed(console, {"do": "simulate", "source": "json"}).text)
    assert f"Cost group shop in {MONTH}: matches 1 account with 1 line item of 10.00 USD." in text


def test_a_group_is_saved_once(own_console):
    form = fields_of(own_console.page(f"/cost-groups/{GROUP}/edit", "editor")) | {"text.name": "Shop", "source": "form"}
    answers = [own_console.post("/cost-groups/save", "editor", form).status_code for _ in range(2)]
    assert answers == [303, 303]
    assert saved(own_console)["name"] == "Shop"
    assert [e.action for e in own_console.workspace.registry.audit(10)].count("save_cost_group") == 1
    other = own_console.post("/cost-groups/save", "editor", form | {"text.name": "Other"})
    assert other.status_code == 412
    assert '− "name": "Shop"' in words_of(other.text)
    assert "the-editor" in own_console.text(f"/cost-groups/{GROUP}/versions")


def test_a_new_group_has_an_id_of_its_own(own_console):
    new = {"block0.0.0.value": "2", "source": "form"}
    assert typed(own_console, new, "/cost-groups/new", to="save").status_code == 422
    answer = typed(own_console, new | {"text.id": GROUP}, "/cost-groups/new", to="save")
    assert answer.status_code == 412
    answer = own_console.post(
        "/cost-groups/save", "editor", fields_of(answer.text) | {"text.id": "two", "source": "form"}
    )
    assert answer.headers["location"] == f"/cost-groups/two?month={MONTH}"
    assert saved(own_console, "two")["id"] == "two"


def test_a_group_is_removed(own_console):
    page = own_console.page(f"/cost-groups/{GROUP}/remove?month={MONTH}", "editor")
    assert "35.00 USD" in words_of(page)
    seen = re.search(r'name="seen" value="([^"]*)"', page)[1]
    assert own_console.post(f"/cost-groups/{GROUP}/remove", "editor", {"seen": "old"}).status_code == 412
    assert own_console.post(f"/cost-groups/{GROUP}/remove", "editor", {"seen": seen}).status_code == 303
    assert "No longer there" in own_console.text("/cost-groups")
    assert "no longer there" in own_console.text(f"/cost-groups/{GROUP}")


def test_viewers_of_some_groups_see_theirs_and_no_editor(own_console):
    folder = own_console.workspace.settings.config / "cost_groups"
    (folder / "secret.json").write_text(json.dumps(saved(own_console) | {"id": "secret"}))
    own_console.workspace.registry.users.limit("the-viewer", (GROUP,), Actor("tester"))
    text = own_console.text(f"/cost-groups?month={MONTH}")
    assert "shop" in text and "secret" not in text
    assert "Who names it" not in own_console.text(f"/cost-groups/{GROUP}")
    for path in (
        "/cost-groups/secret",
        "/cost-groups/secret/edit",
        f"/cost-groups/{GROUP}/edit",
        "/cost-groups/new",
        "/rules",
    ):
        assert own_console.get(path).status_code in (403, 404), path


def test_a_read_only_configuration_shows_what_to_commit(own_console, monkeypatch):
    form = fields_of(own_console.page(f"/cost-groups/{GROUP}/edit", "editor"))
    # The tests may run as root, for whom nothing is read-only.
    monkeypatch.setattr("octo_pipeline.api.documents.os.access", lambda *_: False)
    assert "cost_groups/shop.json" in own_console.text(f"/cost-groups/{GROUP}/edit", "editor")
    assert own_console.post("/cost-groups/save", "editor", form).status_code == 409
