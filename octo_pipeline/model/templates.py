"""Renders the .sql.j2 templates in the `sql` folder of each room.

A template is SQL in stages (CTEs). Python fills in relations, values and what is dynamic (conditions, formulas); a
missing piece is an error. The filters ``literal`` and ``identifier`` quote values.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import octo_pipeline
from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.sql import Sql, identifier, literal
from octo_pipeline.model.wording import LEFT_REASONS

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def render(template: str, **pieces: object) -> Sql:
    """The SQL of a template.

    Args:
        template: ``<room>/<name>``, the file ``octo_pipeline/<room>/sql/<name>.sql.j2``.
        pieces: the values of the template's variables. A `Relation` or `Sql` is inserted as it is; write any other
            value as ``{{ month | literal }}``. Each variable has a stand-in in ``octo_pipeline/.sqlfluff``, with which
            the template is linted and tested.
    """
    return Sql(_template(template).render(**pieces))


def macro(template: str, name: str, *arguments: str) -> Sql:
    """The SQL of one macro of a template, for an expression of a column that Python makes."""
    return Sql(getattr(_template(template).module, name)(*arguments))


def _template(template: str) -> "Template":
    room, name = template.rsplit("/", 1)
    return _environment().get_template(f"{room}/sql/{name}.sql.j2")


@cache
def _environment() -> "Environment":
    # Imported here, so that commands that render nothing do not import it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 # nosec B701 - SQL, not HTML: values are quoted by the filters
        loader=FileSystemLoader(Path(octo_pipeline.__file__).parent),
        undefined=StrictUndefined,
        auto_reload=False,
    )
    environment.filters |= {"literal": literal, "identifier": identifier}
    environment.globals |= {"MONEY": MONEY, "LEFT_REASONS": LEFT_REASONS}
    return environment
