"""Registered accounts: what is known of one, which steps are done, and how that is changed.

Here belongs what all vendors share. How an account's id must look and how a step is verified is the room
`registration`'s matter; what is fetched from an account, `sources.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.connections import Connections
from octo_pipeline.registry.records import NAME_LENGTH, Decision, check_decisions, shown, text_problem

VENDORS = ("aws", "azure", "gcp")
Kind = Literal["payer", "linked", "csp", "billing_account"]
Step = Literal["API", "PAYER", "CUR"]

# The steps of the vendors' registration. A kind that is not known yet has the one that makes it known.
_STEPS: dict[Kind | None, tuple[Step, ...]] = {
    None: ("API",),
    "payer": ("API", "CUR"),
    "linked": ("API", "PAYER"),
    "csp": ("API",),
    "billing_account": ("API",),
}


@dataclass(frozen=True)
class NewAccount:
    """An account that is to be registered.

    Attributes:
        vendor: ``aws``, ``azure`` or ``gcp``.
        account_id: the vendor's id: AWS account, partner tenant, billing account.
        name: what people call it; no two accounts of a vendor share one.
        kind: None if only the vendor can tell.
        payer_id: the payer it is billed under; None makes it no payer's member.
        external_id: what the role's trust policy demands (AWS).
        settings: the vendor's settings, as JSON values; never a secret.
    """

    vendor: str
    account_id: str
    name: str | None = None
    kind: Kind | None = None
    payer_id: str | None = None
    external_id: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Account(NewAccount):
    """A registered account.

    Attributes:
        registered_at: when, in UTC.
        api_confirmed_at: when API access was last verified; None if it is not.
        payer_confirmed_at: the same of the payer of a linked account.
        cur_confirmed_at: the same of the report and bucket of a payer.
        problem: why the last verification failed; None if it did not.
        version: counts the changes.
    """

    registered_at: datetime = field(kw_only=True)
    api_confirmed_at: datetime | None = None
    payer_confirmed_at: datetime | None = None
    cur_confirmed_at: datetime | None = None
    problem: str | None = None
    version: int = 1

    @property
    def steps(self) -> dict[Step, datetime | None]:
        """The steps that an account of its kind has, and when each was confirmed."""
        at = {"API": self.api_confirmed_at, "PAYER": self.payer_confirmed_at, "CUR": self.cur_confirmed_at}
        return {step: at[step] for step in _STEPS[self.kind]}

    @property
    def is_completed(self) -> bool:
        """Whether all steps are confirmed; an account whose kind is not known never is."""
        return self.kind is not None and all(self.steps.values())

    @property
    def title(self) -> str:
        """How sentences call it."""
        return f"the {self.vendor} account {self.account_id}" + (f" ({self.name})" if self.name else "")


class Accounts:
    """The registered accounts; every change appends its audit event in the same transaction."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def add(self, accounts: Sequence[NewAccount], actor: str) -> None:
        """Register accounts, all or none.

        Raises:
            OctoError: a value breaks a rule, an account is registered, or a name is taken.
        """
        for account in accounts:
            check_account(account, actor)
        with self._connections.writing() as connection:
            from octo_pipeline.registry import account_queries

            for account in accounts:
                account_queries.add(connection, account, actor)

    def all(self) -> list[Account]:
        """The accounts, by vendor and id."""
        with self._connections.reading() as connection:
            if connection is None:
                return []
            from octo_pipeline.registry import account_queries

            return account_queries.all_accounts(connection)

    def find(self, account: str, vendor: str | None = None) -> Account:
        """The account of this id or, if there is none, of this name.

        Raises:
            OctoError: there is none, or several vendors have one.
        """
        candidates = [one for one in self.all() if vendor in (None, one.vendor)]
        found = [one for one in candidates if one.account_id == account] or [
            one for one in candidates if one.name == account
        ]
        if len(found) > 1:
            vendors = ", ".join(one.vendor for one in found)
            raise OctoError(f"{shown(account)} is registered of {vendors}; say which with --vendor.")
        if not found:
            kind = f"{vendor} account" if vendor else "account"
            raise OctoError(f"No {kind} {shown(account)} is registered. `octo accounts list` shows those that are.")
        return found[0]

    def change(self, account: Account, actor: str, action: str, **values: Any) -> Account:
        """Change an account as it was read.

        Args:
            account: the account as it was read.
            actor: who changes it.
            action: what the audit trail calls it.
            values: fields of `Account` and their new values; none at all changes nothing.

        Returns:
            The account as it is now.

        Raises:
            OctoError: it was changed or removed since it was read, a value breaks a rule, or a name is taken.
        """
        if not values:
            return account
        changed = Account(**(vars(account) | values | {"version": account.version + 1}))
        check_account(changed, actor)
        with self._connections.writing() as connection:
            from octo_pipeline.registry import account_queries

            account_queries.change(connection, account, values, actor, action)
        return changed

    def remove(self, account: Account, actor: str, reapplied: Sequence[Decision], *, keeps_data: bool) -> None:
        """Remove an account and its secrets, and take back the restores of its items.

        Decisions are history and stay: what is restored is re-applied by decisions of its own, so that the
        items of an account that is registered again begin anew.

        Args:
            account: the account as it was read.
            actor: who removes it.
            reapplied: decisions that re-apply the account's restored items.
            keeps_data: whether its deliveries and costs stay in the lake; for the audit trail.

        Raises:
            OctoError: it was changed or removed since it was read, or an item is not restored any more;
                nothing is removed then.
        """
        check_decisions(reapplied)
        with self._connections.writing() as connection:
            from octo_pipeline.registry import account_queries

            account_queries.remove(connection, account, actor, reapplied, keeps_data=keeps_data)


def check_account(account: NewAccount, actor: str) -> None:
    """Check what can be checked of an account by itself.

    Raises:
        OctoError: a value breaks a rule; the sentence says which and why.
    """
    problem = None
    if account.vendor not in VENDORS:
        problem = f"the vendor {shown(account.vendor)} is unknown; it is one of {', '.join(VENDORS)}"
    texts = {
        "account id": account.account_id,
        "payer id": account.payer_id,
        "name": account.name,
        "ExternalId": account.external_id,
        "actor": actor,
    }
    for what, text in texts.items():
        if problem is None and text is not None:
            problem = text_problem(what, text, NAME_LENGTH)
    if problem is not None:
        raise OctoError(f"The account {shown(account.account_id)} cannot be registered: {problem}.")
