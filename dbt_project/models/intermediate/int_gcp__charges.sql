-- The view below is read once for each purpose: a CTE that is named twice is kept whole in memory.
with

billing as (

    select * from {{ ref('int_gcp__billing') }}

),

-- The few rows and columns that the shares of fees are made of.
commitment_rows as (

    select
        billing_account_id,
        billing_currency,
        commitment_key,
        is_credited,
        resource_commitment_cost,
        spend_commitment_cost,
        has_fee_offset,
        consumption_model,
        is_discounted,
        subscription_id,
        can_be_fee,
        is_certain_fee,
        is_spend_fee,
        billed_cost,
        file_name,
        file_row

    from {{ ref('int_gcp__billing') }}
    where is_credited or is_certain_fee or subscription_id is not null

),

-- What credits of commitments took off, by the kind of commitment.
credit_totals as (

    select
        billing_account_id,
        billing_currency,
        sum(resource_commitment_cost) as resource_commitment_cost,
        sum(spend_commitment_cost) as spend_commitment_cost,
        {{ gcp_largest_row('resource_commitment_cost') }} as largest_resource_row,
        {{ gcp_largest_row('spend_commitment_cost') }} as largest_spend_row

    from commitment_rows
    where is_credited
    group by all

),

fees as (

    select
        billing_account_id,
        billing_currency,
        commitment_key,
        coalesce(bool_or(is_spend_fee) filter (can_be_fee), true) as is_spend_based,
        bool_or(has_fee_offset or (is_discounted and subscription_id is not null)) as has_sign_of_new_model,
        bool_or(consumption_model is not null) as has_consumption_model,
        sum(billed_cost) filter (can_be_fee) as fee_cost

    from commitment_rows
    group by all
    having bool_or(is_certain_fee)

),

-- Both models can occur in the month of the migration. A commitment of the new model that is not used at all
-- has no offset; it is told from one of the old model by the credits that only the old one gives.
commitments as (

    select
        fees.billing_account_id,
        fees.billing_currency,
        fees.commitment_key,
        fees.is_spend_based,
        fees.fee_cost,
        fees.has_sign_of_new_model
        or (
            fees.is_spend_based
            and fees.has_consumption_model
            and coalesce(credit_totals.spend_commitment_cost, 0) <= 0
        ) as is_new_model

    from fees
    left join credit_totals
        on
            fees.billing_account_id = credit_totals.billing_account_id
            and fees.billing_currency = credit_totals.billing_currency

),

-- The old model does not tell how much of a commitment is used: its fees are shared over the rows that its
-- credits cover.
shared_fees as (

    select
        commitments.billing_account_id,
        commitments.billing_currency,
        credit_totals.resource_commitment_cost,
        credit_totals.spend_commitment_cost,
        credit_totals.largest_resource_row,
        credit_totals.largest_spend_row,
        sum(commitments.fee_cost) filter (
            not commitments.is_spend_based and credit_totals.resource_commitment_cost > 0
        ) as resource_fee_cost,
        sum(commitments.fee_cost) filter (
            commitments.is_spend_based and credit_totals.spend_commitment_cost > 0
        ) as spend_fee_cost

    from commitments
    inner join credit_totals
        on
            commitments.billing_account_id = credit_totals.billing_account_id
            and commitments.billing_currency = credit_totals.billing_currency
    where not commitments.is_new_model
    group by all

),

-- Shares are rounded to ten places; what that leaves goes to one row, so that the fees are shared exactly.
remainders as (

    select
        shared_fees.billing_account_id,
        shared_fees.billing_currency,
        coalesce(any_value(shared_fees.resource_fee_cost), 0) - sum(
            {{ gcp_fee_share(
                'shared_fees.resource_fee_cost',
                'commitment_rows.resource_commitment_cost',
                'shared_fees.resource_commitment_cost'
            ) }}
        ) as resource_remainder,
        coalesce(any_value(shared_fees.spend_fee_cost), 0) - sum(
            {{ gcp_fee_share(
                'shared_fees.spend_fee_cost',
                'commitment_rows.spend_commitment_cost',
                'shared_fees.spend_commitment_cost'
            ) }}
        ) as spend_remainder

    from commitment_rows
    inner join shared_fees
        on
            commitment_rows.billing_account_id = shared_fees.billing_account_id
            and commitment_rows.billing_currency = shared_fees.billing_currency
    where commitment_rows.is_credited
    group by all

),

amortised as (

    select
        billing.*,
        coalesce(billing.can_be_fee and commitments.is_new_model, false) as is_unused_fee,
        case
            when not coalesce(
                billing.can_be_fee
                and (billing.is_certain_fee or billing.subscription_id is not null)
                and not commitments.is_new_model, false
            ) then false
            when commitments.is_spend_based then shared_fees.spend_fee_cost is not null
            else shared_fees.resource_fee_cost is not null
        end as is_shared_fee,
        case
            when billing.is_credited and shared_fees.billing_account_id is not null
                then
                    {{ gcp_fee_share(
                        'shared_fees.resource_fee_cost',
                        'billing.resource_commitment_cost',
                        'shared_fees.resource_commitment_cost'
                    ) }}
                    + {{ gcp_fee_share(
                        'shared_fees.spend_fee_cost',
                        'billing.spend_commitment_cost',
                        'shared_fees.spend_commitment_cost'
                    ) }}
                    + case
                        when
                            billing.file_row = shared_fees.largest_resource_row['file_row']
                            and billing.file_name = shared_fees.largest_resource_row['file_name']
                            then remainders.resource_remainder
                        else 0
                    end
                    + case
                        when
                            billing.file_row = shared_fees.largest_spend_row['file_row']
                            and billing.file_name = shared_fees.largest_spend_row['file_name']
                            then remainders.spend_remainder
                        else 0
                    end
            else 0
        end as fee_share

    from billing
    left join commitments
        on
            billing.billing_account_id = commitments.billing_account_id
            and billing.billing_currency = commitments.billing_currency
            and billing.commitment_key = commitments.commitment_key
    left join shared_fees
        on
            billing.billing_account_id = shared_fees.billing_account_id
            and billing.billing_currency = shared_fees.billing_currency
    left join remainders
        on
            billing.billing_account_id = remainders.billing_account_id
            and billing.billing_currency = remainders.billing_currency

),

charges as (

    select
        billing_month,
        'gcp' as vendor,
        billing_account_id,
        sub_account_id,
        usage_date,
        line_type,
        {{ gcp_charge_category('line_type') }} as charge_category,
        service_code,
        coalesce(adjustment_description, sku_description) as charge_description,
        cast(null as varchar) as operation,
        sku_description as usage_type,
        region_id,
        billing_currency,
        case when is_credited or is_discounted or is_unused_fee then 'CUD' end as commitment_discount_type,
        case
            when is_unused_fee then commitment_key
            when is_discounted then coalesce(subscription_id, commitment_credit_id, consumption_model)
            else commitment_credit_id
        end as commitment_discount_id,
        cast(null as varchar) as offer_class,
        case
            when is_unused_fee then 'unused'
            when is_credited or is_discounted then 'used'
        end as savings_kind,
        tags_json,
        project_labels_json,
        publisher_name,
        sub_account_name,
        service_name,
        -- Google's export has no numbers of invoices.
        cast(null as varchar) as invoice_id,
        'Google Cloud' as invoice_issuer_name,
        consumed_quantity,
        billed_cost,
        case when is_shared_fee then 0 else billed_cost + fee_share end as effective_cost,
        case
            -- What the same usage costs without the commitment.
            when is_discounted then coalesce(default_price_cost, list_cost, billed_cost)
            -- Without a list cost, a covered row is worth its cost before credits, others what is billed.
            when is_credited then coalesce(list_cost, gross_cost)
            else coalesce(list_cost, billed_cost)
        end as list_cost

    from amortised

),

-- A promotion pays a part of the bill; it lowers no price.
promotions as (

    select
        *,
        -- Its columns are description and cost.
        unnest(promotions, recursive := true) -- noqa: AL03

    from {{ ref('int_gcp__billing') }}
    where len(promotions) > 0

),

promotion_charges as (

    select
        billing_month,
        'gcp' as vendor,
        billing_account_id,
        sub_account_id,
        usage_date,
        'credit' as line_type,
        'Credit' as charge_category,
        service_code,
        coalesce(description, adjustment_description, sku_description) as charge_description,
        cast(null as varchar) as operation,
        sku_description as usage_type,
        region_id,
        billing_currency,
        cast(null as varchar) as commitment_discount_type,
        cast(null as varchar) as commitment_discount_id,
        cast(null as varchar) as offer_class,
        cast(null as varchar) as savings_kind,
        tags_json,
        project_labels_json,
        publisher_name,
        sub_account_name,
        service_name,
        -- Google's export has no numbers of invoices.
        cast(null as varchar) as invoice_id,
        'Google Cloud' as invoice_issuer_name,
        0 as consumed_quantity,
        cost as billed_cost,
        cost as effective_cost,
        cost as list_cost

    from promotions

)

select * from charges
union all by name
select * from promotion_charges
