"""The vendors: the one list that everything else is generated from.

This module holds what the rooms below `vendors` need to know of a vendor: settings, rules, the registry. All else is
in the vendor's own folder, ``octo_pipeline/vendors/<name>/``, whose ``VENDOR`` is found by the name given here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class VendorName:
    """A vendor by its name.

    Attributes:
        name: what columns, documents, commands and settings call it; its folder has the same name.
        exports: what is in the folder that the setting ``OCTO_<NAME>_EXPORTS`` names.
        label_filters: the label filters of its cost-group options besides ``tag_filters`` -> the column of
            ``cost_line_items`` that each looks into.
    """

    name: str
    exports: str
    label_filters: Mapping[str, str] = field(default_factory=dict)


_GCP_LABELS = {"label_filters": "tags", "project_label_filters": "project_labels"}

VENDORS: dict[str, VendorName] = {
    vendor.name: vendor
    for vendor in (
        VendorName("aws", "Folder laid out as the S3 bucket of the CUR"),
        VendorName("azure", "Folder of an Azure partner's or of Cost Management exports"),
        VendorName("gcp", "Folder of exported Google Cloud billing tables", _GCP_LABELS),
    )
}
