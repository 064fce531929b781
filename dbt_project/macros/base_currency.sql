{#
  An amount at a rate, rounded half away from zero to ten places; null where there is no rate. decimal(38, 10) times
  decimal(38, 10) overflows at 10⁹ × 10⁹, so whole units and the fraction are multiplied apart, as integers. The rate is an
  integer of 16 places. Usage is compared by the same rule (octo_pipeline/allocation/sql/amounts.sql.j2).
#}
{% macro in_base_currency(amount, rate) -%}
  {%- set units = "cast(" ~ amount ~ " * cast(10000000000 as decimal(11, 0)) as hugeint)" -%}
  {%- set whole = "(" ~ units ~ " // 10000000000) * " ~ rate -%}
  {%- set fraction = "((" ~ units ~ " % 10000000000) * " ~ rate ~ ") // 10000000000" -%}
  {%- set product = "(" ~ whole ~ " + " ~ fraction ~ ")" -%}
  {%- set rounded = "(" ~ product ~ " + sign(" ~ product ~ ") * 500000) // 1000000" -%}
  cast(cast({{ rounded }} as decimal(38, 0)) * cast(0.0000000001 as decimal(11, 10)) as decimal(38, 10))
{%- endmacro %}
