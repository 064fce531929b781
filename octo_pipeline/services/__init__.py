"""Use cases that the command line and Dagster share. They return values or yield events and know neither of the two."""
