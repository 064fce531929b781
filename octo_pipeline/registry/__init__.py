"""What people decided and registered, kept in one SQL database: decisions, audit trail, accounts, users, secrets.

`records.py` has the values and the rules that a value must meet by itself, `store.py` all reads and writes. Costs and
anything else that can be computed again from the exports live in the lake, not here.
"""
