"""The vendors of this installation, each as its package describes it."""

from importlib import import_module

from octo_pipeline.model import vendors
from octo_pipeline.vendors.vendor import Vendor


def _vendor(name: str) -> Vendor:
    vendor = import_module(f"octo_pipeline.vendors.{name}").VENDOR
    if not isinstance(vendor, Vendor) or vendor.name != name:
        raise TypeError(f"octo_pipeline.vendors.{name}.VENDOR must be a Vendor with the name {name!r}")
    return vendor


VENDORS: dict[str, Vendor] = {name: _vendor(name) for name in vendors.VENDORS}


def vendor_of_relation(name: str) -> Vendor:
    """The vendor of a relation that dbt reads, whose name begins with the vendor's.

    Raises:
        KeyError: there is no such vendor.
    """
    return VENDORS[name.split("_")[0]]
