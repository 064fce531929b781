"""The vendors: the one list that everything else is generated from.

This module holds what the rooms below `vendors` (settings, rules, the registry) need to know about a vendor.
Everything else is in the vendor's own folder, ``octo_pipeline/vendors/<name>/``, whose ``VENDOR`` is looked up by the
name below.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class VendorName:
    """A vendor by its name.

    Attributes:
        name: its name in columns, documents, commands and settings; its folder has the same name.
        exports: the contents of the folder in the setting ``OCTO_<NAME>_EXPORTS``; None if there is no such setting.
        label_filters: the label filters of its cost-group options besides ``tag_filters`` -> the column of
            ``cost_line_items`` that each one reads.
        is_cloud: whether line items have its name as their vendor. FOCUS files can be of any vendor, and charges by hand
            have none.
        provider_name: what FOCUS calls it; empty where line items have another vendor.
        sub_account_type: what it calls an account below a billing account.
        issuer_words: how the names of its companies begin, in lower case.
    """

    name: str
    exports: str | None
    label_filters: Mapping[str, str] = field(default_factory=dict)
    is_cloud: bool = True
    provider_name: str = ""
    sub_account_type: str = ""
    issuer_words: tuple[str, ...] = ()


_GCP_LABELS = {"label_filters": "tags", "project_label_filters": "project_labels"}

VENDORS: dict[str, VendorName] = {
    vendor.name: vendor
    for vendor in (
        VendorName(
            "aws",
            "Folder laid out like the S3 bucket of the CUR",
            provider_name="AWS",
            sub_account_type="Linked Account",
            issuer_words=("amazon", "aws"),
        ),
        VendorName(
            "azure",
            "Folder of an Azure partner's or of Cost Management exports",
            provider_name="Microsoft",
            sub_account_type="Subscription",
            issuer_words=("microsoft", "azure"),
        ),
        VendorName(
            "gcp",
            "Folder of exported Google Cloud billing tables",
            _GCP_LABELS,
            provider_name="Google Cloud",
            sub_account_type="Project",
            issuer_words=("google",),
        ),
        VendorName("focus", "Folder of FOCUS files of any provider", is_cloud=False),
        VendorName("manual", None, is_cloud=False),
    )
}

# The vendors whose accounts can be registered, and for which cost groups have their own options.
CLOUDS: dict[str, VendorName] = {name: vendor for name, vendor in VENDORS.items() if vendor.is_cloud}
