{# Functions that differ between SQL engines, so that another engine is a matter of this file. #}

{# A map from the text of a flat JSON object. #}
{% macro json_to_map(column) -%}
  cast(cast({{ column }} as json) as map(varchar, varchar))
{%- endmacro %}
