{#
  A model with this materialisation is one partition of a lake table. It is written to the caller's staged file, with
  the caller's metadata. The caller proves the file and then publishes it, because a failed proof must be able to stop a
  file that SQL alone accepts.
#}
{% materialization lake, adapter="duckdb" %}
  {%- set relation = api.Relation.create(identifier=model["alias"], schema=schema, database=database, type="view") -%}
  {%- if config.get("contract") and config.get("contract").enforced -%}
    {{ get_assert_columns_equivalent(sql) }}
  {%- endif -%}
  {%- set copy = run_query("select getvariable('octo_copy_" ~ model["name"] ~ "')").rows[0][0] -%}
  {%- if copy is none -%}
    {{ exceptions.raise_compiler_error("The model " ~ model["name"] ~ " is made by octo or Dagster, which pass the month and the file; `dbt run` alone does not know them.") }}
  {%- endif -%}
  {%- set path, options = copy.split("\n", 1) -%}
  {%- set path = path | replace("'", "''") -%}

  {% call statement("main") -%}
    copy ({{ sql }}) to '{{ path }}' ({{ options }})
  {%- endcall %}

  {% do run_query("create or replace view " ~ relation ~ " as select * from read_parquet('" ~ path ~ "')") %}
  {{ return({"relations": [relation]}) }}
{% endmaterialization %}
