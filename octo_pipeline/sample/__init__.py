"""Months of sample exports, written in the vendors' own formats from a seed and a size.

One module per vendor. They serve the demo, the tests and the benchmarks; nothing in the pipeline imports
them, and no real billing data is in them.
"""
