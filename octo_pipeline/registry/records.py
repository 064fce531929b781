"""The values of the registry, and the rules that each value must meet by itself.

Nothing here knows a database. Rules that depend on stored values (restored twice, a name that is taken) belong in
the modules that write them; the form of a vendor's account ids belongs in the vendor's registration.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, NewType

from octo_pipeline.model.columns import ITEM_GRAINS
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import is_month
from octo_pipeline.model.vendors import CLOUDS
from octo_pipeline.model.wording import quoted

REASON_LENGTH = 2_000
# Long enough for an ARN or an e-mail address.
NAME_LENGTH = 256
ACTIONS = ("restore", "reapply")
# Each may do what those before it may: a viewer looks, an editor changes rules and decisions, an administrator the rest.
ROLES = ("viewer", "editor", "admin")

Kind = Literal["payer", "linked", "csp", "billing_account"]
Step = Literal["API", "PAYER", "CUR"]
Role = Literal["viewer", "editor", "admin"]
DocumentKind = Literal["allocator", "cost_group"]
# The name of an editor or administrator, or of the program when it acts on its own. Every function that changes something takes
# one, so that plain text cannot be passed by mistake.
Actor = NewType("Actor", str)

# The steps of registration by kind. An account of unknown kind has the step that determines the kind.
_STEPS: dict[Kind | None, tuple[Step, ...]] = {
    None: ("API",),
    "payer": ("API", "CUR"),
    "linked": ("API", "PAYER"),
    "csp": ("API",),
    "billing_account": ("API",),
}

# Lower case only: an id in capitals is a different text and would match no item.
_ITEM_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
# PostgreSQL cannot store NUL, and nothing stores half of a surrogate pair.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's decision on one item.

    Attributes:
        action: ``restore`` undoes the item's distribution, ``reapply`` allows it again.
        item_id: 32 hex digits in lower case.
        origin_month: the month in which the item was billed.
        category: ``fee``, ``account`` or ``savings``.
        actor: who decided.
        reason: why, in 1 to 2,000 characters.
        decided_at: when, with a time zone.
    """

    action: Literal["restore", "reapply"]
    item_id: str
    origin_month: str
    category: str
    actor: Actor
    reason: str
    decided_at: datetime


class RestoredItem(NamedTuple):
    """An item whose latest decision is to restore it."""

    item_id: str
    origin_month: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change of the registry.

    Attributes:
        id: counts the changes in the order of writing.
        at: when it was recorded, in UTC.
        actor: who did it.
        action: what was done, such as ``restore``.
        subject: what it was done to: an item, an account, or a number of items.
        details: the rest, as JSON values.
    """

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


@dataclass(frozen=True)
class NewAccount:
    """An account that is to be registered.

    Attributes:
        vendor: ``aws``, ``azure`` or ``gcp``.
        account_id: the vendor's id: AWS account, partner tenant, billing account.
        name: what people call it; no two accounts of a vendor share one.
        kind: None if only the vendor can tell.
        payer_id: the payer it is billed under; with None it belongs to no payer.
        external_id: the external id that the role's trust policy requires (AWS).
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
        api_confirmed_at: when API access was last verified; None if it is not verified.
        payer_confirmed_at: the same for the payer of a linked account.
        cur_confirmed_at: the same for the report and bucket of a payer.
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
        """The steps for an account of this kind, and when each one was confirmed."""
        at = {"API": self.api_confirmed_at, "PAYER": self.payer_confirmed_at, "CUR": self.cur_confirmed_at}
        return {step: at[step] for step in _STEPS[self.kind]}

    @property
    def is_completed(self) -> bool:
        """Whether all steps are confirmed; an account of unknown kind never is."""
        return self.kind is not None and all(self.steps.values())

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"the {self.vendor} account {self.account_id}" + (f" ({self.name})" if self.name else "")


@dataclass(frozen=True)
class User:
    """A user.

    Attributes:
        added_at: when, in UTC.
        cost_groups: the ids of the cost groups that a viewer is limited to; None for everything.
    """

    name: str
    role: Role
    added_at: datetime
    cost_groups: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Token:
    """A token in a list. Its text was shown once, to the person who made it.

    Attributes:
        id: the part of the text that identifies it.
        user_name: the user as whom its holder acts.
        label: what it is for.
        made_at: when it was made, in UTC.
        revoked_at: when it was revoked, in UTC; None if it is valid.
    """

    id: str
    user_name: str
    label: str
    made_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Caller:
    """Somebody who asks for a change, before they are identified.

    Attributes:
        os_user: the user of the operating system, who counts only without a token; None where a token is required.
        token: the text of a token; its holder acts as the token's user.
    """

    os_user: str | None
    token: str | None = field(default=None, repr=False)


class DocumentVersion(NamedTuple):
    """A document as it is in the configuration: its kind and id, the digest of it, and the canonical JSON."""

    kind: DocumentKind
    document_id: str
    version: str
    document: str


class SavedVersion(NamedTuple):
    """A version of a document.

    Attributes:
        version: the digest of the document.
        document: its canonical JSON.
        saved_by: who saved it; None if it came with the configuration.
        at: when it was saved or first seen, in UTC.
    """

    version: str
    document: str
    saved_by: str | None
    at: datetime


class StoredSecret(NamedTuple):
    """A secret at rest: its account, its name, and its text encrypted with a key."""

    vendor: str
    account_id: str
    name: str
    key_id: str
    ciphertext: str


def check_decisions(decisions: Sequence[Decision]) -> None:
    """Check decisions as far as possible without the history of their items.

    Raises:
        OctoError: a decision breaks a rule, or they are from several people; the message says which and why.
    """
    for number, decision in enumerate(decisions, start=1):
        problem = _decision_problem(decision)
        if problem is None and decision.actor != decisions[0].actor:
            problem = "it is by another person than the first one; record each person's decisions separately"
        if problem is not None:
            subject = f"Decision {number} of {len(decisions)} (item {quoted(decision.item_id)})"
            raise OctoError(f"{subject} is refused: {problem}. Nothing was recorded.", code="decision-wrong")


def check_item_id(item_id: str) -> None:
    """Check the form of an item's id.

    Raises:
        OctoError: it is not 32 hex digits in lower case.
    """
    if _ITEM_ID.fullmatch(item_id) is None:
        raise OctoError(
            f"{quoted(item_id)} is not an item id; it has 32 hex digits in lower case.", code="item-id-malformed"
        )


def check_account(account: NewAccount, actor: Actor) -> None:
    """Check an account as far as possible without the stored ones.

    Raises:
        OctoError: a value breaks a rule; the message says which and why.
    """
    problem = None
    if account.vendor not in CLOUDS:
        problem = f"the vendor {quoted(account.vendor)} is unknown; it is one of {', '.join(CLOUDS)}"
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
        raise OctoError(
            f"The account {quoted(account.account_id)} cannot be registered: {problem}.", code="account-wrong"
        )


def check_limit(name: str, role: str, cost_groups: Sequence[str] | None) -> None:
    """Check the cost groups that a user is limited to; None for everything.

    Raises:
        OctoError: the user is not a viewer, or no group is named.
    """
    if cost_groups is None:
        return
    if role != "viewer":
        raise OctoError(
            f"{quoted(name)} is limited to cost groups, and only viewers can be: who changes something sees everything. "
            "Nothing was changed.",
            code="only-viewers-limited",
            remedy=Remedy("users groups", name, everything=True, to="let them see everything first"),
        )
    if not cost_groups:
        raise OctoError(
            f"Name the cost groups that {quoted(name)} may see. Nothing was changed.", code="user-groups-missing"
        )


def check_role(role: str) -> None:
    """Check the name of a role.

    Raises:
        OctoError: there is no such role.
    """
    if role not in ROLES:
        raise OctoError(f"The role {quoted(role)} is unknown; it is one of {', '.join(ROLES)}.", code="role-unknown")


def check_user_name(name: str) -> None:
    """Check the name of a user.

    Raises:
        OctoError: it is empty, too long, or not text.
    """
    problem = text_problem("name", name, NAME_LENGTH)
    if problem is not None:
        raise OctoError(f"The user {quoted(name)} cannot be added: {problem}.", code="user-name-wrong")


def text_problem(what: str, text: str, length: int) -> str | None:
    """What is wrong with a text that is to be stored; None if nothing is.

    Args:
        what: what the text is, for the message.
        text: the text.
        length: the maximum number of characters.
    """
    if not text.strip():
        return f"the {what} is empty"
    if len(text) > length:
        return f"the {what} has {len(text):,} characters; at most {length:,} are allowed"
    if _NO_TEXT.search(text) is not None:
        return f"the {what} contains a character that is not text (NUL or half of a surrogate pair)"
    return None


def _decision_problem(decision: Decision) -> str | None:
    if decision.action not in ACTIONS:
        return f"the action {quoted(decision.action)} is unknown; it is one of {', '.join(ACTIONS)}"
    if _ITEM_ID.fullmatch(decision.item_id) is None:
        return "the item id is not 32 hex digits in lower case"
    if not is_month(decision.origin_month):
        return f"the origin month {quoted(decision.origin_month)} is not written as YYYY-MM"
    if decision.category not in ITEM_GRAINS:
        return f"the category {quoted(decision.category)} is unknown; it is one of {', '.join(ITEM_GRAINS)}"
    if decision.decided_at.utcoffset() is None:
        return "its time has no time zone; give it in UTC"
    return text_problem("actor", decision.actor, NAME_LENGTH) or text_problem("reason", decision.reason, REASON_LENGTH)
