with

source as (

    select * from {{ source('landing', 'oci_costs') }}

)

select
    tenancy as billing_account_id,
    day as usage_date,
    service as service_code,
    currency as billing_currency,
    cost as billed_cost

from source
