"""Opens the root of the lake: a folder, or a bucket with its client, its credentials and DuckDB's extension for S3.

What is done with the root belongs in `lake` and in the landing.
"""

import os
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from octo_pipeline.lake.s3_errors import translate_s3_errors
from octo_pipeline.lake.s3_store import S3Path, S3Store
from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.s3_url import split_url

_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 10, 60, 6


def lake_root(
    lake: str, temp: Path | None, *, endpoint: str | None = None, keys: tuple[str, str] | None = None
) -> Location:
    """The root of the lake.

    Args:
        lake: a folder, or ``s3://bucket/prefix``.
        temp: where files for a bucket are made; if None, a folder of this user below the system's temporary folder.
        endpoint: the address of the bucket's store; what boto3 finds if None.
        keys: the access key and the secret key of the bucket; what boto3 finds if None.

    Raises:
        OctoError: `lake` is neither, or there are no credentials for the bucket.
    """
    if "://" not in lake:
        return Path(lake).absolute()
    return _bucket(lake, (temp or _own_folder()).absolute(), endpoint, keys)


def _bucket(url: str, scratch: Path, endpoint: str | None, keys: tuple[str, str] | None) -> S3Path:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import NoCredentialsError

    bucket, prefix = split_url(url)
    # "standard" waits longer each time, with jitter, and retries only what may succeed.
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    with translate_s3_errors("open", url, "s3:ListBucket"):
        # A session of its own: those of the sources find their own credentials.
        access_key, secret_key = keys or (None, None)
        session = boto3.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key)
        client = session.client("s3", endpoint_url=endpoint, config=config)

    def credentials() -> tuple[str, str, str | None]:
        # Asked for each time: the session renews temporary credentials shortly before they expire.
        current = session.get_credentials()
        if current is None:
            raise NoCredentialsError
        frozen = current.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    return S3Store(client, bucket, prefix, scratch=scratch, credentials=credentials, httpfs=_httpfs()).root


def _own_folder() -> Path:
    """A folder that only this user can read. Another user may have created it, so its owner is checked."""
    folder = Path(tempfile.gettempdir()) / f"octo-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise OctoError(
            f"The folder {folder} belongs to another user.",
            code="temporary-folder-not-ours",
            place=str(folder),
            remedy=Remedy("set", setting="temp", to="a folder of your own"),
        )
    return folder


@cache
def _httpfs() -> Path:
    """The extension file of this DuckDB version. It is installed with the program, so a run downloads nothing."""
    import duckdb

    package = find_spec("duckdb_extension_httpfs")
    if package is None or package.origin is None:
        raise OctoError(
            "The package duckdb-extension-httpfs is not installed; a lake in a bucket needs it.", code="httpfs-missing"
        )
    file = Path(package.origin).parent / "extensions" / f"v{duckdb.__version__}" / "httpfs.duckdb_extension"
    if not file.is_file():
        raise OctoError(
            f"The package duckdb-extension-httpfs is not for DuckDB {duckdb.__version__}: {file} does not exist. "
            "Install both in the same version.",
            code="httpfs-of-another-version",
        )
    return file
