"""Registering accounts: the steps of each vendor, their verification, and what removing an account means.

`accounts.py` has what all vendors share; `aws.py` (with the CloudFormation templates in ``templates/``), `azure.py`
and `gcp.py` have a vendor's steps, `vendors.py` finds them. What is kept of an account is the registry's matter,
what is fetched from it the sources'.
"""
