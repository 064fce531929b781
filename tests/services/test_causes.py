"""Why costs changed: each kind of cause by itself, and sums of random parts."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from random import Random

import duckdb
import pytest
from typer.testing import CliRunner

from octo_pipeline.cli.main import app
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, MONEY
from octo_pipeline.model.sql import Relation, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.services import causes
from octo_pipeline.services.causes import Change, changes_of, subject_of
from octo_pipeline.services.costs import cost_group_costs
from octo_pipeline.settings import Settings
from octo_pipeline.tables.account_costs import AccountCosts
from octo_pipeline.tables.cost_group_costs import CostGroupCosts
from octo_pipeline.workspace import Workspace
from tests.support.case import load_line_items, make, run
from tests.support.closing import close_months
from tests.support.workspaces import write_allocators

JANUARY, FEBRUARY = "2024-01", "2024-02"
FEE = {"line_type": "Fee", "charge_category": "Purchase", "service_code": "Support"}


def line(month: str, account: str, cost: str, quantity: str = "0", **more: str) -> dict[str, str]:
    usage = {"line_type": "Usage", "charge_category": "Usage", "service_code": "EC2", "vendor": "aws"}
    billed = {"billing_month": month, "billing_currency": "USD", "billing_account_id": "9", "sub_account_id": account}
    amounts = {"billed_cost": cost, "consumed_quantity": quantity, "usage_date": f"{month}-01"}
    return usage | billed | amounts | more


class Lake:
    """Months of line items that are brought to the tables."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        config = folder / "config"
        (config / "cost_groups").mkdir(parents=True)
        self.allocators([])
        self.settings = Settings(lake=folder / "lake", config=config)

    def allocators(self, documents: list[dict]) -> None:
        write_allocators(self._folder / "config", documents)

    def cost_group(self, name: str, document: dict) -> None:
        (self._folder / "config" / "cost_groups" / f"{name}.json").write_text(json.dumps(document))

    def deliver(self, *lines: dict[str, str]) -> Workspace:
        workspace = Workspace(self.settings)
        path = self._folder / "line_items.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(LINE_ITEM_COLUMNS))
            writer.writeheader()
            writer.writerows(lines)
        load_line_items(workspace.lake, path)
        return workspace

    def run(self, *months: str) -> Workspace:
        workspace = run(Workspace(self.settings), list(months))
        for table in (AccountCosts(), CostGroupCosts()):
            make(workspace, table, list(months))
        return Workspace(self.settings)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("causes")


@pytest.fixture
def shared(folder: Path) -> Workspace:
    """Two months in which each account changes for a reason of its own. Made by the first test that asks for it."""
    if not (folder / "lake").exists():
        _make_shared(Lake(folder))
    return Workspace(Settings(lake=folder / "lake", config=folder / "config"))


def rule(criteria: dict, *targets: str, formula: str = "cost*usage", **more: object) -> dict:
    """An allocator document."""
    entries = [{"type": "account", "value": target, "formula": formula} for target in targets]
    return {"startMonth": JANUARY, "criteria": [{"and": criteria}], "allocator": entries} | more


def _make_shared(lake: Lake) -> None:
    place = {"region_id": "eu-west-1", "usage_type": "Hours", "tags": '{"team": "shop"}'}
    covered = {
        "line_type": "DiscountedUsage", "savings_kind": "used", "list_cost": "10", "commitment_discount_type": "RI",
    }  # fmt: skip
    spread = rule(
        {"account": "yearly"}, "spread", formula="cost", startMonth=FEBRUARY, createTime="2024-01-05T00:00:00Z"
    )
    spread["allocator"][0]["months"] = 2
    lake.allocators(
        [
            rule({"account": "shared out"}, "half", "other half"),
            rule({"account": "taken later"}, "new rule", formula="cost", startMonth=FEBRUARY),
            spread,
            rule({"account": "platform"}, "stepped", formula="cost", category="balance", startMonth=FEBRUARY),
            rule({"type": "RI"}, "saving", formula="cost", category="savings"),
        ]
    )
    lake.cost_group("teams", {"by": {"tag": "team"}, "combinations": {"awsOptions": {}}})
    lake.cost_group("twice", {"combinations": {"awsOptions": {"filters": [{"andFilters": {"account": "twice"}}]}}})
    centres = "account,re:half,halves,1,,\naccount,twice,twice,1,,\n"
    (lake.settings.config / "cost_centres.csv").write_text(
        f"owner_type,owner_id,cost_centre,ledger_account,name,email\n{centres}"
    )
    sizes = ("400", "99", "3", "2")
    lake.deliver(
        line(JANUARY, "priced", "20", "100", **place),
        line(FEBRUARY, "priced", "45", "150", **place),
        line(JANUARY, "moved", "20", "100", usage_type="Gone"),
        line(FEBRUARY, "moved", "45", "150", usage_type="New"),
        line(JANUARY, "moved", "5", usage_type="Flat"),
        line(FEBRUARY, "moved", "6", usage_type="Flat"),
        *(line(JANUARY, account, "10", "1") for account in ("half", "other half")),
        *(line(FEBRUARY, account, cost, cost) for account, cost in (("half", "10"), ("other half", "30"))),
        line(JANUARY, "shared out", "100", **FEE),
        line(FEBRUARY, "shared out", "200", **FEE),
        *(line(month, "taken later", "100", **FEE) for month in (JANUARY, FEBRUARY)),
        line(JANUARY, "yearly", "120", **FEE),
        line(JANUARY, "platform", "40"),
        line(FEBRUARY, "platform", "60"),
        line(FEBRUARY, "covered", "4", **covered),
        line(FEBRUARY, "saving", "1"),
        *(line(month, "twice", "1") for month in (JANUARY, FEBRUARY)),
        line(JANUARY, "many", "1", usage_type="Old"),
        *(line(FEBRUARY, "many", cost, usage_type=f"Type {cost}") for cost in sizes),
    )
    lake.run(JANUARY, FEBRUARY)


def explained(workspace: Workspace, owner: str) -> list[tuple[str, Decimal]]:
    """The sentences and amounts of all causes, in their order."""
    changes = changes_of(workspace, subject_of(workspace, owner, (JANUARY, FEBRUARY)), JANUARY, FEBRUARY)
    assert len(changes) == 1
    assert sum((cause.difference for cause in changes[0].causes), Decimal(0)) == changes[0].difference
    return [(cause.in_words, cause.difference) for cause in changes[0].causes]


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        # Δprice × old quantity is (0.3 − 0.2) × 100, Δquantity × new price is (150 − 100) × 0.3.
        ("priced", [("EC2 · Hours · eu-west-1: quantity 100 to 150", 15), ("EC2 · Hours · eu-west-1: price 0.2 to 0.3", 10)]),
        # Without a quantity there is no price.
        ("moved", [("EC2 · New: new", 45), ("EC2 · Gone: gone", -20), ("EC2 · Flat: 5.00 to 6.00", 1)]),
        # The pool grows from 100 to 200 at the old share of a half; the share falls to a quarter of the new pool.
        ("half", [("Rule a0: what it books, from 100.00 to 200.00", 50), ("Rule a0: its share, from 50.00 % to 25.00 %", -50),
                  ("EC2: price 10 to 1", -9), ("EC2: quantity 1 to 10", 9)]),
        # A fee that is billed here in both months, and borne by others.
        ("shared out", []),
        ("taken later", [("Support · Fee: now handed on by the rule a1", -100)]),
        ("new rule", [("Rule a1: new", 100)]),
        ("spread", [("Instalments of the rule a2: new", 60)]),
        ("platform", [("Costs handed on in a step by the rule a3: new", -60), ("EC2: 40.00 to 60.00", 20)]),
        ("stepped", [("Step of the rule a3: new", 60)]),
        ("teams/shop", [("EC2 · Hours · eu-west-1: quantity 100 to 150", 15), ("EC2 · Hours · eu-west-1: price 0.2 to 0.3", 10)]),
        ("halves", [("Rule a0: what it books, from 100.00 to 200.00", 100), ("EC2: quantity 2 to 40", 38), ("EC2: price 10 to 1", -18)]),
    ],
)  # fmt: skip
def test_each_reason_is_a_cause_of_its_own(shared, owner, expected):
    assert explained(shared, owner) == expected


def test_a_family_has_the_causes_of_all_of_its_groups(shared):
    (change,) = changes_of(shared, subject_of(shared, "teams", (JANUARY, FEBRUARY)), JANUARY, FEBRUARY)
    costs = cost_group_costs(shared, "teams", (JANUARY, FEBRUARY), "month").select("month", "cost")
    assert [(JANUARY, change.before), (FEBRUARY, change.after)] == sorted(costs)


def test_savings_count_in_the_amortised_cost_alone(shared):
    (change,) = changes_of(shared, subject_of(shared, "saving", (JANUARY, FEBRUARY)), JANUARY, FEBRUARY)
    assert [(c.in_words, c.difference, c.effective_difference) for c in change.causes] == [
        ("Savings by the rule a4: new", 0, -6),
        ("EC2: new", 1, 1),
    ]


def test_the_table_names_all_but_one_percent_and_machines_get_every_cause(shared, monkeypatch):
    monkeypatch.setenv("OCTO_LAKE", str(shared.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(shared.settings.config))

    def octo(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["explain", "costs", *arguments, "--month", FEBRUARY])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    printed = [" ".join(text.split()) for text in octo("many").splitlines()]
    assert "EC2 · Type 3: new 3.00" in printed
    assert "2 smaller causes 1.00" in printed
    assert "the whole change 503.00" in printed
    assert printed[-1] == "1.00 USD in 2024-01, 504.00 USD in 2024-02."
    records = json.loads(octo("many", "-o", "json"))
    assert [record["difference"] for record in records[-2:]] == ["2.0000000000", "-1.0000000000"]
    assert len(octo("many", "-o", "csv").splitlines()) == 6


@pytest.mark.parametrize(
    ("owner", "month", "sentence"),
    [
        ("price", FEBRUARY, "No account, cost group or cost centre 'price' has costs in 2024-01 or 2024-02. Did you mean priced?"),
        ("priced", "2024-03", "The lake has no account costs of 2024-03."),
        ("priced", JANUARY, "The lake has no account costs of 2023-12."),
        ("twice", FEBRUARY, "'twice' names several: account/twice, group/twice, cost-centre/twice. Name one of them in full."),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_said(shared, monkeypatch, owner, month, sentence):
    monkeypatch.setenv("OCTO_LAKE", str(shared.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(shared.settings.config))
    error = CliRunner().invoke(app, ["explain", "costs", owner, "--month", month]).exception
    assert str(error) == sentence


def test_a_rule_that_was_edited_is_named_with_its_versions(lake):
    lake.deliver(*(line(m, "9", "100", **FEE) for m in (JANUARY, FEBRUARY)))
    lake.allocators([rule({"lineType": "Fee"}, "1", formula="cost*0.5")])
    lake.run(JANUARY)
    lake.allocators([rule({"lineType": "Fee"}, "1", formula="cost*0.6")])
    ((sentence, difference),) = explained(lake.run(FEBRUARY), "1")
    assert difference == 10
    assert sentence.startswith("Rule a0, edited (")
    assert sentence.endswith("): its share, from 50.00 % to 60.00 %")


def test_what_was_delivered_after_a_month_was_closed_is_a_correction(lake):
    usage = {"usage_type": "Hours"}
    lake.deliver(line(JANUARY, "1", "20", "100", **usage), line(FEBRUARY, "1", "30", "150", **usage))
    workspace = lake.run(JANUARY, FEBRUARY)
    close_months(workspace, [JANUARY])
    # A closed month that nobody delivered again still has its quantities.
    assert explained(Workspace(lake.settings), "1") == [("EC2 · Hours: quantity 100 to 150", 10)]
    lake.deliver(line(JANUARY, "1", "25", "110", **usage))
    workspace = lake.run(JANUARY, FEBRUARY)
    assert explained(workspace, "1") == [
        ("EC2: 20.00 to 30.00", 10),
        ("Corrections of 2024-01, the bill itself: new", 5),
    ]
    # Line items of an open month that nobody has run yet would explain another amount than the month has.
    lake.deliver(line(FEBRUARY, "1", "40", "150", **usage))
    with pytest.raises(causes.ProofError, match=r"What 1 costs in 2024-02 is 35\.00 USD, and its parts are 45\.00 USD"):
        explained(Workspace(lake.settings), "1")


def random_parts(dice: Random) -> list[tuple[str | None, ...]]:
    """Parts of a month: few keys, so that both months have most of them, and awkward amounts and quantities."""
    amounts = ["0", "0.0000000001", "-0.0000000007", "12.5", "-3", "999999999999999.9999999999", "7.3333333333"]
    rows = []
    for _ in range(dice.randint(0, 25)):
        part = dice.choice(
            ["usage", "usage", "usage", "fee", "allocated", "instalment", "step_in", "savings_in", "correction"]
        )
        values = {
            "subject": dice.choice("ab"),
            "currency": dice.choice(["USD", "JPY", "KWD"]),
            "part": part,
            "rule": dice.choice(["r1", "r2"]) if part not in ("usage", "fee") else None,
            "allocator_version": dice.choice(["v1", "v2"]),
            "service_code": dice.choice(["EC2", None]) if part == "usage" else None,
            "quantity": dice.choice([None, "0", "3", "0.0000000001", "100000000000000", "-5"])
            if part == "usage"
            else None,
            "cost": dice.choice(amounts),
            "effective_cost": dice.choice(amounts),
        }
        rows.append(tuple(values.get(name) for name in causes._PART_COLUMNS))
    return rows


@pytest.mark.parametrize("number", range(40))
def test_the_causes_of_random_parts_add_up_and_pairs_are_what_they_say(number):
    dice = Random(number)
    with duckdb.connect() as connection:
        pieces = {}
        pools = {"part": "VARCHAR", "rule": "VARCHAR", "currency": "VARCHAR", "cost": MONEY, "effective_cost": MONEY}
        for month in ("before", "after"):
            rows = random_parts(dice)
            pieces[f"parts_{month}"] = Relation(f"({rows_sql(causes._PART_COLUMNS, rows)})")
            pooled = [
                (part, rule, currency, str(dice.choice([0, 5, -2, 1000])), str(dice.choice([0, 8])))
                for part in ("allocated", "instalment", "step_in", "savings_in")
                for rule in ("r1", "r2")
                for currency in ("USD", "JPY", "KWD")
                if dice.random() < 0.8
            ]
            pieces[f"pools_{month}"] = Relation(f"({rows_sql(pools, pooled)})")
        rows_of_causes = connection.execute(render("services/causes", **pieces)).fetchall()
        changes = {}
        for month, sign in (("before", -1), ("after", 1)):
            for subject, currency, cost, effective in connection.execute(
                f"SELECT subject, currency, sum(cost), sum(effective_cost) FROM {pieces[f'parts_{month}']} GROUP BY ALL"
            ).fetchall():
                sums = changes.setdefault((subject, currency), [Decimal(0), Decimal(0)])
                sums[0] += sign * cost
                sums[1] += sign * effective
    listed = [causes.Cause(*row) for row in rows_of_causes]
    for cause in listed:
        assert cause.in_words
        sums = changes[cause.subject, cause.currency]
        sums[0] -= cause.difference
        sums[1] -= cause.effective_difference
    assert all(rest == [0, 0] for rest in changes.values()), changes
    for cause in listed:
        if cause.effect == "price" and abs(cause.difference) < 10**12:
            expected = (
                cause.cost_after / cause.quantity_after - cause.cost_before / cause.quantity_before
            ) * cause.quantity_before
            assert abs(cause.difference - expected) <= Decimal("1e-9") + abs(cause.cost_before) * Decimal(
                "1e-12"
            ) + abs(expected) * Decimal("1e-12")


def test_what_is_not_named_is_small_in_both_measures():
    def cause(difference: str, effective: str) -> causes.Cause:
        values = dict.fromkeys(causes.Cause.__dataclass_fields__)
        return causes.Cause(**values | {"difference": Decimal(difference), "effective_difference": Decimal(effective)})

    none = Decimal(0)
    all_causes = (cause("90", "90"), cause("0", "2"), cause("0.5", "0.5"), cause("0.4", "0.4"))
    change = Change("1", "USD", none, none, none, none, all_causes)
    assert len(change.named()) == 2
    assert len(change.named(least=3)) == 3
    assert len(Change("1", "USD", none, none, none, none, ()).named()) == 0
