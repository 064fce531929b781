with

source as (

    select * from {{ source('landing', 'azure_cost_details') }}

),

renamed as (

    select
        billing_month,
        invoice_id,
        publisher_name,
        billing_account_id,
        lower(subscription_id) as sub_account_id,
        subscription_name as sub_account_name,
        usage_date,
        coalesce(charge_type, 'Usage') as line_type,
        meter_category as service_code,
        product as service_name,
        coalesce(product_order_name, product) as charge_description,
        consumed_service as operation,
        {{ azure_usage_type('meter_sub_category', 'meter_name') }} as usage_type,
        resource_location as region_id,
        billing_currency,
        coalesce(benefit_id, reservation_id) as commitment_discount_id,
        coalesce(pricing_model, case when reservation_id is not null then 'Reservation' end) as pricing_model,
        quantity as consumed_quantity,
        pay_g_price as list_unit_price,
        exchange_rate,
        pay_g_cost as list_cost,
        cost,
        dataset,
        is_combined,
        repeats_actual,
        tags as tags_json

    from source

)

select * from renamed
