with

charges as (

    select * from {{ source('cost_groups', 'charges') }}

),

members as (

    select * from {{ source('cost_groups', 'members') }}

),

-- Which account bears an item or a row: a distributed item is borne by none, but its rows are. A balance is
-- made of what is there already: one that is distributed is taken from its owner, and one that stays is
-- nothing more.
held as (

    select
        category,
        vendor,
        payer,
        case when kind = 'item' then source_group else target_group end as booked_group,
        case when kind = 'item' then source_account else target_account end as account,
        service_code,
        service_name,
        currency,
        case when kind = 'item' and category = 'balance' then -cost else cost end as cost,
        case
            when kind = 'item' and category = 'balance' then -effective_cost
            else effective_cost
        end as effective_cost

    from {{ source('lake', 'explained_allocations') }}
    where
        case category
            when 'balance' then status <> 'unchecked_allocated'
            else status <> 'checked_allocated'
        end

),

sections as (

    select
        cost_group_id,
        case part when 'booked' then 'account' else 'direct' end as section,
        vendor,
        account,
        service_code,
        service_name,
        currency,
        null as corrected_month,
        -- A distributed item is also part of the usage: it is counted once there and subtracted once here.
        case part when 'distributed' then -cost else cost end as cost,
        case part when 'distributed' then -effective_cost else effective_cost end as effective_cost

    from charges

    union all

    select
        members.cost_group_id,
        held.category as section,
        held.vendor,
        held.account,
        held.service_code,
        held.service_name,
        held.currency,
        null as corrected_month,
        held.cost,
        held.effective_cost

    from held
    inner join members
        on
            held.account = members.account
            -- In a family by payer, a row stands under the payer of its item.
            and (members.payer is null or members.payer = coalesce(held.payer, ''))
    where held.category in ('fee', 'savings', 'balance')

    union all

    -- What is booked on a group itself is its own, and no other group's.
    select
        booked_group as cost_group_id,
        category as section,
        vendor,
        account,
        service_code,
        service_name,
        currency,
        null as corrected_month,
        cost,
        effective_cost

    from held
    where booked_group is not null

    union all

    select
        cost_group_id,
        section,
        vendor,
        account,
        service_code,
        service_name,
        currency,
        corrected_month,
        cost,
        effective_cost

    from {{ source('cost_groups', 'corrections') }}

),

summed as (

    select
        cost_group_id,
        section,
        vendor,
        account,
        service_code,
        max(service_name) as service_name,
        currency,
        corrected_month,
        sum(cost) as cost,
        sum(effective_cost) as effective_cost

    from sections
    group by cost_group_id, section, vendor, account, service_code, currency, corrected_month

)

select
    summed.cost_group_id,
    summed.section,
    summed.vendor,
    summed.account,
    summed.service_code,
    summed.service_name,
    summed.currency,
    cast(summed.corrected_month as varchar) as corrected_month,
    cast(summed.cost as decimal(38, 10)) as cost,
    cast(summed.effective_cost as decimal(38, 10)) as effective_cost,
    rates.base_currency,
    {{ in_base_currency('summed.cost', 'rates.rate') }} as base_cost,
    {{ in_base_currency('summed.effective_cost', 'rates.rate') }} as base_effective_cost

from summed
left join {{ source('lake', 'base_rates') }} as rates on summed.currency = rates.currency
