"""Users, roles and tokens: who may change something and who is refused."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Caller, Decision
from octo_pipeline.registry.store import Registry

Decide = Callable[..., Decision]
Sql = Callable[[str], Sequence[Any]]


def test_the_first_administrator_is_made_on_purpose(registry: Registry, decide: Decide) -> None:
    """Regression: whoever ran the first changing command became the administrator, even if the command failed."""
    assert registry.users.all() == []
    for caller in (Caller("ana"), Caller("ana", "octo_1_2"), Caller(None)):
        with pytest.raises(OctoError, match="The registry has no users yet, so nobody may change anything") as refused:
            registry.users.require(caller, "editor")
        assert "Run `octo registry init --admin NAME` to make the first administrator." in sentence(refused.value)
    assert not registry.exists()

    registry.record_decisions([decide()])
    assert registry.users.init("ana", Caller("root"), with_token=False) is None
    assert registry.users.require(Caller("ana"), "admin") == "ana"
    assert [(user.name, user.role) for user in registry.users.all()] == [("ana", "admin")]
    event = registry.audit()[0]
    assert (event.actor, event.action, event.subject, event.details) == ("root", "add_user", "ana", {"role": "admin"})
    for name, with_token in (("eve", False), ("eve", True), ("ana", False)):
        with pytest.raises(OctoError, match="The registry has users already; nothing was changed"):
            registry.users.init(name, Caller(name), with_token=with_token)
    assert len(registry.audit()) == 2


def test_where_a_token_is_required_the_first_administrator_gets_one(registry: Registry) -> None:
    text = registry.users.init("ana", Caller(None), with_token=True)
    assert text is not None
    assert registry.users.require(Caller(None, text), "admin") == "ana"
    with pytest.raises(OctoError, match="This registry takes tokens only") as refused:
        registry.users.require(Caller(None), "editor")
    assert "Set OCTO_TOKEN to a token that an administrator made for you." in sentence(refused.value)
    with pytest.raises(OctoError, match="The registry has users already"):
        registry.users.init("ana", Caller(None), with_token=True)


def test_an_administrator_of_an_earlier_edition_gets_a_first_token(registry: Registry) -> None:
    registry.users.add("ana", "admin", "ana")
    registry.users.add("vic", "viewer", "ana")
    registry.users.make_token("vic", "report", "ana")
    for name in ("vic", "eve"):
        with pytest.raises(OctoError, match="The registry has users already"):
            registry.users.init(name, Caller(name), with_token=True)
    text = registry.users.init("ana", Caller("ana"), with_token=True)
    assert registry.users.require(Caller(None, text), "admin") == "ana"
    with pytest.raises(OctoError, match="The registry has users already"):
        registry.users.init("ana", Caller("ana"), with_token=True)


def test_each_role_may_do_what_the_lesser_ones_may(registry: Registry) -> None:
    for name, role in (("vic", "viewer"), ("ed", "editor"), ("ana", "admin")):
        registry.users.add(name, role, "ana")
    allowed = {
        (name, role)
        for name in ("vic", "ed", "ana")
        for role in ("viewer", "editor", "admin")
        if _may(registry, name, role)
    }
    assert allowed == {
        ("vic", "viewer"), ("ed", "viewer"), ("ed", "editor"), ("ana", "viewer"), ("ana", "editor"), ("ana", "admin"),
    }  # fmt: skip
    with pytest.raises(OctoError, match="'vic' is a viewer, and only editors and administrators may do this"):
        registry.users.require(Caller("vic"), "editor")
    with pytest.raises(OctoError, match="'ed' is an editor, and only administrators may do this"):
        registry.users.require(Caller("ed"), "admin")


def _may(registry: Registry, name: str, role: Any) -> bool:
    try:
        return registry.users.require(Caller(name), role) == name
    except OctoError:
        return False


def test_a_viewer_is_refused_and_a_changed_role_counts_at_once(registry: Registry) -> None:
    registry.users.add("ana", "admin", "ana")
    registry.users.add("vic", "viewer", "ana")
    with pytest.raises(OctoError, match="'vic' is a viewer, and only administrators may do this; nothing"):
        registry.users.require(Caller("vic"), "admin")

    registry.users.set_role("vic", "admin", "ana")
    assert registry.users.require(Caller("vic"), "admin") == "vic"
    registry.users.set_role("ana", "viewer", "vic")
    with pytest.raises(OctoError, match="'ana' is a viewer"):
        registry.users.require(Caller("ana"), "admin")
    assert registry.audit()[0].details == {"role": "viewer", "before": "admin"}


def test_the_last_administrator_stays(registry: Registry) -> None:
    registry.users.add("ana", "admin", "ana")
    registry.users.add("vic", "viewer", "ana")

    for change in (lambda: registry.users.remove("ana", "ana"), lambda: registry.users.set_role("ana", "viewer", "a")):
        with pytest.raises(OctoError, match="'ana' is the last administrator; nothing was changed"):
            change()
    registry.users.remove("vic", "ana")
    assert [user.name for user in registry.users.all()] == ["ana"]


def test_a_token_acts_as_its_user_until_it_is_revoked(registry: Registry) -> None:
    registry.users.add("ana", "admin", "ana")
    registry.users.add("vic", "viewer", "ana")
    text = registry.users.make_token("ana", "nightly", "ana")
    viewers = registry.users.make_token("vic", "report", "ana")

    assert registry.users.require(Caller("nobody", text), "admin") == "ana"
    with pytest.raises(OctoError, match="'vic' is a viewer"):
        registry.users.require(Caller("ana", viewers), "admin")
    token = registry.users.tokens()[0]
    assert (token.id, token.user_name, token.label) == (text.split("_")[1], "ana", "nightly")
    registry.users.revoke(token.id, "ana")
    with pytest.raises(OctoError, match="or was revoked"):
        registry.users.require(Caller("ana", text), "admin")
    with pytest.raises(OctoError, match=f"The token {token.id} was already revoked at 20"):
        registry.users.revoke(token.id, "ana")
    assert [one.revoked_at is None for one in registry.users.tokens()] == [False, True]


def test_a_token_of_a_removed_user_opens_nothing_ever_again(registry: Registry) -> None:
    registry.users.add("ana", "admin", "ana")
    registry.users.add("bob", "admin", "ana")
    text = registry.users.make_token("bob", "laptop", "ana")
    registry.users.remove("bob", "ana")
    registry.users.add("bob", "admin", "ana")

    with pytest.raises(OctoError, match="or was revoked"):
        registry.users.require(Caller("bob", text), "admin")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text + "A",
        lambda text: "_".join(["octo", text.split("_")[1], ""]),
        lambda text: "",
        lambda text: "octo",
        lambda text: "octo_' OR 1=1 --_x",
        lambda text: "octo_\0_\ud800",
    ],
)
def test_a_wrong_token_is_refused(registry: Registry, wrong: Callable[[str], str]) -> None:
    registry.users.add("ana", "admin", "ana")
    text = registry.users.make_token("ana", "nightly", "ana")

    with pytest.raises(OctoError, match="The token does not belong to") as refused:
        registry.users.require(Caller("ana", wrong(text)), "admin")
    assert text.split("_", 2)[2] not in str(refused.value)


def test_only_a_hash_of_a_token_is_kept(registry: Registry, sql: Sql) -> None:
    registry.users.add("ana", "admin", "ana")
    texts = {registry.users.make_token("ana", "nightly", "ana") for _ in range(3)}

    assert len(texts) == 3
    assert all(len(text) == len("octo_12345678_") + 43 for text in texts)
    kept = str(sql("SELECT * FROM tokens")) + str(sql("SELECT * FROM audit_events"))
    assert not any(text.split("_", 2)[2] in kept for text in texts)


def test_bad_users_are_refused(registry: Registry) -> None:
    registry.users.add("ana", "admin", "ana")
    for wrong, message in (
        (lambda: registry.users.add("ana", "viewer", "ana"), "'ana' is already a user, with the role admin"),
        (lambda: registry.users.add("", "viewer", "ana"), "the name is empty"),
        (lambda: registry.users.add("x\0", "viewer", "ana"), "is not text"),
        (
            lambda: registry.users.add("bob", "root", "ana"),
            "The role 'root' is unknown; it is one of viewer, editor, admin",
        ),
        (lambda: registry.users.set_role("ana", "", "ana"), "The role '' is unknown"),
        (lambda: registry.users.set_role("bob", "admin", "ana"), "There is no user 'bob'"),
        (lambda: registry.users.remove("bob", "ana"), "There is no user 'bob'"),
        (lambda: registry.users.make_token("bob", "x", "ana"), "There is no user 'bob'"),
        (lambda: registry.users.make_token("ana", " ", "ana"), "the label is empty"),
        (lambda: registry.users.revoke("12345678", "ana"), "There is no token '12345678'"),
    ):
        with pytest.raises(OctoError, match=message):
            wrong()
    assert len(registry.audit()) == 1


def test_the_upgrade_of_a_registry_with_users_is_the_administrators(registry: Registry) -> None:
    registry.users.add("ana", "admin", "ana")
    registry.users.add("vic", "viewer", "ana")
    text = registry.users.make_token("ana", "nightly", "ana")

    with pytest.raises(OctoError, match="'vic' is a viewer"):
        registry.upgrade(Caller("vic"))
    assert registry.upgrade(Caller("ana")) is False
    assert registry.upgrade(Caller("vic", text)) is False
