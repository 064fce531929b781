"""Random books: whatever is posted of them adds up to the cents of the invoices, in the decimals of every currency."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from random import Random
from typing import Any

import duckdb

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.sql import Relation, rows_sql
from octo_pipeline.outputs.journal import Books, Journal, post
from octo_pipeline.rules.cost_centres import CostCentre, CostCentres
from tests.torture.chance import Dice, rounds

MONTH, EARLIER = "2024-03", ("2024-01", "2024-02")
DIGITS = {"USD": 2, "JPY": 0, "KWD": 3, "CLF": 4}
PAYERS = (("aws", "p1"), ("gcp", "p2"))
INVOICES = (None, "i1", "i2")
ACCOUNTS, GROUPS = ("a1", "a2", "a3", "a4"), ("g/1", "g/2")
CENTRES = CostCentres(
    (
        CostCentre("account", "a1", "C1", "6400", "", ""),
        CostCentre("account", "re:^a[23]$", "C2", "6400", "", ""),
        CostCentre("group", "g/1", "C1", "6500", "", ""),
        CostCentre("payer", "re:.", "", "2100", "", ""),
        CostCentre("prepayments", "re:.", "", "1900", "", ""),
    )
)

CHARGE = ("vendor", "payer", "account", "currency", "publisher_name", "line_type", "service_code", "charge_description")
COLUMNS: dict[str, dict[str, str]] = {
    "bill": dict.fromkeys((*CHARGE, "invoice_id", "invoice_issuer_name"), "VARCHAR") | {"cost": MONEY},
    "invoices": dict.fromkeys(
        ("billing_month", "vendor", "billing_account_id", "currency", "invoice_id", "invoice_issuer_name"), "VARCHAR"
    )
    | {"billed_cost": MONEY},
    "explained": dict.fromkeys(
        (
            "category", "kind", "status", "origin_month", "vendor", "payer", "source_account", "source_group",
            "target_account", "target_group", "currency", *CHARGE[4:],
        ),
        "VARCHAR",
    )
    | {"cost": MONEY},
    "corrections": dict.fromkeys(
        (
            "corrected_month", "category", "corrected_kind", "status", "vendor", "payer", "source_account", "source_group",
            "target_account", "target_group", "currency",
        ),
        "VARCHAR",
    )
    | {"cost": MONEY},
    "prepayments": dict.fromkeys(("vendor", "payer", "currency"), "VARCHAR") | {"opening": MONEY, "closing": MONEY},
    "account_costs": dict.fromkeys(("owner_type", "owner_id", "currency"), "VARCHAR") | {"final_cost": MONEY},
}  # fmt: skip

Row = dict[str, Any]


@dataclass
class Drawing:
    """The books of a month, drawn; amounts are whole numbers of 10⁻¹⁰."""

    dice: Random
    bill: dict[tuple[str | None, ...], int] = field(default_factory=lambda: defaultdict(int))
    explained: list[Row] = field(default_factory=list)
    corrections: list[Row] = field(default_factory=list)
    prepayments: list[Row] = field(default_factory=list)
    final_costs: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))

    def amount(self) -> int:
        size = self.dice.choice([3, 9, 10, 11, 13, 16, 22])
        amount = self.dice.randrange(-(10**size), 3 * 10**size)
        # Whole cents and halves of them, which are rounded in neither direction by chance.
        return self.dice.choice([amount, amount // 10**8 * 10**8, amount // 10**9 * 10**9 + 5 * 10**7])

    def owner(self) -> tuple[str, str]:
        return self.dice.choice([*(("account", a) for a in ACCOUNTS), *(("group", g) for g in GROUPS)])

    def draw(self) -> None:
        for _ in range(self.dice.randrange(10)):
            vendor, payer = self.dice.choice(PAYERS)
            charge = (
                vendor, payer, self.dice.choice(ACCOUNTS), self.dice.choice(list(DIGITS)),
                *(self.dice.choice([None, "x", "y"]) for _ in range(4)),
            )  # fmt: skip
            invoice_id = self.dice.choice(INVOICES)
            amount = self.amount()
            self.bill[*charge, invoice_id, invoice_id and "Issuer"] += amount
            self.final_costs["account", str(charge[2]), str(charge[3])] += amount
        for key in self.dice.sample(list(self.bill), self.dice.randrange(len(self.bill) + 1)):
            self.draw_item(dict(zip(CHARGE, key, strict=False)), self.bill[key])
        for _ in range(self.dice.randrange(4)):
            vendor, payer = self.dice.choice(PAYERS)
            charge = {"vendor": vendor, "payer": payer, "account": "a1", "currency": self.dice.choice(list(DIGITS))}
            self.draw_instalment(charge, self.dice.choice(EARLIER), self.amount(), self.dice.choice([0, self.amount()]))
        for _ in range(self.dice.randrange(3)):
            self.draw_step()
        for _ in range(self.dice.randrange(5)):
            self.draw_correction()

    def draw_item(self, charge: Row, cost: int) -> None:
        """An item of the month: left, distributed, or spread."""
        item = {"kind": "item", "origin_month": MONTH, "source_account": charge["account"], "cost": cost}
        status = self.dice.choice(["checked_allocated", "checked_allocated", "unchecked_allocated"])
        category = self.dice.choice(["fee", "account", "savings"])
        self.explained.append(charge | item | {"category": category, "status": status})
        if status == "unchecked_allocated":
            return
        due = self.dice.choice([cost, cost, cost // 12, 0])
        if category == "savings":
            self.explained.append(charge | item | {"category": category, "kind": "split", "target_account": "a1"})
            return
        self.final_costs["account", charge["account"], charge["currency"]] -= cost
        self.hand_out(charge | {"category": category, "origin_month": MONTH}, due)
        if due != cost:
            self.prepaid(charge, self.dice.choice([0, self.amount()]), cost - due)

    def draw_instalment(self, charge: Row, origin: str, due: int, later: int) -> None:
        self.hand_out(charge | {"category": "fee", "origin_month": origin}, due)
        self.prepaid(charge, due + later, -due)

    def draw_step(self) -> None:
        currency = self.dice.choice(list(DIGITS))
        kind, name = self.owner()
        cost = self.amount()
        balance = {"category": "balance", "origin_month": MONTH, "currency": currency}
        self.explained.append(
            balance | {"kind": "item", "status": "checked_allocated", f"source_{kind}": name, "cost": cost}
        )
        self.final_costs[kind, name, currency] -= cost
        self.hand_out(balance, cost)

    def hand_out(self, row: Row, due: int) -> None:
        """Splits and a remainder that add up to what is due."""
        left = due
        for _ in range(self.dice.randrange(3)):
            cost = self.dice.choice([due // 3, due * 2, self.amount()])
            self.book(row, "split", cost)
            left -= cost
        if left:
            self.book(row, "remainder", left)

    def book(self, row: Row, kind: str, cost: int) -> None:
        target, name = self.owner()
        self.explained.append(
            row | {"kind": kind, "status": "checked_splitted", f"target_{target}": name, "cost": cost}
        )
        self.final_costs[target, name, row["currency"]] += cost

    def prepaid(self, charge: Row, opening: int, change: int) -> None:
        known = {name: charge[name] for name in ("vendor", "payer", "currency")}
        self.prepayments.append(known | {"opening": opening, "closing": opening + change})

    def draw_correction(self) -> None:
        """An item or usage of a closed month that costs something else, or is distributed otherwise."""
        vendor, payer = self.dice.choice(PAYERS)
        account, currency = self.dice.choice(ACCOUNTS), self.dice.choice(list(DIGITS))
        category = self.dice.choice(["fee", "account", "usage", "savings", "balance"])
        row = {
            "corrected_month": self.dice.choice(EARLIER), "category": category, "currency": currency,
            "source_account": account,
        } | ({} if category == "balance" else {"vendor": vendor, "payer": payer})  # fmt: skip
        status = (
            "unchecked_allocated"
            if category == "usage"
            else self.dice.choice(["checked_allocated", "unchecked_allocated"])
        )
        cost = self.amount()
        self.corrections.append(row | {"corrected_kind": "item", "status": status, "cost": cost})
        if category in ("fee", "account", "usage"):
            self.final_costs["account", account, currency] += cost
        if status == "unchecked_allocated":
            return
        if category != "savings":
            self.final_costs["account", account, currency] -= cost
        due = cost if category == "balance" else self.dice.choice([cost, cost // 3])
        target, name = self.owner()
        self.corrections.append(
            row | {"corrected_kind": "split", "status": "checked_splitted", f"target_{target}": name, "cost": due}
        )
        if category != "savings":
            self.final_costs[target, name, currency] += due
        if category in ("fee", "account") and due != cost:
            self.prepaid(row, self.amount(), cost - due)

    def invoices(self) -> list[Row]:
        """What the invoices bill: the charges that name them, of which some stand on another one as well."""
        sums: dict[tuple[Any, ...], int] = defaultdict(int)
        for (vendor, payer, _, currency, *_, invoice_id, issuer), cost in self.bill.items():
            sums[vendor, payer, currency, invoice_id, issuer] += cost
        for key in list(sums):
            if self.dice.random() < 0.3:
                moved = self.amount()
                sums[key] -= moved
                sums[(*key[:3], "i3", "Issuer")] += moved
        names = ("vendor", "billing_account_id", "currency", "invoice_id", "invoice_issuer_name")
        return [
            dict(zip(names, key, strict=True)) | {"billing_month": MONTH, "billed_cost": cost}
            for key, cost in sums.items()
        ]

    def tables(self) -> dict[str, list[Row]]:
        names = COLUMNS["bill"]
        return {
            "bill": [dict(zip(names, (*key, cost), strict=True)) for key, cost in self.bill.items()],
            "invoices": self.invoices(),
            "explained": self.explained,
            "corrections": self.corrections,
            "prepayments": self.prepayments,
            "account_costs": [
                {"owner_type": kind, "owner_id": name, "currency": currency, "final_cost": cost}
                for (kind, name, currency), cost in self.final_costs.items()
            ],
        }


def books_of(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Sequence[Row]]) -> Books:
    for name, rows in tables.items():
        columns = COLUMNS[name]
        values = [
            [str(Decimal(row[c]).scaleb(-10)) if isinstance(row.get(c), int) else row.get(c) for c in columns]
            for row in rows
        ]
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {rows_sql(columns, values)}")
    return Books(**{name: Relation(name) for name in tables})


@rounds(40, 3000)
def test_what_is_posted_is_the_cents_of_the_invoices(dice: Dice) -> None:
    drawing = Drawing(dice)
    drawing.draw()
    tables = drawing.tables()
    by = dice.choice(["account", "cost-centre", "group"])
    with duckdb.connect() as connection:
        books = books_of(connection, tables)
        if by == "group":
            accounts = sorted({name for kind, name, _ in drawing.final_costs if kind == "account"})
            grouped = [(name, dice.choice(["shop", "teams/a"])) for name in accounts if dice.random() < 0.6]
            columns = {"account": "VARCHAR", "cost_group_id": "VARCHAR"}
            books = replace(books, account_groups=Relation(f"({rows_sql(columns, grouped)})"))
        journal = post(connection, books, CENTRES, MONTH, by, "provisional")
    lines = [dict(zip(journal.lines.columns, row, strict=True)) for row in journal.lines.rows]
    for line in lines:
        assert_is_in_minor_units(line)
    assert_entries_are_balanced(lines)
    assert_invoices_are_posted(lines, tables["invoices"])
    assert_prepayments_change(lines, tables["prepayments"])
    assert_owners_pay_the_invoices(lines, tables)
    assert_sums_are_those_of_the_lines(journal, lines)


def assert_is_in_minor_units(line: Row) -> None:
    written = line["debit"] or line["credit"]
    assert (line["debit"] is None) != (line["credit"] is None)
    assert len(written.partition(".")[2]) == DIGITS[line["currency"]]
    assert Decimal(written) > 0
    assert abs(posted(line) - Fraction(line["exact_amount"])) < Fraction(3, 10 ** DIGITS[line["currency"]])
    if line["posting"] == "cost":
        assert line["cost_centre"] in ("C1", "C2", "unmapped")


def assert_entries_are_balanced(lines: list[Row]) -> None:
    entries: dict[int, Fraction] = defaultdict(Fraction)
    for line in lines:
        entries[line["entry"]] += posted(line)
    assert not any(entries.values())


def assert_invoices_are_posted(lines: list[Row], invoices: list[Row]) -> None:
    expected = {
        (i["billing_account_id"], i["currency"], i["invoice_id"]): cents
        for i in invoices
        if (cents := rounded(i["billed_cost"], i["currency"]))
    }
    credited = {
        (line["payer"], line["currency"], line["invoice_id"]): -posted(line)
        for line in lines
        if line["posting"] == "invoice" and line["kind"] == "invoice"
    }
    assert credited == expected


def assert_prepayments_change(lines: list[Row], prepayments: list[Row]) -> None:
    opening, closing = defaultdict(int), defaultdict(int)
    for row in prepayments:
        opening[row["payer"], row["currency"]] += row["opening"]
        closing[row["payer"], row["currency"]] += row["closing"]
    changes: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for line in lines:
        if line["posting"] == "prepayments":
            changes[line["payer"], line["currency"]] += posted(line)
    for key in opening.keys() | changes.keys():
        assert changes[key] == rounded(closing[key], key[1]) - rounded(opening[key], key[1])


def assert_owners_pay_the_invoices(lines: list[Row], tables: Mapping[str, list[Row]]) -> None:
    """Per payer and currency what owners pay, with the change of prepayments and cents nobody pays, is what was billed."""
    sums: dict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
    for line in lines:
        sums[line["payer"], line["currency"], line["posting"]] += posted(line)
    for payer, currency in {key[:2] for key in sums}:
        assert sums[payer, currency, "other_invoice"] == 0
        paid = sum(sums[payer, currency, posting] for posting in ("cost", "prepayments", "rounding"))
        assert paid == -sums[payer, currency, "invoice"]
    owners: dict[str, Fraction] = defaultdict(Fraction)
    for line in lines:
        if line["posting"] == "cost":
            owners[line["currency"]] += posted(line)
    final_costs: dict[str, Fraction] = defaultdict(Fraction)
    for row in tables["account_costs"]:
        final_costs[row["currency"]] += Fraction(row["final_cost"], 10**10)
    for currency, total in final_costs.items():
        # A cent or two per entry at most.
        entries = len({line["entry"] for line in lines if line["currency"] == currency})
        assert abs(owners[currency] - total) <= Fraction(3 * entries + 3, 10 ** DIGITS[currency])


def assert_sums_are_those_of_the_lines(journal: Journal, lines: list[Row]) -> None:
    sums = {row[0]: row for row in journal.sums.select("entry", "debits", "credits", "invoiced", "rounded_by")}
    for entry, debits, credits, invoiced, rounded_by in sums.values():
        assert debits == credits == sum(Decimal(line["debit"] or 0) for line in lines if line["entry"] == entry)
        exact = sum(-line["exact_amount"] for line in lines if line["entry"] == entry and line["posting"] == "invoice")
        assert invoiced - exact == rounded_by


def posted(line: Row) -> Fraction:
    return Fraction(line["debit"] or 0) - Fraction(line["credit"] or 0)


def rounded(units: int, currency: str) -> Fraction:
    places = Decimal(1).scaleb(-DIGITS[currency])
    with_many_digits = Decimal(units).scaleb(-10)
    return Fraction(with_many_digits.quantize(places, rounding=ROUND_HALF_UP))
