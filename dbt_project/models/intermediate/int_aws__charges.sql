with

cur as (

    select
        *,
        -- AWS writes 0 where it has no price.
        nullif(public_on_demand_cost, 0) as known_list_cost

    from {{ ref('stg_aws__cur') }}

),

-- The offering class is filled on covered usage and often blank on the fee of the same reservation. It is
-- looked up within the payer, so that the rows of a payer depend on nothing of another one.
-- Read apart from cur, from three columns of the lines: a CTE that is named twice is kept whole in memory.
reservations as (

    select
        billing_account_id,
        reservation_arn,
        max(offer_class) as offer_class

    from {{ ref('stg_aws__reservations') }}
    where reservation_arn is not null
    group by billing_account_id, reservation_arn

),

charges as (

    select
        strftime(cur.billing_period_start, '%Y-%m') as billing_month,
        'aws' as vendor,
        cur.billing_account_id,
        coalesce(cur.sub_account_id, cur.billing_account_id) as sub_account_id,
        cast(cur.charge_period_start as date) as usage_date,
        cur.line_type,
        {{ aws_charge_category('cur.line_type') }} as charge_category,
        cur.service_code,
        cur.charge_description,
        cur.operation,
        cur.usage_type,
        cur.region_id,
        cur.billing_currency,
        case
            when cur.reservation_arn is not null then 'RI'
            when cur.savings_plan_arn is not null then 'SP'
        end as commitment_discount_type,
        coalesce(cur.reservation_arn, cur.savings_plan_arn) as commitment_discount_id,
        coalesce(reservations.offer_class, cur.offer_class) as offer_class,
        case
            -- Without a list cost nothing is known to be saved.
            when cur.line_type = 'DiscountedUsage' and cur.known_list_cost is not null then 'used'
            when cur.line_type = 'SavingsPlanCoveredUsage' then 'used'
            when cur.line_type in ('RIFee', 'SavingsPlanRecurringFee') then 'unused'
        end as savings_kind,
        cur.tags_json,
        '{}' as project_labels_json,
        coalesce(cur.legal_entity, cur.billing_entity) as publisher_name,
        cur.sub_account_name,
        cur.service_name,
        cur.invoice_id,
        coalesce(cur.invoicing_entity, 'Amazon Web Services') as invoice_issuer_name,
        cur.consumed_quantity,
        cur.unblended_cost as billed_cost,
        case
            when cur.line_type = 'SavingsPlanCoveredUsage' then cur.savings_plan_effective_cost
            when cur.line_type = 'SavingsPlanRecurringFee'
                then cur.savings_plan_total_commitment_cost - cur.savings_plan_used_commitment_cost
            when cur.line_type in ('SavingsPlanNegation', 'SavingsPlanUpfrontFee') then 0
            when cur.line_type = 'DiscountedUsage' then cur.reservation_effective_cost
            when cur.line_type = 'RIFee'
                then
                    coalesce(cur.reservation_unused_upfront_cost, 0)
                    + coalesce(cur.reservation_unused_recurring_cost, 0)
            when cur.line_type = 'Fee' and cur.reservation_arn is not null then 0
            else cur.unblended_cost
        end as effective_cost,
        case
            when cur.known_list_cost is not null then cur.known_list_cost
            when cur.line_type = 'DiscountedUsage' then cur.reservation_effective_cost
            else cur.unblended_cost
        end as list_cost,
        cur.line_count

    from cur
    left join reservations
        on
            cur.billing_account_id = reservations.billing_account_id
            and cur.reservation_arn = reservations.reservation_arn
    -- Split-cost rows repeat other rows' cost.
    where cur.operation is null or cur.operation not in ('EKSPod-EC2', 'ECSTask-EC2')

)

select * from charges
