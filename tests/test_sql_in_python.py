"""A query is a .sql.j2 template; Python only makes what is dynamic: conditions, formulas and lists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import octo_pipeline

PACKAGE = Path(octo_pipeline.__file__).parent

# Words that make a text a query and hardly occur together in a sentence.
CLAUSE = re.compile(
    r"\bselect\b.*\bfrom\b|\bcreate\b.*\btable\b|\bSELECT\b.*\bFROM\b|\bCREATE\b.*\bTABLE\b"
    r"|\bGROUP BY\b|\bWHERE\b|\bJOIN\b",
    re.DOTALL,
)

# What no template can hold.
DYNAMIC = {
    "allocation/formula_sql.py": "a formula becomes as many nested queries as it has values that are used twice",
    "allocation/temp_tables.py": "the one statement that puts a query into a temporary table",
    "lake/lake.py": "every command runs its two queries, and importing the template engine takes 60 ms",
    "model/sql.py": "how rows of values and lists of texts are written",
    "vendors/gcp/billing_queries.py": "BigQuery's dialect; templates are DuckDB's",
    "registry/migrations": "a migration stays as it ran",
}


def test_queries_are_templates():
    with_queries = {
        module
        for path in PACKAGE.rglob("*.py")
        if not (module := str(path.relative_to(PACKAGE))).startswith(tuple(DYNAMIC))
        and any(CLAUSE.search(text) for text in _texts(ast.parse(path.read_text())))
    }

    assert with_queries == set(), "write these modules' queries as .sql.j2 templates"


def _texts(tree: ast.Module) -> Iterator[str]:
    """The texts of a module without its docstrings, each f-string as one with its values left out."""
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left_out.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            left_out.update(node.values)
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node.value
