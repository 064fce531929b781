with

billing as (

    select
        *,
        gross_cost + credits_cost as billed_cost,
        commitment_credit_count > 0 as is_covered

    from {{ ref('stg_gcp__billing') }}

),

charges as (

    select
        left(invoice_month, 4) || '-' || right(invoice_month, 2) as billing_month,
        'gcp' as vendor,
        billing_account_id,
        coalesce(sub_account_id, billing_account_id) as sub_account_id,
        cast(charge_period_start as date) as usage_date,
        line_type,
        {{ gcp_charge_category('line_type') }} as charge_category,
        service_code,
        coalesce(adjustment_description, sku_description) as charge_description,
        cast(null as varchar) as operation,
        sku_description as usage_type,
        region_id,
        billing_currency,
        case when is_covered then 'CUD' end as commitment_discount_type,
        commitment_credit_id as commitment_discount_id,
        cast(null as varchar) as offer_class,
        case when is_covered then 'used' end as savings_kind,
        tags_json,
        project_labels_json,
        sub_account_name,
        service_name,
        consumed_quantity,
        billed_cost,
        -- The commitment's own fee is a line of the month, so what is billed is amortised already.
        billed_cost as effective_cost,
        -- Without a list cost, a covered line is worth its cost before credits, others what is billed.
        coalesce(list_cost, case when is_covered then gross_cost end, billed_cost) as list_cost

    from billing

)

select * from charges
