"""What a registered account's source says while the account is not confirmed."""

import pytest

from octo_pipeline.services.sources import NotConfirmedError, sources
from octo_pipeline.workspace import Workspace


def refusal(workspace: Workspace, vendor: str) -> str:
    """The sentence of the vendor's one source, which must refuse."""
    (waiting,) = sources(workspace, vendor)
    with pytest.raises(NotConfirmedError) as caught:
        waiting.available("2024-01")
    return str(caught.value)
