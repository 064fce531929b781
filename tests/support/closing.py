"""How tests close and reopen months of the product: the one seam to its services."""

from collections.abc import Sequence

from octo_pipeline.workspace import Workspace


def close_months(workspace: Workspace, months: Sequence[str]) -> None:
    """Close months in order."""
    raise NotImplementedError(f"{', '.join(months)}: months do not close yet")


def reopen_months(workspace: Workspace, months: Sequence[str]) -> None:
    """Reopen months, the last of the list first."""
    raise NotImplementedError(f"{', '.join(months)}: months do not close yet")
