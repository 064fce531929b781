"""Every .sql.j2 template renders with the stand-ins it is linted with, and DuckDB can parse the result."""

import ast
from configparser import ConfigParser
from pathlib import Path

import duckdb
import pytest

import octo_pipeline
from octo_pipeline.model.templates import render

PACKAGE = Path(octo_pipeline.__file__).parent
TEMPLATES = sorted(
    f"{path.parent.parent.relative_to(PACKAGE)}/{path.name.removesuffix('.sql.j2')}"
    for path in PACKAGE.glob("**/sql/*.sql.j2")
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_template_with_stand_ins_is_sql(template):
    # A piece without a stand-in in octo_pipeline/.sqlfluff fails to render.
    text = render(template, **_stand_ins())

    statements = duckdb.extract_statements(text)

    # Nothing is left of a template that only has macros.
    assert len(statements) == (1 if text.strip() else 0)


def _stand_ins() -> dict[str, object]:
    config = ConfigParser(interpolation=None, delimiters=("=",))
    config.optionxform = str
    config.read(PACKAGE / ".sqlfluff")
    return {name: _value(text) for name, text in config["sqlfluff:templater:jinja:context"].items()}


def _value(text: str) -> object:
    # As sqlfluff reads it: a Python literal, or else a text.
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
