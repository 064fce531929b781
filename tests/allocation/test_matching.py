"""Who takes which item, held against the criteria read row by row."""

import json
from decimal import Decimal
from random import Random

import duckdb
import pytest

from octo_pipeline.allocation import matching
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.rules.allocator import Allocator, parse_allocator

MONTH = "2024-01"
VALUES = {
    "sub_account_id": ["111111111111", "222222222222", "333333333333", "444444444444"],
    "service_code": ["AmazonEC2", "AmazonS3", "AWSLambda", "", None],
    "region_id": ["us-east-1", "eu-west-1", "eu-central-1", None],
    "usage_type": [f"Type{i}" for i in range(8)],
    "operation": ["Run", "Get", None],
    "tag:team": ["core", "data", None],
    "projectLabel:env": ["prod", None],
}
CONDITIONS = {
    "account": ["111111111111", "222222222222", "re:^[13]", "!re:4"],
    "productCode": ["AmazonEC2", "eq:AmazonS3", "re:^Amazon", "!re:^Amazon", ""],
    "region": ["re:^eu-", "!re:^eu-", "us-east-1", ""],
    "usageType": ["Type1", "re:[2-5]$", "!re:7", "nowhere"],
    "operation": ["Run", "!re:t", ""],
    "tag:team": ["core", "!re:^c", ""],
    "projectLabel:env": ["re:^p", ""],
}


def allocators(random: Random, count: int) -> list[Allocator]:
    documents = []
    for _ in range(count):
        keys = [random.sample(sorted(CONDITIONS), random.randint(1, 4)) for _ in range(random.randint(1, 3))]
        criteria = [{"and": {key: random.choice(CONDITIONS[key]) for key in chosen}} for chosen in keys]
        document = {"category": "account", "startMonth": MONTH, "criteria": criteria}
        documents.append(document | {"allocator": [{"type": "account", "value": "1", "formula": "cost"}]})
    return [parse_allocator(json.dumps(d), file=f"a{i:02d}.json") for i, d in enumerate(documents)]


def create_lines(connection: duckdb.DuckDBPyConnection, rows: list[dict]) -> None:
    typed = ", ".join(f"{name} {kind}" for name, kind in LINE_ITEM_COLUMNS.items())
    connection.execute(f"CREATE TABLE lines ({typed}, line_number BIGINT)")
    fixed = {"billing_month": MONTH, "vendor": "aws", "charge_category": "Usage", "billing_currency": "USD"}
    for number, row in enumerate(rows):
        maps = {"tags": tags_in(row, "tag:"), "project_labels": tags_in(row, "projectLabel:")}
        columns = {name: value for name, value in row.items() if name in LINE_ITEM_COLUMNS}
        row = fixed | columns | {"charge_description": str(number), "billed_cost": "1", "line_number": number} | maps
        names = ", ".join(row)
        connection.execute(f"INSERT INTO lines ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


def tags_in(row: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): v for name, v in row.items() if name.startswith(prefix) and v is not None}


def takers(rows: list[dict], candidates: list[Allocator]) -> dict[str, tuple[str, list[str]]]:
    found = {}
    for number, row in enumerate(rows):
        ids = [a.id for a in candidates if any(all(c.holds(row[name]) for name, c in m.items()) for m in a.criteria)]
        if ids:
            found[str(number)] = (ids[0], ids[1:])
    return found


@pytest.mark.parametrize("most_pairs", [1_000_000, 0], ids=["all pairs of classes", "pairs that occur"])
@pytest.mark.parametrize("most_combinations", [100_000, 0], ids=["combinations of values", "values"])
@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("seed", range(4))
def test_the_first_allocator_takes_and_the_others_conflict(seed, count, most_combinations, most_pairs, monkeypatch):
    monkeypatch.setattr(matching, "_MOST_PAIRS", most_pairs)
    monkeypatch.setattr(matching, "_MOST_COMBINATIONS", most_combinations)
    random = Random(seed)
    rows = [{name: random.choice(values) for name, values in VALUES.items()} for _ in range(120)]
    candidates = allocators(random, count)
    with duckdb.connect() as connection:
        create_lines(connection, rows)
        query = matching.matched_items_sql(connection, "lines", MONTH, candidates)
        found = connection.execute(
            f"SELECT charge_description, allocator_id, conflicting_allocator_ids FROM ({query})"
        ).fetchall()
    assert len(found) == len({line for line, *_ in found})
    assert {line: (taker, others) for line, taker, others in found} == takers(rows, candidates)


def test_lines_of_fee_items_are_no_usage():
    support = {"sub_account_id": "111111111111", "service_code": "AWSSupportBusiness"}
    usage = {"sub_account_id": "111111111111", "service_code": "AmazonEC2"}
    rule = {"category": "account", "startMonth": MONTH, "criteria": [{"and": {"account": "111111111111"}}]}
    allocator = parse_allocator(
        json.dumps(rule | {"allocator": [{"type": "account", "value": "1", "formula": "cost"}]}), file="a.json"
    )
    with duckdb.connect() as connection:
        create_lines(connection, [support, usage])
        query = matching.matched_items_sql(connection, "lines", MONTH, [allocator])
        found = connection.execute(f"SELECT category, service_code, allocator_id FROM ({query}) ORDER BY 1").fetchall()
    assert found == [("account", "AmazonEC2", "a"), ("fee", "AWSSupportBusiness", None)]


def test_an_allocator_with_two_maps_that_hold_conflicts_once():
    """Regression: where all maps look at one column, it was listed once per map."""
    line = {"sub_account_id": "111111111111", "operation": "RunInstances"}
    shared = {"category": "account", "startMonth": MONTH}
    entries = {"allocator": [{"type": "account", "value": "1", "formula": "cost"}]}
    one_map = {"criteria": [{"and": {"operation": "re:^Run"}}]}
    two_maps = {"criteria": [{"and": {"operation": "re:^Run"}}, {"and": {"operation": "re:Instances$"}}]}
    candidates = [
        parse_allocator(json.dumps(shared | entries | criteria), file=f"{name}.json")
        for name, criteria in (("a", one_map), ("b", two_maps))
    ]
    with duckdb.connect() as connection:
        create_lines(connection, [line])
        query = matching.matched_items_sql(connection, "lines", MONTH, candidates, ["account"])
        rows = connection.execute(f"SELECT allocator_id, conflicting_allocator_ids FROM ({query})").fetchall()
    assert rows == [("a", ["b"])]


@pytest.mark.parametrize("costs", [["0", "0"], ["1.5", "-1.5", "0"], ["2.25", "-7"]])
def test_what_is_due_of_parts_is_due_of_all(costs):
    """Regression: Python wrote a zero cost as 0E-10, so what reads a month in parts was made again without need."""

    def due(rows: list[tuple]) -> dict[str, dict[str, str]]:
        values = ", ".join(f"('v{i % 2}', '{MONTH}', 2, 'item {i}', {cost}::DECIMAL(38,10))" for i, cost in rows)
        columns = "allocator_version, first_booking_month, tranche_count, item_id, cost"
        items = f"SELECT *, cost AS effective_cost, NULL AS moving_item_ids FROM (VALUES {values}) AS items({columns})"
        return matching.due_facts(connection, f"({items})")

    rows = [(2 * i, Decimal(cost)) for i, cost in enumerate(costs)] + [(1, Decimal(3))]
    with duckdb.connect() as connection:
        whole = due(rows)
        assert matching.merged_due(due([row]) for row in rows) == whole
    assert list(whole) == ["2024-01", "2024-02"]
    assert {digest.split("/")[1] for digest in whole[MONTH].values()} == {"1", str(len(costs))}
