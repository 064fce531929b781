{%- set amounts = [
    'billed', 'effective', 'allocated_out', 'allocated_in', 'effective_out', 'effective_in', 'savings_out',
    'savings_in', 'step_out', 'step_in', 'step_effective_out', 'step_effective_in', 'corrections_out', 'corrections_in',
    'corrections_effective_out', 'corrections_effective_in', 'corrections_savings_out', 'corrections_savings_in',
    'final_cost', 'amortised_final_cost',
] -%}

with

-- Summed first: DuckDB materialises a CTE that is used twice, and there can be millions of rows.
line_items as (

    select
        sub_account_id,
        billing_currency,
        sum(billed_cost) as billed_cost,
        sum(effective_cost) as effective_cost

    from {{ source('lake', 'cost_line_items') }}
    group by sub_account_id, billing_currency

),

allocations as (

    select
        source_account,
        source_group,
        target_account,
        target_group,
        currency,
        category,
        kind,
        status,
        sum(cost) as cost,
        sum(effective_cost) as effective_cost

    from {{ source('lake', 'explained_allocations') }}
    group by all

),

-- What an item costs now is billed again on its account; if it is distributed, it is handed on as well.
-- A balance is not billed: only what is handed on of it is corrected.
corrections as (

    select
        case when source_group is null then 'account' else 'group' end as owner_type,
        coalesce(source_group, source_account) as owner_id,
        currency,
        'corrections_in' as part,
        cost,
        effective_cost

    from {{ source('lake', 'corrections') }}
    where corrected_kind = 'item' and category in ('fee', 'account', 'usage')

    union all

    select
        case when source_group is null then 'account' else 'group' end as owner_type,
        coalesce(source_group, source_account) as owner_id,
        currency,
        case when category = 'savings' then 'corrections_savings_out' else 'corrections_out' end as part,
        cost,
        effective_cost

    from {{ source('lake', 'corrections') }}
    where corrected_kind = 'item' and status = 'checked_allocated'

    union all

    select
        case when target_group is null then 'account' else 'group' end as owner_type,
        coalesce(target_group, target_account) as owner_id,
        currency,
        case when category = 'savings' then 'corrections_savings_in' else 'corrections_in' end as part,
        cost,
        effective_cost

    from {{ source('lake', 'corrections') }}
    where corrected_kind <> 'item'

),

charges as (

    select
        'account' as owner_type,
        sub_account_id as owner_id,
        billing_currency as currency,
        'line_items' as part,
        billed_cost as cost,
        effective_cost

    from line_items

    union all

    select
        case when source_group is null then 'account' else 'group' end as owner_type,
        coalesce(source_group, source_account) as owner_id,
        currency,
        case category
            when 'savings' then 'savings_out'
            when 'balance' then 'step_out'
            else 'allocated_out'
        end as part,
        cost,
        effective_cost

    from allocations
    where kind = 'item' and status = 'checked_allocated'

    union all

    select
        case when target_group is null then 'account' else 'group' end as owner_type,
        coalesce(target_group, target_account) as owner_id,
        currency,
        case category
            when 'savings' then 'savings_in'
            when 'balance' then 'step_in'
            else 'allocated_in'
        end as part,
        cost,
        effective_cost

    from allocations
    where kind <> 'item'

    union all

    select * from corrections

),

summed as (

    select
        owner_type,
        owner_id,
        currency,
        coalesce(sum(cost) filter (where part = 'line_items'), 0) as billed,
        coalesce(sum(effective_cost) filter (where part = 'line_items'), 0) as effective,
        coalesce(sum(cost) filter (where part = 'allocated_out'), 0) as allocated_out,
        coalesce(sum(cost) filter (where part = 'allocated_in'), 0) as allocated_in,
        coalesce(sum(effective_cost) filter (where part = 'allocated_out'), 0) as effective_out,
        coalesce(sum(effective_cost) filter (where part = 'allocated_in'), 0) as effective_in,
        coalesce(sum(cost) filter (where part = 'savings_out'), 0) as savings_out,
        coalesce(sum(cost) filter (where part = 'savings_in'), 0) as savings_in,
        coalesce(sum(cost) filter (where part = 'step_out'), 0) as step_out,
        coalesce(sum(cost) filter (where part = 'step_in'), 0) as step_in,
        coalesce(sum(effective_cost) filter (where part = 'step_out'), 0) as step_effective_out,
        coalesce(sum(effective_cost) filter (where part = 'step_in'), 0) as step_effective_in,
        coalesce(sum(cost) filter (where part = 'corrections_out'), 0) as corrections_out,
        coalesce(sum(cost) filter (where part = 'corrections_in'), 0) as corrections_in,
        coalesce(sum(effective_cost) filter (where part = 'corrections_out'), 0) as corrections_effective_out,
        coalesce(sum(effective_cost) filter (where part = 'corrections_in'), 0) as corrections_effective_in,
        coalesce(sum(cost) filter (where part = 'corrections_savings_out'), 0) as corrections_savings_out,
        coalesce(sum(cost) filter (where part = 'corrections_savings_in'), 0) as corrections_savings_in

    from charges
    group by owner_type, owner_id, currency

),

costs as (

    select
        *,
        billed - allocated_out + allocated_in - step_out + step_in
        - corrections_out + corrections_in as final_cost,
        effective - effective_out + effective_in - step_effective_out + step_effective_in
        - corrections_effective_out + corrections_effective_in + savings_out - savings_in
        + corrections_savings_out - corrections_savings_in as amortised_final_cost

    from summed

)

select
    costs.owner_type,
    costs.owner_id,
    costs.currency,
    {% for amount in amounts %}
        cast(costs.{{ amount }} as decimal(38, 10)) as {{ amount }},
    {% endfor %}
    {% for amount in amounts %}
        {{ in_base_currency('costs.' ~ amount, 'rates.rate') }} as base_{{ amount }},
    {% endfor %}
    rates.base_currency

from costs
left join {{ source('lake', 'base_rates') }} as rates on costs.currency = rates.currency
