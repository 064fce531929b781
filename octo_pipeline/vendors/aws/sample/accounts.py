"""The accounts of the sample's organisation and the tags of their resources, as SQL expressions of a key to draw by."""

from collections.abc import Sequence

from octo_pipeline.model.templates import macro
from octo_pipeline.vendors.aws.sample.draws import value_list

PAYER = "999988887777"  # the management account: owns the commitments, pays the shared fees
PLATFORM = "111122223333"  # runs the shared EKS clusters
DATA_PLATFORM = "222233334444"
SANDBOX = "333344445555"
FIRST_TEAM = 400000000001  # product teams are numbered from here, so "4000…" is all of them

_NAMES = {PAYER: "management", PLATFORM: "platform", DATA_PLATFORM: "data-platform", SANDBOX: "sandbox"}
# Parts of 10,000 resources; the product teams have the rest.
_SHARE_OF_ROLE = {PAYER: 300, PLATFORM: 1400, DATA_PLATFORM: 1200, SANDBOX: 200}
_TEAMS = (
    "payments", "search", "checkout", "identity", "mobile", "catalogue", "fulfilment", "growth", "messaging",
    "pricing", "support", "reporting",
)  # fmt: skip
_ENVIRONMENTS = ("prod", "prod", "prod", "staging", "dev")


def team_account(team_count: int, key: str) -> str:
    """SQL of a product team's account; the square makes a few big teams and many small ones."""
    return f"({FIRST_TEAM} + floor({team_count} * unit({key}, 'team') * unit({key}, 'team'))::BIGINT)::VARCHAR"


def account_name(account: str) -> str:
    """SQL of an account's name; there may be more product teams than names, so that names get numbers."""
    number = f"({account}::BIGINT - {FIRST_TEAM})"
    numbered = f"CASE WHEN {number} >= {len(_TEAMS)} THEN '-' || (1 + {number} // {len(_TEAMS)}) ELSE '' END"
    others = " ".join(f"WHEN '{id}' THEN '{name}'" for id, name in _NAMES.items())
    return f"CASE {account} {others} ELSE {value_list(_TEAMS)}[1 + {number} % {len(_TEAMS)}] || {numbered} END"


def any_account(roles: Sequence[str], team_count: int, key: str) -> str:
    """SQL of an account: the payer, one with a role, or a product team's."""
    cases, limit = [], 0
    for role in (PAYER, *roles):
        limit += _SHARE_OF_ROLE[role]
        cases.append(f"WHEN draw({key}, 'account') % 10000 < {limit} THEN '{role}'")
    return f"CASE {' '.join(cases)} ELSE {team_account(team_count, key)} END"


def tag_columns(team_count: int, key: str) -> str:
    """SQL of the columns is_tagged, environment, team, cost_center, serial and tag_name.

    Product teams tag their own name, shared accounts the user's; one resource in eight has no tags.
    """
    teams = value_list(_TEAMS[:team_count])
    return macro(
        "vendors/aws/sample/tags", "tag_columns", key, value_list(_ENVIRONMENTS), teams, str(FIRST_TEAM), f"'{PAYER}'"
    )
