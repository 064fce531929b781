"""The allocator document: every refusal with its place and message, its window, its canonical form, its loading."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octo_pipeline.model.columns import CRITERIA_COLUMNS, ITEM_GRAINS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import add_months, month_range
from octo_pipeline.model.wording import quoted_json
from octo_pipeline.rules.allocator import Allocator, criterion_sql, group_problems, load_allocators, parse_allocator
from octo_pipeline.rules.conditions import Condition
from octo_pipeline.rules.cost_group import load_cost_groups, parse_cost_group
from octo_pipeline.rules.documents import DocumentError, Problem, canonical_json

CASES = Path(__file__).parents[1] / "cases"
ENTRY = {"type": "account", "value": "111111111111"}
VALID = {
    "id": "support",
    "createTime": "2024-01-05T00:00:00Z",
    "criteria": [{"and": {"productCode": "AWSSupportBusiness"}}],
    "allocator": [ENTRY],
}


def parse(**changes) -> Allocator:
    return parse_allocator(json.dumps(VALID | changes), file="allocators/file-1.json")


def problems(text: str | bytes) -> list[tuple[str, str]]:
    with pytest.raises(DocumentError) as caught:
        parse_allocator(text, file="a.json")
    assert {p.file for p in caught.value.problems} == {"a.json"}
    str(caught.value).encode()
    return [(p.path, p.message) for p in caught.value.problems]


def test_the_seed_example():
    allocator = parse_allocator((CASES / "02-seed-example/allocators/example.json").read_bytes(), file="x.json")
    assert allocator.id == "example"
    assert allocator.category == "fee"
    assert allocator.expiration == 3
    assert allocator.default_account == "333333333333"
    assert allocator.criteria == (
        {
            "sub_account_id": Condition("re", "^111111111111$"),
            "charge_description": Condition("re", ".*Fee.*"),
            "service_code": Condition("eq", "AWSSupportBusiness"),
        },
    )
    assert [(e.type, e.value, e.formula, e.months) for e in allocator.entries] == [
        ("account", "111111111111", "cost*usage", 3),
        ("account", "222222222222", "cost*0.2", 2),
    ]
    assert (allocator.created_month, allocator.start, allocator.end) == ("2024-01", "2024-01", "2024-03")
    assert (allocator.is_spreading, allocator.tranche_count) == (True, 3)


def test_defaults_and_empty_strings():
    empty = {"name": "", "description": "", "updateTime": "", "category": "", "expiration": "", "startMonth": ""}
    allocator = parse(
        id="", **empty, defaultAccount=" ", allocator=[ENTRY | {"formula": " ", "months": "", "value": " x "}]
    )
    assert allocator.id == "file-1"
    assert allocator.category == "fee"
    assert [(e.value, e.formula, e.months) for e in allocator.entries] == [("x", "cost*usage", 1)]
    assert allocator.document == (
        '{"allocator":[{"formula":"cost*usage","months":1,"type":"account","value":"x"}],"category":"fee",'
        '"createTime":"2024-01-05T00:00:00Z","criteria":[{"and":{"productCode":"AWSSupportBusiness"}}],"id":"file-1"}'
    )
    assert allocator == parse(id=None, **dict.fromkeys(empty), allocator=[ENTRY | {"value": "x"}])


@pytest.mark.parametrize("three", [3, "3", 3.0, "03"])
def test_numbers_may_be_strings(three):
    allocator = parse(expiration=three, allocator=[ENTRY | {"months": three}])
    assert (allocator.expiration, allocator.entries[0].months) == (3, 3)
    assert allocator.document == parse(expiration=3, allocator=[ENTRY | {"months": 3}]).document


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-01-05T00:00:00Z", datetime(2024, 1, 5, tzinfo=UTC)),
        ("2024-01-05", datetime(2024, 1, 5, tzinfo=UTC)),
        ("2024-01-05 10:30", datetime(2024, 1, 5, 10, 30, tzinfo=UTC)),
        ("2024-01-31T23:00:00-05:00", datetime(2024, 2, 1, 4, tzinfo=UTC)),
        ("2024-01-05T00:00:00.250", datetime(2024, 1, 5, microsecond=250000, tzinfo=UTC)),
    ],
)
def test_times_are_instants(text, instant):
    allocator = parse(createTime=text, updateTime=text)
    assert (allocator.create_time, allocator.update_time) == (instant, instant)
    assert allocator.created_month == f"{instant:%Y-%m}"


MONTHS_36 = "must be a whole number from 1 to 36, not "
MONTHS_9999 = "must be a whole number from 1 to 9999, not "
NOT_TEXT = "must be text in double quotes, not "
ZEROS = "; an id written as a number loses its leading zeros"
FEE_KEYS = "account, payer, vendor, seller, lineType, productCode, productName, description, currency"
USAGE_OF = '"account", "matched", {"costGroup": ID} or {"metric": ID, "carryForward": true}'
PRIORITIES = "must be a whole number from -1000 to 1000, not "


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"typo": 1}, "typo", "unknown key; allowed: id, name, description, category, step, criteria, allocator,"),
        ({"typo": ""}, "typo", "unknown key; allowed: id,"),
        ({"entries": [ENTRY]}, "entries", "unknown key; allowed: id,"),
        ({"start_month": "2024-01"}, "start_month", "unknown key; allowed: id,"),
        ({"two words": 1}, '["two words"]', "unknown key"),
        ({"id": " a"}, "id", '" a" is not a valid id; use 1 to 100 characters without'),
        ({"id": "a\\b"}, "id", "is not a valid id"),
        ({"id": "../a"}, "id", '"../a" is not a valid id'),
        ({"id": ".a"}, "id", "the first no dot and no space"),
        ({"id": "a\n"}, "id", '"a\\n" is not a valid id'),
        ({"id": "a" * 101}, "id", "is not a valid id"),
        ({"id": 7}, "id", NOT_TEXT + "7" + ZEROS),
        ({"id": 0}, "id", NOT_TEXT + "0" + ZEROS),
        ({"name": ["x"]}, "name", NOT_TEXT + '["x"]'),
        ({"category": "fees"}, "category", "\"fees\" is unknown; allowed: 'fee', 'account', 'savings' or 'balance'"),
        ({"category": 1}, "category", "1 is unknown; allowed: 'fee', 'account', 'savings' or 'balance'"),
        ({"expiration": 0}, "expiration", MONTHS_9999 + "0"),
        ({"expiration": "0"}, "expiration", MONTHS_9999 + '"0"'),
        ({"expiration": "-1"}, "expiration", MONTHS_9999 + '"-1"'),
        ({"expiration": 1.5}, "expiration", MONTHS_9999 + "1.5"),
        ({"expiration": "1.0"}, "expiration", MONTHS_9999 + '"1.0"'),
        ({"expiration": "three"}, "expiration", MONTHS_9999 + '"three"'),
        ({"expiration": "٣"}, "expiration", MONTHS_9999 + '"٣"'),
        ({"expiration": True}, "expiration", MONTHS_9999 + "true"),
        ({"expiration": [3]}, "expiration", MONTHS_9999 + "[3]"),
        ({"expiration": 10000}, "expiration", MONTHS_9999 + "10000"),
        ({"expiration": 1e300}, "expiration", MONTHS_9999),
        ({"priority": 1001}, "priority", PRIORITIES + "1001"),
        ({"priority": "-1001"}, "priority", PRIORITIES + '"-1001"'),
        ({"priority": 0.5}, "priority", PRIORITIES + "0.5"),
        ({"priority": "first"}, "priority", PRIORITIES + '"first"'),
        ({"endMonth": "2024-13"}, "endMonth", '"2024-13" is not a month; write it as YYYY-MM'),
        (
            {"endMonth": "2023-12"},
            "endMonth",
            "2023-12 is before 2024-01, the first month whose items it takes; end later or start earlier",
        ),
        (
            {"startMonth": "2024-05", "endMonth": "2023-12", "allocator": [ENTRY | {"months": 2}]},
            "endMonth",
            "2023-12 is before 2024-01, the first month whose items it takes",
        ),
        ({"startMonth": "2024-13"}, "startMonth", '"2024-13" is not a month; write it as YYYY-MM, for example 2024-01'),
        ({"startMonth": "2024-1"}, "startMonth", '"2024-1" is not a month'),
        ({"startMonth": "2024-01-01"}, "startMonth", "is not a month"),
        ({"startMonth": 202403}, "startMonth", NOT_TEXT + "202403; write it as YYYY-MM, for example 2024-03"),
        ({"startMonth": "202403"}, "startMonth", '"202403" is not a month; write it as YYYY-MM, for example 2024-03'),
        ({"startMonth": "2024/3/1"}, "startMonth", "write it as YYYY-MM, for example 2024-03"),
        ({"startMonth": 2024}, "startMonth", NOT_TEXT + "2024; write it as YYYY-MM, for example 2024-01"),
        ({"createTime": "yesterday"}, "createTime", '"yesterday" is not an ISO 8601 time; write it like 2024-01-05T00:00'),
        ({"createTime": "2024-02-30"}, "createTime", '"2024-02-30" is not an ISO 8601 time'),
        ({"createTime": "2024-W01-1"}, "createTime", "is not an ISO 8601 time"),
        ({"createTime": 1704412800}, "createTime", "1704412800 is not an ISO 8601 time"),
        ({"createTime": "0001-01-01T00:00:00+14:00"}, "createTime", "is not an ISO 8601 time"),
        ({"updateTime": "x"}, "updateTime", '"x" is not an ISO 8601 time'),
        ({"defaultAccount": 12345678901}, "defaultAccount", NOT_TEXT + "12345678901" + ZEROS),
        ({"criteria": []}, "criteria", "is empty, so it matches nothing; list at least one"),
        ({"criteria": ""}, "criteria", 'is missing; it must be a list of {"and": {key: value}}'),
        ({"criteria": {"and": {"account": "1"}}}, "criteria", 'must be a list of {"and": {key: value}}, not {"and"'),
        ({"criteria": ["x"]}, "criteria[0]", 'must be an object {"and": {key: value}}, not "x"'),
        ({"criteria": [{}]}, "criteria[0].and", f"must be an object with at least one key; allowed: {FEE_KEYS}"),
        ({"criteria": [{"and": {}}]}, "criteria[0].and", "must be an object with at least one key"),
        ({"criteria": [{"and": [1]}]}, "criteria[0].and", "must be an object with at least one key"),
        ({"criteria": [{"and": {"account": "1"}, "or": {}}]}, "criteria[0].or", "unknown key; allowed: and"),
        ({"criteria": [{"and": {"region": "x"}}]}, "criteria[0].and.region", f"unknown key; allowed: {FEE_KEYS}"),
        ({"criteria": [{"and": {"tag:team": "x"}}]}, 'criteria[0].and["tag:team"]', f"unknown key; allowed: {FEE_KEYS}"),
        (
            {"category": "account", "criteria": [{"and": {"tag": "x"}}]},
            "criteria[0].and.tag",
            "operation, usageType, region, currency, tag:KEY, projectLabel:KEY",
        ),
        (
            {"category": "account", "criteria": [{"and": {"tag:": "x"}}]},
            'criteria[0].and["tag:"]',
            "a tag or label key cannot be empty",
        ),
        ({"criteria": [{"and": {"account": 1}}]}, "criteria[0].and.account", NOT_TEXT + "1" + ZEROS),
        ({"criteria": [{"and": {"account": None}}]}, "criteria[0].and.account", 'write "" for null or empty'),
        ({"criteria": [{"and": {"account": "!1"}}]}, "criteria[0].and.account", "begins with '!' but not with '!re:'"),
        ({"criteria": [{"and": {"account": "re:("}}]}, "criteria[0].and.account", '"(" is not a pattern that RE2 accepts'),
        ({"allocator": []}, "allocator", "is empty, so it gives the cost to nobody; list at least one entry"),
        ({"allocator": ENTRY}, "allocator", 'must be a list [ … ], not {"type"'),
        ({"allocator": ["x"]}, "allocator[0]", 'must be an object { … }, not "x"'),
        ({"allocator": [ENTRY | {"month": 2}]}, "allocator[0].month", "unknown key; allowed: type, value, formula"),
        ({"allocator": [{"value": "1"}]}, "allocator[0].type", "is missing; it must be account, payer, costgroup, group or owner"),
        (
            {"allocator": [ENTRY | {"type": "accounts"}]},
            "allocator[0].type",
            "\"accounts\" is unknown; allowed: 'account', 'payer', 'costgroup', 'group' or 'owner'",
        ),
        ({"allocator": [{"type": "payer"}]}, "allocator[0].value", "is missing; it must be a payer id"),
        ({"allocator": [ENTRY | {"value": ""}]}, "allocator[0].value", "is missing; it must be an account id"),
        ({"allocator": [ENTRY | {"value": " "}]}, "allocator[0].value", "is blank; it must be an account id"),
        ({"allocator": [ENTRY | {"value": 12}]}, "allocator[0].value", NOT_TEXT + "12" + ZEROS),
        ({"allocator": [ENTRY | {"type": "owner"}]}, "allocator[0].value", "must be left out: the type owner is the item's"),
        ({"allocator": [{"type": "group"}]}, "allocator[0].value", "it must be the id of a cost group, or re: and a pattern"),
        (
            {"allocator": [{"type": "group", "value": "re:("}]},
            "allocator[0].value",
            '"(" is not a pattern that RE2 accepts',
        ),
        (
            {"defaultAccount": "1", "defaultGroup": "g"},
            "defaultGroup",
            "is set beside defaultAccount; keep one of them: the remainder goes to one account or group",
        ),
        ({"usageOf": "all"}, "usageOf", f'"all" is unknown; allowed: {USAGE_OF}'),
        ({"usageOf": 5}, "usageOf", f"5 is unknown; allowed: {USAGE_OF}"),
        ({"usageOf": {}}, "usageOf", f"must name one of costGroup and metric, not {{}}; allowed: {USAGE_OF}"),
        ({"usageOf": {"costGroup": "a", "metric": "b"}}, "usageOf", "must name one of costGroup and metric"),
        ({"usageOf": {"costGroup": 5}}, "usageOf.costGroup", NOT_TEXT + "5"),
        ({"usageOf": {"costGroup": " "}}, "usageOf.costGroup", "is blank; it must be the id of a cost group"),
        ({"usageOf": {"costGroup": "a", "carryForward": True}}, "usageOf.carryForward", "unknown key; allowed: costGroup"),
        ({"usageOf": {"metric": "../a"}}, "usageOf.metric", '"../a" is not a valid id; a metric is named like its file'),
        (
            {"usageOf": {"metric": "a", "carryForward": "yes"}},
            "usageOf.carryForward",
            'must be true or false, not "yes"',
        ),
        ({"allocator": [ENTRY, ENTRY | {"months": 0}]}, "allocator[1].months", MONTHS_36 + "0"),
        ({"allocator": [ENTRY | {"months": 37}]}, "allocator[0].months", MONTHS_36 + "37"),
        ({"allocator": [ENTRY | {"months": "1e1"}]}, "allocator[0].months", MONTHS_36 + '"1e1"'),
        ({"allocator": [ENTRY | {"formula": 0.5}]}, "allocator[0].formula", NOT_TEXT + "0.5"),
        ({"allocator": [ENTRY | {"formula": "cost*"}]}, "allocator[0].formula", "olumn 6"),
        ({"allocator": [ENTRY | {"formula": "price"}]}, "allocator[0].formula", "cost, usage, accounts, group_usage, active_accounts"),
        ({"allocator": [ENTRY | {"formula": "cost > 1"}]}, "allocator[0].formula", "number"),
        (
            {"createTime": ""},
            "startMonth",
            "is not set and neither is createTime, so there is not a month to start in; set startMonth, or add the "
            "allocator instead of writing its file, which stamps createTime",
        ),
        (
            {"startMonth": "2024-05", "expiration": 4},
            "expiration",
            "counts from createTime (2024-01), so the last month 2024-04 is before startMonth (2024-05); raise it to 5",
        ),
        (
            {"startMonth": "2026-01", "allocator": [ENTRY, ENTRY | {"months": 13}]},
            "startMonth",
            "2026-01 is 24 months after createTime (2024-01) and an entry takes 13; together they may be 36 months",
        ),
        ({"startMonth": "2027-01"}, "startMonth", "2027-01 is 36 months after createTime (2024-01)"),
    ],
)  # fmt: skip
def test_refusals(changes, path, message):
    found = problems(json.dumps(VALID | changes))
    assert [place for place, _ in found] == [path]
    assert message in found[0][1]


@pytest.mark.parametrize(
    "changes",
    [
        {"expiration": 9999},
        {"startMonth": "2026-12"},
        {"startMonth": "2026-01", "allocator": [ENTRY | {"months": 12}]},
        {"allocator": [ENTRY | {"months": 36}]},
        {"startMonth": "2020-01", "allocator": [ENTRY | {"months": 36}]},
        {"startMonth": "2024-05", "expiration": 5},
        {"startMonth": "2024-05", "expiration": 1, "allocator": [ENTRY | {"months": 2}]},
        {"createTime": "", "startMonth": "2024-05", "expiration": 1},
        {"startMonth": "2024-05", "endMonth": "2024-01", "allocator": [ENTRY | {"months": 2}]},
        {"startMonth": "2024-05", "endMonth": "2024-05"},
        {"priority": "-1000"},
        {"priority": 1000, "endMonth": "", "expiration": 2},
        {"category": "account", "criteria": [{"and": {"tag:a b": "", "projectLabel::": "re:x"}}]},
        {"usageOf": "matched", "allocator": [{"type": "owner"}, {"type": "group", "value": "re:^teams/."}]},
        {"usageOf": {"costGroup": "teams/a b"}, "defaultGroup": "teams/", "defaultAccount": ""},
        {"usageOf": {"metric": "heads", "carryForward": False}},
        {"usageOf": {"metric": "heads", "carryForward": True}},
        {"id": "A" * 100},
        {"id": "2024_a.b-c"},
        {"id": "Gebühr für Support 2024"},
        {"criteria": [{"and": {"account": ""}}]},
    ],
)
def test_what_is_just_allowed(changes):
    assert Allocator.from_document(parse(**changes).document) == parse(**changes)


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("[]", "", "must be one JSON object { … } and nothing else"),
        ("5", "", "must be one JSON object"),
        ("", "line 1, column 1", "is not valid JSON here: Expecting value"),
        ('{"id": "a",\n "id" "b"}', "line 2, column 7", "is not valid JSON here: Expecting ':' delimiter"),
        ("{} {}", "line 1, column 4", "is not valid JSON here: Extra data"),
        (b'{"id": "\xff"}', "", "is not UTF-8 text (byte 8); save it as UTF-8"),
        ('{"id": "a"}'.encode("utf-16"), "", "is not UTF-8 text (byte 0)"),
        ("[" * 100_000, "", "is nested more than 20 levels deep"),
        ('{"a":' * 100_000, "", "is nested more than 20 levels deep"),
        (" " * 1_000_001, "", "is larger than 1,000,000 bytes"),
        (b" " * 1_000_001, "", "is larger than 1,000,000 bytes"),
        ("é" * 500_001, "", "is larger than 1,000,000 bytes"),
    ],
)
def test_files_that_are_no_document(text, path, message):
    found = problems(text)
    assert [place for place, _ in found] == [path]
    assert message in found[0][1]


@pytest.mark.parametrize(
    ("addition", "path", "message"),
    [
        ('"id": "b"', "id", "is given more than once; keep one"),
        ('"criteria": [{"and": {"account": "1", "account": "2"}}]', "criteria[0].and.account", "is given more than"),
        ('"expiration": NaN', "expiration", "must be a finite number"),
        ('"expiration": -Infinity', "expiration", "must be a finite number"),
        ('"expiration": 1e999', "expiration", "must be a finite number"),
        ('"expiration": ' + "1" * 5000, "expiration", "must be a finite number of at most 18 digits"),
        ('"name": "a\\u0000"', "name", "has a NUL character; remove it"),
        ('"a\\u0000": 1', '["a\\u0000"]', "has a NUL character; remove it"),
        ('"name": "\\ud800"', "name", "has half of a surrogate pair"),
        ('"\\ud800": 1', '["\\ud800"]', "has half of a surrogate pair"),
        ('"name": ' + "[" * 25 + "]" * 25, "name", "is nested more than 20 levels deep"),
        ('"name": ' + "[" * 400 + "]" * 400, "name", "is nested more than 20 levels deep"),
    ],
)
def test_what_json_leaves_open_is_refused_with_its_path(addition, path, message):
    found = problems(json.dumps(VALID)[:-1] + f", {addition}}}")
    assert (path, message) in [(place, text[: len(message)]) for place, text in found]


def test_all_problems_of_a_file_are_reported_at_once():
    text = """{"id": "a b", "id": "a/c", "categry": "fee", "expiration": 0, "startMonth": "x", "name": "\\u0000",
      "criteria": [{"and": {"acount": "re:(", "region": "!x"}}, {"and": {}}],
      "allocator": [{"type": "a", "value": "", "formula": "1/", "months": 99}, {"typ": "account"}]}"""
    assert sorted(place for place, _ in problems(text)) == [
        "allocator[0].formula",
        "allocator[0].months",
        "allocator[0].type",
        "allocator[0].value",
        "allocator[1].typ",
        "allocator[1].type",
        "allocator[1].value",
        "categry",
        "criteria[0].and.acount",
        "criteria[0].and.acount",
        "criteria[0].and.region",
        "criteria[0].and.region",
        "criteria[1].and",
        "expiration",
        "id",
        "id",
        "name",
        "startMonth",
    ]


def test_an_unknown_category_leaves_the_keys_of_every_category_open():
    found = problems(json.dumps(VALID | {"category": "x", "criteria": [{"and": {"arn": "1", "usageType": "2"}}]}))
    assert [place for place, _ in found] == ["category"]


@pytest.mark.parametrize("step", ["1", 1, None])
def test_the_first_step_is_the_same_however_it_is_written(step):
    balance = {"category": "balance", "criteria": [{"and": {"group": "teams/core"}}]}
    allocator = parse(**balance, step=step)
    assert allocator.step == 1
    assert allocator.version == parse(**balance).version
    assert parse_allocator(allocator.document, file="a.json") == allocator


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"category": "balance", "step": "10"}, "step", 'must be a whole number from 1 to 9, not "10"'),
        ({"category": "balance", "step": 0}, "step", "must be a whole number from 1 to 9, not 0"),
        (
            {"step": "1"},
            "step",
            "is only for the category balance, whose rules take turns; leave it out of a rule of category fee",
        ),
        (
            {
                "category": "balance",
                "allocator": [{"type": "owner"}, {"type": "account", "value": "1", "months": "1"}],
            },
            "allocator[1].months",
            "must be left out: a balance is of its month alone",
        ),
    ],
)
def test_a_step_and_months_are_refused_where_they_mean_nothing(changes, path, message):
    criteria = {"criteria": [{"and": {"account": "1"}}]}
    assert problems(json.dumps(VALID | criteria | changes)) == [(path, message)]


def test_a_byte_order_mark_is_no_problem():
    text = json.dumps(VALID)
    assert parse_allocator(text.encode("utf-8-sig"), file="a.json") == parse_allocator(text, file="a.json")
    assert parse_allocator("\ufeff" + text, file="a.json") == parse_allocator(text, file="a.json")


@pytest.mark.parametrize("category", CRITERIA_COLUMNS)
def test_criteria_look_at_the_columns_of_their_category(category):
    columns = CRITERIA_COLUMNS[category]
    assert len(set(columns.values())) == len(columns)
    # The owner of a balance has payers and vendors; the balance has not.
    beside = {"balance": {"billing_account_id", "vendor"}}.get(category, {"service_name"})
    assert set(columns.values()) <= {*ITEM_GRAINS[category], *beside}
    criteria = [{"and": {key: f"eq:{key}" for key in columns}}, {"and": {"account": "re:x"}}]
    allocator = parse(category=category, criteria=criteria)
    assert allocator.criteria == (
        {column: Condition("eq", key) for key, column in columns.items()},
        {"sub_account_id": Condition("re", "x")},
    )
    assert json.loads(allocator.document)["criteria"] == criteria


# created, start, expiration, months -> start, end, first and last matching month of 2023-10 … 2024-12
WINDOWS = [
    ("2024-02", "", None, 1, "2024-02", None, "2024-02", "2024-12"),
    ("2024-02", "", 3, 1, "2024-02", "2024-04", "2024-02", "2024-04"),
    ("2024-02", "2024-03", 3, 1, "2024-03", "2024-04", "2024-03", "2024-04"),
    ("2024-02", "2024-04", 3, 1, "2024-04", "2024-04", "2024-04", "2024-04"),
    ("2024-02", "2023-12", 3, 1, "2023-12", "2024-04", "2023-12", "2024-04"),
    ("", "2024-03", 3, 1, "2024-03", "2024-05", "2024-03", "2024-05"),
    ("", "2024-03", None, 12, "2024-03", None, "2024-03", "2024-12"),
    ("", "2024-03", 2, 12, "2024-03", "2024-04", "2024-03", "2024-04"),
    ("2024-02", "2024-06", None, 12, "2024-06", None, "2024-02", "2024-12"),
    ("2024-02", "2024-06", 2, 12, "2024-06", "2024-03", "2024-02", "2024-03"),
    ("2024-02", "2023-12", 2, 12, "2023-12", "2024-03", "2023-12", "2024-03"),
    ("2024-02", "", 1, 2, "2024-02", "2024-02", "2024-02", "2024-02"),
]


@pytest.mark.parametrize("window", WINDOWS)
def test_window(window):
    created, start, expiration, months, expected_start, expected_end, first, last = window
    allocator = parse(
        createTime=created and f"{created}-29T23:59:59Z",
        startMonth=start,
        expiration=expiration,
        allocator=[ENTRY, ENTRY | {"months": months}],
    )
    assert (allocator.created_month, allocator.start, allocator.end) == (created or None, expected_start, expected_end)
    assert (allocator.is_spreading, allocator.tranche_count) == (months > 1, months)
    origins = month_range("2023-10", "2024-12")
    assert [o for o in origins if allocator.matches_month(o)] == month_range(first, last)
    for origin in month_range(first, last):
        booked = max(origin, expected_start) if months > 1 else origin
        assert allocator.first_booking_month(origin) == booked


def test_windows_of_the_golden_case():
    (annual, monthly), found = load_allocators(CASES / "08-start-and-expiration/allocators")
    assert found == ()
    assert [annual.matches_month(m) for m in ("2023-12", "2024-01", "2024-03", "2030-01")] == [False, True, True, True]
    assert [annual.first_booking_month(m) for m in ("2024-01", "2024-03", "2024-05")] == [
        "2024-03",
        "2024-03",
        "2024-05",
    ]
    assert [m for m in month_range("2024-01", "2024-05") if monthly.matches_month(m)] == ["2024-02", "2024-03"]


@pytest.mark.parametrize(
    ("expiration", "end_month", "end"),
    [(3, "2024-06", "2024-03"), (9, "2024-06", "2024-06"), ("", "2024-06", "2024-06")],
)
def test_the_earlier_of_end_month_and_expiration_ends_an_allocator(expiration, end_month, end):
    allocator = parse(expiration=expiration, endMonth=end_month)
    assert allocator.end == end
    assert [m for m in month_range("2023-12", "2024-08") if allocator.matches_month(m)] == month_range("2024-01", end)


def test_an_end_month_that_spreads_ends_origin_months_only():
    allocator = parse(endMonth="2024-02", startMonth="2024-03", allocator=[ENTRY | {"months": 2}])
    assert [m for m in month_range("2023-12", "2024-08") if allocator.matches_month(m)] == ["2024-01", "2024-02"]
    assert allocator.first_booking_month("2024-02") == "2024-03"


def test_what_is_not_set_leaves_the_version_of_earlier_editions():
    assert parse(priority=0, endMonth="").document == parse().document
    assert parse(usageOf="account", defaultGroup=" ").document == parse().document
    assert {parse(priority=-5).document, parse(endMonth="2030-01").document}.isdisjoint({parse().document})


def test_the_lowest_priority_comes_first(tmp_path):
    write(
        tmp_path,
        old=timed("2023-01-01"),
        timeless=timed(""),
        late=timed("2024-06-01") | {"priority": -1},
        timeless_last=timed("") | {"priority": "2"},
        last=timed("2022-01-01") | {"priority": 2},
    )
    allocators, found = load_allocators(tmp_path)
    assert found == ()
    assert [a.id for a in allocators] == ["late", "timeless", "old", "timeless_last", "last"]


def test_criteria_name_tags_by_their_keys():
    criteria = [{"and": {"tag:user:team": "a", "projectLabel:env": "", "seller": "re:x"}}]
    allocator = parse(category="account", criteria=criteria)
    (conditions,) = allocator.criteria
    assert list(conditions) == ["tag:user:team", "projectLabel:env", "publisher_name"]
    assert json.loads(allocator.document)["criteria"] == criteria
    assert [criterion_sql(column) for column in conditions] == [
        "map_extract_value(tags, 'user:team')",
        "map_extract_value(project_labels, 'env')",
        '"publisher_name"',
    ]


@pytest.mark.parametrize(
    ("formulas", "needs_usage"),
    [
        (["cost", "cost*0.2/accounts"], False),
        ([""], True),
        (["cost", "usage > 0 ? 1 : 0"], True),
        (["cost/active_accounts"], True),
        (["cost*group_usage"], True),
    ],
)
def test_usage_is_needed_where_a_formula_names_it(formulas, needs_usage):
    assert parse(allocator=[ENTRY | {"formula": formula} for formula in formulas]).needs_usage == needs_usage


GROUPS = {
    "plain": parse_cost_group("{}", file="plain.json"),
    "te.ams": parse_cost_group('{"by": {"tag": "team"}}', file="te.ams.json"),
}


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        (
            {"allocator": [ENTRY, {"type": "group", "value": "te.ams"}]},
            "allocator[1].value",
            '"te.ams" is a family of cost groups, not one of them; write "re:^te\\\\.ams/" for all of them, or name one '
            "of them, such as te.ams/VALUE",
        ),
        (
            {"allocator": [{"type": "costgroup", "value": "te.ams"}]},
            "allocator[0].value",
            '"te.ams" is a family of cost groups, not one of them; name one of them, such as te.ams/VALUE',
        ),
        (
            {"allocator": [{"type": "group", "value": "plane"}]},
            "allocator[0].value",
            '"plane" is not a cost group; did you mean "plain"? known are: plain, te.ams',
        ),
        ({"allocator": [{"type": "group", "value": "plain/x"}]}, "allocator[0].value", '"plain/x" is not a cost group'),
        ({"usageOf": {"costGroup": "nobody"}}, "usageOf.costGroup", "is not a cost group; known are: plain, te.ams"),
        ({"usageOf": {"costGroup": "te.ams"}}, "usageOf.costGroup", "is a family of cost groups, not one of them"),
        ({"defaultGroup": "te.ams"}, "defaultGroup", "is a family of cost groups, not one of them"),
        ({"defaultGroup": "nobody"}, "defaultGroup", '"nobody" is not a cost group'),
    ],
)
def test_cost_groups_that_an_allocator_cannot_name(changes, path, message, tmp_path):
    write(tmp_path, bad=VALID | {"id": "bad"} | changes, good=VALID | {"id": "good"})
    allocators, found = load_allocators(tmp_path, GROUPS)
    assert ([a.id for a in allocators], [p.path for p in found]) == (["good"], [path])
    assert message in found[0].message


def test_of_many_cost_groups_the_nearest_and_a_few_more_are_named():
    many = {f"group-{n:02}": parse_cost_group("{}", file="a.json") for n in range(30)} | {"platform": GROUPS["plain"]}
    (problem,) = group_problems(parse(defaultGroup="plattform"), many, file="a.json")
    assert problem.message == (
        '"plattform" is not a cost group; did you mean "platform"? known are: platform, group-00, group-01, group-02, '
        "group-03, group-04, group-05, group-06, group-07, group-08 and 21 more"
    )


@pytest.mark.parametrize(
    "changes",
    [{"allocator": [{"type": "group", "value": value}]} for value in ("plain", "te.ams/", "te.ams/a/b", "re:^x$")]
    + [
        {"usageOf": {"costGroup": "plain"}, "defaultGroup": "te.ams/core"},
        # It resolves to nobody, as ever.
        {"allocator": [{"type": "costgroup", "value": "nobody"}]},
    ],
)
def test_cost_groups_that_an_allocator_can_name(changes):
    assert group_problems(parse(**changes), GROUPS, file="a.json") == []


def test_an_end_beyond_the_calendar_is_the_last_month():
    allocator = parse(createTime="9998-06-01", expiration=9999)
    assert allocator.end == "9999-12"
    assert allocator.matches_month("9999-12")


def write(folder: Path, **documents: dict | bytes) -> None:
    for name, document in documents.items():
        text = document if isinstance(document, bytes) else json.dumps(document).encode()
        (folder / f"{name}.json").write_bytes(text)


def timed(time: str, name: str = "") -> dict:
    return VALID | {"id": name, "createTime": time, "startMonth": "2024-01"}


def test_allocators_come_in_the_order_in_which_they_take_items(tmp_path):
    write(
        tmp_path,
        a=timed("2024-01-02T00:00:00Z"),
        b=timed("2024-01-02T01:00:00+02:00"),
        c=timed("2024-01-02"),
        d=timed(""),
        e=timed("2023-12-31", "z"),
        f=timed("", "A"),
    )
    loaded, found = load_allocators(tmp_path)
    assert [a.id for a in loaded] == ["A", "d", "z", "b", "a", "c"]
    assert found == ()


def test_a_bad_file_is_left_out_and_the_others_stay(tmp_path):
    write(tmp_path, bad=b"{", good=VALID | {"id": "good"}, worse=VALID | {"id": "x/y", "typo": 1})
    (tmp_path / "README.md").write_text("no JSON")
    (tmp_path / ".hidden.json").write_text("no JSON")
    (tmp_path / "upper.JSON").write_text(json.dumps(VALID | {"id": "upper"}))
    (tmp_path / "folder.json").mkdir()
    loaded, found = load_allocators(tmp_path)
    assert [a.id for a in loaded] == ["good", "upper"]
    assert [(p.file, p.path) for p in found] == [
        (f"{tmp_path.name}/bad.json", "line 1, column 2"),
        (f"{tmp_path.name}/folder.json", ""),
        (f"{tmp_path.name}/worse.json", "id"),
        (f"{tmp_path.name}/worse.json", "typo"),
    ]


def test_a_file_name_that_is_no_text_can_be_printed(tmp_path):
    try:
        (tmp_path / "\udcff.json").write_text("{")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    _, found = load_allocators(tmp_path)
    assert [p.file for p in found] == [f"{tmp_path.name}/\\udcff.json"]


def test_files_that_share_an_id_are_all_left_out(tmp_path):
    write(tmp_path, a=VALID | {"id": ""}, b=VALID | {"id": "a"}, c=VALID | {"id": "a"}, d=VALID | {"id": "d"})
    loaded, found = load_allocators(tmp_path)
    assert [a.id for a in loaded] == ["d"]
    place = tmp_path.name
    assert [str(p) for p in found] == [
        f'{place}/{name}.json: id: "a" is also the id in {place}/{x}.json, {place}/{y}.json; all of them are left out '
        "until each has its own"
        for name, x, y in (("a", "b", "c"), ("b", "a", "c"), ("c", "a", "b"))
    ]


def test_folders(tmp_path):
    assert load_allocators(tmp_path) == ((), ())
    assert load_allocators(tmp_path / "allocators") == ((), ()), "a configuration without rules"
    with pytest.raises(OctoError, match=r"folder .*missing does not exist\. Create it") as refused:
        load_allocators(tmp_path / "missing" / "allocators")
    assert refused.value.remedies[0].options == (("setting", "config"),)
    (tmp_path / "file").write_text("")
    with pytest.raises(OctoError, match=r"The folder .*file cannot be read .*Create it"):
        load_allocators(tmp_path / "file")


@pytest.mark.parametrize("folder", sorted(CASES.glob("*/allocators")), ids=lambda path: path.parent.name)
def test_the_golden_cases_are_valid(folder):
    groups, group_problems = load_cost_groups(folder.parent / "cost_groups")
    loaded, found = load_allocators(folder, {group.id: group for group in groups})
    assert (found, group_problems) == ((), ())
    assert len(loaded) == len(list(folder.glob("*.json")))


def test_a_version_is_a_hash_of_the_document():
    allocator = parse()
    assert allocator.version == hashlib.sha256(allocator.document.encode()).hexdigest()[:32]
    # Pinned in every lake: another value here makes every matched item look like one of another allocator.
    assert allocator.version == "ca20a79a444a202956607f4618c6f15c"


def test_equal_documents_are_equal_and_hash_alike():
    one, same, other = parse(), parse(), parse(expiration=5)
    assert one.document == same.document  # computed on one of them only would not make them unequal
    assert len({one, same, other}) == 2


def test_canonical_json():
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é\n😀"}) == '{"a":"é\\n😀","b":[1,2.5,null,true]}'


def test_values_in_messages_are_short_and_printable():
    assert quoted_json("x" * 100) == '"' + "x" * 78 + "…"
    assert quoted_json("\ud800é\n") == '"\\ud800é\\n"'


@pytest.mark.parametrize("path", ["criteria[0].and.account", ""])
def test_a_problem_is_a_line(path):
    line = str(Problem("allocators/a.json", path, "is wrong"))
    assert line == "allocators/a.json: criteria[0].and.account: is wrong" if path else "allocators/a.json: is wrong"


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
condition_texts = st.one_of(
    words.map(lambda text: f"eq:{text}"),
    words.filter(lambda text: not text.startswith(("!", "re:"))),
    st.sampled_from(["re:^1", "!re:(?i)fee|tax", "re:", r"re:\d+$"]),
)
entries = st.fixed_dictionaries(
    {"type": st.sampled_from(["account", "payer", "costgroup"]), "value": words.map(lambda text: f"x{text}")},
    optional={
        "formula": st.sampled_from(["", "cost*usage", "cost * 0.2", "usage > 0.5 ? cost : 0"]),
        "months": st.one_of(st.integers(1, 24), st.integers(1, 24).map(str), st.just("")),
    },
)
times = st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.sampled_from([UTC])).map(  # noqa: DTZ001
    lambda time: time.isoformat()
)


@st.composite
def documents(draw) -> dict:
    category = draw(st.sampled_from(["fee", "account", "savings"]))
    maps = st.dictionaries(st.sampled_from(sorted(CRITERIA_COLUMNS[category])), condition_texts, min_size=1)
    document = {
        "id": draw(ids),
        "name": draw(words),
        "description": draw(words),
        "category": category,
        "criteria": [{"and": m} for m in draw(st.lists(maps, min_size=1, max_size=3))],
        "allocator": draw(st.lists(entries, min_size=1, max_size=3)),
        "defaultAccount": draw(words),
        "updateTime": draw(st.one_of(times, st.just(""))),
    }
    created = draw(times)
    start = add_months(created[:7], draw(st.integers(-24, 12)))
    document["priority"] = draw(st.one_of(st.just(""), st.integers(-1000, 1000), st.integers(-1000, 1000).map(str)))
    document["expiration"] = draw(st.one_of(st.just(""), st.integers(13, 9999), st.integers(13, 9999).map(str)))
    document |= draw(
        st.sampled_from([{"createTime": created}, {"startMonth": start}, {"createTime": created, "startMonth": start}])
    )
    return document


@settings(max_examples=200, deadline=None)
@given(documents())
def test_a_pinned_document_reads_as_what_was_pinned(document):
    allocator = parse_allocator(json.dumps(document), file="x.json")
    again = Allocator.from_document(allocator.document)
    assert again == allocator
    assert (again.document, again.version) == (allocator.document, allocator.version)
    assert json.loads(allocator.document)["criteria"] == document["criteria"]
    shuffled = json.dumps(dict(reversed(document.items())), indent=2, ensure_ascii=False)
    assert parse_allocator(shuffled, file="y.json").version == allocator.version


odd_text = st.one_of(st.text(max_size=5), st.sampled_from(["re:(", "!x", "2024-01", "3", "", "\ud800", "fee"]))
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), odd_text)
trees = st.recursive(
    leaves, lambda children: st.lists(children, max_size=3) | st.dictionaries(odd_text, children, max_size=3)
)


@st.composite
def damaged(draw) -> object:
    """A valid document with some value anywhere replaced by anything."""
    root = {"document": draw(documents())}
    holder, key = root, "document"
    while isinstance(holder[key], dict | list) and holder[key] and draw(st.booleans()):
        holder = holder[key]
        key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[key] = draw(trees)
    return root["document"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(trees, damaged(), st.dictionaries(st.sampled_from(sorted(VALID)), trees)))
def test_any_json_is_an_allocator_or_a_document_error(value):
    try:
        allocator = parse_allocator(json.dumps(value), file="x.json")
    except DocumentError as error:
        assert error.problems
        str(error).encode()
    else:
        assert Allocator.from_document(allocator.document) == allocator


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40)))
def test_any_text_is_a_document_error(text):
    with pytest.raises(DocumentError):
        parse_allocator(text, file="x.json")


def test_a_key_without_end_is_cut_in_the_sentence():
    """Regression: a key of 64 KiB was a sentence of 64 KiB."""
    with pytest.raises(DocumentError) as found:
        parse_allocator(json.dumps({"x" * 65_536: 1}), file="a.json")
    assert len(str(found.value)) < 2_000
