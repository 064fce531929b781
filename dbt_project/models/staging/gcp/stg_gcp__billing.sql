with

source as (

    select * from {{ source('landing', 'gcp_billing') }}

),

renamed as (

    select
        invoice_month,
        billing_account_id,
        project_id as sub_account_id,
        project_name as sub_account_name,
        usage_start_time as charge_period_start,
        cost_type as line_type,
        service_id as service_code,
        service_description as service_name,
        sku_description,
        adjustment_description,
        region as region_id,
        currency as billing_currency,
        usage_amount as consumed_quantity,
        cost as gross_cost,
        credits_cost,
        promotions_cost,
        promotions,
        -- A list price of 0 is none: what was free has no cost either.
        nullif(cost_at_list, 0) as list_cost,
        nullif(cost_at_default_price, 0) as default_price_cost,
        commitment_credit_count,
        commitment_credit_id,
        -- What the commitments took off, so above 0.
        -resource_commitment_credits_cost as resource_commitment_cost,
        -spend_commitment_credits_cost as spend_commitment_cost,
        has_fee_offset,
        consumption_model,
        subscription_id,
        originating_sku_id,
        seller_name as publisher_name,
        labels_json as tags_json,
        project_labels_json,
        file_name,
        file_row

    from source

)

select * from renamed
