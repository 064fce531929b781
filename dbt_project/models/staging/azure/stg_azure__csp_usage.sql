with

source as (

    select * from {{ source('landing', 'azure_csp_usage') }}

),

renamed as (

    select
        billing_month,
        invoice_number as invoice_id,
        publisher_name,
        lower(partner_id) as billing_account_id,
        lower(entitlement_id) as sub_account_id,
        coalesce(entitlement_description, customer_name) as sub_account_name,
        usage_date,
        coalesce(charge_type, 'Usage') as line_type,
        meter_category as service_code,
        product_name as service_name,
        coalesce(sku_name, product_name) as charge_description,
        consumed_service as operation,
        {{ azure_usage_type('meter_sub_category', 'meter_name') }} as usage_type,
        resource_location as region_id,
        billing_currency,
        benefit_id as commitment_discount_id,
        benefit_type as commitment_discount_kind,
        quantity as consumed_quantity,
        unit_price,
        pc_to_bc_exchange_rate as exchange_rate,
        billing_pre_tax_total as pre_tax_cost,
        tags as tags_json

    from source

)

select * from renamed
