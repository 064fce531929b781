"""What people decided and registered, kept in one SQL database: decisions, audit trail, accounts, users, secrets.

`records.py` has the values and the rules that a value must meet by itself. `store.py` and the modules that it assembles
(decisions, accounts, users, stored_secrets) read and write them. Costs, and anything else that can be computed again from
the exports, belong in the lake.
"""
