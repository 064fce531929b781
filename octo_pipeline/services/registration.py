"""The registration of an account's vendor, so that commands and jobs need not know which vendor it is."""

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.vendor import Registration


def of(account: Account) -> Registration:
    """The registration of the account's vendor.

    Raises:
        OctoError: this version has none for it.
    """
    vendor = VENDORS.get(account.vendor)
    if vendor is None or vendor.registration is None:
        confirmed = [name for name, vendor in VENDORS.items() if vendor.registration]
        raise OctoError(
            f"Accounts of {account.vendor} cannot be confirmed by this version; it can confirm those of "
            f"{', '.join(confirmed)}.",
            code="vendor-cannot-be-confirmed",
        )
    return vendor.registration()
