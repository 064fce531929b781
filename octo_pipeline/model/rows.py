"""A small result for people: the column names and rows of a simulation, a figure or a check."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

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

    def total(self) -> str:
        """The sum of ``cost`` per ``currency`` as a text for people: ``900.00 USD, 3.50 EUR``."""
        sums: dict[str, Decimal] = {}
        for currency, cost in zip(self.column("currency"), self.column("cost"), strict=True):
            sums[currency] = sums.get(currency, Decimal(0)) + cost
        return ", ".join(f"{cost:,.2f} {currency}" for currency, cost in sorted(sums.items()))
