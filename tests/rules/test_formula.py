"""The formula language: its grammar, its refusals, its meaning, and that SQL over columns means the same."""

import ast
import math
import struct
import sys
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from octo_pipeline.allocation.formula_sql import select_sql
from octo_pipeline.rules.formula import (
    MAX_DEPTH,
    MAX_LENGTH,
    VARIABLES,
    Formula,
    FormulaError,
    FormulaFailed,
    evaluate,
    parse_formula,
    percentage_hints,
    variables,
)

Row = tuple[float, float, float, float, float]

HUGE = 1.7976931348623157e308
TINY = 5e-324


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def value(text: str, row: Row = (10.0, 0.25, 4.0, 0.5, 3.0)) -> float:
    return evaluate(parse_formula(text), **dict(zip(VARIABLES, row, strict=True)))


def value_or_none(formula: Formula, row: Row) -> float | None:
    try:
        return evaluate(formula, **dict(zip(VARIABLES, row, strict=True)))
    except FormulaFailed:
        return None


def sql_values(connection: duckdb.DuckDBPyConnection, formula: Formula, rows: list[Row]) -> list[float | None]:
    columns = {name: pa.array([row[i] for row in rows], pa.float64()) for i, name in enumerate(VARIABLES)}
    connection.register("formula_rows", pa.table({"position": list(range(len(rows))), **columns}))
    found = connection.execute(
        f"SELECT position, result, typeof(result) FROM ({select_sql(formula, 'formula_rows')}) ORDER BY position"
    ).fetchall()
    assert [(position, kind) for position, _, kind in found] == [(i, "DOUBLE") for i in range(len(rows))]
    return [result for _, result, _ in found]


def refusal(text: str) -> str:
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    return str(caught.value)


class TestMeaning:
    """cost is 10, usage 0.25, accounts 4, group_usage 0.5, active_accounts 3."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", 2.5),
            (" \t\r\n", 2.5),
            ("cost*usage", 2.5),
            ("accounts + group_usage", 4.5),
            ("accounts - active_accounts", 1.0),
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("10 - 4 - 3", 3.0),
            ("12 / 3 / 2", 2.0),
            ("2**3**2", 512.0),
            ("-2**2", -4.0),
            ("2**-1", 0.5),
            ("2**-1*4", 2.0),
            ("-cost + 1", -9.0),
            ("--cost", 10.0),
            ("+-+cost", -10.0),
            ("-7 % 3", 2.0),
            ("7 % -3", -2.0),
            ("-7 % -3", -1.0),
            ("7 % -accounts", -1.0),
            ("-7 % accounts", 1.0),
            ("5.5 % 2", 1.5),
            ("-3 % (1e308*10) > 0 ? 1 : 2", 1.0),
            ("0.1 + 0.2", 0.30000000000000004),
            ("7 / 2", 3.5),
            ("1e3 + 1E+2 + .5 + 5. + 1e-1", 1105.6),
            ("abs(-3) + ceil(1.2) + floor(-1.2)", 3.0),
            ("min(3, 1, 2) + max(3, 1, 2)", 4.0),
            ("round(0.5) + round(1.5) + round(2.5) + round(-2.5)", 2.0),
            ("round(2.675, 2)", 2.67),
            ("round(0.125, 2)", 0.12),
            ("round(2.5, 0)", 2.0),
            ("round(150, -2) + round(250, -2)", 400.0),
            ("round(cost, +0)", 10.0),
            # Conditions, in both spellings and mixed.
            ("usage > 0.5 ? cost*0.2 : cost*0.1", 1.0),
            ("cost*0.2 if usage > 0.5 else cost*0.1", 1.0),
            ("usage > 1 ? 1 : usage > 0.2 ? 2 : 3", 2.0),
            ("usage > 0 ? usage > 0.2 ? 1 : 2 : 3", 1.0),
            ("1 if usage > 1 else 2 if usage > 0.2 else 3", 2.0),
            ("1 if usage > 1 else usage > 0.2 ? 2 : 3", 2.0),
            ("usage > 1 ? 1 : 2 if usage > 0.2 else 3", 2.0),
            ("1 + 1 if usage > 0 else 5", 2.0),
            ("usage > 0 ? 1 : 2 + 5", 1.0),
            ("(usage > 0 ? cost > 1 : cost > 100) ? 1 : 2", 1.0),
            ("1 < 2 < 3 ? 1 : 2", 1.0),
            ("3 > 2 > 2 ? 1 : 2", 2.0),
            ("1 < 3 > 2 != 5 ? 1 : 2", 1.0),
            ("usage == 0.25 and cost <= 10 && cost >= 10 ? 1 : 2", 1.0),
            ("1 > 2 and 1 > 2 or 2 > 1 ? 1 : 2", 1.0),
            ("2 > 1 || 1 > 2 && 1 > 2 ? 1 : 2", 1.0),
            ("! cost > 20 ? 1 : 2", 1.0),
            ("not cost > 20 ? 1 : 2", 1.0),
            ("!cost > 20 && usage > 1 ? 1 : 2", 2.0),
            ("not !cost > 20 ? 1 : 2", 2.0),
            ("cost != 10 ? 1 : 2", 2.0),
            # What is not evaluated cannot fail.
            ("cost > 1 ? 1 : 1/0", 1.0),
            ("1/0 if cost < 1 else 2", 2.0),
            ("cost > 20 and 1/0 > 1 ? 1 : 2", 2.0),
            ("cost > 1 or 1/0 > 1 ? 1 : 2", 1.0),
            ("3 < 2 < 1/0 ? 1 : 2", 2.0),
            # Infinity and NaN may come and go where Python does not raise.
            ("min(5, 1e308*10)", 5.0),
            ("5 / (1e308*10)", 0.0),
            ("5 / round(cost*1e308, 2)", 0.0),
            ("5 / round(cost*1e308, -2)", 0.0),
            ("1 < (cost*1e308) * 0 ? 1 : 2", 2.0),
            ("1 < (cost*1e308) % 7 ? 1 : 2", 2.0),
            ("1 < cost*1e308 / (cost*1e308) ? 1 : 2", 2.0),
            ("(1e308*10 - 1e308*10) < 1 ? 1 : 2", 2.0),
            ("(1e308*10 - 1e308*10) > 1 ? 1 : 2", 2.0),
            ("(1e308*10 - 1e308*10) == (1e308*10 - 1e308*10) ? 1 : 2", 2.0),
            ("(1e308*10 - 1e308*10) != (1e308*10 - 1e308*10) ? 1 : 2", 1.0),
            ("min(1, 1e308*10 - 1e308*10) + max(1, 1e308*10 - 1e308*10)", 2.0),
            ("min(1e308*10 - 1e308*10, 1) > 0 ? 1 : 2", 2.0),
            ("max(1e308*10 - 1e308*10, 1) > 0 ? 1 : 2", 2.0),
            ("(1e308*10 - 1e308*10) ** 0", 1.0),
            ("0 ** -(1e308*10) > 1 ? 1 : 2", 1.0),
        ],
    )
    def test_value(self, connection: duckdb.DuckDBPyConnection, text: str, expected: float) -> None:
        assert value(text) == expected
        assert sql_values(connection, parse_formula(text), [(10.0, 0.25, 4.0, 0.5, 3.0)]) == [expected]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("cost / (usage - 0.25)", "division by zero"),
            ("cost % (usage - 0.25)", "division by zero"),
            ("1 / (cost / (usage - 0.25))", "division by zero"),
            ("min(5, 1 / (usage - 0.25))", "division by zero"),
            ("max(5, cost % (usage - 0.25))", "division by zero"),
            ("(usage - 0.25) ** -1", "division by zero"),
            ("1 / (usage - 0.25) ** -1", "division by zero"),
            ("(1 / (usage - 0.25)) ** -1", "division by zero"),
            ("2 ** -(1 / (usage - 0.25))", "division by zero"),
            ("(-cost) ** usage", "not a real number"),
            ("1 / cost ** 400", "too large"),
            ("ceil(cost * 1e308)", "too large"),
            ("min(5, floor(cost * 1e308))", "too large"),
            ("min(5, round(cost * 1e308))", "too large"),
            ("min(5, round(cost * 1e308 - cost * 1e308))", "not a number"),
            ("cost * 1e308", "not finite"),
            ("cost * 1e308 - cost * 1e308", "not finite"),
            ("1 / (usage - 0.25) > 1 and cost > 20 ? 1 : 2", "division by zero"),
            ("1 / (usage - 0.25) > 1 or cost > 1 ? 1 : 2", "division by zero"),
            ("cost > 1 and 1 / (usage - 0.25) > 1 ? 1 : 2", "division by zero"),
            ("! 1 / (usage - 0.25) > 1 ? 1 : 2", "division by zero"),
            ("1 < 1 / (usage - 0.25) < 0 ? 1 : 2", "division by zero"),
            ("cost*1e308 - cost*1e308 > 1 / (usage - 0.25) ? 1 : 2", "division by zero"),
        ],
    )
    def test_failure(self, connection: duckdb.DuckDBPyConnection, text: str, reason: str) -> None:
        with pytest.raises(FormulaFailed, match=reason):
            value(text)
        assert sql_values(connection, parse_formula(text), [(10.0, 0.25, 4.0, 0.5, 3.0)]) == [None]

    def test_every_number_is_a_double(self) -> None:
        assert value("2**53 + 1") == 2.0**53
        assert (
            evaluate(parse_formula("cost + 1"), cost=2**53, usage=0, accounts=0, group_usage=0, active_accounts=0)
            == 2.0**53
        )
        assert isinstance(value("round(2.5)"), float)

    def test_variables(self) -> None:
        assert variables(parse_formula("")) == {"cost", "usage"}
        assert variables(parse_formula("min(cost, 1) + cost / accounts")) == {"cost", "accounts"}
        assert variables(parse_formula("round(1.5, 1)")) == frozenset()

    def test_formulas_are_equal_when_their_texts_are(self) -> None:
        assert parse_formula("") == parse_formula("cost*usage")
        assert hash(parse_formula("")) == hash(parse_formula("cost*usage"))
        assert parse_formula("cost * usage") != parse_formula("cost*usage")


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "column", "sentence"),
        [
            (
                "foo*2",
                1,
                "name 'foo' is unknown; the variables are cost, usage, accounts, group_usage, active_accounts",
            ),
            ("cost*Usage", 6, "name 'Usage' is unknown"),
            ("True ? 1 : 2", 1, "name 'True' is unknown"),
            ("pow(cost, 2)", 1, "functions min, max, abs, ceil, floor, round"),
            ("__import__('os')", 12, 'character "\'" is not allowed'),
            ("lambda: 1", 1, "name 'lambda' is unknown"),
            ("cost usage", 6, "'usage' stands where an operator or the end of the formula is expected"),
            ("cost(1)", 5, "'(' stands where an operator or the end"),
            ("cost, usage", 5, "',' stands where an operator or the end"),
            (
                "cost*0,2",
                7,
                "',' stands where an operator or the end of the formula is expected; write 0.2, with a decimal",
            ),
            ("(cost*0,25)", 8, "write 0.25, with a decimal point"),
            ("cost, 2", 5, "',' stands where an operator or the end of the formula is expected."),
            ("cost*20%", 9, "'%' is the remainder of a division, so write 20% as 0.2"),
            ("2.5% * cost", 6, "so write 2.5% as 0.025"),
            ("cost %", 7, "a function or '(' is expected."),
            ("cost)", 5, "')' stands where an operator or the end"),
            ("cost *", 7, "the formula ends where a number, a variable, a function or '(' is expected"),
            ("cost // 2", 7, "'/' stands where a number"),
            ("()", 2, "')' stands where a number"),
            ("if", 1, "'if' stands where a number"),
            ("(cost", 6, "the formula ends where ')' of the '(' at column 1 is expected"),
            ("usage > 1 ? cost", 17, "the formula ends where ':' of the '?' at column 11 is expected"),
            ("cost if usage > 1", 18, "the formula ends where 'else' of the 'if' at column 6 is expected"),
            ("1 if 2 if cost > 1 else 3 else 4", 8, "'if' stands where 'else' of the 'if' at column 3"),
            ("max * 2", 5, "'*' stands where '(' after the function 'max' is expected"),
            ("cost = 1 ? 2 : 3", 6, "character '=' is not allowed; write =="),
            ("cost > 1 & usage > 1 ? 1 : 2", 10, "character '&' is not allowed; write &&"),
            ("cost > 1 | usage > 1 ? 1 : 2", 10, "character '|' is not allowed; write ||"),
            ("cost ^ 2", 6, "character '^' is not allowed; write **"),
            ("'cost'", 1, 'character "\'" is not allowed; use numbers'),
            ("cost.real", 5, "character '.' is not allowed"),
            ("cost[0]", 5, "character '[' is not allowed"),
            ("cost; usage", 5, "character ';' is not allowed"),
            ("cost # usage", 6, "character '#' is not allowed"),
            ("cost\0", 5, r"character '\x00' is not allowed"),
            ("ｃost", 1, r"character '\uff43' is not allowed"),
            ("cost\u00a0* 2", 5, r"character '\xa0' is not allowed"),
            ("cost * ٣", 8, r"character '\u0663' is not allowed"),
            ("round(cost, digits=2)", 19, "character '=' is not allowed"),
            ("1_000", 2, "'_000' stands where an operator"),
            ("0x10", 2, "'x10' stands where an operator"),
            ("1 + 010", 5, "number '010' begins with 0"),
            ("1 + 1e999", 5, "number '1e999' is too large"),
            ("9" * 400, 1, "is too large"),
            ("min(cost)", 1, "'min' takes two arguments or more"),
            ("min()", 5, "')' stands where a number"),
            ("min(1, 2,)", 10, "')' stands where a number"),
            ("abs(cost, 2)", 1, "'abs' takes one argument"),
            ("round(cost, 1, 2)", 1, "'round' takes one argument, or a second one for the digits"),
            ("round(cost, usage)", 13, "must be an integer literal from -22 to 22"),
            ("round(cost, 2.0)", 13, "must be an integer literal from -22 to 22"),
            ("round(cost, 23)", 13, "must be an integer literal from -22 to 22"),
            ("round(cost, -23)", 13, "must be an integer literal from -22 to 22"),
            ("round(cost, 1+1)", 14, "'+' stands where ')' of the function 'round'"),
            ("cost > 1", 1, "the result is a truth value, but must be a number"),
            ("cost and usage", 1, "'and' takes truth values, but this is a number"),
            ("cost > 1 || usage", 13, "'||' takes truth values, but this is a number"),
            ("!cost ? 1 : 2", 2, "'!' takes a truth value, but this is a number"),
            ("cost + (usage > 1)", 9, "'+' takes numbers, but this is a truth value"),
            ("-(usage > 1)", 3, "'-' takes a number, but this is a truth value"),
            ("abs(usage > 1)", 5, "'abs' takes numbers, but this is a truth value"),
            ("(usage > 1) == (cost > 1) ? 1 : 2", 2, "'==' compares numbers, but this is a truth value"),
            ("cost ? 1 : 2", 1, "'?' decides by a truth value, but this is a number"),
            ("1 if cost else 2", 6, "'if' decides by a truth value, but this is a number"),
            ("usage > 1 ? usage > 2 : 1", 25, "number, but the other result of the '?' at column 11"),
            ("1 + !(usage > 1)", 5, "'!' cannot follow a tighter operator"),
            ("1 == not usage > 1 ? 1 : 2", 6, "'not' cannot follow a tighter operator"),
        ],
    )
    def test_sentence(self, text: str, column: int, sentence: str) -> None:
        message = refusal(text)
        assert message.startswith(f"Column {column} of the formula: ")
        assert sentence in message
        assert message.endswith(".")
        assert "\n" not in message

    def test_a_long_name_is_not_repeated_in_full(self) -> None:
        assert len(refusal("x" * MAX_LENGTH)) < 250


class TestLimits:
    def test_length(self) -> None:
        assert value("cost" + " " * (MAX_LENGTH - 4)) == 10.0
        assert "2,001 characters" in refusal("cost" + " " * (MAX_LENGTH - 3))

    def test_a_huge_text_is_refused_by_its_length_alone(self) -> None:
        # Each of these would exhaust a parser that began to read.
        for text in ("(" * 10_000 + "cost" + ")" * 10_000, "x" * 1_000_000, "-" * 1_000_000, "\0" * 1_000_000):
            assert f"{len(text):,} characters" in refusal(text)

    @pytest.mark.parametrize(
        ("opening", "closing"),
        [
            ("cost+", ""),
            ("1+(", ")"),
            ("abs(", ")"),
            ("min(1,", ")"),
            ("2**", ""),
            ("-", ""),
            ("round(", ",2)"),
            ("-(", ")"),
        ],
    )
    def test_depth(self, connection: duckdb.DuckDBPyConnection, opening: str, closing: str) -> None:
        def nested(levels: int) -> str:
            return opening * (levels - 1) + "cost" + closing * (levels - 1)

        deepest = parse_formula(nested(MAX_DEPTH))
        row = (0.5, 0.25, 4.0, 0.5, 3.0)
        assert sql_values(connection, deepest, [row]) == [value_or_none(deepest, row)]
        assert f"nested more than {MAX_DEPTH} levels deep" in refusal(nested(MAX_DEPTH + 1))

    def test_depth_of_choices(self) -> None:
        assert "nested more than 100 levels" in refusal("cost>0?" * 100 + "1" + ":1" * 100)
        assert "nested more than 100 levels" in refusal("1 if cost>0 else " * 100 + "1")
        assert "nested more than 100 levels" in refusal("!" * 101 + "(cost>1) ? 1 : 2")
        assert "nested more than 100 levels" in refusal("(" * 101 + "cost" + ")" * 101)
        assert value("(" * 100 + "cost" + ")" * 100) == 10.0

    def test_width_is_not_depth(self, connection: duckdb.DuckDBPyConnection) -> None:
        row = (10.0, 0.25, 4.0, 0.5, 3.0)
        for text in (
            f"min({','.join(['cost/usage'] * 150)})",
            f"{' and '.join(['1/cost<1'] * 150)} ? 1 : 2",
            f"{' < '.join(str(i) for i in range(300))} ? 1 : 2",
        ):
            formula = parse_formula(text)
            assert sql_values(connection, formula, [row]) == [value_or_none(formula, row)] != [None]

    def test_python_frames(self) -> None:
        """The deepest formula leaves a third of Python's default 1,000 frames to whoever calls."""
        text = "-(" * (MAX_DEPTH - 1) + "cost" + ")" * (MAX_DEPTH - 1)
        depth, frame = 0, sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(depth + 660)
        try:
            formula = parse_formula(text)
            result = value_or_none(formula, (10.0, 0.25, 4.0, 0.5, 3.0))
            select_sql(formula, "formula_rows")
        finally:
            sys.setrecursionlimit(limit)
        assert result == -10.0


class TestSql:
    @pytest.mark.parametrize(
        ("text", "expression"),
        [
            ("cost*usage", "(cost * usage)"),
            ("cost*0.2", "(cost * '0.2'::DOUBLE)"),
            ("cost*0.25/accounts", "((cost * '0.25'::DOUBLE) / accounts)"),
            (
                "usage > 0.5 ? cost*0.2 : cost*0.1",
                "CASE WHEN (usage > '0.5'::DOUBLE) THEN (cost * '0.2'::DOUBLE) ELSE (cost * '0.1'::DOUBLE) END",
            ),
        ],
    )
    def test_typical_formulas_are_one_flat_select(self, text: str, expression: str) -> None:
        assert select_sql(parse_formula(text), "t") == (
            f'SELECT *, CASE WHEN isfinite({expression}) THEN {expression} END AS "result" FROM t'
        )

    @pytest.mark.parametrize(
        ("text", "needless"),
        [
            ("cost / 2 > 1 ? 1 : 2", "<> 0"),
            ("cost * usage > 100 ? 1 : 2", "isnan"),
            ("cost + 1 + 2 > 100 ? 1 : 2", "isnan"),
            ("usage > 0.1 and cost > 1 ? 1 : 2", "NULL"),
            ("min(cost, usage * 5)", "NULL"),
            ("max(cost, usage * 5)", "isnan"),
        ],
    )
    def test_needless_checks_are_left_out(self, text: str, needless: str) -> None:
        assert needless not in select_sql(parse_formula(text), "t")

    def test_columns(self, connection: duckdb.DuckDBPyConnection) -> None:
        relation = (
            "(SELECT 'a' AS account_id, 10.0::DOUBLE AS cost, 0.25::DOUBLE AS usage, 4.0::DOUBLE AS accounts, "
            "0.5::DOUBLE AS group_usage, 3.0::DOUBLE AS active_accounts)"
        )
        # Needs inner columns; none may show.
        sql = select_sql(parse_formula("(cost % usage) % (cost % accounts)"), relation, result='a "share"')
        assert "_f0" in sql
        cursor = connection.execute(sql)
        assert [name for name, *_ in cursor.description or []] == ["account_id", *VARIABLES, 'a "share"']
        assert cursor.fetchall() == [("a", 10.0, 0.25, 4.0, 0.5, 3.0, 0.0)]

    @pytest.mark.parametrize(
        ("opening", "closing"),
        [
            ("usage % (", ")"),
            ("(1/usage) % (", ")"),
            ("min(1/usage, ", ")"),
            ("max(cost*1e300 - usage*1e300, ", ")"),
            ("usage ** (", ")"),
            ("round(", ", -1)"),
            ("1 / ceil(", ")"),
            ("1 / (", ")"),
        ],
    )
    def test_text_grows_linearly(self, opening: str, closing: str) -> None:
        def length(levels: int) -> int:
            return len(select_sql(parse_formula(opening * levels + "cost" + closing * levels), "t"))

        assert length(40) < 2.3 * length(20)

    @pytest.mark.parametrize("digits", [None, *range(-22, 23)])
    def test_round(self, connection: duckdb.DuckDBPyConnection, digits: int | None) -> None:
        step = 10.0 ** -(digits or 0)
        ties = [(n + 0.5) * step for n in range(-30, 30)] + [n + 0.005 * m for n in range(9) for m in range(200)]
        large = [2.0**exponent + offset for exponent in range(40, 80) for offset in (0.5, 1.5, -0.5, 1e4)]
        other = [0.0, -0.0, 0.49999999999999994, 2159041232637226.5, TINY, HUGE, -HUGE, 1e22, 2.5e22, -7.5e22]
        exact = [x for x in ties + large + other if math.isfinite(x)]
        values = [*exact, *(math.nextafter(x, math.inf) for x in exact[:200])]
        values += [math.nextafter(x, -math.inf) for x in exact[:200]]
        formula = parse_formula("round(cost)" if digits is None else f"round(cost, {digits})")
        expected = [float(round(x)) if digits is None else round(x, digits) for x in values]
        assert sql_values(connection, formula, [(x, 0.0, 0.0, 0.0, 0.0) for x in values]) == expected


# --- Random formulas: SQL over columns is bit for bit the reference ---------------------------------------------

ATOMS = st.one_of(
    st.sampled_from(VARIABLES),
    st.sampled_from(["0", "1", "2", "3", "0.5", ".2", "2.5", "1.005", "7.", "10", "100", "0.1", "1e16", "1e22"]),
    st.sampled_from(["1e300", "1E+308", "1e-308", str(TINY), str(HUGE), "4503599627370497.5"]),
)


def sampled(*choices: str) -> st.SearchStrategy[str]:
    return st.sampled_from(choices)


def joined(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    strategies = [st.just(part) if isinstance(part, str) else part for part in parts]
    return st.tuples(*strategies).map("".join)


def comma_separated(numbers: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(numbers, min_size=2, max_size=4).map(", ".join)


def number_texts(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return ATOMS
    number, truth = number_texts(depth - 1), truth_texts(depth - 1)
    operators = sampled(" + ", " - ", "*", " / ", " % ", "**")
    digits = st.integers(-22, 22).map(str)
    return st.one_of(
        joined("(", number, operators, number, ")"),
        joined(number, operators, number),
        joined("(", number, sampled(" / ", " % ", " ** "), number, ")"),
        joined("(", sampled("-", "+"), number, ")"),
        joined(sampled("min", "max"), "(", comma_separated(number), ")"),
        joined(sampled("abs", "ceil", "floor", "round"), "(", number, ")"),
        joined("round(", number, ", ", digits, ")"),
        joined("(", truth, " ? ", number, " : ", number, ")"),
        joined("(", number, " if ", truth, " else ", number, ")"),
        joined("(", number, " * 1e308 - ", number, ")"),
        ATOMS,
    )


def truth_texts(depth: int) -> st.SearchStrategy[str]:
    number = number_texts(max(depth - 1, 0))
    comparison = sampled(" < ", " <= ", " > ", " >= ", " == ", " != ")
    compared = joined("(", number, comparison, number, ")")
    if depth == 0:
        return compared
    truth = truth_texts(depth - 1)
    return st.one_of(
        compared,
        joined("(", number, comparison, number, comparison, number, ")"),
        joined("(", truth, sampled(" and ", " or ", " && ", " || "), truth, ")"),
        joined("(", truth, sampled(" and ", " && "), truth, sampled(" and ", " && "), truth, ")"),
        joined("(", sampled("not ", "!", "! "), truth, ")"),
        joined("(", truth, " ? ", truth, " : ", truth, ")"),
    )


def double_of_bits(bits: int) -> float:
    return float(struct.unpack("d", struct.pack("Q", bits))[0])


DOUBLES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.0, 2.5, 1e300, -1e300, 1e-300, HUGE, TINY, 1e22]),
    st.integers(-20, 20).map(float),
    st.integers(-(10**6), 10**6).map(lambda n: n + 0.5),
    st.integers(-(10**8), 10**8).map(lambda n: n / 1000),
    st.floats(0, 1),
    st.integers(0, 2**64 - 1).map(double_of_bits).filter(math.isfinite),
)
ROWS = st.lists(st.tuples(DOUBLES, DOUBLES, DOUBLES, DOUBLES, DOUBLES), min_size=20, max_size=20)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=number_texts(4), rows=ROWS)
@example(text="cost/(usage - 1) > 2 and cost > 1 ? 1 : 2", rows=[(1.0, 1.0, 0.0, 0.0, 0.0), (-1.0, 1.0, 0.0, 0.0, 0.0)])
def test_sql_is_the_reference(connection: duckdb.DuckDBPyConnection, text: str, rows: list[Row]) -> None:
    assume(len(text) <= MAX_LENGTH)
    formula = parse_formula(text)
    assert sql_values(connection, formula, rows) == [value_or_none(formula, row) for row in rows]


# --- The Python spelling is Python's ----------------------------------------------------------------------------

FLAT_ATOMS = st.one_of(st.sampled_from(VARIABLES), sampled("1.0", "0.5", "2e3"))


def repeated(part: st.SearchStrategy[str], operator: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Parts with operators between them and no parentheses: what binds how is for the parser to find."""
    more = st.lists(joined(operator, part), max_size=2).map("".join)
    return joined(part, more)


SIGNED_ATOMS = joined(sampled("", "", "-", "+", "- -"), FLAT_ATOMS)
FLAT_NUMBERS = repeated(SIGNED_ATOMS, sampled(" + ", " - ", " * ", " / ", " % ", "**", " **"))
FLAT_COMPARISONS = joined(
    sampled("", "", "not ", "not not "),
    repeated(FLAT_NUMBERS, sampled(" < ", " <= ", " > ", " >= ", " == ", " != ")),
    " < ",
    FLAT_NUMBERS,
)
FLAT_CONDITIONS = repeated(FLAT_COMPARISONS, sampled(" and ", " or "))
FLAT_FORMULAS = joined(
    repeated(joined(FLAT_NUMBERS, " if ", FLAT_CONDITIONS), sampled(" else ")), " else ", FLAT_NUMBERS
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=FLAT_FORMULAS)
def test_python_spelling_parses_as_in_python(text: str) -> None:
    python = ast.parse(text, mode="eval").body
    assert ast.dump(parse_formula(text).tree) == ast.dump(python)
    symbols = text.replace("not ", "!").replace(" and ", "&&").replace(" or ", "||")
    assert ast.dump(parse_formula(symbols).tree) == ast.dump(python)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("cost*20 % -5", ["20"]),
        ("cost*20%-cost", ["20"]),
        ("usage > 1 ? 2.5 % (cost) : 10% +cost", ["2.5", "10"]),
        ("(cost*20) % 5", []),
        ("cost % 20", []),
        ("", []),
    ],
)
def test_a_number_before_a_percent_sign_looks_like_a_percentage(text, numbers):
    parse_formula(text)
    hints = percentage_hints(text)
    assert [hint.split(" %")[0] for hint in hints] == numbers


def test_the_hint_has_the_share_that_was_meant():
    assert percentage_hints("cost*20 % -5") == [
        "20 % is the remainder of a division by what follows; write 20 percent as 0.2, or (20) % … if the remainder is meant"
    ]
    assert percentage_hints("cost*(20) % -5") == []
