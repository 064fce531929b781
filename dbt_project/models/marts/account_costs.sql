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
        target_account,
        currency,
        category,
        kind,
        status,
        sum(cost) as cost

    from {{ source('lake', 'explained_allocations') }}
    group by all

),

amounts as (

    select
        sub_account_id as account,
        billing_currency as currency,
        'billed' as measure,
        billed_cost as cost

    from line_items

    union all

    select
        sub_account_id as account,
        billing_currency as currency,
        'effective' as measure,
        effective_cost as cost

    from line_items

    union all

    select
        source_account as account,
        currency,
        case when category = 'savings' then 'savings_out' else 'allocated_out' end as measure,
        cost

    from allocations
    where kind = 'item' and status = 'checked_allocated'

    union all

    select
        target_account as account,
        currency,
        case when category = 'savings' then 'savings_in' else 'allocated_in' end as measure,
        cost

    from allocations
    where kind <> 'item'

),

summed as (

    select
        account,
        currency,
        coalesce(sum(cost) filter (where measure = 'billed'), 0) as billed,
        coalesce(sum(cost) filter (where measure = 'effective'), 0) as effective,
        coalesce(sum(cost) filter (where measure = 'allocated_out'), 0) as allocated_out,
        coalesce(sum(cost) filter (where measure = 'allocated_in'), 0) as allocated_in,
        coalesce(sum(cost) filter (where measure = 'savings_out'), 0) as savings_out,
        coalesce(sum(cost) filter (where measure = 'savings_in'), 0) as savings_in

    from amounts
    group by account, currency

)

select
    account,
    currency,
    cast(billed as decimal(38, 10)) as billed,
    cast(effective as decimal(38, 10)) as effective,
    cast(allocated_out as decimal(38, 10)) as allocated_out,
    cast(allocated_in as decimal(38, 10)) as allocated_in,
    cast(savings_out as decimal(38, 10)) as savings_out,
    cast(savings_in as decimal(38, 10)) as savings_in,
    cast(billed - allocated_out + allocated_in as decimal(38, 10)) as final_cost,
    cast(
        effective - allocated_out + allocated_in + savings_out - savings_in as decimal(38, 10)
    ) as amortised_final_cost

from summed
