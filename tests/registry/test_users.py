"""Users, roles and tokens: who may change something and who is refused."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from octo_pipeline.cli.output import sentence
from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Admin, Caller, Decision
from octo_pipeline.registry.store import Registry

Decide = Callable[..., Decision]
Sql = Callable[[str], Sequence[Any]]


def test_the_first_to_change_something_becomes_the_administrator(registry: Registry) -> None:
    assert registry.users.all() == []
    assert registry.users.require_admin(Caller("ana")) == Admin("ana", is_new=True)
    assert registry.users.require_admin(Caller("ana")) == Admin("ana", is_new=False)
    with pytest.raises(OctoError, match="'bob' is not a user of this registry") as refused:
        registry.users.require_admin(Caller("bob"))
    assert "Run `octo users add bob --role admin` to add them" in sentence(refused.value)

    assert [(user.name, user.role) for user in registry.users.all()] == [("ana", "admin")]
    (event,) = registry.audit()
    assert (event.actor, event.action, event.subject, event.details) == ("ana", "add_user", "ana", {"role": "admin"})


def test_a_token_is_no_first_user(registry: Registry, decide: Decide) -> None:
    with pytest.raises(OctoError, match="There is a token, but this registry has no users yet"):
        registry.users.require_admin(Caller("ana", "octo_1_2"))
    assert not registry.exists()

    registry.record_decisions([decide()])
    with pytest.raises(OctoError, match="The token does not belong to this registry"):
        registry.users.require_admin(Caller("ana", "octo_1_2"))
    assert registry.users.all() == []


def test_a_viewer_is_refused_and_a_changed_role_counts_at_once(registry: Registry) -> None:
    registry.users.add("ana", "admin", "ana")
    registry.users.add("vic", "viewer", "ana")
    with pytest.raises(OctoError, match="'vic' is a viewer, and only administrators may change anything; nothing"):
        registry.users.require_admin(Caller("vic"))

    registry.users.set_role("vic", "admin", "ana")
    assert registry.users.require_admin(Caller("vic")).name == "vic"
    registry.users.set_role("ana", "viewer", "vic")
    with pytest.raises(OctoError, match="'ana' is a viewer"):
        registry.users.require_admin(Caller("ana"))
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

    assert registry.users.require_admin(Caller("nobody", text)).name == "ana"
    with pytest.raises(OctoError, match="'vic' is a viewer"):
        registry.users.require_admin(Caller("ana", viewers))
    token = registry.users.tokens()[0]
    assert (token.id, token.user_name, token.label) == (text.split("_")[1], "ana", "nightly")
    registry.users.revoke(token.id, "ana")
    with pytest.raises(OctoError, match="or was revoked"):
        registry.users.require_admin(Caller("ana", text))
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
        registry.users.require_admin(Caller("bob", text))


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
        registry.users.require_admin(Caller("ana", wrong(text)))
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
        (lambda: registry.users.add("bob", "root", "ana"), "The role 'root' is unknown; it is one of admin, viewer"),
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
