"""A month in plain language, for people in finance: one page that opens offline, and its figures beside it."""
