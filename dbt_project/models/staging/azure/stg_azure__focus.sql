with

source as (

    select * from {{ source('landing', 'azure_focus') }}

),

renamed as (

    select
        billing_month,
        {{ azure_last_segment('billing_account_id') }} as billing_account_id,
        lower({{ azure_last_segment('sub_account_id') }}) as sub_account_id,
        sub_account_name,
        charge_period_start as usage_date,
        charge_category,
        coalesce(x_sku_meter_category, service_name) as service_code,
        service_name,
        charge_description,
        resource_type as operation,
        {{ azure_usage_type('x_sku_meter_subcategory', 'x_sku_meter_name') }} as usage_type,
        region_id,
        billing_currency,
        commitment_discount_id,
        commitment_discount_type as commitment_discount_kind,
        commitment_discount_status,
        consumed_quantity,
        billed_cost,
        effective_cost,
        list_cost,
        tags as tags_json

    from source

)

select * from renamed
