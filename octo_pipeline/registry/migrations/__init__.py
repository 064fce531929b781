"""The registry's migrations: one file a step under ``versions``, run in process by `database.py`.

A migration is frozen once it is released, so it repeats the columns it makes and imports none of our modules.
"""
