{# FOCUS charge category of an AWS line item type (allocation.md §3); what is not known is an Adjustment. #}
{% macro aws_charge_category(line_type) -%}
  case
    when {{ line_type }} in ('Usage', 'DiscountedUsage', 'SavingsPlanCoveredUsage', 'SavingsPlanNegation', 'FlatRateSubscription') then 'Usage'
    when {{ line_type }} in ('Fee', 'RIFee', 'SavingsPlanRecurringFee', 'SavingsPlanUpfrontFee') then 'Purchase'
    when {{ line_type }} = 'Tax' then 'Tax'
    when {{ line_type }} in ('Credit', 'Refund') or ends_with({{ line_type }}, 'Discount') then 'Credit'
    else 'Adjustment'
  end
{%- endmacro %}
