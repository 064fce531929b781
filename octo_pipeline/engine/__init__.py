"""Where tasks are run: in this process, in several, or on a Spark cluster."""
