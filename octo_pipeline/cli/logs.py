"""How `octo serve` logs: sentences for people, or a JSON object a line for programs that collect logs.

Dagster's processes have an option of their own for it, ``--log-format json``.
"""

import logging
from typing import Literal


def configure_logs(log_format: Literal["text", "json"]) -> None:
    """Log to stderr: warnings as sentences, or as JSON, which also has a line for each request."""
    handler = logging.StreamHandler()
    if log_format == "text":
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
        return
    from pythonjsonlogger.json import JsonFormatter

    fields = {"asctime": "time", "levelname": "level", "name": "logger"}
    form = JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=fields, datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    handler.setFormatter(form)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # Libraries say nothing below a warning that anybody would collect.
    logging.getLogger("octo_pipeline").setLevel(logging.INFO)
