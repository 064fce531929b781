"""What the samples of all vendors ask of the months that they are to write."""

from collections.abc import Sequence

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import parse_month


def require_months(months: Sequence[str]) -> None:
    """Refuse months that no sample can be written for.

    Raises:
        OctoError: there is none, one is not a month, or one is repeated.
    """
    if not months:
        raise OctoError(
            "A sample needs at least one month; give it as YYYY-MM, for example 2024-01.", code="sample-settings-wrong"
        )
    for month in months:
        parse_month(month)
    if len(set(months)) != len(months):
        raise OctoError(
            f"A sample writes each month once; the months are {', '.join(months)}: remove the repeated one.",
            code="sample-settings-wrong",
        )
