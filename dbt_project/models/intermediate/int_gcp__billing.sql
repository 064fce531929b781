with

billing as (

    select
        left(invoice_month, 4) || '-' || right(invoice_month, 2) as billing_month,
        billing_account_id,
        coalesce(sub_account_id, billing_account_id) as sub_account_id,
        cast(charge_period_start as date) as usage_date,
        line_type,
        service_code,
        service_name,
        sku_description,
        adjustment_description,
        region_id,
        billing_currency,
        consumed_quantity,
        gross_cost,
        gross_cost + credits_cost - promotions_cost as billed_cost,
        list_cost,
        default_price_cost,
        promotions,
        commitment_credit_count > 0 as is_credited,
        commitment_credit_id,
        resource_commitment_cost,
        spend_commitment_cost,
        has_fee_offset,
        consumption_model,
        coalesce(lower(consumption_model) <> 'default', false) as is_discounted,
        subscription_id,
        originating_sku_id,
        -- The standard export has no ids of commitments.
        coalesce(subscription_id, sku_description) as commitment_key,
        tags_json,
        project_labels_json,
        publisher_name,
        sub_account_name,
        file_name,
        file_row

    from {{ ref('stg_gcp__billing') }}

),

signs as (

    select
        *,
        has_fee_offset or (not is_discounted and not is_credited and line_type = 'regular') as can_be_fee,
        has_fee_offset
        or originating_sku_id is not null
        or coalesce(starts_with(lower(sku_description), 'commitment'), false) as has_fee_sign,
        -- Else it commits to resources; these fees are "Commitment v1: Cpu in …".
        originating_sku_id is not null
        or coalesce(contains(lower(sku_description), 'dollar based'), false)
        or not coalesce(starts_with(lower(sku_description), 'commitment'), false) as is_spend_fee

    from billing

),

classified as (

    select
        *,
        can_be_fee and has_fee_sign as is_certain_fee

    from signs

)

select * from classified
