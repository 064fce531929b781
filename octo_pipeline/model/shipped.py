"""Where the folders are that ship with the package but lie beside it in the repository."""

from pathlib import Path

import octo_pipeline


def shipped_folder(name: str) -> Path:
    """The folder ``dbt_project`` or ``allocator_configs`` of this installation.

    A checkout has it beside the package; the build of a wheel puts it inside (setup.py).
    """
    package = Path(octo_pipeline.__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name
