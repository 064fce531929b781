with

focus as (

    select * from {{ ref('stg_focus__charges') }}

),

-- Version 1.0-preview says in the subcategory what later versions have columns and categories for.
categorised as (

    select
        *,
        case
            when lower(charge_subcategory) in ('credit', 'refund') then 'Credit'
            when lower(charge_category) = 'usage' then 'Usage'
            when lower(charge_category) = 'purchase' then 'Purchase'
            when lower(charge_category) = 'tax' then 'Tax'
            when lower(charge_category) = 'credit' then 'Credit'
            else 'Adjustment'
        end as known_category,
        case
            when lower(charge_subcategory) in ('credit', 'refund') then charge_subcategory
            else charge_category
        end as kind,
        lower(charge_category) = 'purchase' and commitment_discount_id is not null as is_commitment_purchase,
        lower(charge_category) = 'usage' and commitment_discount_id is not null as is_commitment_usage,
        coalesce(
            lower(commitment_discount_status) = 'unused',
            lower(charge_subcategory) like 'unused%',
            false
        ) as is_unused,
        -- Providers write 0 where they have no price.
        nullif(list_cost, 0) as known_list_cost

    from focus

)

select
    billing_month,
    vendor,
    billing_account_id,
    coalesce(
        case when vendor = 'azure' then lower(sub_account_id) else sub_account_id end,
        billing_account_id
    ) as sub_account_id,
    usage_date,
    kind || case when lower(charge_class) = 'correction' then ' Correction' else '' end as line_type,
    known_category as charge_category,
    service_code,
    charge_description,
    operation,
    usage_type,
    region_id,
    billing_currency,
    case
        when commitment_discount_id is not null
            then {{ focus_commitment_type('commitment_discount_kind', 'commitment_discount_category') }}
    end as commitment_discount_type,
    commitment_discount_id,
    cast(null as varchar) as offer_class,
    case
        when not is_commitment_usage or effective_cost is null then null
        when is_unused then 'unused'
        when known_list_cost is not null then 'used'
    end as savings_kind,
    tags_json,
    '{}' as project_labels_json,
    publisher_name,
    sub_account_name,
    service_name,
    invoice_id,
    invoice_issuer_name,
    consumed_quantity,
    billed_cost,
    -- The rows that use a commitment and its unused part carry its cost. Some exports repeat it here.
    case
        when is_commitment_purchase then 0
        else coalesce(effective_cost, billed_cost)
    end as effective_cost,
    case
        when known_list_cost is not null then known_list_cost
        -- Without a list cost nothing is known to be saved.
        when is_commitment_usage and not is_unused then coalesce(effective_cost, billed_cost)
        else billed_cost
    end as list_cost

from categorised
