{#
  The vendor that a FOCUS provider is shown as. Who sells on a cloud's marketplace is invoiced by the cloud and belongs
  to its bill. Anybody else is called by the provider's own name: 'Snowflake, Inc.' is snowflake-inc.
#}
{% macro focus_vendor(provider, issuer) -%}
  coalesce(
    {{ focus_cloud(provider) }},
    {{ focus_cloud(issuer) }},
    nullif(trim(regexp_replace(lower(coalesce({{ provider }}, {{ issuer }})), '[^\p{L}\p{N}]+', '-', 'g'), '-'), '')
  )
{%- endmacro %}

{# aws, azure, gcp or oci, by what they and their legal entities are called; else null. #}
{% macro focus_cloud(name) -%}
  case
    when regexp_matches(lower({{ name }}), '^(aws|amazon)\b') then 'aws'
    when regexp_matches(lower({{ name }}), '^(microsoft|azure)\b') then 'azure'
    when regexp_matches(lower({{ name }}), '^(google|google cloud( .*)?|google (llc|ireland .*|asia .*)|gcp)$') then 'gcp'
    when regexp_matches(lower({{ name }}), '^(oracle|oci)\b') then 'oci'
  end
{%- endmacro %}

{# An account's id without the path of the resource that it is written in; an id alone stays as it is. #}
{% macro focus_account_id(id) -%}
  case
    when regexp_matches({{ id }}, '^(/|billingAccounts/|projects/)') then nullif(regexp_extract({{ id }}, '[^/]+$'), '')
    else {{ id }}
  end
{%- endmacro %}

{# RI, SP or CUD, from the type of a commitment; a type nobody knows stays as it is. #}
{% macro focus_commitment_type(type, category) -%}
  case
    when regexp_matches(lower({{ type }}), 'reserv') then 'RI'
    when regexp_matches(lower({{ type }}), 'saving') then 'SP'
    when regexp_matches(lower({{ type }}), 'committed use|^cud|(spend|resource)-based') then 'CUD'
    else coalesce({{ type }}, {{ category }})
  end
{%- endmacro %}
