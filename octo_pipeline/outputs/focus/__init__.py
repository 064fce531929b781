"""The FOCUS export: a month's charges as they are allocated, in the columns of the FinOps Open Cost and Usage Specification.

What FOCUS files of others mean belongs in `octo_pipeline.vendors.focus`.
"""
