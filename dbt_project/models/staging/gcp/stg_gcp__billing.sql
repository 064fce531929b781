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
        cost_at_list as list_cost,
        commitment_credit_count,
        commitment_credit_id,
        labels_json as tags_json,
        project_labels_json

    from source

)

select * from renamed
