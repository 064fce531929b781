{# FOCUS charge category of a Google Cloud cost type (allocation.md §3); what is not known is an Adjustment. #}
{% macro gcp_charge_category(cost_type) -%}
  case
    when {{ cost_type }} = 'regular' then 'Usage'
    when {{ cost_type }} = 'tax' then 'Tax'
    else 'Adjustment'
  end
{%- endmacro %}

{# A row's share of the fees of the old model, by what the commitments took off its price. #}
{% macro gcp_fee_share(fee, commitment_cost, total_cost) -%}
  coalesce(
    cast(
      cast({{ fee }} as double) * cast({{ commitment_cost }} as double) / cast({{ total_cost }} as double)
      as decimal(38, 10)
    ), 0
  )
{%- endmacro %}

{# The row that takes what rounding leaves of the fees: the one with the largest share. #}
{% macro gcp_largest_row(commitment_cost) -%}
  max(struct_pack(commitment_cost := {{ commitment_cost }}, file_name := file_name, file_row := file_row))
{%- endmacro %}
