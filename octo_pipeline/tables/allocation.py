"""The tables of the allocation: what each reads, and the core's function that makes it."""

from collections.abc import Sequence

import duckdb

from octo_pipeline.allocation import matching, resolution, shares, splits
from octo_pipeline.allocation import proofs as proof
from octo_pipeline.allocation.explained import explained_sql
from octo_pipeline.lake.lake import Lake, PartitionMetadata, Staged, fingerprint
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.model.months import origin_months
from octo_pipeline.model.sql import literal
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.tables.table import code_version
from octo_pipeline.workspace import Workspace

LINE_ITEMS = "cost_line_items"


def _inputs_of(lake: Lake, table: str, month: str) -> dict[str, str]:
    found = lake.fingerprint(table, month)
    return {f"{table}/{month}": found} if found else {}


def due_dues(lake: Lake, month: str) -> dict[str, dict[str, str]]:
    """What earlier and this month's items owe to the booking month.

    Returns:
        origin month -> {allocator version: digest}, of the months that owe something.
    """
    found = {}
    for origin, metadata in lake.metadata_of("matched_items", origin_months(month)).items():
        if month in metadata.facts["due"]:
            found[origin] = metadata.facts["due"][month]
    return found


def due_allocators(lake: Lake, month: str) -> list[Allocator]:
    """The pinned allocator versions that have a tranche due in the booking month, by version."""
    documents: dict[str, str] = {}
    for metadata in lake.metadata_of("matched_items", origin_months(month)).values():
        documents |= {v: metadata.facts["allocators"][v] for v in metadata.facts["due"].get(month, {})}
    return [Allocator.from_document(documents[version]) for version in sorted(documents)]


def _due_inputs(lake: Lake, month: str) -> dict[str, str]:
    return {f"matched_items/{origin}/due": fingerprint(due) for origin, due in due_dues(lake, month).items()}


class MatchedItems:
    """``matched_items``: the month's items and the allocator version that takes each."""

    name = "matched_items"
    columns = matching.MATCHED_ITEM_COLUMNS

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """The month's line items and the allocators whose window holds the month, in order."""
        live = matching.applying(workspace.configuration.allocators, month)
        return _inputs_of(workspace.lake, LINE_ITEMS, month) | {
            "allocators": fingerprint({f"{i:06d}": a.version for i, a in enumerate(live)}),
            "code": code_version("model", "rules", "allocation"),
        }

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Match the month's items and prove that every line item is in exactly one place."""
        lake = workspace.lake
        with lake.connect() as connection:
            line_items = lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS)
            query = matching.match_items(connection, line_items, month, workspace.configuration.allocators)
            connection.execute(f"CREATE TEMP TABLE matched AS {query}")
            due = matching.due_facts(connection, "matched")
            versions = {version for digests in due.values() for version in digests}
            documents = {a.version: a.document for a in workspace.configuration.allocators if a.version in versions}
            lake.copy(connection, "FROM matched", staged, metadata, facts={"due": due, "allocators": documents})
            proof.prove_matched_items(connection, line_items, _staged(staged), month)


class ResolvedAccounts:
    """``resolved_accounts``: the accounts each due allocator entry means in the booking month."""

    name = "resolved_accounts"
    columns = resolution.RESOLVED_ACCOUNT_COLUMNS

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """Line items, what is due, and the cost groups and registered accounts the entries name."""
        allocators = due_allocators(workspace.lake, month)
        groups = workspace.configuration.cost_groups
        named = {e.value for a in allocators for e in a.entries if e.type == "costgroup"}
        registered = workspace.registered_accounts(_payers(allocators))
        return (
            _inputs_of(workspace.lake, LINE_ITEMS, month)
            | {f"cost_groups/{name}": groups[name].version for name in sorted(named & groups.keys())}
            | {
                "allocators": fingerprint({a.version: "" for a in allocators}),
                "registered_accounts": fingerprint({f"{payer}/{account}": "" for payer, account in registered}),
                "code": code_version("model", "rules", "allocation"),
            }
        )

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Resolve accounts, payers and cost groups."""
        lake = workspace.lake
        allocators = due_allocators(lake, month)
        with lake.connect() as connection:
            query = resolution.resolve_accounts(
                connection,
                lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
                allocators,
                workspace.configuration.cost_groups,
                workspace.registered_accounts(_payers(allocators)),
            )
            lake.copy(connection, query, staged, metadata)


class UsageShares:
    """``usage_shares``: what the formulas see of each resolved account in the booking month."""

    name = "usage_shares"
    columns = shares.USAGE_SHARE_COLUMNS

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """Resolved accounts, line items, and the month's exchange rates."""
        rates = {r.currency: str(r.rate) for r in workspace.configuration.rates if r.month == month}
        return (
            _inputs_of(workspace.lake, LINE_ITEMS, month)
            | _inputs_of(workspace.lake, ResolvedAccounts.name, month)
            | {
                "exchange_rates": fingerprint(rates),
                "base_currency": workspace.settings.base_currency,
                "code": code_version("model", "rules", "allocation"),
            }
        )

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Compute usage and shares of the resolved accounts."""
        lake = workspace.lake
        with lake.connect() as connection:
            query = shares.usage_shares(
                connection,
                lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
                lake.scan(ResolvedAccounts.name, [month], ResolvedAccounts.columns),
                month,
                due_allocators(lake, month),
                workspace.configuration.rates,
                workspace.settings.base_currency,
            )
            lake.copy(connection, query, staged, metadata)


class Allocations:
    """``allocations``: the month's items with their status, and the splits and remainders booked in it."""

    name = "allocations"
    columns = splits.ALLOCATION_COLUMNS

    def inputs(self, workspace: Workspace, month: str) -> dict[str, str]:
        """Shares, the month's items, what earlier months owe, and the restore decisions."""
        lake = workspace.lake
        return (
            _inputs_of(lake, UsageShares.name, month)
            | _inputs_of(lake, MatchedItems.name, month)
            | _due_inputs(lake, month)
            | {
                "restored": fingerprint(dict.fromkeys(self._restored(workspace, month), "")),
                "code": code_version("model", "rules", "allocation"),
            }
        )

    def make(self, workspace: Workspace, month: str, staged: Staged, metadata: PartitionMetadata) -> None:
        """Split every due tranche and prove that each adds up."""
        lake = workspace.lake
        with lake.connect() as connection:
            restored = "restored_items"
            _create_restored(connection, restored, self._restored(workspace, month))
            origins = sorted({*due_dues(lake, month), month})
            matched = lake.scan(MatchedItems.name, origins, MatchedItems.columns)
            usage = lake.scan(UsageShares.name, [month], UsageShares.columns)
            query = splits.allocate(connection, matched, usage, restored, month, due_allocators(lake, month))
            lake.copy(connection, query, staged, metadata)
            proof.prove_allocations(connection, matched, restored, _staged(staged), month)

    def _restored(self, workspace: Workspace, month: str) -> list[str]:
        origins = sorted({*due_dues(workspace.lake, month), month})
        return [item.item_id for item in workspace.registry.restored_items(origins)]


ALLOCATION_TABLES = (MatchedItems(), ResolvedAccounts(), UsageShares(), Allocations())


def _payers(allocators: Sequence[Allocator]) -> list[str]:
    return sorted({e.value for a in allocators for e in a.entries if e.type == "payer"})


def _staged(staged: Staged) -> str:
    return f"read_parquet({literal(str(staged.path))})"


def _create_restored(connection: duckdb.DuckDBPyConnection, name: str, item_ids: Sequence[str]) -> None:
    if item_ids:
        # There can be a million of them: bound as one list, not written out.
        connection.execute(f"CREATE TEMP TABLE {name} AS SELECT unnest($1::VARCHAR[]) AS item_id", [list(item_ids)])
    else:
        connection.execute(f"CREATE TEMP TABLE {name} (item_id VARCHAR)")


def explained_allocations(lake: Lake, months: Sequence[str] | None) -> str:
    """SQL of the explained allocations of booking months; None means all months of the lake."""
    booked = lake.months(Allocations.name) if months is None else months
    origins = sorted({origin for month in booked for origin in origin_months(month)})
    return explained_sql(
        lake.scan(Allocations.name, booked, Allocations.columns, month_as="booking_month"),
        lake.scan(MatchedItems.name, origins, MatchedItems.columns),
        lake.scan(UsageShares.name, booked, UsageShares.columns, month_as="booking_month"),
    )
