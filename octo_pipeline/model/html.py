"""The templates of pages and pictures: whatever is filled in is escaped, and no template may say otherwise."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import octo_pipeline
from octo_pipeline.model.wording import amount, plain

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def html_template(name: str) -> "Template":
    """The template of HTML or SVG at ``octo_pipeline/<name>``. Its filters: ``amount`` for people, and ``plain`` for texts from outside."""
    return _environment().get_template(name)


@cache
def _environment() -> "Environment":
    # Imported here, so that commands that render nothing do not import it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(octo_pipeline.__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    del environment.filters["safe"]
    environment.filters["amount"] = lambda value: "" if value is None else amount(value)
    environment.filters["plain"] = plain
    return environment
