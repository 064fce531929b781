"""SQL is written in .sql.j2 templates; Python makes only what is dynamic (docs/dev/architecture.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import octo_pipeline

PACKAGE = Path(octo_pipeline.__file__).parent

# Clauses as they stand in SQL and hardly in a sentence.
CLAUSE = re.compile(
    r"\bselect\b.*\bfrom\b|\bcreate\b.*\btable\b|\binsert\s+into\b|\bgroup\s+by\b|\b(left|inner|cross|semi|anti)\s+join\b"
    r"|\bFROM\b|\bWHERE\b|\bJOIN\b|^\s*(from|where|join)\s",
    re.DOTALL,
)

# Modules that make SQL of what is only known when it runs, and why no template can.
DYNAMIC = {
    "model/sql.py": "literals, names and rows of values",
    "allocation/formula_sql.py": "a formula becomes as many nested queries as it has values that are used twice",
    "allocation/temp_tables.py": "the one statement that makes a temporary table of a query",
}
