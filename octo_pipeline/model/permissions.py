"""Who on this machine may read what the program writes: its user, and a group if one is set.

Files of the lake follow their root: where the root's group may read, so may it read them, and others never may. A group's
name is only needed to give it the root and the registry.
"""

import grp
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import quoted, reason

# New files and folders belong to the folder's group, whoever makes them.
_SHARED_FOLDER, _SHARED_FILE = 0o2750, 0o640
_OWN_FOLDER, _OWN_FILE = 0o700, 0o600


def share_folder(folder: Path, group: str) -> None:
    """Make a folder if it is missing, and let a group read it and what is made in it from now on.

    Raises:
        OctoError: the group does not exist, or this user may not give it the folder.
    """
    with _sharing(folder, group):
        folder.mkdir(mode=_OWN_FOLDER, parents=True, exist_ok=True)
        state = folder.stat()
        if state.st_gid != _id(group) or stat.S_IMODE(state.st_mode) != _SHARED_FOLDER:
            os.chown(folder, -1, _id(group))
            folder.chmod(_SHARED_FOLDER)


def share_file(file: Path, group: str) -> None:
    """Let a group read a file.

    Raises:
        OctoError: the group does not exist, or this user may not give it the file.
    """
    with _sharing(file, group):
        state = file.stat()
        if state.st_gid != _id(group) or stat.S_IMODE(state.st_mode) != _SHARED_FILE:
            os.chown(file, -1, _id(group))
            file.chmod(_SHARED_FILE)


def make_folders(folder: Path, root: Path) -> None:
    """Make the folders from the root down to this one that are missing, for whoever may read the root."""
    if not root.is_dir():
        root.mkdir(mode=_OWN_FOLDER, parents=True, exist_ok=True)
    for path in reversed((folder, *folder.parents)):
        if path.is_relative_to(root) and path != root:
            try:
                path.mkdir()
            except FileExistsError:
                continue
            path.chmod(_folder_mode(root))


def protect(made: Path, root: Path) -> None:
    """Give a finished file, or a folder of files, the permissions of a root that it is to be moved to."""
    is_shared = _is_shared(root)
    if made.is_dir():
        for file in made.iterdir():
            file.chmod(_SHARED_FILE if is_shared else _OWN_FILE)
        made.chmod(_folder_mode(root))
    else:
        made.chmod(_SHARED_FILE if is_shared else _OWN_FILE)


def writable_by_others(file: Path) -> bool:
    """Whether somebody besides the owner may write a file, or put another into its place."""
    folder = file.parent.stat().st_mode
    may_replace = folder & stat.S_IWOTH and not folder & stat.S_ISVTX
    return bool(file.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH) or may_replace)


def _is_shared(root: Path) -> bool:
    return bool(root.stat().st_mode & stat.S_IXGRP)


def _folder_mode(root: Path) -> int:
    return _SHARED_FOLDER if _is_shared(root) else _OWN_FOLDER


@contextmanager
def _sharing(path: Path, group: str) -> Iterator[None]:
    try:
        yield
    except KeyError:
        raise OctoError(
            f"The group {quoted(group)} does not exist on this machine.",
            code="group-unknown",
            place="group",
            remedy=Remedy("set", setting="group", to="a group that does"),
        ) from None
    except OSError as error:
        raise OctoError(
            f"The group {quoted(group)} cannot be given {path}: {reason(error)}. Be a member of the group, and the owner.",
            code="group-refused",
            place=str(path),
            remedy=Remedy("set", setting="group", to="another group"),
        ) from error


def _id(group: str) -> int:
    return grp.getgrnam(group).gr_gid
