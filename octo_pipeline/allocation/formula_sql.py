"""The formula compiler: a formula as DuckDB SQL over columns, bit for bit equal to `formula.evaluate`.

This module has `select_sql` and everything that DuckDB does differently from Python. The language itself belongs in
`formula`, and what happens with the results in `splits`.

Assumptions: the columns cost, usage, accounts, group_usage and active_accounts are DOUBLE, finite and not null; no column of
the relation is named ``_f`` and a number; DuckDB's setting ieee_floating_point_ops is on, its default.

A failure is NULL and passes through every operation, so that only the branch that is taken can fail the row:

1. ``_Compiler.lower`` turns the tree, bottom up, into cells. A cell is a piece of SQL over other cells, with
   what is known about its value: can it fail, be infinite, be NaN? Checks that are unnecessary then are left out.
   Equal cells are one cell.
2. A value may be `doomed`: everything that uses it fails unless it is finite, as the result column does. Infinity
   and NaN then stand for failure (they survive + − * and the like), and the checks that distinguish them are left out.
3. ``_select`` writes the text. A cell that is used more than once becomes a column of an inner SELECT, unless
   it is short and cheap, so the text grows linearly with the formula. (NULLIF instead of CASE does not help:
   DuckDB copies its operand, and 16 nested divisions took 10 s to plan.)

DuckDB differs from Python in: literals (0.2 is a DECIMAL), % (sign of the dividend), round (halves away from
zero; round_even is wrong near 2**51), NaN (greater than everything, equal to itself), division by zero
(infinite), LEAST and GREATEST (skip NULL), AND and OR (``NULL AND false`` is false, where Python has failed).
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from octo_pipeline.model.sql import identifier
from octo_pipeline.rules.formula import Formula

# A cheap text up to this length is repeated instead of becoming a column: on 20 million rows, computing cost*usage
# or a choice of two shares twice takes as long as an inner SELECT, and reads better.
_REPEATED_LENGTH = 110

_COSTLY = re.compile(r"format|pow|%|LEAST|GREATEST")
_HOLE = re.compile(r"\$(\d+)")
_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Mod: "%",
    ast.Pow: "**",
}


def select_sql(formula: Formula, relation: str, *, result: str = "result") -> str:
    """A SELECT of all columns of `relation` and of the formula's result.

    Args:
        formula: the formula.
        relation: a table name or a parenthesised subquery with finite DOUBLE columns cost, usage, accounts,
            group_usage and active_accounts; column names of ``_f`` and a number are reserved.
        result: name of the result column, a finite DOUBLE, NULL where the formula fails.
    """
    compiler = _Compiler()
    value = compiler.lower(formula.tree, doomed=True)
    root = compiler.add("CASE WHEN isfinite($1) THEN $1 END", value, fails=True)
    return _select(compiler.cells, root, relation, identifier(result))


@dataclass(frozen=True)
class _Cell:
    """SQL over other cells: ``$1`` in the text is the first of `operands`, which are numbers of cells."""

    text: str
    operands: tuple[int, ...]
    fails: bool
    infinite: bool
    nan: bool
    literal: float | None

    @property
    def finite(self) -> bool:
        """Whether the value is certainly finite unless it failed."""
        return not (self.infinite or self.nan)


class _Compiler:
    """The cells of one formula; every operand comes before the cells that use it."""

    def __init__(self) -> None:
        self.cells: list[_Cell] = []
        self._numbers: dict[_Cell, int] = {}

    def add(
        self,
        text: str,
        *operands: int,
        fails: bool = False,
        infinite: bool = False,
        nan: bool = False,
        literal: float | None = None,
    ) -> int:
        """The number of the cell; it is added unless there is an equal one."""
        cell = _Cell(text, operands, fails, infinite, nan, literal)
        number = self._numbers.setdefault(cell, len(self.cells))
        if number == len(self.cells):
            self.cells.append(cell)
        return number

    def lower(self, node: ast.expr, *, doomed: bool) -> int:
        """The cell of a node; if `doomed`, infinity and NaN may stand for a failure."""
        match node:
            case ast.Constant(value=float(value)):
                return self._literal(value)
            case ast.Name(id=name):
                return self.add(name)
            case ast.UnaryOp(op=op, operand=operand):
                return self._unary(op, self.lower(operand, doomed=doomed))
            case ast.BinOp(left=left, op=op, right=right):
                return self._binary(op, left, right, doomed)
            case ast.BoolOp(op=op, values=values):
                parts = [self.lower(value, doomed=False) for value in values]
                return self._connective(parts, neutral=isinstance(op, ast.And))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                terms = [self.lower(term, doomed=False) for term in (left, *comparators)]
                links = [self._comparison(op, *terms[i : i + 2]) for i, op in enumerate(ops)]
                return self._connective(links, neutral=True)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._choice(
                    self.lower(test, doomed=False),
                    self.lower(body, doomed=doomed),
                    self.lower(orelse, doomed=doomed),
                )
            case ast.Call(func=ast.Name(id=name), args=args):
                return self._call(name, args, doomed)
        raise TypeError(f"The formula's tree has a node {type(node).__name__}, which no formula has.")

    def _literal(self, value: float) -> int:
        # Text to DOUBLE is exact; a bare 0.2 is a DECIMAL and its division by 10**n is not always.
        return self.add(f"'{value!r}'::DOUBLE", literal=value)

    def _add_over(
        self, text: str, *operands: int, fails: bool = False, infinite: bool = False, nan: bool = False
    ) -> int:
        """A cell that fails, is infinite or NaN at least where an operand is."""
        cells = [self.cells[operand] for operand in operands]
        return self.add(
            text,
            *operands,
            fails=fails or any(cell.fails for cell in cells),
            infinite=infinite or any(cell.infinite for cell in cells),
            nan=nan or any(cell.nan for cell in cells),
        )

    def _unary(self, op: ast.unaryop, operand: int) -> int:
        if isinstance(op, ast.UAdd):
            return operand
        if isinstance(op, ast.Not):
            return self._add_over("(NOT $1)", operand)
        literal = self.cells[operand].literal
        return self._add_over("(-$1)", operand) if literal is None else self._literal(-literal)

    def _binary(self, op: ast.operator, left_node: ast.expr, right_node: ast.expr, doomed: bool) -> int:
        sign = _SIGNS[type(op)]
        # 1 / inf is 0 and inf ** 0 is 1: an infinite operand of these may give a finite result.
        left = self.lower(left_node, doomed=doomed and sign != "**")
        right = self.lower(right_node, doomed=doomed and sign in ("+", "-", "*"))
        match sign:
            case "**":
                return self._power(left, right, doomed)
            case "/":
                return self._division(sign, left, right, doomed)
            case "%":
                return self._modulo(self._division(sign, left, right, doomed), right)
            case _:
                nan = self._makes_nan(sign, left, right)
                return self._add_over(f"($1 {sign} $2)", left, right, infinite=True, nan=nan)

    def _makes_nan(self, sign: str, left: int, right: int) -> bool:
        """Whether the operation may give NaN because of an infinite operand."""
        first, second = self.cells[left], self.cells[right]
        match sign:
            case "*":
                return (first.infinite and not second.literal) or (second.infinite and not first.literal)
            case "%":
                return first.infinite
            case _:
                return first.infinite and second.infinite

    def _division(self, sign: str, left: int, right: int, doomed: bool) -> int:
        """A quotient, or the remainder with the dividend's sign."""
        by_zero = not self.cells[right].literal
        nan = self._makes_nan(sign, left, right)
        # A remainder is smaller than the divisor.
        infinite = sign == "/"
        if doomed or not by_zero:
            nan = nan or by_zero
            return self._add_over(f"($1 {sign} $2)", left, right, infinite=infinite, nan=nan)
        text = f"CASE WHEN $2 <> 0 THEN $1 {sign} $2 END"
        return self._add_over(text, left, right, fails=True, infinite=infinite, nan=nan)

    def _modulo(self, remainder: int, right: int) -> int:
        divisor = self.cells[right].literal
        if divisor is None:
            other_sign = "$1 < 0 AND $2 > 0 OR $1 > 0 AND $2 < 0"
        else:
            other_sign = "$1 < 0" if divisor > 0 else "$1 > 0"
        return self._add_over(f"CASE WHEN {other_sign} THEN $1 + $2 ELSE $1 END", remainder, right)

    def _power(self, base: int, exponent: int, doomed: bool) -> int:
        power = self._add_over("pow($1, $2)", base, exponent, infinite=True, nan=True)
        if doomed:
            return power
        # Python raises where finite operands have no finite power: 0 to a negative power, complex, overflow.
        wild = [operand for operand in (base, exponent) if not self.cells[operand].finite]
        if not wild:
            return self.add("CASE WHEN isfinite($1) THEN $1 END", power, fails=True)
        finite = " AND ".join(f"isfinite(${i})" for i in range(2, len(wild) + 2))
        text = f"CASE WHEN isfinite($1) OR NOT ({finite}) THEN $1 END"
        return self.add(text, power, *wild, fails=True, infinite=True, nan=True)

    def _comparison(self, op: ast.cmpop, left: int, right: int) -> int:
        sign, greater = {
            ast.Lt: ("<", right),
            ast.LtE: ("<=", right),
            ast.Gt: (">", left),
            ast.GtE: (">=", left),
            ast.Eq: ("=", left),
            ast.NotEq: ("<>", left),
        }[type(op)]
        other = left if greater == right else right
        fails = self.cells[left].fails or self.cells[right].fails
        comparison = f"$1 {sign} $2"
        # Only NaN on the greater side, or on both sides of an equation, compares differently from Python.
        needs_nan = isinstance(op, ast.Eq | ast.NotEq)
        if not self.cells[greater].nan or (needs_nan and not self.cells[other].nan):
            return self.add(f"({comparison})", left, right, fails=fails)
        null_check = "WHEN $4 IS NULL THEN NULL " if self.cells[other].fails else ""
        without = "true" if isinstance(op, ast.NotEq) else "false"
        text = f"CASE {null_check}WHEN isnan($3) THEN {without} ELSE {comparison} END"
        return self.add(text, left, right, greater, other, fails=fails)

    def _connective(self, parts: Sequence[int], *, neutral: bool) -> int:
        """`and` (neutral: true) or `or` (neutral: false) of truth values, left to right."""
        if len(parts) == 1:
            return parts[0]
        if not any(self.cells[part].fails for part in parts[:-1]):
            joined = (" AND " if neutral else " OR ").join(f"${i}" for i in range(1, len(parts) + 1))
            return self._add_over(f"({joined})", *parts)
        cases = []
        for i, part in enumerate(parts[:-1], start=1):
            if self.cells[part].fails:
                cases.append(f"WHEN ${i} IS NULL THEN NULL ")
            cases.append(f"WHEN NOT ${i} THEN false " if neutral else f"WHEN ${i} THEN true ")
        return self._add_over(f"CASE {''.join(cases)}ELSE ${len(parts)} END", *parts)

    def _choice(self, test: int, body: int, orelse: int) -> int:
        otherwise = "WHEN NOT $1 THEN" if self.cells[test].fails else "ELSE"
        return self._add_over(f"CASE WHEN $1 THEN $2 {otherwise} $3 END", test, body, orelse)

    def _call(self, name: str, args: Sequence[ast.expr], doomed: bool) -> int:
        match name, args:
            case (("min" | "max"), _):
                return self._extreme(name, [self.lower(arg, doomed=False) for arg in args])
            case "abs", [arg]:
                return self._add_over("abs($1)", self.lower(arg, doomed=doomed))
            case "round", [arg, ast.Constant(value=int(digits))]:
                return self._round_to(self.lower(arg, doomed=doomed), digits, doomed)
            case "round", [arg]:
                value = self.lower(arg, doomed=True)
                return self._finite_or_null(value, self._round_to(value, 0, True), doomed)
            case _, [arg]:
                value = self.lower(arg, doomed=True)
                return self._finite_or_null(value, self._add_over(f"{name}($1)", value), doomed)
        raise TypeError(f"The formula's tree calls {name} with {len(args)} arguments, which no formula can do.")

    def _finite_or_null(self, value: int, rounded: int, doomed: bool) -> int:
        """As Python's ceil, floor and round to an integer, which raise for any value that is not finite."""
        if doomed or self.cells[value].finite:
            return rounded
        return self.add("CASE WHEN isfinite($1) THEN $2 END", value, rounded, fails=True)

    def _extreme(self, name: str, parts: Sequence[int]) -> int:
        holes = [f"${i}" for i in range(1, len(parts) + 1)]
        cells = [self.cells[part] for part in parts]
        checks = [f"WHEN {hole} IS NULL THEN NULL " for hole, cell in zip(holes, cells, strict=True) if cell.fails]
        # Python keeps a NaN that comes first and skips others; LEAST does too, but GREATEST returns any NaN.
        if cells[0].nan:
            checks.append("WHEN isnan($1) THEN $1 ")
        if name == "min":
            extreme = f"LEAST({', '.join(holes)})"
        elif any(cell.nan for cell in cells):
            extreme = f"-LEAST({', '.join('-' + hole for hole in holes)})"
        else:
            extreme = f"GREATEST({', '.join(holes)})"
        text = f"CASE {''.join(checks)}ELSE {extreme} END" if checks else f"({extreme})"
        return self._add_over(text, *parts)

    def _round_to(self, value: int, digits: int, doomed: bool) -> int:
        # format() takes the exact decimal value of the double, half to even, as Python does.
        if digits > 0:
            rounded = self._add_over(f"format('{{:.{digits}f}}', $1)::DOUBLE", value)
        else:
            rounded = self._round_to_power_of_ten(value, -digits)
        if doomed or self.cells[value].finite:
            return rounded
        return self._add_over("CASE WHEN isfinite($1) THEN $2 ELSE $1 END", value, rounded)

    def _round_to_power_of_ten(self, value: int, zeros: int) -> int:
        """The multiple of 10**zeros nearest to the value, half to even.

        The remainder by 2·10**zeros is exact and is the distance from the previous even multiple. The distance to the
        target multiple is exact as well, so the sum is rounded once, as in Python.
        """
        step = 10.0**zeros
        half_step, one_step, more_steps, two_steps = (f"'{step * factor!r}'::DOUBLE" for factor in (0.5, 1.0, 1.5, 2.0))
        remainder = self._add_over(f"($1 % {two_steps})", value)
        text = (
            f"($1 + CASE WHEN $2 <= -{more_steps} THEN -{two_steps} - $2 WHEN $2 < -{half_step} THEN -{one_step} - $2 "
            f"WHEN $2 <= {half_step} THEN -$2 WHEN $2 < {more_steps} THEN {one_step} - $2 ELSE {two_steps} - $2 END)"
        )
        return self._add_over(text, value, remainder)


def _select(cells: Sequence[_Cell], root: int, relation: str, result: str) -> str:
    uses = _uses(cells, root)
    texts: dict[int, str] = {}
    # The level of the SELECT that a text belongs to; the innermost is 0. A column's name belongs to the next level.
    levels: dict[int, int] = {}
    columns: dict[int, list[str]] = {}
    names: list[str] = []
    for number in sorted(uses):
        cell = cells[number]
        text = _filled(cell.text, [texts[operand] for operand in cell.operands])
        level = max((levels[operand] for operand in cell.operands), default=0)
        if cell.operands and uses[number] > 1 and not (uses[number] == 2 and _is_cheap(text)):
            names.append(f"_f{len(names)}")
            columns.setdefault(level, []).append(f"{text} AS {names[-1]}")
            text = names[-1]
            level += 1
        texts[number], levels[number] = text, level
    for level in sorted(columns):
        relation = f"(SELECT *, {', '.join(columns[level])} FROM {relation})"
    everything = f"* EXCLUDE ({', '.join(names)})" if names else "*"
    return f"SELECT {everything}, {texts[root]} AS {result} FROM {relation}"


def _uses(cells: Sequence[_Cell], root: int) -> dict[int, int]:
    """How many times each cell that the root needs is written out."""
    uses = {root: 1}
    for number in range(root, -1, -1):
        if number in uses:
            for hole in _HOLE.findall(cells[number].text):
                operand = cells[number].operands[int(hole) - 1]
                uses[operand] = uses.get(operand, 0) + 1
    return uses


def _is_cheap(text: str) -> bool:
    return len(text) <= _REPEATED_LENGTH and not _COSTLY.search(text)


def _filled(text: str, operands: Sequence[str]) -> str:
    return _HOLE.sub(lambda hole: operands[int(hole[1]) - 1], text)
