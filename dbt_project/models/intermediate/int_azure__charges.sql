with

csp_usage as (

    select * from {{ ref('stg_azure__csp_usage') }}

),

csp_reconciliation as (

    select * from {{ ref('stg_azure__csp_reconciliation') }}
    where not repeats_usage

),

cost_details as (

    select
        *,
        {{ azure_commitment_type('pricing_model') }} as commitment_discount_type,
        coalesce(
            nullif(list_cost, 0),
            {{ azure_list_cost('consumed_quantity', 'list_unit_price', 'exchange_rate') }}
        ) as known_list_cost

    from {{ ref('stg_azure__cost_details') }}
    -- Actual cost says what was billed; beside it, amortised cost says only what commitments are worth.
    where not repeats_actual

),

cost_details_counted as (

    select
        *,
        is_combined and dataset = 'actual' and commitment_discount_type is not null
            as is_amortised_elsewhere,
        -- What a commitment covers is in both exports: it is consumed once, and has one public price.
        is_combined and dataset = 'actual' and commitment_discount_type is not null
        and line_type ilike 'usage'
            as is_told_again

    from cost_details

),

charges as (

    select
        billing_month,
        billing_account_id,
        sub_account_id,
        usage_date,
        line_type,
        {{ azure_charge_category('line_type', is_purchase=false) }} as charge_category,
        service_code,
        charge_description,
        operation,
        usage_type,
        region_id,
        billing_currency,
        {{ azure_commitment_type('commitment_discount_kind') }} as commitment_discount_type,
        commitment_discount_id,
        -- The amortised cost of what a benefit covers is in no export of a partner.
        cast(null as varchar) as savings_kind,
        tags_json,
        publisher_name,
        sub_account_name,
        service_name,
        invoice_id,
        consumed_quantity,
        pre_tax_cost as billed_cost,
        pre_tax_cost as effective_cost,
        {{ azure_list_cost('consumed_quantity', 'unit_price', 'exchange_rate') }} as list_cost

    from csp_usage

    union all by name

    select
        billing_month,
        billing_account_id,
        -- The subscription of a purchase is Microsoft's commercial one, which is no account.
        cast(null as varchar) as sub_account_id,
        usage_date,
        line_type,
        case
            when is_credit then 'Credit'
            else {{ azure_charge_category('line_type', is_purchase=true) }}
        end as charge_category,
        service_name as service_code,
        charge_description,
        cast(null as varchar) as operation,
        usage_type,
        cast(null as varchar) as region_id,
        billing_currency,
        case
            when reservation_order_id is not null then 'RI'
            when service_name ilike '%savings plan%' then 'SP'
        end as commitment_discount_type,
        case
            when reservation_order_id is not null then reservation_order_id
            when service_name ilike '%savings plan%' then subscription_id
        end as commitment_discount_id,
        cast(null as varchar) as savings_kind,
        '{}' as tags_json,
        publisher_name,
        cast(null as varchar) as sub_account_name,
        service_name,
        invoice_id,
        consumed_quantity,
        pre_tax_cost as billed_cost,
        pre_tax_cost as effective_cost,
        cast(null as decimal(38, 10)) as list_cost

    from csp_reconciliation

    union all by name

    select
        billing_month,
        billing_account_id,
        sub_account_id,
        usage_date,
        line_type,
        {{ azure_charge_category('line_type', is_purchase=false) }} as charge_category,
        service_code,
        charge_description,
        operation,
        usage_type,
        region_id,
        billing_currency,
        commitment_discount_type,
        commitment_discount_id,
        case
            when dataset <> 'amortised' or commitment_discount_type is null then null
            when line_type ilike 'unused%' then 'unused'
            when line_type ilike 'usage' and known_list_cost is not null then 'used'
        end as savings_kind,
        tags_json,
        publisher_name,
        sub_account_name,
        service_name,
        invoice_id,
        case when is_told_again then 0 else consumed_quantity end as consumed_quantity,
        case when is_combined and dataset = 'amortised' then 0 else cost end as billed_cost,
        case when is_amortised_elsewhere then 0 else cost end as effective_cost,
        case
            when is_told_again then 0
            -- Usage that a commitment covers is billed nothing; what it is worth is known of it all the same.
            when line_type ilike 'usage' then coalesce(known_list_cost, cost)
            else known_list_cost
        end as list_cost

    from cost_details_counted

)

select
    billing_month,
    'azure' as vendor,
    billing_account_id,
    coalesce(sub_account_id, billing_account_id) as sub_account_id,
    usage_date,
    line_type,
    charge_category,
    service_code,
    charge_description,
    operation,
    usage_type,
    region_id,
    billing_currency,
    commitment_discount_type,
    commitment_discount_id,
    cast(null as varchar) as offer_class,
    savings_kind,
    tags_json,
    '{}' as project_labels_json,
    publisher_name,
    sub_account_name,
    service_name,
    invoice_id,
    'Microsoft' as invoice_issuer_name,
    consumed_quantity,
    billed_cost,
    effective_cost,
    coalesce(list_cost, billed_cost) as list_cost

from charges
