"""Random worlds for the oracle: months of line items and documents of finance, drawn with dice.

What is drawn is small and awkward: few accounts, payers, tags and amounts, so that rules meet, ties happen, groups
overlap and totals are 0.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from random import Random

from octo_pipeline.model.months import add_months, months_between
from tests.support.oracle.lines import Line
from tests.support.oracle.targets import Containers

MONTHS = ["2024-01", "2024-02", "2024-03"]
ACCOUNTS = ["111111111111", "222222222222", "333333333333", "444444444444", "Zebra", "äpfel 1"]
# Accounts that have no line item, the second one registered.
STRANGERS = ["666666666666", "777777777777"]
PAYERS = {"aws": ["888888888888", "999999999999"], "azure": ["tenant-1"], "gcp": ["billing-1"], "oci": ["ocid-1"]}
VENDORS = ["aws", "aws", "aws", "aws", "azure", "gcp", "oci"]
CURRENCIES = ["USD", "USD", "USD", "EUR", "JPY"]
# Powers of two: a sum of converted amounts is exact in doubles as well.
RATES = "month,currency,rate\n2023-12,EUR,1.25\n2024-02,EUR,2\n2023-11,JPY,0.0078125\n2024-03,JPY,0.015625\n"
# Without any rate, so that only fees are billed in it: usage would have to be compared.
UNKNOWN_CURRENCY = "KWD"
SERVICES = ["AmazonEC2", "AmazonS3", "AmazonEKS", None]
DESCRIPTIONS = ["a", "b", None]
TEAMS = [None, "", "core", "data", "data ", "Core", "a/b", "o'neil"]

# The families that every charge and account is in.
FAMILIES_OF_EVERYTHING = ("teams", "accounts")

FORMULAS = [
    "", "", "cost*usage", "cost*usage", "cost*0.3", "cost*group_usage", "cost/accounts", "cost", "-cost", "cost*1.5",
    "0", "usage > 0.3 ? cost*0.2 : cost*0.1", "cost/usage", "cost % 7", "round(cost*usage, 2)", "min(cost, 5)",
    "cost ** 0.5", "cost*1e30", "cost > 10 ? cost*0.2 : cost*usage", "5", "max(cost, 0)*usage", "1/cost",
    "cost*usage if usage > 0 else 0.0000000001",
]  # fmt: skip
FORMULAS_OF_ACTIVE = ["usage > 0 ? cost/active_accounts : 0", "cost/active_accounts", "cost*active_accounts/accounts"]


@dataclass
class Drawn:
    """A world: line items, and the text of each configuration file by its path.

    Attributes:
        edited_files: the allocators as they are before the last month is run; without them nothing is edited.
    """

    lines: list[Line]
    files: dict[str, str]
    features: frozenset[str]
    groups: list[dict[str, object]]
    containers: list[Containers] = field(default_factory=list)
    edited_files: dict[str, str] = field(default_factory=dict)
    registered: frozenset[tuple[str, str]] = frozenset({(PAYERS["aws"][0], STRANGERS[1])})
    months: list[str] = field(default_factory=lambda: list(MONTHS))


def write_files(config: Path, files: Mapping[str, str]) -> None:
    """Write the files of a configuration."""
    for name, text in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def draw(dice: Random, features: frozenset[str], months: Sequence[str] = MONTHS) -> Drawn:
    """A world of some months that uses some of the features."""
    lines = [draw_line(dice, features, months) for _ in range(dice.randint(15, 60))]
    # Further lines of a grain that is there: one row with the sums, and the greatest of each name.
    for _ in range(3):
        costs = _costs(dice, features)
        lines.append(replace(dice.choice(lines), **costs, list_cost=costs["billed_cost"], service_name="Database"))
    groups = _groups(dice, features)
    files = {f"cost_groups/{group['id']}.json": json.dumps(group) for group in groups}
    files |= _allocators(dice, features, groups)
    files["exchange_rates.csv"] = RATES
    if "metrics" in features:
        files["metrics/heads.csv"] = draw_metric(dice, months)
        files["metrics/late.csv"] = draw_metric(dice, months[1:2])
    containers = [_containers(dice, months) for _ in range(dice.choice([0, 8]))] if "containers" in features else []
    edited = _allocators(dice, features, groups) if dice.random() < 0.25 else {}
    return Drawn(lines, files, features, groups, containers, edited, months=list(months))


def _allocators(dice: Random, features: frozenset[str], groups: Sequence[dict[str, object]]) -> dict[str, str]:
    return {
        f"allocators/a{i}.json": json.dumps(draw_allocator(dice, features, groups)) for i in range(dice.randint(2, 12))
    }


def _containers(dice: Random, months: Sequence[str]) -> Containers:
    namespace = dice.choice([None, "", "default", "shop", "shop "])
    return Containers(
        billing_month=dice.choice(months),
        vendor="aws",
        billing_account_id=dice.choice(PAYERS["aws"]),
        sub_account_id=dice.choice(ACCOUNTS),
        billing_currency=dice.choice(CURRENCIES),
        parent_resource_id=f"i-{dice.randrange(10**9)}",
        tags={} if namespace is None else {"aws:eks:namespace": namespace},
        split_cost=Decimal(dice.randint(0, 1000)) / 100,
        unused_cost=Decimal(dice.randint(0, 300)) / 100,
    )


def _amount(dice: Random) -> Decimal:
    return dice.choice(
        [
            Decimal(dice.randint(-100_000, 10_000_000)) / 100,
            Decimal(dice.randint(0, 100)),
            Decimal(dice.randint(0, 100)),
            Decimal(dice.randint(-(10**10), 10**10)).scaleb(-10),
            dice.choice([Decimal(0), Decimal("0.0000000001"), Decimal("-0.0000000007"), Decimal(10**15)]),
        ]
    )


def _costs(dice: Random, features: frozenset[str]) -> dict[str, Decimal]:
    """A billed and an amortised cost: the same, or one of them 0, or of opposite signs, or anything."""
    cost = amortised = _amount(dice)
    if "measures" in features and dice.random() < 0.5:
        amortised = dice.choice([Decimal(0), -cost, _amount(dice), _amount(dice)])
        if dice.random() < 0.3:
            cost = Decimal(0)
    return {"billed_cost": cost, "effective_cost": amortised}


def draw_line(dice: Random, features: frozenset[str], months: Sequence[str]) -> Line:
    """A line item of one of the months."""
    kind = dice.choice(["usage", "usage", "usage", "usage", "usage", "fee", "fee", "support", "tax", "used", "unused"])
    vendor = dice.choice(VENDORS)
    costs = _costs(dice, features)
    team = dice.choice(TEAMS)
    line = Line(
        billing_month=dice.choice(months),
        vendor=vendor,
        billing_account_id=dice.choice(PAYERS[vendor]),
        sub_account_id=dice.choice(ACCOUNTS),
        billing_currency=dice.choice(CURRENCIES),
        usage_date="",
        charge_category="Usage",
        line_type="Usage",
        service_code=dice.choice(SERVICES),
        charge_description=dice.choice(DESCRIPTIONS),
        **costs,
        list_cost=costs["billed_cost"],
        operation=dice.choice(["Run", None]),
        region_id=dice.choice(["us-east-1", None]),
        tags={} if team is None else {"team": team},
        project_labels=dice.choice([{}, {}, {"env": "prod"}, {"env": ""}]),
        publisher_name=dice.choice([None, None, "Datadog"]),
        service_name=dice.choice([None, "Compute", "Storage"]),
    )
    commitment = {"commitment_discount_type": "RI", "commitment_discount_id": "r1", "savings_kind": kind}
    match kind:
        case "fee":
            currency = dice.choice([line.billing_currency, line.billing_currency, UNKNOWN_CURRENCY])
            return replace(line, charge_category="Purchase", line_type="Fee", billing_currency=currency)
        case "tax":
            return replace(line, charge_category="Tax", line_type="Tax")
        case "support":
            return replace(line, service_code="AWSSupportBusiness")
        case "used":
            return replace(
                line, **commitment, list_cost=line.effective_cost + _amount(dice), line_type="DiscountedUsage"
            )
        case "unused" if "measures" in features:
            category, line_type = dice.choice([("Purchase", "RIFee"), ("Usage", "UnusedReservation")])
            return replace(line, **commitment, charge_category=category, line_type=line_type)
    return line


def _groups(dice: Random, features: frozenset[str]) -> list[dict[str, object]]:
    """Cost groups that overlap, one that matches nothing, and families."""

    def named(name: str, **options: object) -> dict[str, object]:
        return {"id": name, "combinations": options}

    def filters(*maps: dict[str, str]) -> dict[str, object]:
        return {"filters": [{"andFilters": m} for m in maps]}

    def tags(*maps: dict[str, str]) -> dict[str, object]:
        return {"tagFilters": [{"andFilters": m} for m in maps]}

    groups = [
        named("ec2", awsOptions=filters({"productCode": "AmazonEC2"})),
        named("first two", awsOptions=filters({"account": "re:^(1|2)"}), gcpOptions=filters({"account": ACCOUNTS[0]})),
        named("listed", awsOptions=filters({"account": ACCOUNTS[2]}, {"account": STRANGERS[0]}, {"account": "6", "region": ""})),
        named("core", awsOptions=filters({"region": "!re:^eu"}) | tags({"team": "core"}, {"team": "re:^data"})),
        named("prod", gcpOptions={"projectLabelFilters": [{"andFilters": {"env": "prod"}}]}, azureOptions=filters({"currency": "USD"})),
        named("nothing", awsOptions=filters({"productCode": "no such"}), azureOptions={}),
        named("oracle", options=[{"vendor": "oci", **filters({"payer": "ocid-1"})}]),
        named("fees", awsOptions=filters({"lineType": "Fee"}, {"productName": "Storage"})),
    ]  # fmt: skip
    if "families" in features:
        whole = {"awsOptions": {}, "azureOptions": {}, "gcpOptions": {}, "options": [{"vendor": "oci"}]}
        groups += [
            {"id": "teams", "by": {"tag": "team"}, "combinations": whole},
            {"id": "ec2 teams", "by": {"label": "team"}, "combinations": {"awsOptions": filters({"productCode": "AmazonEC2"})}},
            {"id": "accounts", "by": {"account": True}, "combinations": whole},
            {"id": "payers", "by": {"payer": True}, "combinations": dice.choice([whole, {"awsOptions": filters({"account": "re:^[1-3]"})}])},
            {"id": "projects", "by": {"projectLabel": "env"}, "combinations": {"gcpOptions": {}, "awsOptions": tags({"team": "core"})}},
        ]  # fmt: skip
    if "containers" in features:
        options = dice.choice([{}, filters({"account": "re:[1-3]$"}), filters({"payer": PAYERS["aws"][0]})])
        by = {"tag": "aws:eks:namespace"}
        groups.append({"id": "namespaces", "by": by, "of": "containers", "combinations": {"awsOptions": options}})
    chosen = [group for group in groups if dice.random() < 0.8]
    return chosen or groups[:1]


def _names(groups: Iterable[dict[str, object]], features: frozenset[str]) -> list[str]:
    """Ids that may be named where a group may."""
    plain = [group["id"] for group in groups if "by" not in group]
    values = {"tag": "core", "label": "data", "account": ACCOUNTS[0], "payer": PAYERS["aws"][1], "projectLabel": "prod"}
    of_families = [f"{g['id']}/{'shop' if 'of' in g else values[next(iter(g['by']))]}" for g in groups if "by" in g]
    of_families += [f"{g['id']}/" for g in groups if "by" in g]
    return plain + of_families


CRITERIA = {
    "fee": [
        {"lineType": "re:Fee"}, {"description": "a"}, {"productCode": ""}, {"currency": "USD"}, {"lineType": "Tax"},
        {"account": ACCOUNTS[0]}, {"productName": "!re:^Comp"}, {"description": "!re:a", "currency": "!re:USD"},
        {"lineType": "Usage"},
    ],
    "account": [
        {"account": ACCOUNTS[0]}, {"productCode": "re:^AmazonE"}, {"description": "!re:a"}, {"operation": ""},
        {"region": "us-east-1", "account": "re:[13]$"},
    ],
    "savings": [{"type": "RI"}, {"account": ACCOUNTS[1]}, {"productCode": "AmazonEC2", "arn": "r1"}],
    "balance": [
        {"account": "re:."}, {"account": ACCOUNTS[1]}, {"account": ""}, {"payer": PAYERS["aws"][0]}, {"payer": ""},
        {"payer": "!re:^9"}, {"vendor": "azure"}, {"currency": "!re:EUR", "account": "!re:^(1|6)"}, {"group": "re:/core$"},
        {"group": "re:."}, {"vendor": "aws", "payer": "re:^8"},
    ],
}  # fmt: skip
MORE_CRITERIA = {
    "fee": [{"payer": "999999999999"}, {"vendor": "!re:aws"}, {"seller": "Datadog"}, {"seller": "", "vendor": "aws"}],
    "account": [
        {"tag:team": "core"}, {"tag:team": ""}, {"projectLabel:env": "re:^p"}, {"tag:team": "re:^data", "vendor": "aws"},
        {"payer": "999999999999"}, {"vendor": "oci"}, {"lineType": "DiscountedUsage"}, {"currency": "JPY"},
        {"productName": "Storage"}, {"seller": "Datadog"},
    ],
    "savings": [{"vendor": "aws"}, {"currency": "EUR"}],
    "balance": [],
}  # fmt: skip


def draw_allocator(dice: Random, features: frozenset[str], groups: Sequence[dict[str, object]]) -> dict[str, object]:
    """An allocator's document, which is valid beside these cost groups."""
    categories = ["fee", "fee", "account", "savings", *(["balance"] * 2 if "balances" in features else [])]
    category = dice.choice(categories)
    criteria = CRITERIA[category] + (MORE_CRITERIA[category] if "keys" in features else [])
    spreads = category != "balance" and dice.random() < 0.4
    entries = [_entry(dice, features, groups, spreads) for _ in range(dice.choice([1, 1, 2, 2, 3, 5]))]
    if "owner" in features and dice.random() < (0.4 if category == "balance" else 0.1):
        entries.append({"type": "owner", "formula": dice.choice(["cost", "cost*1.03", "cost*0.5", "cost*usage"])})
    document: dict[str, object] = {
        "category": category,
        "criteria": [{"and": c} for c in dice.sample(criteria, dice.choice([1, 1, 2]))],
        "allocator": entries,
        **_window(dice, features, max(int(e.get("months", 1)) for e in entries)),
    }
    default = dice.choice([None, None, STRANGERS[0], ACCOUNTS[0]])
    if default:
        document["defaultAccount"] = default
    elif "groups" in features and dice.random() < 0.4:
        document["defaultGroup"] = dice.choice(_names(groups, features))
    if "usage_of" in features and dice.random() < 0.4:
        document["usageOf"] = dice.choice(
            ["account", "matched", "matched", {"costGroup": dice.choice(_names(groups, features))}]
        )
    if "metrics" in features and dice.random() < 0.2:
        metric = {"metric": dice.choice(["heads", "late"])}
        document["usageOf"] = metric | dice.choice([{}, {"carryForward": True}])
    if category == "balance":
        document["step"] = dice.choice([1, 1, 2, "3", 9])
    return document


def _entry(
    dice: Random, features: frozenset[str], groups: Sequence[dict[str, object]], spreads: bool
) -> dict[str, object]:
    kinds = ["account", "account", "payer", "costgroup", *(["group"] * 2 if "groups" in features else [])]
    formulas = FORMULAS + (FORMULAS_OF_ACTIVE if "active_accounts" in features else [])
    entry: dict[str, object] = {"type": dice.choice(kinds), "formula": dice.choice(formulas)}
    match entry["type"]:
        case "account":
            entry["value"] = dice.choice([*ACCOUNTS, *STRANGERS])
        case "payer":
            entry["value"] = dice.choice([*PAYERS["aws"], "tenant-1", "no such payer"])
        case "costgroup":
            entry["value"] = dice.choice(_names(groups, features))
        case "group":
            patterns = ["re:.", "re:^e", "re:o", "re:^no such"]
            if "families" in features:
                patterns += ["re:^teams/.", "re:^teams/", "re:^accounts/", "re:^payers/.", "re:/core$"]
            if "containers" in features:
                patterns += ["re:^namespaces/.", "re:^namespaces/"]
            entry["value"] = dice.choice([*_names(groups, features), *patterns])
    if spreads and dice.random() < 0.7:
        entry["months"] = dice.choice([2, 2, 3, "4", 7, 36])
    return entry


def _window(dice: Random, features: frozenset[str], longest: int) -> dict[str, object]:
    """When an allocator applies, and its place in the order; a valid window."""
    window: dict[str, object] = {}
    created, month = dice.choice(
        [
            (None, None),
            ("2024-01-05T00:00:00Z", "2024-01"),
            ("2024-02-05T00:00:00+09:00", "2024-02"),
            ("2023-12-31T23:30:00-01:00", "2024-01"),
        ]
    )
    if created:
        window["createTime"] = created
    start = dice.choice(MONTHS)
    if month is None or dice.random() < 0.7:
        window["startMonth"] = start
    else:
        start = month
    if month is not None and months_between(month, start) + longest > 36:
        window["startMonth"] = start = month
    if dice.random() < 0.2:
        # Counted from the creation; it must not end before the start.
        wait = max(months_between(month or start, start), 0)
        window["expiration"] = str(wait + dice.randint(1, 3))
    if "windows" in features:
        if dice.random() < 0.2:
            window["endMonth"] = max(add_months(start, dice.choice([0, 1, 5])), start)
        if dice.random() < 0.4:
            window["priority"] = dice.choice([-1000, -1, 0, 1, "2"])
    return window


def draw_metric(dice: Random, months: Sequence[str]) -> str:
    """The text of a metric's file."""
    rows = ["month,account,group,quantity"]
    for month in months:
        rows += [f"{month},{a},,{dice.choice(['0', '1', '3', '10.5'])}" for a in ACCOUNTS if dice.random() < 0.7]
        rows += [f"{month},,{g},{dice.choice(['0', '2', '7'])}" for g in ("core", "teams/core") if dice.random() < 0.7]
    return "\n".join(rows) + "\n"
