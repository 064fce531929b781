"""The formula language of an allocator entry and its reference meaning (allocation.md §7).

This module turns text into a `Formula` (tokenizer, parser, all refusals), and `evaluate` defines what a formula means
for one row. The same meaning over columns belongs in `formula_sql`; what a failed formula does to a tranche belongs in
`splits`.

The text is parsed by hand because it mixes two spellings, ``x if c else y`` and ``c ? x : y``, which no single
parser knows. Only the node classes of Python's `ast` are used: a formula never reaches Python's own parser, so
nothing outside the grammar below can get in.

Grammar, loosest first; every level also accepts the tighter ones:

1. ``x if c else y``, ``c ? x : y`` (right-associative)
2. ``or``, ``||``
3. ``and``, ``&&``
4. ``not``, ``!``
5. ``<  <=  >  >=  ==  !=`` (chained as in Python)
6. ``+  -``
7. ``*  /  %``
8. unary ``-  +``
9. ``**`` (right-associative; its exponent may carry a sign)
10. number, variable, ``function(…)``, ``(…)``

Numbers and truth values are two kinds. Edge cases: the part of ``x if c else y`` between ``if`` and ``else``
is an ``or`` expression as in Python, so another choice there needs parentheses; ``010`` is refused because
Python refuses it and C reads 8.
"""

import ast
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from simpleeval import SimpleEval

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import quoted

DEFAULT_FORMULA = "cost*usage"
VARIABLES = ("cost", "usage", "accounts", "group_usage", "active_accounts")
# Those that are only known once everybody's usage is.
_OF_USAGE = frozenset({"usage", "group_usage", "active_accounts"})
MAX_LENGTH = 2_000
# So much of a name or number is quoted in an error.
_QUOTED = 30
# The parser recurses by at most three Python frames per tree level and three per parenthesis, simpleeval and
# the compiler by fewer. The limit keeps all of them within Python's 1,000 frames, however deep the caller is.
MAX_DEPTH = 100
# 10**22 is the largest power of ten that a double holds exactly; rounding to more digits would not be exact.
MAX_ROUND_DIGITS = 22


class FormulaError(OctoError):
    """The text is not a formula. The message names the column, counted from 1, and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="formula-wrong")


class FormulaFailed(Exception):
    """The formula has no finite result for these values; the message is a phrase with the reason."""


@dataclass(frozen=True)
class Formula:
    """A parsed formula.

    Attributes:
        source: the text; ``cost*usage`` if it was blank.
        tree: its syntax tree, of the `ast` nodes that the grammar allows. Formulas are compared by text.
    """

    source: str
    tree: ast.expr = field(compare=False, repr=False)


def parse_formula(text: str) -> Formula:
    """Parse a formula; a blank one means ``cost*usage``.

    Raises:
        FormulaError: it is too long or too deep, is not in the language, mixes numbers with truth values,
            or is not a number.
    """
    if len(text) > MAX_LENGTH:
        raise FormulaError(
            f"The formula has {len(text):,} characters and exceeds the limit at column {MAX_LENGTH + 1}; "
            f"write it in at most {MAX_LENGTH:,} characters."
        )
    source = text if text.strip(" \t\r\n") else DEFAULT_FORMULA
    return Formula(source, _Parser(source).whole_formula())


def variables(formula: Formula) -> frozenset[str]:
    """The variables that the formula uses."""
    names = {node.id for node in ast.walk(formula.tree) if isinstance(node, ast.Name)}
    return frozenset(names.intersection(VARIABLES))


def percentage_hints(text: str) -> list[str]:
    """A sentence for each number before a ``%``, which looks as if a percentage was meant: ``cost*20 % -5``.

    Args:
        text: a formula that parses.
    """
    tokens = _tokenize(text)
    return [
        f"{number.text} % is the remainder of a division by what follows; write {number.text} percent as "
        f"{_percentage(number)}, or ({number.text}) % … if the remainder is meant"
        for number, sign in pairwise(tokens)
        if number.kind == "number" and sign.text == "%"
    ]


def _percentage(number: "_Token") -> str:
    return f"{float(number.text) / 100:g}"


def names_usage(formula: Formula) -> bool:
    """Whether the formula depends on anybody's usage."""
    return not _OF_USAGE.isdisjoint(variables(formula))


def evaluate(
    formula: Formula, *, cost: float, usage: float, accounts: float, group_usage: float, active_accounts: float
) -> float:
    """The reference meaning of a formula: its result for one row, computed by simpleeval in doubles.

    Branches and operands that Python would not evaluate are not evaluated. An intermediate result may be
    infinite or NaN as in Python, as long as no operation raises and the final result is finite.

    Raises:
        FormulaFailed: a division or modulo by zero; a power that is complex or overflows; ceil, floor or
            round to an integer of a value that is not finite; or a final result that is not finite.
    """
    values = {"cost": cost, "usage": usage, "accounts": accounts}
    values |= {"group_usage": group_usage, "active_accounts": active_accounts}
    evaluator = SimpleEval(
        operators=_OPERATORS,
        functions=_FUNCTIONS,
        names={name: float(value) for name, value in values.items()},
    )
    try:
        result = float(evaluator.eval(formula.source, previously_parsed=formula.tree))
    except ZeroDivisionError as error:
        raise FormulaFailed("a division by zero") from error
    except OverflowError as error:
        raise FormulaFailed("a result too large for a number") from error
    except ValueError as error:
        raise FormulaFailed("the rounding of a value that is not a number") from error
    if not math.isfinite(result):
        raise FormulaFailed("a result that is not finite")
    return result


def _power(base: float, exponent: float) -> float:
    result = base**exponent
    if isinstance(result, complex):
        raise FormulaFailed("a power that is not a real number")
    return float(result)


def _round(value: float, digits: int | None = None) -> float:
    return float(round(value)) if digits is None else round(value, digits)


_OPERATORS: dict[type[ast.AST], Callable[..., object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "ceil": lambda value: float(math.ceil(value)),
    "floor": lambda value: float(math.floor(value)),
    "round": _round,
}

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>\*\*|<=|>=|==|!=|&&|\|\||[-+*/%<>!?:(),])
    """,
    re.VERBOSE | re.ASCII,
)
_OCTAL = re.compile(r"0+[1-9]\d*", re.ASCII)
_DIGITS = re.compile(r"0|[1-9]\d?", re.ASCII)
_KEYWORDS = ("if", "else", "and", "or", "not")
# Common misspellings of operators.
_MEANT = {"=": "==", "&": "&&", "|": "||", "^": "**"}

_TERNARY, _OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _UNARY, _POWER = range(1, 10)
_PRECEDENCE = {
    **dict.fromkeys(("if", "?"), _TERNARY),
    **dict.fromkeys(("or", "||"), _OR),
    **dict.fromkeys(("and", "&&"), _AND),
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), _COMPARISON),
    **dict.fromkeys(("+", "-"), _SUM),
    **dict.fromkeys(("*", "/", "%"), _PRODUCT),
    "**": _POWER,
}
_ARITHMETIC: dict[str, type[ast.operator]] = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "/": ast.Div,
    "%": ast.Mod,
    "**": ast.Pow,
}
_COMPARISONS: dict[str, type[ast.cmpop]] = {
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
    "==": ast.Eq,
    "!=": ast.NotEq,
}

_Kind = Literal["number", "truth value"]
_TRUTH_EXAMPLE = "write a comparison such as usage > 0.5"
_NUMBER_EXAMPLE = "write a condition as usage > 0.5 ? cost : 0"


@dataclass(frozen=True)
class _Token:
    kind: Literal["number", "name", "sign", "end"]
    text: str
    column: int


@dataclass(frozen=True)
class _Part:
    """A parsed part of the formula: its tree, the depth of the tree, and the column where it starts."""

    node: ast.expr
    kind: _Kind
    depth: int
    column: int


class _Parser:
    """A precedence-climbing parser of one formula, used once.

    `ancestors` is the number of tree nodes above the part being parsed: it limits recursion on the way down, while
    a part's depth limits long chains (``1+1+1+…``) on the way up.
    """

    def __init__(self, text: str) -> None:
        self._tokens = _tokenize(text)
        self._position = 0
        self._open_parentheses = 0

    def whole_formula(self) -> ast.expr:
        part = self._expression(_TERNARY, ancestors=0)
        if self._token.kind != "end":
            raise self._unexpected("an operator or the end of the formula")
        if part.kind != "number":
            raise _error(part.column, f"the result is a truth value, but must be a number; {_NUMBER_EXAMPLE}")
        return part.node

    @property
    def _token(self) -> _Token:
        return self._tokens[self._position]

    def _take(self) -> _Token:
        token = self._token
        self._position += 1
        return token

    def _expect(self, text: str, where: str) -> None:
        if self._token.text != text:
            raise self._unexpected(f"{text!r} {where}")
        self._take()

    def _unexpected(self, expected: str) -> FormulaError:
        actual = "the formula ends" if self._token.kind == "end" else f"{quoted(self._token.text, _QUOTED)} stands"
        return _error(self._token.column, f"{actual} where {expected} is expected{self._spelling_hint()}")

    def _spelling_hint(self) -> str:
        """The right spelling if the token belongs to a percentage or to a decimal comma; else nothing."""
        before, following = (
            self._tokens[max(self._position - 2, 0) : self._position],
            self._tokens[self._position + 1 :],
        )
        kinds = [token.kind for token in (*before[-1:], *following[:1])]
        if [token.kind for token in before] == ["number", "sign"] and before[1].text == "%":
            return f"; '%' is the remainder of a division, so write {before[0].text}% as {_percentage(before[0])}"
        if self._token.text == "," and kinds == ["number", "number"]:
            return f"; write {before[-1].text}.{following[0].text}, with a decimal point"
        return ""

    def _expression(self, loosest: int, ancestors: int) -> _Part:
        if ancestors >= MAX_DEPTH:
            raise _too_deep(self._token.column)
        part = self._operand(loosest, ancestors)
        while (precedence := _PRECEDENCE.get(self._token.text, 0)) >= loosest:
            if precedence == _TERNARY:
                part = self._choice(part, ancestors)
            elif precedence in (_AND, _OR):
                part = self._connective(part, precedence, ancestors)
            elif precedence == _COMPARISON:
                part = self._comparison(part, ancestors)
            else:
                part = self._arithmetic(part, precedence, ancestors)
        return part

    def _choice(self, first: _Part, ancestors: int) -> _Part:
        token = self._take()
        if token.text == "?":
            test, body = first, self._expression(_TERNARY, ancestors + 1)
            self._expect(":", f"of the '?' at column {token.column}")
        else:
            test, body = self._expression(_OR, ancestors + 1), first
            self._expect("else", f"of the 'if' at column {token.column}")
        orelse = self._expression(_TERNARY, ancestors + 1)
        _require(test, "truth value", f"{token.text!r} decides by a truth value")
        if orelse.kind != body.kind:
            raise _error(
                orelse.column,
                f"this is a {orelse.kind}, but the other result of the {token.text!r} at column "
                f"{token.column} is a {body.kind}; make both the same",
            )
        node = ast.IfExp(test.node, body.node, orelse.node)
        return _part(node, body.kind, first.column, test, body, orelse)

    def _connective(self, first: _Part, precedence: int, ancestors: int) -> _Part:
        parts = [first]
        spelling = self._token.text
        while _PRECEDENCE.get(self._token.text) == precedence:
            self._take()
            parts.append(self._expression(precedence + 1, ancestors + 1))
        for part in parts:
            _require(part, "truth value", f"{spelling!r} takes truth values")
        connective = ast.And() if precedence == _AND else ast.Or()
        node = ast.BoolOp(connective, [part.node for part in parts])
        return _part(node, "truth value", first.column, *parts)

    def _comparison(self, first: _Part, ancestors: int) -> _Part:
        parts = [first]
        comparisons: list[ast.cmpop] = []
        spelling = self._token.text
        while self._token.text in _COMPARISONS:
            comparisons.append(_COMPARISONS[self._take().text]())
            parts.append(self._expression(_COMPARISON + 1, ancestors + 1))
        for part in parts:
            _require(part, "number", f"{spelling!r} compares numbers")
        node = ast.Compare(first.node, comparisons, [part.node for part in parts[1:]])
        return _part(node, "truth value", first.column, *parts)

    def _arithmetic(self, left: _Part, precedence: int, ancestors: int) -> _Part:
        token = self._take()
        right = self._expression(_UNARY if precedence == _POWER else precedence + 1, ancestors + 1)
        for part in (left, right):
            _require(part, "number", f"{token.text!r} takes numbers")
        node = ast.BinOp(left.node, _ARITHMETIC[token.text](), right.node)
        return _part(node, "number", left.column, left, right)

    def _operand(self, loosest: int, ancestors: int) -> _Part:
        token = self._token
        if token.text in ("-", "+"):
            return self._signed(ancestors)
        if token.text in ("not", "!"):
            return self._negation(loosest, ancestors)
        if token.text == "(":
            return self._parenthesised(ancestors)
        if token.kind == "number":
            self._take()
            return _part(ast.Constant(_number(token)), "number", token.column)
        if token.kind == "name" and token.text not in _KEYWORDS:
            self._take()
            return self._named(token, ancestors)
        raise self._unexpected("a number, a variable, a function or '('")

    def _signed(self, ancestors: int) -> _Part:
        token = self._take()
        operand = self._expression(_UNARY, ancestors + 1)
        _require(operand, "number", f"{token.text!r} takes a number")
        sign = ast.USub() if token.text == "-" else ast.UAdd()
        return _part(ast.UnaryOp(sign, operand.node), "number", token.column, operand)

    def _negation(self, loosest: int, ancestors: int) -> _Part:
        token = self._take()
        if loosest > _NOT:
            raise _error(
                token.column,
                f"{token.text!r} cannot follow a tighter operator; put it and what it negates in parentheses",
            )
        operand = self._expression(_NOT, ancestors + 1)
        _require(operand, "truth value", f"{token.text!r} takes a truth value")
        return _part(ast.UnaryOp(ast.Not(), operand.node), "truth value", token.column, operand)

    def _parenthesised(self, ancestors: int) -> _Part:
        token = self._take()
        self._open_parentheses += 1
        if self._open_parentheses > MAX_DEPTH:
            raise _too_deep(token.column)
        part = self._expression(_TERNARY, ancestors)
        self._expect(")", f"of the '(' at column {token.column}")
        self._open_parentheses -= 1
        return part

    def _named(self, token: _Token, ancestors: int) -> _Part:
        if token.text in VARIABLES:
            return _part(ast.Name(token.text, ast.Load()), "number", token.column)
        if token.text not in _FUNCTIONS:
            raise _error(
                token.column,
                f"the name {quoted(token.text, _QUOTED)} is unknown; the variables are {', '.join(VARIABLES)} and the "
                f"functions {', '.join(_FUNCTIONS)}",
            )
        self._expect("(", f"after the function {token.text!r}")
        parts = [self._expression(_TERNARY, ancestors + 1)]
        digits: list[ast.expr] = []
        while self._token.text == ",":
            self._take()
            if token.text == "round" and not digits:
                digits.append(ast.Constant(self._round_digits()))
            else:
                parts.append(self._expression(_TERNARY, ancestors + 1))
        self._expect(")", f"of the function {token.text!r} at column {token.column}")
        for part in parts:
            _require(part, "number", f"{token.text!r} takes numbers")
        _require_count(token, len(parts))
        node = ast.Call(ast.Name(token.text, ast.Load()), [part.node for part in parts] + digits, [])
        return _part(node, "number", token.column, *parts)

    def _round_digits(self) -> int:
        column = self._token.column
        sign = self._take().text if self._token.text in ("-", "+") else ""
        if _DIGITS.fullmatch(self._token.text):
            digits = int(sign + self._take().text)
            if abs(digits) <= MAX_ROUND_DIGITS:
                return digits
        raise _error(
            column,
            f"the second argument of 'round' must be an integer literal from -{MAX_ROUND_DIGITS} to {MAX_ROUND_DIGITS}",
        )


def _tokenize(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _foreign_character(text[position], position + 1)
        column = position + 1
        position = match.end()
        match match.lastgroup:
            case "number" | "name" | "sign" as kind:
                tokens.append(_Token(kind, match.group(), column))
    return [*tokens, _Token("end", "", len(text) + 1)]


def _number(token: _Token) -> float:
    if _OCTAL.fullmatch(token.text):
        raise _error(token.column, f"the number {quoted(token.text, _QUOTED)} begins with 0; write it without")
    value = float(token.text)
    if math.isinf(value):
        raise _error(
            token.column, f"the number {quoted(token.text, _QUOTED)} is too large; the largest is about 1.79e308"
        )
    return value


def _part(node: ast.expr, kind: _Kind, column: int, *children: _Part) -> _Part:
    depth = 1 + max((child.depth for child in children), default=0)
    if depth > MAX_DEPTH:
        raise _too_deep(column)
    return _Part(node, kind, depth, column)


def _require(part: _Part, kind: _Kind, rule: str) -> None:
    if part.kind != kind:
        example = _TRUTH_EXAMPLE if kind == "truth value" else _NUMBER_EXAMPLE
        raise _error(part.column, f"{rule}, but this is a {part.kind}; {example}")


def _require_count(function: _Token, count: int) -> None:
    if function.text in ("min", "max"):
        if count < 2:
            raise _error(function.column, f"{function.text!r} takes two arguments or more, but has one")
    elif count != 1:
        takes = "one argument, or a second one for the digits" if function.text == "round" else "one argument"
        raise _error(function.column, f"{function.text!r} takes {takes}, but has more")


def _foreign_character(character: str, column: int) -> FormulaError:
    if character in _MEANT:
        remedy = f"write {_MEANT[character]}"
    else:
        remedy = f"use numbers, {', '.join(VARIABLES)}, operators, functions and parentheses"
    return _error(column, f"the character {character!a} is not allowed; {remedy}")


def _too_deep(column: int) -> FormulaError:
    return _error(column, f"the formula is nested more than {MAX_DEPTH} levels deep; simplify it")


def _error(column: int, problem: str) -> FormulaError:
    return FormulaError(f"Column {column} of the formula: {problem}.")
