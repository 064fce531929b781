"""What stands in a form that is shown: what was typed, and what is wrong with it.

The macro ``field`` of ``parts.html.j2`` shows it. What a form changes belongs in services.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import FormData

from octo_pipeline.model.errors import OctoError

# Fields whose text no page shows again: the secrets of Azure's applications, and the address with a code that a sign-in ends at.
SECRET_FIELDS = ("center_secret", "api_secret", "address")


@dataclass(frozen=True)
class Filled:
    """A form.

    Attributes:
        values: what stands in its fields, by their names.
        problems: what is wrong, by field; that of no field has the name "".
    """

    values: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def refused(form: FormData, error: OctoError, fields: Mapping[str, str]) -> Filled:
    """A form as it was sent, with why it was refused.

    Args:
        form: what was typed.
        error: the refusal.
        fields: the field that an error is about, by the error's code.
    """
    values = {name: value for name, value in form.multi_items() if isinstance(value, str) and name not in SECRET_FIELDS}
    return Filled(values, {fields.get(error.code, ""): str(error)})


def text_of(form: FormData, name: str) -> str:
    """What was typed into a field, without the spaces around it; nothing if the form lacks it."""
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""
