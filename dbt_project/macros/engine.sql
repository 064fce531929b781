{# DuckDB functions that the models share. #}

{# A map made from the text of a flat JSON object. #}
{% macro json_to_map(column) -%}
  cast(cast({{ column }} as json) as map(varchar, varchar))
{%- endmacro %}
