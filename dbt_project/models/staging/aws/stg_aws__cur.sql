with

source as (

    select * from {{ source('landing', 'aws_cur') }}

),

renamed as (

    select
        bill_billing_period_start_date as billing_period_start,
        bill_payer_account_id as billing_account_id,
        bill_invoice_id as invoice_id,
        bill_invoicing_entity as invoicing_entity,
        bill_billing_entity as billing_entity,
        line_item_legal_entity as legal_entity,
        line_item_usage_account_id as sub_account_id,
        line_item_usage_account_name as sub_account_name,
        line_item_usage_start_date as charge_period_start,
        line_item_line_item_type as line_type,
        line_item_product_code as service_code,
        product_product_name as service_name,
        line_item_line_item_description as charge_description,
        line_item_operation as operation,
        line_item_usage_type as usage_type,
        product_region as region_id,
        line_item_currency_code as billing_currency,
        line_item_usage_amount as consumed_quantity,
        line_item_unblended_cost as unblended_cost,
        pricing_public_on_demand_cost as public_on_demand_cost,
        pricing_offering_class as offer_class,
        reservation_reservation_arn as reservation_arn,
        reservation_effective_cost,
        reservation_unused_amortized_upfront_fee_for_billing_period as reservation_unused_upfront_cost,
        reservation_unused_recurring_fee as reservation_unused_recurring_cost,
        savings_plan_savings_plan_arn as savings_plan_arn,
        savings_plan_savings_plan_effective_cost as savings_plan_effective_cost,
        savings_plan_total_commitment_to_date as savings_plan_total_commitment_cost,
        savings_plan_used_commitment as savings_plan_used_commitment_cost,
        tags_json,
        line_count

    from source

)

select * from renamed
