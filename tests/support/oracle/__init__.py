"""Allocation in plain Python, row by row, from the text of allocation.md: what the tables are held against.

Slow and simple on purpose. It shares no SQL with the core, and of its Python only the reference meaning of a formula.

Amounts are whole numbers of 10⁻¹⁰ ("units"), as at rest. The two casts between a double and an amount are the engine's,
as the text says.
"""

from tests.support.oracle.lines import Line as Line
