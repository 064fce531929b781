"""What people decided and registered, kept in one SQL database: decisions, audit trail, accounts, users, secrets.

`registry.py` is the door; the other modules are its parts. Costs and anything that can be computed again from
the exports live in the lake, not here.
"""
