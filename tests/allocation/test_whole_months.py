"""Whole random months through the tables, held against the laws they must obey."""

import json
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.oracle import Line
from tests.support.workspaces import decision, exact_rows, workspace_in

MONTHS = ["2024-01", "2024-02", "2024-03"]
ACCOUNTS = ["111111111111", "222222222222", "333333333333", "444444444444"]
PAYERS = ["888888888888", "999999999999"]
FORMULAS = [
    "", "cost*usage", "cost*0.3", "cost*group_usage", "cost/accounts", "cost", "-cost", "cost*1.5", "0",
    "usage > 0.3 ? cost*0.2 : cost*0.1", "cost/usage", "cost % 7", "round(cost*usage, 2)", "min(cost, 5)",
    "cost ** 0.5", "cost*1e30",
]  # fmt: skip

amounts = st.one_of(
    st.decimals(Decimal("-1000"), Decimal("100000"), places=2),
    st.decimals(Decimal("-1"), Decimal("1"), places=10),
    st.sampled_from([Decimal(0), Decimal("0.0000000001"), Decimal("-0.0000000007"), Decimal("1000000000000000")]),
)


@st.composite
def lines(draw) -> Line:
    kind = draw(st.sampled_from(["usage", "usage", "usage", "fee", "support", "tax", "used", "unused"]))
    cost = draw(amounts)
    common = {
        "billing_month": draw(st.sampled_from(MONTHS)),
        "sub_account_id": draw(st.sampled_from(ACCOUNTS)),
        "billing_account_id": draw(st.sampled_from(PAYERS)),
        "billed_cost": cost,
        "effective_cost": cost,
        "list_cost": cost,
        "charge_description": draw(st.sampled_from(["a", "b", None])),
        "service_code": draw(st.sampled_from(["AmazonEC2", "AmazonS3", None])),
    }
    if kind == "usage":
        return Line(**common, charge_category="Usage", line_type="Usage")
    if kind == "support":
        return Line(**(common | {"service_code": "AWSSupportBusiness"}), charge_category="Usage", line_type="Usage")
    if kind == "tax":
        return Line(**common, charge_category="Tax", line_type="Tax")
    if kind == "fee":
        return Line(**common, charge_category="Purchase", line_type="Fee")
    commitment = {"commitment_discount_type": "RI", "commitment_discount_id": "r1", "savings_kind": kind}
    if kind == "used":
        return Line(
            **(common | {"list_cost": cost + draw(amounts)}), **commitment, charge_category="Usage",
            line_type="DiscountedUsage",
        )  # fmt: skip
    return Line(**common, **commitment, charge_category="Purchase", line_type="RIFee")


entries = st.fixed_dictionaries(
    {
        "type": st.just("account"),
        "value": st.sampled_from([*ACCOUNTS, "555555555555"]),
        "formula": st.sampled_from(FORMULAS),
    },
    optional={"months": st.integers(1, 4)},
) | st.fixed_dictionaries(
    {
        "type": st.just("payer"),
        "value": st.sampled_from([*PAYERS, "1"]),
        "formula": st.sampled_from(FORMULAS),
    },
    optional={"months": st.integers(1, 4)},
)

criteria_of = {
    "fee": st.sampled_from(
        [
            {"lineType": "re:Fee"},
            {"description": "a"},
            {"productCode": ""},
            {"currency": "USD"},
            {"lineType": "Tax"},
        ]
    ),
    "account": st.sampled_from([{"account": ACCOUNTS[0]}, {"productCode": "re:^Amazon"}, {"description": "!re:a"}]),
    "savings": st.sampled_from([{"type": "RI"}, {"account": ACCOUNTS[1]}]),
}


@st.composite
def allocators(draw) -> dict:
    category = draw(st.sampled_from(["fee", "fee", "account", "savings"]))
    document = {
        "category": category,
        "criteria": [{"and": c} for c in draw(st.lists(criteria_of[category], min_size=1, max_size=2))],
        "allocator": draw(st.lists(entries, min_size=1, max_size=4)),
        "defaultAccount": draw(st.sampled_from(["", "777777777777"])),
        "startMonth": draw(st.sampled_from(MONTHS)),
    }
    created = draw(st.sampled_from([None, "2024-01-05T00:00:00Z", "2024-02-05T00:00:00+09:00"]))
    return document | ({"createTime": created} if created else {})


def fingerprints(workspace: Workspace) -> dict[tuple[str, str], str | None]:
    return {(t, m): workspace.lake.fingerprint(t, m) for t in workspace.lake.tables() for m in workspace.lake.months(t)}


several = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.slow
@several
@given(st.lists(lines(), min_size=1, max_size=25), st.lists(allocators(), max_size=4), st.randoms())
def test_the_same_rows_whatever_the_order_of_rows_and_files(rows, documents, random):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        # Files keep their names (a name is an id); what is permuted is the order of lines and of writing.
        shuffled = random.sample(rows, len(rows))
        first = run(workspace_in(Path(one), rows, documents), MONTHS)
        second = workspace_in(Path(other), shuffled, [])
        for i in random.sample(range(len(documents)), len(documents)):
            (second.settings.config / "allocators" / f"a{i}.json").write_text(json.dumps(documents[i]))
        assert exact_rows(run(second, MONTHS)) == exact_rows(first)


@pytest.mark.slow
@several
@given(st.lists(lines(), min_size=1, max_size=25), st.lists(allocators(), min_size=1, max_size=4), st.data())
def test_restore_then_reapply_gives_back_rows_and_fingerprints(rows, documents, data):
    with tempfile.TemporaryDirectory() as folder:
        workspace = run(workspace_in(Path(folder), rows, documents), MONTHS)
        before, prints = exact_rows(workspace), fingerprints(workspace)
        splitted = sorted({(row[0], row[1]) for row in before if row[3] != "item"})
        if not splitted:
            return
        item_id, origin = data.draw(st.sampled_from(splitted))
        workspace.registry.record_decisions([decision("restore", item_id, origin)])
        run(workspace, MONTHS)
        restored = [row for row in exact_rows(workspace) if row[0] == item_id]
        assert [(row[2], row[3], row[4]) for row in restored] == [("unchecked_allocated", "item", "restored")]
        workspace.registry.record_decisions([decision("reapply", item_id, origin)])
        run(workspace, MONTHS)
        assert exact_rows(workspace) == before
        assert fingerprints(workspace) == prints


@pytest.mark.slow
@several
@given(st.lists(lines(), min_size=1, max_size=25))
def test_a_month_without_allocators_is_all_unchecked(rows):
    with tempfile.TemporaryDirectory() as folder:
        workspace = run(workspace_in(Path(folder), rows, []), MONTHS)
        assert {(row[2], row[3], row[4]) for row in exact_rows(workspace)} <= {
            ("unchecked_allocated", "item", "no_allocator")
        }


@pytest.mark.slow
@several
@given(
    st.lists(lines(), min_size=1, max_size=15),
    st.lists(allocators(), max_size=3),
    st.lists(st.text(max_size=40) | st.sampled_from(['{"id": "x"}', "[]", "", '{"criteria": [{}]}']), max_size=4),
)
def test_bad_files_never_change_what_the_good_ones_do(rows, documents, bad):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first = run(workspace_in(Path(one), rows, documents), MONTHS)
        second = workspace_in(Path(other), rows, documents)
        for i, text in enumerate(bad):
            (second.settings.config / "allocators" / f"bad{i}.json").write_text(text, encoding="utf-8")
        assert exact_rows(run(second, MONTHS)) == exact_rows(first)
