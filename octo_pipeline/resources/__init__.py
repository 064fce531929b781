"""One module per outside system. They are plain Python: Dagster and the command line use the same objects."""
