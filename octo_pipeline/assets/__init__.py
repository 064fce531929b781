"""Software-defined assets, thin: read inputs, call the tables, say what happened."""

from octo_pipeline.assets.dagster_compat import accept_unstable_features

# Before any module of this room uses one; otherwise every command would begin with Dagster's warnings.
accept_unstable_features()
