{# DuckDB functions that the models share. #}

{# A map made from the text of a flat JSON object. An empty one, which most rows have, is not parsed. #}
{% macro json_to_map(column) -%}
  case
    when {{ column }} = '{}' then cast(map {} as map(varchar, varchar))
    else cast(cast({{ column }} as json) as map(varchar, varchar))
  end
{%- endmacro %}
