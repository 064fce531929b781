with

source as (

    select * from {{ source('landing', 'aws_lines') }}

),

renamed as (

    select
        bill_payer_account_id as billing_account_id,
        reservation_reservation_arn as reservation_arn,
        pricing_offering_class as offer_class

    from source

)

select * from renamed
