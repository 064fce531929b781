"""How each vendor's billing export is found, fetched, verified and read.

`landing` keeps the files as they were delivered, for every vendor; one module (or a few with one prefix) per
vendor knows its export: where the files are, whether they are whole, and the SELECT that reads them. Nothing
here knows Dagster, the lake's tables or what an allocation is.
"""
