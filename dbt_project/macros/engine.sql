{# Functions of DuckDB that the models share. #}

{# A map from the text of a flat JSON object. #}
{% macro json_to_map(column) -%}
  cast(cast({{ column }} as json) as map(varchar, varchar))
{%- endmacro %}
