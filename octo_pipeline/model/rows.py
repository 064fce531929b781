"""A small result for people: the column names and rows of a simulation, a figure or a check."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from octo_pipeline.model.sql import Sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Rows:
    """A small result: column names and rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def fetched(cls, connection: "DuckDBPyConnection", query: Sql) -> "Rows":
        """All rows of a query."""
        result = connection.execute(query)
        return cls(tuple(column[0] for column in result.description or ()), tuple(result.fetchall()))

    def column(self, name: str) -> list[Any]:
        """The values of one column, in the order of the rows."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]

    def select(self, *names: str) -> list[tuple[Any, ...]]:
        """These columns of all rows."""
        return list(zip(*map(self.column, names), strict=True))

    def kind(self, index: int) -> Literal["amount", "count", "text"]:
        """What a column has: amounts (decimals), whole numbers, or anything else."""
        kinds = {type(row[index]) for row in self.rows if row[index] is not None}
        return {frozenset({Decimal}): "amount", frozenset({int}): "count"}.get(frozenset(kinds), "text")  # type: ignore[return-value]

    def picked(self, names: Sequence[str]) -> "Rows":
        """These columns alone."""
        return Rows(tuple(names), tuple(self.select(*names)))

    def records_by(self, name: str) -> dict[Any, list[dict[str, Any]]]:
        """The rows by the value of a column, in their order, each as name -> value."""
        records: dict[Any, list[dict[str, Any]]] = {}
        for row in self.rows:
            record = dict(zip(self.columns, row, strict=True))
            records.setdefault(record[name], []).append(record)
        return records

    def first(self, count: int) -> "Rows":
        """The first of the rows."""
        return Rows(self.columns, self.rows[:count])

    def records(self) -> list[dict[str, Any]]:
        """The rows for programs: name -> value, amounts as texts with all of their digits."""
        return [{c: exact(v) for c, v in zip(self.columns, row, strict=True)} for row in self.rows]

    def billed(self) -> "Rows":
        """Without the effective costs, for a table that has no room for them."""
        return self.picked([name for name in self.columns if "effective_" not in name])

    def without_repeated_costs(self) -> "Rows":
        """Without the effective costs that only repeat the billed ones, which people need not read twice.

        A column ``effective_x`` or ``x_effective_y`` belongs to the column whose name is the same without ``effective_``.
        """
        repeated = {
            name
            for name in self.columns
            if "effective_" in name
            and (billed := name.replace("effective_", "", 1)) in self.columns
            and self.column(name) == self.column(billed)
        }
        names = tuple(name for name in self.columns if name not in repeated)
        return self.picked(names)

    def total(self) -> str:
        """The sum of ``cost`` per ``currency`` as a text for people: ``900.00 USD, 3.50 EUR``.

        If there is an ``effective_cost`` with another sum, it follows: ``900.00 USD (amortised 850.00 USD)``. Savings have
        none.
        """
        billed = self._sums("cost")
        if "effective_cost" not in self.columns or not any(self.column("effective_cost")):
            return billed
        effective = self._sums("effective_cost")
        return billed if billed == effective else f"{billed} (amortised {effective})"

    def _sums(self, column: str) -> str:
        sums: dict[str, Decimal] = {}
        for currency, cost in self.select("currency", column):
            sums[currency] = sums.get(currency, Decimal(0)) + cost
        return ", ".join(f"{cost:,.2f} {currency}" for currency, cost in sorted(sums.items()))


def exact(value: Any) -> Any:
    """A value for machines: a decimal as text with all of its digits, never in scientific notation."""
    return f"{value:f}" if isinstance(value, Decimal) else value
