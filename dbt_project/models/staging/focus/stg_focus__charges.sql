with

source as (

    select * from {{ source('landing', 'focus_charges') }}

    union all by name

    -- Azure's own exports have manifests that Azure's source reads.
    select
        *,
        'azure' as shown_vendor
    from {{ source('landing', 'azure_focus') }}

),

renamed as (

    select
        billing_month,
        coalesce(shown_vendor, {{ focus_vendor('provider_name', 'invoice_issuer_name') }}) as vendor,
        {{ focus_account_id('billing_account_id') }} as billing_account_id,
        {{ focus_account_id('sub_account_id') }} as sub_account_id,
        sub_account_name,
        charge_period_start as usage_date,
        charge_category,
        charge_subcategory,
        charge_class,
        coalesce(x_service_code, x_sku_meter_category, service_name) as service_code,
        service_name,
        charge_description,
        coalesce(x_operation, resource_type) as operation,
        coalesce(
            x_usage_type,
            {{ azure_usage_type('x_sku_meter_subcategory', 'x_sku_meter_name') }},
            sku_meter,
            sku_id
        ) as usage_type,
        region_id,
        billing_currency,
        commitment_discount_id,
        commitment_discount_type as commitment_discount_kind,
        commitment_discount_category,
        commitment_discount_status,
        publisher_name,
        invoice_id,
        invoice_issuer_name,
        consumed_quantity,
        billed_cost,
        effective_cost,
        list_cost,
        tags as tags_json

    from source

)

select * from renamed
