"""Use cases: what a face (command line, Dagster, API) can ask for. They return dataclasses and know no face."""
