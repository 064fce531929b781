{#
  A view in the engine of this invocation, by one statement. dbt's own materialisation keeps the old view until the new one
  is whole, which nobody needs here, and takes longer for it than for compiling the model.
#}
{% materialization replaced_view, adapter="duckdb" %}
  {%- set relation = api.Relation.create(identifier=model["alias"], schema=schema, database=database, type="view") -%}
  {% call statement("main", auto_begin=false) -%}
    create or replace view {{ relation }} as {{ sql }}
  {%- endcall %}
  {{ return({"relations": [relation]}) }}
{% endmaterialization %}
