"""The dbt models up to cost_line_items as assets: dbt's manifest gives the specs, the table makes the rows.

The specs are read from the manifest's JSON. dagster-dbt could read it too, but importing it takes longer than all other
imports together, in every process that loads the definitions.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha1
from typing import Any

import dagster as dg

from octo_pipeline.assets.months import make_step
from octo_pipeline.assets.partitions import a_run_a_month, monthly
from octo_pipeline.assets.specs import DATA_ENGINEERING, FRESHNESS, table_metadata
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.dbt import manifest
from octo_pipeline.vendors.catalog import vendor_of_relation
from octo_pipeline.workspace import Workspace


def _specs(manifest: Mapping[str, Any]) -> Iterator[dg.AssetSpec]:
    """An asset for each model that cost_line_items is made from, and for itself."""
    table = CostLineItems()
    models = [f"model.octo.{table.name}"]
    # The list grows by the parents of each model until it has all ancestors.
    for model in models:
        node = manifest["nodes"][model]
        parents = manifest["parent_map"][model]
        models += [parent for parent in parents if parent in manifest["nodes"] and parent not in models]
        spec = dg.AssetSpec(
            node["name"],
            deps=sorted({_asset_key(manifest, parent) for parent in parents}),
            description=f"{node['description'].strip()}\n\n```sql\n{node['raw_code'].strip()}\n```",
            code_version=sha1(node["raw_code"].encode(), usedforsecurity=False).hexdigest(),
            # A run may select only some of the models.
            skippable=True,
            group_name="normalisation",
            kinds={"dbt", "duckdb"},
            owners=DATA_ENGINEERING,
        )
        is_table = node["name"] == table.name
        yield spec.replace_attributes(freshness_policy=FRESHNESS, metadata=table_metadata(table)) if is_table else spec


def _asset_key(manifest: Mapping[str, Any], parent: str) -> dg.AssetKey:
    """The asset of a model, or the raw asset of the vendor whose landed files a dbt source reads."""
    if parent in manifest["nodes"]:
        return dg.AssetKey(manifest["nodes"][parent]["name"])
    return dg.AssetKey(vendor_of_relation(manifest["sources"][parent]["name"]).raw_asset)


_SPECS = list(_specs(manifest()))

# The other models are views within the same pass: they have no rows of their own to report. Parents come first.
VIEWS = [spec.key for spec in reversed(_SPECS) if spec.key != dg.AssetKey(CostLineItems.name)]


@dg.multi_asset(
    name="normalisation",
    specs=_SPECS,
    partitions_def=monthly,
    backfill_policy=a_run_a_month,
    can_subset=True,
)
def normalisation(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.MaterializeResult]:
    """The landed files of a month in one shape for all vendors."""
    table = CostLineItems()
    result = make_step(context, workspace, table, dg.AssetKey(table.name))
    for key in VIEWS:
        if key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key)
    yield result
