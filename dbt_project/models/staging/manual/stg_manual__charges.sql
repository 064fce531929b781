with

source as (

    select * from {{ source('landing', 'manual_charges') }}

),

renamed as (

    select
        month as billing_month,
        account as sub_account_id,
        description as charge_description,
        amount as billed_cost,
        currency as billing_currency,
        nullif(seller, '') as publisher_name

    from source

)

select * from renamed
