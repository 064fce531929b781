with

source as (

    select * from {{ source('landing', 'azure_csp_reconciliation') }}

),

renamed as (

    select
        billing_month,
        invoice_number as invoice_id,
        publisher_name,
        lower(partner_id) as billing_account_id,
        customer_name,
        charge_start_date as usage_date,
        coalesce(charge_type, 'New') as line_type,
        product_name as service_name,
        coalesce(sku_name, product_name) as charge_description,
        subscription_id,
        term_and_billing_cycle as usage_type,
        reservation_order_id,
        credit_reason_code is not null as is_credit,
        currency as billing_currency,
        billable_quantity as consumed_quantity,
        subtotal as pre_tax_cost,
        repeats_usage

    from source

)

select * from renamed
