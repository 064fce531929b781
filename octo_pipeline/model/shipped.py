"""Finds the folders that ship with the package but are next to it in the repository."""

from pathlib import Path

import octo_pipeline


def shipped_folder(name: str) -> Path:
    """The folder ``dbt_project`` or ``allocator_configs`` of this installation.

    A checkout has it next to the package; a wheel has it inside (setup.py).
    """
    package = Path(octo_pipeline.__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name
