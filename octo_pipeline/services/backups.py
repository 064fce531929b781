"""Backups of what cannot be made again: the registry, the configuration, what closings keep, and the landing on request.

Of a closed month its results are in a backup too: they stay as they were closed, whatever a run would make of the landing
today. All other tables are made again from the landing. How the archive is written and read belongs in `backup_archive`.

How a backup is made: the registry is copied first, as of one moment, and then what it names. If something of that is replaced
meanwhile, there is no backup.

How one is restored: (1) every file of the archive is compared with the manifest; (2) the place must be empty; (3) a mark is
put into the lake; (4) what belongs in the lake is put there, then the configuration; (5) all of it is read again and compared;
(6) the registry is made in one transaction, in which its rows are read again; (7) the mark is removed. After a kill the same
archive is restored again, which goes on where it was; without a registry nobody takes the place for complete.
"""

import hashlib
import io
import json
import os
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.errors import InputChangedError, OctoError, Remedy
from octo_pipeline.model.wording import counted, reason
from octo_pipeline.registry.copies import RESTORED, copy_registry, load_registry
from octo_pipeline.registry.database import HEAD, knows
from octo_pipeline.registry.encryption import KeyFile, written_keys
from octo_pipeline.registry.records import Actor
from octo_pipeline.services.backup_archive import (
    MANIFEST,
    Archive,
    ArchiveWriter,
    Manifest,
    new_archive,
    of_newer_version,
    opened_archive,
)
from octo_pipeline.tables.table import KEPT, require_as_closed
from octo_pipeline.vendors.landing import DESCRIPTION, deliveries
from octo_pipeline.workspace import CLOSING_FILE, Workspace

_REGISTRY, _CONFIGURATION, _LAKE, _KEYS = "registry", "configuration", "lake", "keys"
# Says in the lake that a backup is being restored there.
_MARK = ".restoring"
_ELSEWHERE = "another place, or empty this one"
# The file of a folder that appears when the others are there.
_LAST_FILES = (CLOSING_FILE, DESCRIPTION)


@dataclass(frozen=True)
class Part:
    """A part of a backup that was copied or restored, as a sentence."""

    sentence: str


def make_backup(
    workspace: Workspace, path: Path, *, with_landing: bool = False, with_keys: bool = False
) -> Iterator[Part]:
    """Write a backup of an installation to a new file.

    Args:
        workspace: the installation.
        path: the file.
        with_landing: the landed deliveries are copied too.
        with_keys: so are the keys of stored secrets, and whoever has the backup can read these.

    Yields:
        A part when it was copied. The file is there after the last.

    Raises:
        OctoError: something cannot be read or was replaced meanwhile, or the file cannot be written. There is no file then.
    """
    with new_archive(path) as archive:
        rows, secrets = _copy_registry(workspace, archive)
        yield Part(f"registry: {counted(sum(rows.values()), 'row')}" if rows else "registry: there is none yet")
        yield Part(f"configuration: {counted(_copy_configuration(workspace, archive), 'file')}")
        for month in workspace.closed_months:
            _copy_closed(workspace, archive, month)
        yield Part(f"closed months: {counted(len(workspace.closed_months), 'month')}")
        if with_landing:
            yield Part(f"landing: {_copy_landing(workspace, archive)}")
        else:
            yield Part("landing: not in it; what vendors no longer offer could not be fetched again")
        has_keys = with_keys and secrets > 0
        if has_keys:
            _copy_keys(workspace, archive)
            yield Part(f"keys: in it, so whoever has the file can read {counted(secrets, 'secret')}")
        elif secrets:
            yield Part(
                f"keys: not in it; without the keys of this installation {counted(secrets, 'secret')} cannot be used. Keep "
                "them elsewhere"
            )
        archive.finish(
            Manifest(
                program=version("octo-pipeline"),
                registry_version=HEAD if rows else None,
                made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                lake=workspace.settings.lake,
                base_currency=workspace.settings.base_currency,
                closed_months=workspace.closed_months,
                rows=rows,
                has_landing=with_landing,
                has_keys=has_keys,
            )
        )


def restore_backup(workspace: Workspace, path: Path, actor: Actor) -> Iterator[Part]:
    """Restore a backup into an empty place: no registry, an empty lake, and no configuration or that of the backup.

    Args:
        workspace: the place.
        path: the backup's file.
        actor: who restores it.

    Yields:
        A part when it was restored and read again.

    Raises:
        OctoError: the backup is damaged or of a newer version, or the place is not empty. Nothing was changed then. Or
            something cannot be written; then the same backup can be restored again.
    """
    with opened_archive(path) as archive:
        manifest = archive.manifest
        _require_known(manifest, path)
        archive.verify()
        _require_empty(workspace, archive)
        _put_mark(workspace.lake, manifest)
        yield from _restore_lake(workspace.lake, archive)
        yield from _restore_configuration(workspace, archive)
        yield from _restore_keys(workspace, archive)
        yield from _restore_registry(workspace, archive, actor, path)
        workspace.lake.remove_folder(_MARK, first=MANIFEST)
        if manifest.base_currency != workspace.settings.base_currency:
            yield Part(
                f"base currency: it was {manifest.base_currency} and is {workspace.settings.base_currency} here; set it back "
                "before the first run"
            )


def unfinished_restore(lake: Lake) -> str | None:
    """When the backup was made that is being restored to this lake, or whose restoring was interrupted; None if none is."""
    text = lake.read_text(_MARK, MANIFEST)
    return None if text is None else str(json.loads(text)["made_at"])


def landed_months(path: Path) -> list[str]:
    """The months of the deliveries in a backup, in order."""
    with opened_archive(path) as archive:
        landed = archive.manifest.below(_LAKE).values()
        return sorted({parts[3].removeprefix("month=") for parts in landed if parts[0] == "landing"})


def _copy_registry(workspace: Workspace, archive: ArchiveWriter) -> tuple[dict[str, int], int]:
    """The rows by table, and how many of them are secrets."""
    if not workspace.settings.has_registry:
        return {}, 0
    with TemporaryDirectory(prefix="octo-backup-", dir=_temporary(workspace)) as folder:
        rows = copy_registry(workspace.registry, Path(folder))
        for table in rows:
            with (Path(folder) / f"{table}.jsonl").open("rb") as stream:
                archive.add(stream, _REGISTRY, f"{table}.jsonl")
    return rows, rows.get("secrets", 0)


def _temporary(workspace: Workspace) -> Path | None:
    temp = workspace.settings.temp
    if temp is not None:
        temp.mkdir(parents=True, exist_ok=True)
    return temp


def _copy_configuration(workspace: Workspace, archive: ArchiveWriter) -> int:
    folder = workspace.settings.config
    files = _configuration_files(folder)
    if not files:
        raise OctoError(
            f"There is no configuration in {folder}, and a backup without it could not be restored to the same results.",
            code="configuration-empty",
            place=str(folder),
            remedy=Remedy("set", setting="config", to="the folder of the rules"),
        )
    for parts in files:
        with folder.joinpath(*parts).open("rb") as stream:
            archive.add(stream, _CONFIGURATION, *parts)
    return len(files)


def _configuration_files(folder: Path) -> list[tuple[str, ...]]:
    """The paths of the files below a folder, without what is hidden: version control, and links of Kubernetes."""
    files = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        parts = Path(above).relative_to(folder).parts
        files += [(*parts, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _copy_closed(workspace: Workspace, archive: ArchiveWriter, month: str) -> None:
    lake = workspace.lake
    _copy_folder(lake, archive, *workspace.closing(month).folder)
    for table in sorted(KEPT):
        if month in lake.months(table):
            require_as_closed(workspace, table, month)
            before = lake.fingerprint(table, month)
            _copy_folder(lake, archive, table, f"month={month}")
            if lake.fingerprint(table, month) != before:
                raise InputChangedError(f"{table} {month} was replaced while it was copied. Run this again.")


def _copy_landing(workspace: Workspace, archive: ArchiveWriter) -> str:
    lake = workspace.lake
    landed = deliveries(lake.root)
    size = 0
    for d in landed:
        size += _copy_folder(lake, archive, "landing", d.vendor, d.account, f"month={d.month}", d.version)
    return f"{len(landed):,} {'delivery' if len(landed) == 1 else 'deliveries'}, {size / 1024**2:,.1f} MiB"


def _copy_folder(lake: Lake, archive: ArchiveWriter, *folder: str) -> int:
    size = 0
    for name in sorted(lake.file_sizes(*folder)):
        location = lake.path_of(*folder, name)
        try:
            with location.open("rb") as stream:
                size += archive.add(stream, _LAKE, *folder, name)[0]
        except FileNotFoundError:
            raise InputChangedError(f"{location} was removed while it was copied. Run this again.") from None
    return size


def _copy_keys(workspace: Workspace, archive: ArchiveWriter) -> None:
    archive.add(io.BytesIO(written_keys(workspace.keys.load()).encode()), _KEYS)


def _require_known(manifest: Manifest, path: Path) -> None:
    if manifest.registry_version is not None and not knows(manifest.registry_version):
        raise of_newer_version(path, manifest.program)
    tops = {name.split("/")[0] for name in manifest.files}
    if unknown := sorted(tops - {_REGISTRY, _CONFIGURATION, _LAKE, _KEYS}):
        raise OctoError(
            f"The backup {path} has something that this version does not know: {', '.join(unknown)}.",
            code="backup-part-unknown",
            place=str(path),
        )


def _require_empty(workspace: Workspace, archive: Archive) -> None:
    lake, manifest = workspace.lake, archive.manifest
    mark = lake.read_text(_MARK, MANIFEST)
    if mark is not None and mark != manifest.to_json():
        raise _not_empty(
            f"Another backup was being restored to the lake {lake.root}", Remedy("set", setting="lake", to=_ELSEWHERE)
        )
    if mark is None:
        if names := [name for name in lake.folders() if not name.startswith(".")]:
            raise _not_empty(
                f"The lake {lake.root} has {names[0]} already", Remedy("set", setting="lake", to=_ELSEWHERE)
            )
        if manifest.registry_version is not None and workspace.registry.exists():
            raise _not_empty("There is a registry already", Remedy("set", setting="database_url", to=_ELSEWHERE))
    if manifest.rows.get("secrets"):
        # A server needs a key in the settings. To say so after everything else was restored would be late.
        _ = workspace.keys
    folder = workspace.settings.config
    kept = {parts: name for name, parts in manifest.below(_CONFIGURATION).items()}
    for parts in _configuration_files(folder):
        file = folder.joinpath(*parts)
        if parts not in kept or _digest_of(file) != manifest.files[kept[parts]]:
            raise _not_empty(
                f"{file} is not in the backup, or otherwise", Remedy("set", setting="config", to=_ELSEWHERE)
            )


def _not_empty(what: str, remedy: Remedy) -> OctoError:
    return OctoError(
        f"{what}, and a backup is restored to an empty place only. Nothing was changed.",
        code="restore-place-not-empty",
        remedy=remedy,
    )


def _put_mark(lake: Lake, manifest: Manifest) -> None:
    if lake.read_text(_MARK, MANIFEST) is None:
        with lake.staging_folder() as folder:
            made = folder / "mark"
            made.mkdir()
            (made / MANIFEST).write_text(manifest.to_json())
            lake.publish_folder(made, _MARK, last=MANIFEST)


def _restore_lake(lake: Lake, archive: Archive) -> Iterator[Part]:
    folders: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name, parts in archive.manifest.below(_LAKE).items():
        folders[parts[:-1]][parts[-1]] = name
    for folder, names in folders.items():
        if not _is_whole(lake, archive.manifest, folder, names):
            _publish(lake, archive, folder, names)
            if not _is_whole(lake, archive.manifest, folder, names):
                raise OctoError(
                    f"{lake.path_of(*folder)} does not hold what the backup holds. Restore it again.",
                    code="restored-lake-differs",
                    place=str(lake.path_of(*folder)),
                )
    landed = sum(folder[0] == "landing" for folder in folders)
    months = len(archive.manifest.closed_months)
    yield Part(f"closed months: {counted(months, 'month')}")
    if archive.manifest.has_landing:
        yield Part(f"landing: {landed:,} {'delivery' if landed == 1 else 'deliveries'}")


def _publish(lake: Lake, archive: Archive, folder: tuple[str, ...], names: Mapping[str, str]) -> None:
    last = next((name for name in _LAST_FILES if name in names), sorted(names)[-1])
    lake.remove_folder(*folder, first=last)
    with lake.staging_folder() as staging:
        made = staging / "restored"
        made.mkdir()
        for name, archived in names.items():
            archive.extract(archived, made / name)
        lake.publish_folder(made, *folder, last=last)


def _is_whole(lake: Lake, manifest: Manifest, folder: tuple[str, ...], names: Mapping[str, str]) -> bool:
    """Whether a folder of the lake has these files and no others, byte for byte."""
    if lake.file_sizes(*folder) != {name: manifest.files[archived][0] for name, archived in names.items()}:
        return False
    for name, archived in names.items():
        with lake.path_of(*folder, name).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != manifest.files[archived][1]:
                return False
    return True


def _restore_configuration(workspace: Workspace, archive: Archive) -> Iterator[Part]:
    folder = workspace.settings.config
    files = archive.manifest.below(_CONFIGURATION)
    for name, parts in files.items():
        target = folder.joinpath(*parts)
        if target.is_file():
            continue
        unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            archive.extract(name, unfinished)
            unfinished.replace(target)
        except OSError as error:
            raise OctoError(
                f"{target} cannot be written: {reason(error)}. Give this user the right to write there, then restore the same "
                "backup again.",
                code="configuration-not-restored",
                place=str(target),
                remedy=Remedy("set", setting="config", to="a folder where it may"),
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)
    yield Part(f"configuration: {counted(len(files), 'file')}")


def _restore_keys(workspace: Workspace, archive: Archive) -> Iterator[Part]:
    secrets = archive.manifest.rows.get("secrets", 0)
    if not secrets:
        return
    is_in_setting = workspace.settings.secret_key is not None
    if archive.manifest.has_keys and not is_in_setting and isinstance(workspace.keys, KeyFile):
        workspace.keys.put_back(archive.text(_KEYS))
    lines = archive.text(f"{_REGISTRY}/secrets.jsonl").splitlines()
    needed = {json.loads(line)["key_id"] for line in lines}
    if needed <= {key.id for key in workspace.keys.load()}:
        yield Part(f"keys: {counted(secrets, 'secret')} can be read")
    else:
        yield Part(
            f"keys: {counted(secrets, 'secret')} cannot be read until this installation has the keys that they were encrypted "
            "with"
        )


def _restore_registry(workspace: Workspace, archive: Archive, actor: Actor, path: Path) -> Iterator[Part]:
    manifest = archive.manifest
    if manifest.registry_version is None:
        yield Part("registry: there was none")
        return
    if not _was_loaded(workspace, manifest):
        with TemporaryDirectory(prefix="octo-restore-", dir=_temporary(workspace)) as folder:
            for name, parts in manifest.below(_REGISTRY).items():
                archive.extract(name, Path(folder) / parts[-1])
            details = {"backup": manifest.digest, "made_at": manifest.made_at, "lake": manifest.lake}
            load_registry(workspace.registry, Path(folder), manifest.registry_version, actor, path.name, details)
    yield Part(f"registry: {counted(sum(manifest.rows.values()), 'row')}, and an event about this")


def _was_loaded(workspace: Workspace, manifest: Manifest) -> bool:
    """Whether the registry was made of this backup already, before a kill."""
    events = workspace.registry.audit(1)
    return bool(events) and events[0].action == RESTORED and events[0].details.get("backup") == manifest.digest


def _digest_of(file: Path) -> tuple[int, str]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), digest
