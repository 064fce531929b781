with

charges as (

    {% for vendor in var('vendors') %}
        select * from {{ ref('int_' ~ vendor ~ '__charges') }}
        {% if not loop.last %}union all by name{% endif %}
    {% endfor %}

),

-- Rows are grouped by the tags as canonical text, which becomes a map afterwards, when there are fewer rows.
grouped as (

    select
        billing_month,
        vendor,
        billing_account_id,
        sub_account_id,
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
        offer_class,
        savings_kind,
        tags_json,
        project_labels_json,
        publisher_name,
        max(sub_account_name) as sub_account_name,
        max(service_name) as service_name,
        max(invoice_id) as invoice_id,
        max(invoice_issuer_name) as invoice_issuer_name,
        sum(consumed_quantity) as consumed_quantity,
        sum(billed_cost) as billed_cost,
        sum(effective_cost) as effective_cost,
        sum(list_cost) as list_cost,
        -- Rows of vendors without this column are one line each.
        cast(sum(coalesce(line_count, 1)) as bigint) as line_count

    from charges
    group by all

)

select
    billing_month,
    vendor,
    billing_account_id,
    sub_account_id,
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
    offer_class,
    savings_kind,
    {{ json_to_map('tags_json') }} as tags,
    {{ json_to_map('project_labels_json') }} as project_labels,
    publisher_name,
    sub_account_name,
    service_name,
    invoice_id,
    invoice_issuer_name,
    cast(coalesce(consumed_quantity, 0) as decimal(38, 10)) as consumed_quantity,
    cast(coalesce(billed_cost, 0) as decimal(38, 10)) as billed_cost,
    cast(coalesce(effective_cost, 0) as decimal(38, 10)) as effective_cost,
    cast(coalesce(list_cost, 0) as decimal(38, 10)) as list_cost,
    line_count

from grouped
