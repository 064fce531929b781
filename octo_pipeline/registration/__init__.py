"""Registering accounts: the steps of each vendor, their verification, and what removing an account means.

`accounts.py` has what all vendors share, `aws.py` the steps of AWS with the CloudFormation templates in
``templates/``. What is kept of an account is the registry's matter, what is fetched from it the sources'.
"""
