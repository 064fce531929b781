"""What people decided and registered, kept in one SQL database: decisions, audit trail, accounts, users, secrets.

`records.py` holds the values and the rules that a value must meet by itself, `store.py` everything that is read
and written. Costs and anything that can be computed again from the exports live in the lake, not here.
"""
