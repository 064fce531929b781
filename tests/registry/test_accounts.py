"""Registered accounts: what is kept of one, how it is changed and removed, and who is a member of which payer."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry import database
from octo_pipeline.registry.encryption import KeyFile
from octo_pipeline.registry.records import Account, Caller, Decision, NewAccount
from octo_pipeline.registry.store import Registry
from octo_pipeline.registry.stored_secrets import Secrets

Decide = Callable[..., Decision]
Sql = Callable[[str], Sequence[Any]]
NOW = datetime(2024, 5, 1, 10, 30, 1, 123456, tzinfo=UTC)
PLATFORM = NewAccount("aws", "200000000000", "platform", payer_id="999999999999")


def member(account: str, payer: str | None, name: str | None = None, vendor: str = "aws") -> NewAccount:
    return NewAccount(vendor, account, name, payer_id=payer)


def test_members_are_sorted_distinct_and_of_the_payers_asked_for(registry: Registry) -> None:
    registry.accounts.add(
        [
            member("300000000000", "999999999999", "later"),
            member("200000000000", "999999999999"),
            member("200000000000", "999999999999", vendor="azure"),
            member("Project", "Billing", vendor="gcp"),
            member("project", "Billing", vendor="gcp"),
            member("400000000000", None, "nobody's"),
        ],
        "admin",
    )

    assert registry.accounts.payer_members(["999999999999"]) == (
        ("999999999999", "200000000000"),
        ("999999999999", "300000000000"),
    )
    assert registry.accounts.payer_members(["Billing", "999999999999", "Billing"])[2:] == (
        ("Billing", "Project"),
        ("Billing", "project"),
    )
    assert registry.accounts.payer_members([]) == ()
    assert registry.accounts.payer_members(["400000000000", "' OR 1=1 --", "\0", "\ud800"]) == ()


def test_many_payers_at_once(registry: Registry) -> None:
    registry.accounts.add([member("200000000000", "payer 69999")], "admin")

    assert registry.accounts.payer_members([f"payer {i}" for i in range(70_000)]) == (("payer 69999", "200000000000"),)


def test_registering_is_in_the_audit_trail(registry: Registry) -> None:
    registry.accounts.add([member("200000000000", "999999999999", 'the "platform" account')], "admin")

    (event,) = registry.audit()
    assert (event.actor, event.action, event.subject) == ("admin", "register_account", "200000000000")
    assert event.details == {"vendor": "aws", "payer_id": "999999999999", "name": 'the "platform" account'}


def test_what_is_registered_is_read_back_and_found_by_id_or_name(registry: Registry) -> None:
    new = NewAccount("aws", "1" * 12, "Prod", "payer", None, "an id", {"cur": {"bucket": "b", "depth": [1, None]}})
    registry.accounts.add([new, member("1" * 12, None, vendor="azure"), member("Prod", None, vendor="gcp")], "admin")

    first, other, third = registry.accounts.all()
    assert first == Account(**vars(new), registered_at=first.registered_at)
    assert first.registered_at.tzinfo is UTC
    assert registry.accounts.find("1" * 12, "azure") == other
    # An id counts before a name.
    assert registry.accounts.find("Prod") == third
    assert registry.accounts.find("Prod", "aws") == first
    with pytest.raises(OctoError, match="'111111111111' is registered for aws, azure; say which vendor"):
        registry.accounts.find("1" * 12)
    with pytest.raises(OctoError, match="No gcp account '2' is registered"):
        registry.accounts.find("2", "gcp")


def test_an_account_is_registered_once_and_none_of_its_call_is_left(registry: Registry) -> None:
    registry.accounts.add([PLATFORM], "admin")

    with pytest.raises(OctoError, match=r"The aws account '200000000000' has been registered as 'platform' since 20"):
        registry.accounts.add([member("3", "8"), member("200000000000", "888888888888", "other")], "admin")

    assert [account.account_id for account in registry.accounts.all()] == ["200000000000"]
    assert len(registry.audit()) == 1


def test_a_name_is_taken_once_for_each_vendor(registry: Registry) -> None:
    registry.accounts.add([PLATFORM, member("2", None), member("3", None), member("4", None, "platform", "gcp")], "a")

    with pytest.raises(OctoError, match="The name 'platform' is taken by the aws account '200000000000'; nothing was"):
        registry.accounts.add([member("5", None, "platform")], "a")
    with pytest.raises(OctoError, match="The name 'platform' is taken"):
        registry.accounts.change(registry.accounts.find("2"), "a", "edit", name="platform")
    platform = registry.accounts.find("platform", "aws")
    assert registry.accounts.change(platform, "a", "edit_account", name="platform").name == "platform"


def test_steps_and_completion(registry: Registry) -> None:
    registry.accounts.add([member("1", None), member("2", "1")], "a")
    account = registry.accounts.find("1")
    assert (account.steps, account.is_completed) == ({"API": None}, False)

    changed = registry.accounts.change(account, "admin", "confirm_account", api_confirmed_at=NOW, problem="no kind")
    assert changed == registry.accounts.find("1")
    assert (changed.steps, changed.is_completed) == ({"API": NOW}, False)
    changed = registry.accounts.change(changed, "admin", "confirm_account", kind="payer", problem=None)
    assert (changed.steps, changed.is_completed) == ({"API": NOW, "CUR": None}, False)
    changed = registry.accounts.change(changed, "admin", "confirm_account", cur_confirmed_at=NOW)
    assert changed.is_completed
    linked = registry.accounts.change(registry.accounts.find("2"), "a", "x", kind="linked", payer_confirmed_at=NOW)
    assert linked.steps == {"API": None, "PAYER": NOW}

    event = registry.audit()[3]
    assert (event.actor, event.action, event.subject) == ("admin", "confirm_account", "1")
    assert event.details == {"vendor": "aws", "api_confirmed_at": NOW.isoformat(), "problem": "no kind"}


def test_nobody_writes_over_what_they_have_not_seen(registry: Registry, decide: Decide) -> None:
    registry.accounts.add([PLATFORM], "a")
    seen = registry.accounts.find("platform")
    registry.accounts.change(seen, "b", "edit_account", name="theirs")

    with pytest.raises(OctoError, match=r"Nothing was changed: the aws account .* was changed by somebody else"):
        registry.accounts.change(seen, "a", "edit_account", name="mine")
    with pytest.raises(OctoError, match="changed by somebody else"):
        registry.accounts.remove(seen, "a", [], keeps_data=False)
    now = registry.accounts.find("theirs")
    registry.accounts.remove(now, "b", [], keeps_data=False)
    with pytest.raises(OctoError, match="was removed in the meantime"):
        registry.accounts.change(now, "a", "edit_account", name="mine")
    assert len(registry.audit()) == 3


def test_removing_takes_secrets_away_and_restores_back_in_one_go(
    registry: Registry, decide: Decide, sql: Sql, tmp_path: Path
) -> None:
    registry.accounts.add([PLATFORM, member("2", None)], "a")
    secrets = Secrets(registry, KeyFile(tmp_path / "key"))
    for account in ("200000000000", "2"):
        secrets.put("aws", account, {"key": SecretStr("s")}, "a")
    registry.record_decisions([decide("a" * 32), decide("b" * 32)])
    platform = registry.accounts.find("platform")
    wrong = [decide("a" * 32, "reapply", actor="admin"), decide("c" * 32, "reapply", actor="admin")]

    with pytest.raises(OctoError, match="it is not restored"):
        registry.accounts.remove(platform, "admin", wrong, keeps_data=False)
    assert len(registry.accounts.all()) == 2
    assert sql("SELECT count(*) FROM secrets") == [(2,)]

    registry.accounts.remove(platform, "admin", wrong[:1], keeps_data=False)
    assert [one.account_id for one in registry.accounts.all()] == ["2"]
    assert sql("SELECT account_id FROM secrets") == [("2",)]
    assert [item.item_id for item in registry.restored_items()] == ["b" * 32]
    assert [decision.action for decision in registry.decisions(item_id="a" * 32)] == ["restore", "reapply"]
    removed, reapplied = registry.audit(2)
    assert (removed.action, reapplied.action) == ("remove_account", "reapply")
    assert removed.details == {
        "vendor": "aws", "name": "platform", "keeps_data": False, "secrets": 1, "reapplied_items": 1,
    }  # fmt: skip


def test_accounts_of_the_first_version_are_kept_and_told_apart(url: str, registry: Registry, sql: Sql) -> None:
    registry.path and registry.path.parent.mkdir(exist_ok=True)
    config = database._alembic_config()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    columns = "(id, vendor, account_id, payer_id, name, registered_at)"
    for number, name in enumerate(("'Prod'", "'Prod'", "NULL", "NULL"), start=1):
        sql(
            f"INSERT INTO registered_accounts {columns} VALUES ({number}, 'aws', '{number}', '9', {name}, '2024-01-01')"
        )

    assert registry.upgrade(Caller("root")) is True
    assert [(a.account_id, a.name, a.kind, a.settings) for a in registry.accounts.all()] == [
        ("1", "Prod", None, {}),
        ("2", "Prod (2)", None, {}),
        ("3", None, None, {}),
        ("4", None, None, {}),
    ]
    assert registry.accounts.payer_members(["9"]) == (("9", "1"), ("9", "2"), ("9", "3"), ("9", "4"))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"vendor": "oracle"}, "the vendor 'oracle' is unknown; it is one of aws, azure, gcp"),
        ({"account_id": ""}, "the account id is empty"),
        ({"account_id": "x" * 65_536}, "the account id has 65,536 characters; at most 256 are allowed"),
        ({"payer_id": " "}, "the payer id is empty"),
        ({"payer_id": "1\0"}, "the payer id contains a character that is not text"),
        ({"name": "\udc00"}, "the name contains a character that is not text"),
        ({"external_id": ""}, "the ExternalId is empty"),
    ],
)
def test_a_bad_account_is_refused(sqlite_url: str, changed: dict[str, Any], sentence: str) -> None:
    registry = Registry(sqlite_url)

    with pytest.raises(OctoError) as refused:
        registry.accounts.add([NewAccount(**(vars(PLATFORM) | changed))], "admin")

    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 400
    assert not registry.exists()
