{# FOCUS charge category of a Google Cloud cost type (allocation.md §3); what is not known is an Adjustment. #}
{% macro gcp_charge_category(cost_type) -%}
  case
    when {{ cost_type }} = 'regular' then 'Usage'
    when {{ cost_type }} = 'tax' then 'Tax'
    else 'Adjustment'
  end
{%- endmacro %}
