"""The oracle by itself against the golden cases: what it says is what people computed by hand."""

from decimal import Decimal
from pathlib import Path

from tests.support.case import EXPECTATIONS, Case, Expectation, differences, expected
from tests.support.oracle.amounts import money
from tests.support.oracle.case_folder import run_case
from tests.support.oracle.months import Result
from tests.support.oracle.results import (
    ACCOUNT_COST_MEASURES,
    account_costs,
    allocations,
    cost_group_costs,
    prepayments,
)

HERE = Path(__file__).parent

# Of each expectation what the oracle has, and the amounts of its tuples.
TABLES = {
    "allocations": (allocations, ("cost", "effective_cost")),
    "cost_group_costs": (cost_group_costs, ("cost", "effective_cost")),
    "account_costs": (account_costs, ACCOUNT_COST_MEASURES),
    "prepayments": (prepayments, EXPECTATIONS[3].measures),
}


def pytest_generate_tests(metafunc):
    folders = [HERE / "cases", HERE / "closed_cases", *(Path(p) for p in metafunc.config.getoption("--cases"))]
    cases = [Case(p.parent) for folder in folders for p in sorted(folder.rglob("case.json"))]
    metafunc.parametrize("case", cases, ids=[f"{c.folder.parent.name}/{c.folder.name}" for c in cases])


def test_the_oracle_agrees_with_the_case(case):
    result = run_case(case).last_run.result
    assert [line for expectation in EXPECTATIONS for line in comparison(case, result, expectation)] == []


def comparison(case: Case, result: Result, expectation: Expectation) -> list[str]:
    """The differences between a file of the case and what the oracle says."""
    header = case.header(expectation.file)
    if not header:
        return []
    key, measures = expectation.columns(header)
    table, amounts = TABLES[expectation.table]
    sums: dict[tuple[str, ...], tuple[Decimal, ...]] = {}
    for full_key, values in table(result).items():
        named = dict(zip(expectation.key, (*full_key, *[""] * len(expectation.key)), strict=False))
        k = tuple(named[name] for name in key)
        row = [money(values[amounts.index(name)]) for name in measures]
        sums[k] = tuple(a + b for a, b in zip(sums.get(k, [Decimal(0)] * len(row)), row, strict=True))
    return differences(sums, expected(case.rows(expectation.file), key, measures))
