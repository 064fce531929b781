"""The dbt models as assets: dbt gives the specs, the table makes the rows."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject, dbt_assets

from octo_pipeline.assets.months import make_step
from octo_pipeline.assets.partitions import monthly
from octo_pipeline.assets.specs import DATA_ENGINEERING, FRESHNESS, table_metadata
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.dbt import manifest_path
from octo_pipeline.vendors.catalog import vendor_of_relation
from octo_pipeline.workspace import Workspace


class _Translator(DagsterDbtTranslator):
    """Names dbt nodes as the house does: a table's name is its key, a source is the raw asset behind it."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        name = dbt_resource_props["name"]
        # Other sources are tables of the lake, which have their names already.
        if dbt_resource_props.get("source_name") == "landing":
            return dg.AssetKey(vendor_of_relation(name).raw_asset)
        return dg.AssetKey(name)

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project).replace_attributes(owners=DATA_ENGINEERING)
        if spec.key == dg.AssetKey(CostLineItems.name):
            return spec.replace_attributes(freshness_policy=FRESHNESS).merge_attributes(
                metadata=table_metadata(CostLineItems())
            )
        return spec

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return "normalisation"


@dbt_assets(
    manifest=manifest_path(),
    select="+cost_line_items",
    name="normalisation",
    partitions_def=monthly,
    backfill_policy=dg.BackfillPolicy.single_run(),
    # A raw asset may be read as several relations.
    dagster_dbt_translator=_Translator(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True)),
)
def normalisation(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.MaterializeResult]:
    """The landed files of a month in one shape for all vendors."""
    table = CostLineItems()
    result = make_step(context, workspace, table, dg.AssetKey(table.name))
    # The other models are views within the same pass: they have no rows of their own to report.
    for key in context.job_def.asset_layer.asset_graph.toposorted_asset_keys:
        if key in context.selected_asset_keys and key != result.asset_key:
            yield dg.MaterializeResult(asset_key=key)
    yield result
