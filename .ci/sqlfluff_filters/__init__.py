"""What sqlfluff needs besides `octo_pipeline/.sqlfluff` to render the .sql.j2 templates."""

from octo_pipeline.model.columns import MONEY
from octo_pipeline.model.sql import identifier, literal
from octo_pipeline.model.wording import LEFT_REASONS

__all__ = ["LEFT_REASONS", "MONEY", "SQLFLUFF_JINJA_FILTERS"]

SQLFLUFF_JINJA_FILTERS = {"literal": literal, "identifier": identifier}
