"""Cost groups: what is refused, and which rows and accounts their SQL matches."""

import json

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octo_pipeline.model.columns import COST_GROUP_COLUMNS, LINE_ITEM_COLUMNS
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import identifier
from octo_pipeline.rules.cost_group import CostGroup, group_document, group_sql, load_cost_groups, parse_cost_group
from octo_pipeline.rules.documents import DocumentError


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        yield opened


def group(**combinations) -> CostGroup:
    return parse_cost_group(json.dumps({"combinations": combinations}), file="g.json")


def filters(*maps: dict[str, str]) -> list[dict]:
    return [{"andFilters": conditions} for conditions in maps]


def matching(connection: duckdb.DuckDBPyConnection, found: CostGroup, *rows: dict) -> list[bool]:
    """Whether the group matches each row of cost_line_items; columns that are not given are null."""
    answers = []
    for row in rows:
        given = {"tags": {}, "project_labels": {}} | row
        columns = ", ".join(
            f"{_value(given.get(name), kind)}::{kind} AS {identifier(name)}" for name, kind in LINE_ITEM_COLUMNS.items()
        )
        answers += connection.execute(f"SELECT {found.sql()} FROM (SELECT {columns})").fetchone()
    return answers


def _value(value: object, kind: str) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, dict):
        keys, values = list(value), list(value.values())
        return f"MAP({_list(keys)}, {_list(values)})"
    return "'" + str(value).replace("'", "''") + "'"


def _list(values: list[str]) -> str:
    return "[" + ", ".join(_value(v, "VARCHAR") for v in values) + "]"


def test_maps_are_alternatives_and_keys_must_all_hold(connection):
    found = group(awsOptions={"filters": filters({"productCode": "S3", "region": "re:^us-"}, {"account": "1"})})
    assert matching(
        connection,
        found,
        {"vendor": "aws", "service_code": "S3", "region_id": "us-east-1"},
        {"vendor": "aws", "service_code": "S3", "region_id": "eu-west-1"},
        {"vendor": "aws", "service_code": "EC2", "region_id": "us-east-1"},
        {"vendor": "aws", "sub_account_id": "1"},
        {"vendor": "gcp", "sub_account_id": "1"},
        {"vendor": "aws"},
    ) == [True, False, False, True, False, False]


def test_many_accounts_are_looked_up(connection):
    maps = [{"account": f"a{i}"} for i in range(3000)] + [{"region": "x"}, {"account": "b", "region": "y"}]
    found = group(awsOptions={"filters": filters(*maps)})
    assert found.sql().count("sub_account_id") == 2
    assert matching(
        connection,
        found,
        {"vendor": "aws", "sub_account_id": "a2999"},
        {"vendor": "aws", "sub_account_id": "a3000"},
        {"vendor": "aws", "region_id": "x"},
        {"vendor": "aws", "region_id": "y"},
        {"vendor": "aws", "sub_account_id": "b", "region_id": "y"},
        {"vendor": "aws"},
    ) == [True, False, True, False, True, False]


def test_the_sql_can_be_aggregated_and_filtered_by(connection):
    found = group(awsOptions={"filters": filters({"account": "1"}, {"account": ""}, {"region": "re:^u"})})
    rows = "(VALUES ('aws', '1', 'x'), ('aws', NULL, NULL), ('aws', '2', 'u'), ('aws', '2', 'x'), ('gcp', '1', 'u'))"
    relation = f"(SELECT * FROM {rows} AS t(vendor, sub_account_id, region_id))"
    assert connection.execute(f"SELECT count(*) FROM {relation} WHERE {found.sql()}").fetchone() == (3,)
    query = (
        f"SELECT sub_account_id, bool_or({found.sql()}) FROM {relation} GROUP BY sub_account_id, vendor ORDER BY ALL"
    )
    assert connection.execute(query).fetchall() == [("1", False), ("1", True), ("2", True), (None, True)]


def test_filters_and_tag_filters_must_both_hold(connection):
    found = group(
        azureOptions={
            "filters": filters({"account": "1"}),
            "tagFilters": filters({"team": "a"}, {"team": "b"}),
        }
    )
    assert matching(
        connection,
        found,
        {"vendor": "azure", "sub_account_id": "1", "tags": {"team": "a"}},
        {"vendor": "azure", "sub_account_id": "1", "tags": {"team": "b", "x": "y"}},
        {"vendor": "azure", "sub_account_id": "1", "tags": {"team": "c"}},
        {"vendor": "azure", "sub_account_id": "1"},
        {"vendor": "azure", "sub_account_id": "2", "tags": {"team": "a"}},
    ) == [True, True, False, False, False]


def test_gcp_labels_are_tags_and_projects_have_their_own(connection):
    found = group(
        gcpOptions={
            "labelFilters": filters({"team": "a"}),
            "projectLabelFilters": filters({"env": "!re:^dev"}),
            "tagFilters": filters({"org/tag": ""}),
        }
    )
    assert matching(
        connection,
        found,
        {"vendor": "gcp", "tags": {"team": "a"}, "project_labels": {"env": "prod"}},
        {"vendor": "gcp", "tags": {"team": "a"}},
        {"vendor": "gcp", "tags": {"team": "a"}, "project_labels": {"env": "dev1"}},
        {"vendor": "gcp", "tags": {"team": "a", "org/tag": "x"}, "project_labels": {"env": "prod"}},
        {"vendor": "gcp", "tags": {"env": "prod"}, "project_labels": {"team": "a"}},
    ) == [True, True, False, False, False]


def test_an_empty_text_is_null_or_empty_and_a_missing_tag(connection):
    found = group(awsOptions={"filters": filters({"region": ""}), "tagFilters": filters({"team": "eq:"})})
    rows = [
        {"vendor": "aws"},
        {"vendor": "aws", "region_id": "", "tags": {"team": ""}},
        {"vendor": "aws", "region_id": "x"},
        {"vendor": "aws", "tags": {"team": "x"}},
    ]
    assert matching(connection, found, *rows) == [True, True, False, False]


def test_texts_are_taken_literally(connection):
    odd = "it's \"%_\\ \n日本 😀"
    found = group(awsOptions={"filters": filters({"description": odd}), "tagFilters": filters({odd: odd})})
    rows = [
        {"vendor": "aws", "charge_description": odd, "tags": {odd: odd}},
        {"vendor": "aws", "charge_description": odd, "tags": {odd: "x"}},
        {"vendor": "aws", "charge_description": odd.replace("\n", " "), "tags": {odd: odd}},
    ]
    assert matching(connection, found, *rows) == [True, False, False]


@pytest.mark.parametrize(
    "combinations",
    [
        {},
        {"awsOptions": {}, "gcpOptions": ""},
        {"awsOptions": {"filters": [], "tagFilters": ""}, "azureOptions": None},
        {"gcpOptions": {"filters": [], "labelFilters": [], "projectLabelFilters": []}},
    ],
)
def test_no_options_match_nothing(connection, combinations):
    found = group(**combinations)
    assert matching(connection, found, *({"vendor": v} for v in ("aws", "azure", "gcp"))) == [False] * 3
    assert found.account_sql(vendor="vendor", account="account") is None
    assert json.loads(found.document) == {"id": "g"}


@pytest.mark.parametrize("key", COST_GROUP_COLUMNS)
def test_every_key_looks_at_its_column(connection, key):
    found = group(awsOptions={"filters": filters({key: "x"})})
    rows = [{"vendor": "aws", column: "x"} for column in COST_GROUP_COLUMNS.values()]
    assert matching(connection, found, *rows) == [
        column == COST_GROUP_COLUMNS[key] for column in COST_GROUP_COLUMNS.values()
    ]


def accounts(connection: duckdb.DuckDBPyConnection, found: CostGroup) -> list[tuple[str, str | None]]:
    rows = "(VALUES ('aws', 'a1'), ('aws', 'b1'), ('aws', NULL), ('gcp', 'a1'), ('azure', 'a2')) AS t(v, target)"
    condition = found.account_sql(vendor="v", account="target")
    return connection.execute(f"SELECT * FROM {rows} WHERE {condition} ORDER BY ALL").fetchall()


def test_accounts_without_line_items(connection):
    found = group(
        awsOptions={"filters": filters({"account": "re:^a"}, {"account": "re:", "region": "x"}, {"productCode": "y"})},
        azureOptions={"filters": filters({"account": "a1"}, {"account": "a2"})},
        gcpOptions={"filters": filters({"account": "a1"}), "projectLabelFilters": filters({"team": "x"})},
    )
    assert accounts(connection, found) == [("aws", "a1"), ("azure", "a2")]


@pytest.mark.parametrize("other", ["tagFilters", "labelFilters", "projectLabelFilters"])
def test_tags_and_labels_leave_no_accounts_without_line_items(other):
    found = group(gcpOptions={"filters": filters({"account": "a1"}), other: filters({"team": "x"})})
    assert found.account_sql(vendor="v", account="target") is None


def test_every_problem_of_a_document_is_reported():
    document = {
        "nmae": "x",
        "combinations": {
            "awsOptions": {
                "filters": [
                    {"andFilters": {}},
                    {"andFilters": {"acount": "re:("}},
                    {"and": {"account": "1"}},
                    5,
                ],
                "labelFilters": [],
            },
            "azureOptions": {
                "filters": {"andFilters": {"account": "1"}},
                "projectLabelFilters": filters({"a": "b"}),
            },
            "gcpOptions": {"labelFilters": [{"andFilters": {"": "x", "cost center": "!x", "n": None, "m": 12}}]},
            "ociOptions": {},
        },
    }
    with pytest.raises(DocumentError) as caught:
        parse_cost_group(json.dumps(document), file="g.json")
    keys = ", ".join(COST_GROUP_COLUMNS)
    aws, azure, gcp = (f"combinations.{vendor}Options" for vendor in ("aws", "azure", "gcp"))
    found = [(p.path, p.message) for p in caught.value.problems]
    assert sorted(found) == sorted(
        [
            ("nmae", "unknown key; allowed: id, name, description, combinations, by, of"),
            ("combinations.ociOptions", "unknown key; allowed: options, awsOptions, azureOptions, gcpOptions"),
            (f"{aws}.filters[0].andFilters", f"must be an object with at least one key; allowed: {keys}"),
            (f"{aws}.filters[1].andFilters.acount", f"unknown key; allowed: {keys}"),
            (
                f"{aws}.filters[1].andFilters.acount",
                '"(" is not a pattern that RE2 accepts: missing ): (; see RE2\'s syntax, which has no '
                "look-around and no back-references",
            ),
            (f"{aws}.filters[2].and", "unknown key; allowed: andFilters"),
            (f"{aws}.filters[2].andFilters", f"must be an object with at least one key; allowed: {keys}"),
            (f"{aws}.filters[3]", 'must be an object {"andFilters": {key: value}}, not 5'),
            (f"{aws}.labelFilters", "unknown key; allowed: filters, tagFilters"),
            (
                f"{azure}.filters",
                'must be a list of {"andFilters": {key: value}}, not {"andFilters": {"account": "1"}}',
            ),
            (f"{azure}.projectLabelFilters", "unknown key; allowed: filters, tagFilters"),
            (f'{gcp}.labelFilters[0].andFilters[""]', "a tag or label key cannot be empty"),
            (
                f'{gcp}.labelFilters[0].andFilters["cost center"]',
                "\"!x\" begins with '!' but not with '!re:'; write '!re:pattern' for values without a match, "
                'or "eq:!x" for this very text',
            ),
            (
                f"{gcp}.labelFilters[0].andFilters.n",
                'must be text in double quotes, not null; write "" for null or empty',
            ),
            (
                f"{gcp}.labelFilters[0].andFilters.m",
                "must be text in double quotes, not 12; an id written as a number loses its leading zeros",
            ),
        ]
    )


@pytest.mark.parametrize("combinations", [5, [], "x", True])
def test_combinations_must_be_an_object(combinations):
    with pytest.raises(DocumentError, match=r"g\.json: combinations: must be an object"):
        parse_cost_group(json.dumps({"combinations": combinations}), file="g.json")


def test_the_document_is_canonical_and_verbatim():
    text = json.dumps(
        {
            "name": "Ä",
            "description": "",
            "combinations": {
                "gcpOptions": {"labelFilters": filters({"b": "eq:1", "a": ""}), "filters": []},
                "awsOptions": {"tagFilters": [], "filters": filters({"account": "!re:^1"})},
                "azureOptions": {},
            },
        }
    )
    found = parse_cost_group(text, file="folder/platform.json")
    assert found.document == (
        '{"combinations":{"awsOptions":{"filters":[{"andFilters":{"account":"!re:^1"}}]},'
        '"gcpOptions":{"labelFilters":[{"andFilters":{"a":"","b":"eq:1"}}]}},"id":"platform","name":"Ä"}'
    )
    assert found.version == "062d9964622443a54ce9593f67c65378"


def test_folder(tmp_path):
    for name, identity in (("b", "x"), ("a", ""), ("c", "y"), ("d", "y")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"id": identity}))
    groups, problems = load_cost_groups(tmp_path)
    assert [g.id for g in groups] == ["a", "x"]
    assert [(p.file, p.path) for p in problems] == [(f"{tmp_path.name}/{n}.json", "id") for n in ("c", "d")]
    assert load_cost_groups(tmp_path / "missing") == ((), ())
    with pytest.raises(OctoError, match=r"The configuration folder .* does not exist"):
        load_cost_groups(tmp_path / "missing" / "cost_groups")


conditions = st.sampled_from(["", "x", "eq:", "eq:x", "re:x", "re:^$", "!re:^x", "re:(?i)X", "it's"])
column_filters = st.lists(
    st.dictionaries(st.sampled_from(["account", "region"]), conditions, min_size=1), max_size=2
).map(lambda maps: filters(*maps))
key_filters = st.lists(st.dictionaries(st.sampled_from(["k", "it's"]), conditions, min_size=1), max_size=2).map(
    lambda maps: filters(*maps)
)
gcp_options = st.fixed_dictionaries(
    {},
    optional={
        "filters": column_filters,
        "tagFilters": key_filters,
        "labelFilters": key_filters,
        "projectLabelFilters": key_filters,
    },
)
values = st.sampled_from([None, "", "x", "xy", "it's"])
labels = st.dictionaries(st.sampled_from(["k", "it's"]), st.sampled_from(["", "x", "X", "it's"]))


@settings(max_examples=150, deadline=None)
@given(options=gcp_options, account=values, region=values, tags=labels, project=labels)
def test_sql_agrees_with_the_definition(connection, options, account, region, tags, project):
    found = group(gcpOptions=options)
    row = {"account": account, "region": region}
    sides = {"filters": row, "tagFilters": tags, "labelFilters": tags, "projectLabelFilters": project}
    parsed = {"filters": found.combinations.gcp.filters, "tagFilters": found.combinations.gcp.tag_filters,
              "labelFilters": found.combinations.gcp.label_filters,
              "projectLabelFilters": found.combinations.gcp.project_label_filters}  # fmt: skip
    used = [
        any(all(condition.holds(sides[name].get(key)) for key, condition in m.items()) for m in maps)
        for name, maps in parsed.items()
        if maps
    ]
    line = {
        "vendor": "gcp",
        "sub_account_id": account,
        "region_id": region,
        "tags": tags,
        "project_labels": project,
    }
    assert matching(connection, found, line) == [bool(used) and all(used)]
    assert parse_cost_group(found.document, file="other.json") == found


def test_other_vendors_have_a_list_of_options(connection):
    found = group(
        awsOptions={"filters": filters({"account": "1"})},
        options=[
            {"vendor": "oci", "filters": filters({"productCode": "COMPUTE"}), "tagFilters": filters({"team": "a"})},
            {"vendor": "snowflake", "filters": filters({"account": "re:^WH"})},
            {"vendor": "oci", "filters": filters({"account": "2"})},
        ],
    )
    assert matching(
        connection,
        found,
        {"vendor": "oci", "service_code": "COMPUTE", "tags": {"team": "a"}},
        {"vendor": "oci", "service_code": "COMPUTE", "tags": {"team": "b"}},
        {"vendor": "oci", "sub_account_id": "2"},
        {"vendor": "snowflake", "sub_account_id": "WH1"},
        {"vendor": "snowflake", "sub_account_id": "2"},
        {"vendor": "aws", "sub_account_id": "1"},
        {"vendor": "databricks", "sub_account_id": "1"},
    ) == [True, False, True, True, False, True, False]
    account_sql = found.account_sql(vendor="vendor", account="account")
    rows = [("oci", "2"), ("oci", "1"), ("snowflake", "WH9"), ("aws", "1")]
    values = ", ".join(f"('{vendor}', '{account}')" for vendor, account in rows)
    query = f"SELECT {account_sql} FROM (VALUES {values}) AS named(vendor, account)"
    assert [answer for (answer,) in connection.execute(query).fetchall()] == [True, False, True, True]


def test_options_without_filters_match_nothing_and_mean_nothing(connection):
    empty = group(options=[{"vendor": "oci"}, {"vendor": "oci", "filters": []}])
    assert matching(connection, empty, {"vendor": "oci"}) == [False]
    assert empty.normalised() == group().normalised()


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"vendor": "oci"}, "combinations.options", "list"),
        ([{"filters": []}], "combinations.options[0].vendor", "is missing; it must be a vendor's name"),
        ([{"vendor": "aws", "filters": []}], "combinations.options[0].vendor", "use awsOptions"),
        ([{"vendor": "Big Cloud"}], "combinations.options[0].vendor", "not a vendor"),
        ([{"vendor": "oci", "labelFilters": []}], "combinations.options[0].labelFilters", "labelFilters"),
        (
            [{"vendor": "oci", "filters": filters({"arn": "x"})}],
            "combinations.options[0].filters[0].andFilters.arn",
            "arn",
        ),
    ],
)
def test_options_that_are_wrong_are_refused_by_path(options, path, message):
    with pytest.raises(DocumentError) as error:
        group(options=options)
    (problem,) = error.value.problems
    assert problem.path == path
    assert message in str(problem)


def family(by: object, **document: object) -> CostGroup:
    return parse_cost_group(json.dumps({"by": by, **document}), file="f.json")


def test_a_vendor_with_empty_options_matches_whole_in_a_family_alone(connection):
    rows = [{"vendor": vendor} for vendor in ("aws", "gcp", "oci", "azure")]
    options = {"awsOptions": {}, "gcpOptions": {"filters": filters({"account": "x"})}, "options": [{"vendor": "oci"}]}
    assert matching(connection, family({"payer": True}, combinations=options), *rows) == [True, False, True, False]
    assert matching(connection, group(**options), *rows) == [False] * 4
    assert matching(connection, family({"tag": "team"}), *rows) == [False] * 4


@pytest.mark.parametrize(
    ("by", "row", "value"),
    [
        ({"tag": "team"}, {"tags": {"team": "\u00a0core\t"}}, "core"),
        ({"tag": "team"}, {"tags": {"team": " "}}, ""),
        ({"label": "team"}, {"tags": {"team": "a/b"}}, "a/b"),
        ({"projectLabel": "env"}, {"project_labels": {"env": "prod"}, "tags": {"env": "no"}}, "prod"),
        ({"account": True}, {"sub_account_id": "1"}, "1"),
        ({"payer": True}, {"billing_account_id": "9"}, "9"),
        ({"payer": True}, {}, ""),
    ],
)
def test_the_value_of_a_row_in_a_family(connection, by, row, value):
    found = family(by, combinations={"awsOptions": {}})
    columns = ", ".join(
        f"{_value(({'tags': {}, 'project_labels': {}} | row).get(name), kind)}::{kind} AS {identifier(name)}"
        for name, kind in LINE_ITEM_COLUMNS.items()
    )
    assert connection.execute(f"SELECT {found.by.value_sql()} FROM (SELECT {columns})").fetchone() == (value,)
    of_value = group_sql({"f": found}, f"f/{value}")
    assert matching(connection, found, {"vendor": "aws"} | row) == [True]
    aws = f"SELECT * REPLACE ('aws' AS vendor) FROM (SELECT {columns})"
    assert connection.execute(f"SELECT {of_value} FROM ({aws})").fetchone() == (True,)


ALLOWED_BY = '{"tag": KEY}, {"label": KEY}, {"projectLabel": KEY}, {"account": true} or {"payer": true}'


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        ({"by": {"tag": "a", "label": "b"}}, "by", f'must be an object with one key, not {{"tag": "a", "label": "b"}}; allowed: {ALLOWED_BY}'),
        ({"by": {}}, "by", "must be an object with one key, not {}"),
        ({"by": "team"}, "by", 'must be an object with one key, not "team"'),
        ({"by": {"team": "x"}}, "by.team", f"unknown key; allowed: {ALLOWED_BY}"),
        ({"by": {"tag": 5}}, "by.tag", "must be text in double quotes, not 5"),
        ({"by": {"tag": ""}}, "by.tag", "a tag or label key cannot be empty"),
        ({"by": {"account": "1"}}, "by.account", 'must be true, not "1"'),
        ({"by": {"tag": "a"}, "of": "pods"}, "of", "\"pods\" is unknown; allowed: 'containers'"),
        ({"of": "containers"}, "of", "is only for families; set by, such as"),
    ],
)  # fmt: skip
def test_families_that_are_wrong_are_refused_by_path(document, path, message):
    with pytest.raises(DocumentError) as caught:
        parse_cost_group(json.dumps(document), file="f.json")
    assert [(p.path, p.message[: len(message)]) for p in caught.value.problems] == [(path, message)]


def test_a_family_is_read_again_as_it_is_written():
    document = {
        "id": "f",
        "by": {"tag": "team"},
        "of": "containers",
        "combinations": {"awsOptions": {}, "options": [{"vendor": "oci"}]},
    }
    found = parse_cost_group(json.dumps(document), file="x.json")
    assert json.loads(found.document) == document
    assert parse_cost_group(found.document, file="y.json").version == found.version


def test_ids_name_groups_and_groups_of_families():
    groups = {"f": family({"tag": "team"}), "g": group()}
    assert group_document(groups, "g") == (groups["g"], None)
    assert group_document(groups, "f/a/b") == (groups["f"], "a/b")
    assert group_document(groups, "f/") == (groups["f"], "")
    assert [group_document(groups, name) for name in ("f", "x", "g/a", "x/a")] == [None] * 4
