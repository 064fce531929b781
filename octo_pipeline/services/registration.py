"""Finds the registration of an account's vendor, so that commands and jobs do not depend on the vendor."""

from octo_pipeline.model.errors import OctoError
from octo_pipeline.registry.records import Account
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.vendor import Registration


def of(account: Account) -> Registration:
    """The registration of the account's vendor.

    Raises:
        OctoError: this version has no registration for the vendor.
    """
    vendor = VENDORS.get(account.vendor)
    if vendor is None or vendor.registration is None:
        confirmed = [name for name, vendor in VENDORS.items() if vendor.registration]
        raise OctoError(
            f"This version cannot confirm accounts of {account.vendor}, only those of {', '.join(confirmed)}.",
            code="vendor-cannot-be-confirmed",
        )
    return vendor.registration()
