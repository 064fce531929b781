"""What each vendor's registration can be asked, so that commands and jobs need not know which vendor it is."""

from typing import Protocol

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.settings import Settings
from octo_pipeline.vendors.aws import registration as aws
from octo_pipeline.vendors.azure import registration as azure
from octo_pipeline.vendors.gcp import registration as gcp
from octo_pipeline.workspace import Workspace


class Registration(Protocol):
    """The steps of a vendor's registration after an account is registered."""

    def confirm(self, workspace: Workspace, actor: str, account: Account) -> Account:
        """Verify the account's steps for real; what failed is the `problem` of the account that is returned.

        Raises:
            OctoError: the vendor could not be asked; nothing was changed.
        """
        ...

    def next_step(self, settings: Settings, account: Account) -> list[str]:
        """What is to be done next, in sentences and links; nothing for a completed account."""
        ...


_VENDORS: dict[str, Registration] = {"aws": aws, "azure": azure, "gcp": gcp}


def of(account: Account) -> Registration:
    """The registration of the account's vendor.

    Raises:
        OctoError: this version has none for it.
    """
    if account.vendor not in _VENDORS:
        raise OctoError(
            f"Accounts of {account.vendor} cannot be confirmed by this version; it can confirm those of "
            f"{', '.join(_VENDORS)}."
        )
    return _VENDORS[account.vendor]
