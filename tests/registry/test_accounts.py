"""Registered accounts, in their first shape: who is a member of which payer."""

from typing import Any

import pytest

from octo_pipeline.errors import OctoError
from octo_pipeline.registry.registry import Registry


def test_members_are_sorted_distinct_and_of_the_payers_asked_for(registry: Registry) -> None:
    registry.register_account("aws", "300000000000", "999999999999", "later", "admin")
    registry.register_account("aws", "200000000000", "999999999999", None, "admin")
    registry.register_account("azure", "200000000000", "999999999999", None, "admin")
    registry.register_account("gcp", "Project", "Billing", None, "admin")
    registry.register_account("gcp", "project", "Billing", None, "admin")
    registry.register_account("aws", "400000000000", None, "nobody's", "admin")

    assert registry.payer_members(["999999999999"]) == (
        ("999999999999", "200000000000"),
        ("999999999999", "300000000000"),
    )
    assert registry.payer_members(["Billing", "999999999999", "Billing"])[2:] == (
        ("Billing", "Project"),
        ("Billing", "project"),
    )
    assert registry.payer_members([]) == ()
    assert registry.payer_members(["400000000000", "' OR 1=1 --", "\0", "\ud800"]) == ()


def test_many_payers_at_once(registry: Registry) -> None:
    registry.register_account("aws", "200000000000", "payer 69999", None, "admin")

    assert registry.payer_members([f"payer {i}" for i in range(70_000)]) == (("payer 69999", "200000000000"),)


def test_registering_is_in_the_audit_trail(registry: Registry) -> None:
    registry.register_account("aws", "200000000000", "999999999999", 'the "platform" account', "admin")

    (event,) = registry.audit()
    assert (event.actor, event.action, event.subject) == ("admin", "register_account", "200000000000")
    assert event.details == {
        "vendor": "aws",
        "payer_id": "999999999999",
        "name": 'the "platform" account',
    }


def test_an_account_is_registered_once(registry: Registry) -> None:
    registry.register_account("aws", "200000000000", "999999999999", "platform", "admin")

    with pytest.raises(OctoError, match=r"The aws account '200000000000' is registered as 'platform' since 20"):
        registry.register_account("aws", "200000000000", "888888888888", "other", "admin")

    assert registry.payer_members(["888888888888"]) == ()
    assert len(registry.audit()) == 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"vendor": "oracle"}, "the vendor 'oracle' is unknown; it is one of aws, azure, gcp"),
        ({"account_id": ""}, "the account id is empty"),
        ({"account_id": "x" * 65_536}, "the account id has 65,536 characters; 256 is the most"),
        ({"payer_id": " "}, "the payer id is empty"),
        ({"payer_id": "1\0"}, "the payer id holds a character that is no text"),
        ({"name": "\udc00"}, "the name holds a character that is no text"),
        ({"actor": ""}, "the actor is empty"),
    ],
)
def test_a_bad_account_is_refused(sqlite_url: str, changed: dict[str, Any], sentence: str) -> None:
    account: dict[str, Any] = {
        "vendor": "aws",
        "account_id": "200000000000",
        "payer_id": "999999999999",
        "name": "platform",
        "actor": "admin",
    }
    registry = Registry(sqlite_url)

    with pytest.raises(OctoError) as refused:
        registry.register_account(**(account | changed))

    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 400
    assert not registry.exists()
