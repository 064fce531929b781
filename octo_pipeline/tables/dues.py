"""What is due in a booking month from the items of its origin months, read from the metadata of their partitions.

``matched_items`` records these facts. Which origin months a booking month has belongs in `octo_pipeline.model.months`.
"""

from collections.abc import Iterable

from octo_pipeline.lake.lake import Lake, PartitionMetadata
from octo_pipeline.model.months import origin_months
from octo_pipeline.rules.allocator import Allocator


def due_digests(lake: Lake, month: str) -> dict[str, dict[str, str]]:
    """What is due in the booking month from its own items and those of earlier months.

    Returns:
        origin month -> {allocator version: digest}, for the months with something due.
    """
    return {origin: metadata.facts["due"][month] for origin, metadata in _owing(lake, month).items()}


def origins_read(lake: Lake, month: str) -> list[str]:
    """The origin months whose items the booking month reads: those with something due in it, and the month itself."""
    return sorted({*_owing(lake, month), month})


def outstanding_digests(lake: Lake, month: str) -> dict[str, dict[str, str]]:
    """What is due in the month or later from spread items of the month and earlier ones.

    Returns:
        origin month -> {allocator version: digest}, for the months with something due. The versions are those that spread
        items over several months.
    """
    outstanding: dict[str, dict[str, str]] = {}
    for origin, metadata in lake.metadata_of("matched_items", origin_months(month)).items():
        months: dict[str, list[str]] = {}
        digests: dict[str, str] = {}
        for due_month, due in metadata.facts["due"].items():
            for version, digest in due.items():
                months.setdefault(version, []).append(due_month)
                digests[version] = digest
        if later := {v: digests[v] for v, due in months.items() if len(due) > 1 and max(due) >= month}:
            outstanding[origin] = later
    return outstanding


def origins_outstanding(lake: Lake, month: str) -> list[str]:
    """The origin months of `outstanding_digests`."""
    return sorted(outstanding_digests(lake, month))


def pinned_allocators(lake: Lake, month: str) -> list[Allocator]:
    """The allocators with a tranche due in the booking month, by version, as they were when they took the items.

    The rules for balances that apply in the month are among them.
    """
    documents: dict[str, str] = {}
    for metadata in _owing(lake, month).values():
        documents |= {version: metadata.facts["allocators"][version] for version in metadata.facts["due"][month]}
    return [Allocator.from_document(documents[version]) for version in sorted(documents)]


def owned_digests(lake: Lake, month: str, allocators: Iterable[Allocator]) -> dict[str, str]:
    """The digests of what is due from allocators with an entry of type owner: the accounts of their items count.

    Whoever owns something that is due can have a balance, so all count where there are rules for balances.
    """
    allocators = list(allocators)
    versions = {allocator.version for allocator in allocators if allocator.has_owner}
    has_balances = any(allocator.category == "balance" for allocator in allocators)
    return {
        f"{origin}/{version}": digest
        for origin, digests in due_digests(lake, month).items()
        for version, digest in digests.items()
        if has_balances or version in versions
    }


def _owing(lake: Lake, month: str) -> dict[str, PartitionMetadata]:
    partitions = lake.metadata_of("matched_items", origin_months(month))
    return {origin: metadata for origin, metadata in partitions.items() if month in metadata.facts["due"]}
