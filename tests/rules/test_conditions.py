"""Conditions on values: their texts, their refusals, and one meaning in SQL and in Python."""

import bisect

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octo_pipeline.model import sql
from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.conditions import MAX_PATTERN, Condition, parse_condition, pattern_hints

VALUES = [
    None,
    "",
    "a",
    "A",
    "a\n",
    "\n",
    "a\nb",
    "é",
    "É",
    "ſ",
    "日本",
    "😀",
    "it's",
    '"',
    "%",
    "_",
    "\\",
    " a",
    "a.b",
    "$1",
]


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        yield opened


def matched(connection: duckdb.DuckDBPyConnection, condition: Condition, values: list[str | None]) -> list[bool]:
    rows = "SELECT unnest($1::VARCHAR[]) AS c, generate_subscripts($1::VARCHAR[], 1) AS i"
    query = f"SELECT {condition.sql('c')} FROM ({rows}) ORDER BY i"
    return [row[0] for row in connection.execute(query, [values]).fetchall()]


@pytest.mark.parametrize(
    ("written", "condition"),
    [
        ("x", Condition("eq", "x")),
        ("eq:x", Condition("eq", "x")),
        ("", Condition("eq", "")),
        ("eq:", Condition("eq", "")),
        ("eq:re:x", Condition("eq", "re:x")),
        ("eq:!x", Condition("eq", "!x")),
        ("EQ:x", Condition("eq", "EQ:x")),
        (" re:x", Condition("eq", " re:x")),
        ("re:^x$", Condition("re", "^x$")),
        ("re:", Condition("re", "")),
        ("!re:x", Condition("not_re", "x")),
        ("re:!x", Condition("re", "!x")),
    ],
)
def test_prefixes(written, condition):
    parsed = parse_condition(written)
    assert parsed == condition
    assert parsed.written == written


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "!x",
            "begins with '!' but not with '!re:'; write '!re:pattern' for values without a match, or",
        ),
        ("!", "begins with '!'"),
        ("!eq:x", "begins with '!'"),
        ("! re:x", "begins with '!'"),
        ("re:(", '"(" is not a pattern that RE2 accepts: missing ): ('),
        ("!re:[", '"[" is not a pattern that RE2 accepts: missing ]: ['),
        ("re:(?=x)", "which has no look-around"),
        (r"re:(a)\1", "no back-references"),
        ("re:a{1001}", "invalid repetition size"),
        (r"re:\pL{400}", "pattern too large"),
        ("re:(?<x>a)", "names a group by (?<…>); write (?P<…>)"),
        ("re:" + "x" * (MAX_PATTERN + 1), "the pattern has 10,001 characters and 10,000 are allowed"),
        ("a\0b", "has a NUL character; remove it"),
        ("re:a\0", "has a NUL character; remove it"),
        ("re:\ud800", "is not a pattern that RE2 accepts"),
    ],
)
def test_refusals(written, message):
    with pytest.raises(OctoError) as caught:
        parse_condition(written)
    assert message in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("written", "matching"),
    [
        ("", [None, ""]),
        ("a", ["a"]),
        ("it's", ["it's"]),
        ("\\", ["\\"]),
        ("a\n", ["a\n"]),
        ("re:^a$", ["a"]),
        (r"re:^a\s*\z", ["a", "a\n"]),
        ("re:(?m)^b", ["a\nb"]),
        ("re:a.b", ["a.b"]),
        ("re:(?s)a.b", ["a\nb", "a.b"]),
        ("re:(?i)^é$", ["é", "É"]),
        ("re:^$", [None, ""]),
        ("re:'", ["it's"]),
        ("re:^.$", ["a", "A", "é", "É", "ſ", "😀", '"', "%", "_", "\\"]),
        ("!re:.", [None, "", "\n"]),
        ("!re:", []),
        ("re:%", ["%"]),
        (r"re:\$1", ["$1"]),
    ],
)
def test_meaning(connection, written, matching):
    condition = parse_condition(written)
    expected = [value in matching for value in VALUES]
    assert matched(connection, condition, VALUES) == expected
    assert [condition.holds(value) for value in VALUES] == expected


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("K^", False), ("$K", False), ("^aK^", False), ("K$K", False), ("^^", True), ("^^a", True), (r"$\z", True),
        (r"^\A", True), ("(?:)K", True), (r"\QK", True), (r"^\QaK\E$", True), ("^aK$", True), ("K", True), ("^", True),
    ],
)  # fmt: skip
def test_anchors_anywhere(connection, pattern, found):
    """Regression: DuckDB turns patterns into LIKE and loses what is beside their text."""
    assert matched(connection, Condition("re", pattern), ["aK", "zz"])[0] is found
    assert Condition("re", pattern).holds("aK") is found


texts = st.text(st.sampled_from("aAbésK\n '\"%_\\.$0日\r\t"), max_size=5)
PIECES = [
    "a", "b", "é", "K", "日", ".", "^", "$", "(?i)", "(?s)", "(?m)", "(a|b)", "[^a]", r"\w", r"\b", r"\pL",
    "*", "+", "?", "{2}", "|", r"\n", r"\z", "'", "%", "_", r"\.", r"\Q", r"\E", "(?P<x>a)", "(?<x>a)", "(",
    ")", "[", "]", "\n", r"\C", r"\x00",
]  # fmt: skip
patterns = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(["", "eq:", "re:", "!re:"]),
    text=st.one_of(texts, patterns),
    values=st.lists(texts | st.none()),
)
@example(kind="re:", text="^a%", values=["a%", "ab", None])
def test_sql_and_holds_agree(connection, kind, text, values):
    try:
        condition = parse_condition(kind + text)
    except OctoError:
        return
    assert matched(connection, condition, [*values, None]) == [condition.holds(v) for v in [*values, None]]


@pytest.mark.parametrize("pattern", [r"\pL{%d}", r"(?:[^a]{100}){%d}", r"(?:.{500}){%d}"])
def test_duckdb_takes_the_largest_pattern_that_is_accepted(connection, pattern):
    refused = bisect.bisect(range(1000), False, key=lambda n: not _is_accepted("re:" + pattern % n))
    assert 1 < refused < 1000
    assert matched(connection, parse_condition("re:" + pattern % (refused - 1)), [None]) == [False]


def _is_accepted(written: str) -> bool:
    try:
        parse_condition(written)
    except OctoError:
        return False
    return True


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_quoting(connection, text):
    name = text or "x"
    relation = connection.execute(f"SELECT {sql.literal(text)} AS {sql.identifier(name)}")
    assert relation.fetchone() == (text,)
    assert [column[0] for column in relation.description] == [name]


@pytest.mark.parametrize("quote", [sql.literal, sql.identifier])
def test_quoting_refuses_nul(quote):
    with pytest.raises(OctoError, match="NUL character"):
        quote("a\0b")


def test_map_value(connection):
    row = "SELECT MAP {'it''s': 'x'} AS m, NULL::MAP(VARCHAR, VARCHAR) AS n"
    found = ", ".join([sql.map_value("m", "it's"), sql.map_value("m", "b"), sql.map_value("n", "a")])
    assert connection.execute(f"SELECT {found} FROM ({row})").fetchone() == ("x", None, None)


def test_regexp_matches_finds_anywhere_and_is_null_on_null(connection):
    row = "SELECT 'xay' AS c, NULL::VARCHAR AS n"
    found = ", ".join([sql.regexp_matches("c", "a"), sql.regexp_matches("c", "^a"), sql.regexp_matches("n", "a")])
    assert connection.execute(f"SELECT {found} FROM ({row})").fetchone() == (True, False, None)


@pytest.mark.parametrize(
    ("written", "pattern"),
    [
        ("AWSSupport*", "re:^AWSSupport"),
        ("*Fee", "re:Fee$"),
        ("*Support (Business)*", r"re:Support\\ \\(Business\\)"),
        (".*Fee.*", "re:.*Fee.*"),
        ("^Fee", "re:^Fee"),
        ("Fee$", "re:Fee$"),
        ("AWSSupportBusiness", None),
        ("2 * vCPU", None),
        ("*", None),
        ("", None),
        ("eq:AWSSupport*", None),
        ("re:AWSSupport*", None),
        ("!re:Fee$", None),
    ],
)
def test_a_text_that_looks_like_a_pattern_has_a_hint(written, pattern):
    hints = pattern_hints([{"a": parse_condition(written)}, {"b": parse_condition(written)}])
    assert hints == (
        [f'"{written}" is compared as it is written, sign by sign; for a pattern write "{pattern}"'] if pattern else []
    )
