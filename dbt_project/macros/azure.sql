{#
  FOCUS charge category of an Azure charge type (allocation.md §3); what is not known is an Adjustment.
  Usage comes with daily usage and Cost Management; the reconciliation has no usage of its own, so there a new or
  renewed thing is a purchase.
#}
{% macro azure_charge_category(line_type, is_purchase) -%}
  case
    when regexp_matches(lower({{ line_type }}), 'credit|refund|cancel|return') then 'Credit'
    when lower({{ line_type }}) = 'tax' then 'Tax'
    when regexp_matches(lower({{ line_type }}), '^unused') or lower({{ line_type }}) = 'usage' then 'Usage'
    when regexp_matches(lower({{ line_type }}), '^(purchase|new|renew|convert|transfer|upgrade)|quantity$|fee$|charge$|prorate$')
      then {% if is_purchase %}'Purchase'{% else %}case when lower({{ line_type }}) = 'purchase' then 'Purchase' else 'Usage' end{% endif %}
    else 'Adjustment'
  end
{%- endmacro %}

{# RI, SP or null, from whatever an export calls the kind of a commitment. #}
{% macro azure_commitment_type(kind) -%}
  case
    when {{ kind }} ilike '%reserv%' then 'RI'
    when {{ kind }} ilike '%saving%' then 'SP'
  end
{%- endmacro %}

{# Kind of a meter, as one text. #}
{% macro azure_usage_type(sub_category, meter) -%}
  nullif(concat_ws(' / ', {{ sub_category }}, {{ meter }}), '')
{%- endmacro %}

{#
  Public price times quantity in the billing currency; null where it is not known, which Azure writes as 0.
  The product has 13 digits before the point; a larger one is made of numbers with fewer places, and what is larger
  still is not known: a price must not stop a bill.
#}
{% macro azure_list_cost(quantity, unit_price, exchange_rate) -%}
  cast(
    nullif(
      try(
        coalesce(
          try(cast({{ quantity }} * {{ unit_price }} as decimal(38, 10))),
          try(cast({{ quantity }} as decimal(38, 5)) * cast({{ unit_price }} as decimal(38, 5)))
        ) * cast(coalesce({{ exchange_rate }}, 1) as decimal(18, 8))
      ),
      0
    ) as decimal(38, 10)
  )
{%- endmacro %}
