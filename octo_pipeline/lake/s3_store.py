"""A bucket as a store: an object appears when its upload is complete, and an upload names what it may replace.

Assumptions: reads see every completed write at once, and PutObject and CompleteMultipartUpload obey If-Match and
If-None-Match. S3 does both; a store that ignores the conditions would let a slow writer win.

How a file is replaced: (1) its ETag is read, or that it has none; (2) the caller decides whether it may be replaced;
(3) the upload is completed on condition that the ETag is still the same. The loser starts over at step 1, so what the
caller checked still holds at the moment of replacement, as it would under a lock.

How a file is joined of parts in the bucket: an upload is its blocks one behind the other, and most of them are copied
there, each from the version of its part whose footer was read. Nobody sees them before the upload is completed, as above.

How a folder is published: its files first, each only if it is not there already, then the one that makes it exist,
only if it is not there. The next upload continues one that was cut short.

Drawbacks: the parts of a killed upload stay, invisible and paid for, until the bucket's lifecycle rule for incomplete
multipart uploads removes them. A folder that one process removes while another publishes it again can lose files after
it was checked; `damage` of the landing reports it, and the next landing repairs it.
"""

import hashlib
import io
import random
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any, cast
from urllib.parse import urlsplit

from octo_pipeline.lake.joined_file import MAGIC, Part, missing, parse_part, replaced
from octo_pipeline.lake.s3_blocks import Span, blocks
from octo_pipeline.lake.s3_errors import error_code, translate_s3_errors
from octo_pipeline.lake.s3_lease import s3_lease
from octo_pipeline.model.errors import InputChangedError, OctoError, Remedy
from octo_pipeline.model.sql import literal

_ATTEMPTS = 20
_READ_ATTEMPTS = 4
_PARALLEL_PARTS = 4
_MOST_PARTS = 10_000
# A file up to this size goes in one request, a larger one in parts of at least this size.
_PART = 16 << 20
# Footers hold statistics per column and row group; most are smaller than this, the rest take a second request.
_FOOTER = 128 << 10
_FIRST_READ, _LARGEST_READ = 256 << 10, 8 << 20

_ABSENT = {"404", "NoSuchKey"}
_LOST = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "OperationAborted", *_ABSENT})
_UPLOAD_ID, _SHA256 = "octo-upload", "octo-sha256"


@dataclass(frozen=True)
class S3Path:
    """An object or folder in a bucket, with as much of `pathlib` as readers of the lake need."""

    bucket: str
    key: str
    store: "S3Store" = field(compare=False, repr=False)

    def __truediv__(self, name: str) -> "S3Path":
        return S3Path(self.bucket, f"{self.key}/{name}".lstrip("/"), self.store)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """What follows the last dot of the name, the dot included."""
        return PurePosixPath(self.key).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the key."""
        return PurePosixPath(self.key).parts

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Read one version of the object from its beginning.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if mode != "rb":
            raise ValueError(f"{self} can be opened for reading bytes only, not as {mode!r}")
        return io.BufferedReader(_ObjectReader(self.store, self))


class S3Store:
    """The objects below a prefix of a bucket.

    Args:
        client: boto3's S3 client, with its timeouts and retries.
        bucket: the bucket's name.
        prefix: what the keys begin with, without leading or trailing slashes; empty for the whole bucket.
        scratch: local folder for half-made files.
        credentials: returns the current access key, secret key and session token (or None).
        httpfs: DuckDB's extension file that reads S3.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str,
        *,
        scratch: Path,
        credentials: Callable[[], tuple[str, str, str | None]],
        httpfs: Path,
    ) -> None:
        self.root = S3Path(bucket, prefix, self)
        self.scratch = scratch
        self._client = client
        self._bucket = bucket
        self._credentials = credentials
        self._httpfs = httpfs

    @property
    def scratch_name(self) -> str:
        """The local folder, which the setting ``temp`` moves."""
        return f"folder {self.scratch}, where the files of the lake {self.root} are made"

    def duckdb_setup(self) -> list[str]:
        """Load the extension from its file and hand over the credentials, for this bucket only."""
        with translate_s3_errors("read", str(self.root), "s3:GetObject and s3:ListBucket"):
            key, secret, token = self._credentials()
        options = {"KEY_ID": key, "SECRET": secret, "REGION": self._region, "SCOPE": f"s3://{self._bucket}/"}
        if token:
            options["SESSION_TOKEN"] = token
        endpoint = urlsplit(self._client.meta.endpoint_url)
        if not endpoint.netloc.endswith(".amazonaws.com"):
            options |= {"ENDPOINT": endpoint.netloc, "USE_SSL": str(endpoint.scheme == "https").lower()}
        # The AWS certificate covers one label before its domain, so a bucket name with dots goes into the path.
        options["URL_STYLE"] = "path" if "ENDPOINT" in options or "." in self._bucket else "vhost"
        written = ", ".join(f"{name} {literal(value)}" for name, value in options.items())
        return [
            f"LOAD {literal(str(self._httpfs))}",
            f"CREATE OR REPLACE TEMPORARY SECRET octo_lake (TYPE s3, {written})",
        ]

    def subfolders(self, folder: S3Path) -> list[str]:
        """The names of the folders in a folder; none if it does not exist."""
        prefix = _prefix(folder)
        pages = self._pages(folder, Prefix=prefix, Delimiter="/")
        return [entry["Prefix"][len(prefix) : -1] for page in pages for entry in page.get("CommonPrefixes", [])]

    def files(self, folder: S3Path, prefix: str, name: str) -> dict[str, Hashable]:
        """The subfolders that begin with the prefix and hold a file of that name -> the file's ETag."""
        etags: dict[str, Hashable] = {}
        for entry in self._objects(folder, prefix):
            parent, _, rest = entry["Key"].removeprefix(_prefix(folder)).partition("/")
            if rest == name:
                etags[parent] = entry["ETag"]
        return etags

    def sizes(self, folder: S3Path) -> dict[str, int]:
        """Name -> bytes of the files in a folder; none if it does not exist."""
        return {entry["Key"].removeprefix(_prefix(folder)): entry["Size"] for entry in self._objects(folder)}

    def read_text(self, path: S3Path) -> str | None:
        """The text of a small file, None if it does not exist."""
        try:
            with path.open() as stream:
                return stream.read().decode()
        except FileNotFoundError:
            return None

    def identity(self, path: S3Path) -> Hashable | None:
        """The ETag."""
        head = self._head(path)
        return None if head is None else str(head["ETag"])

    @contextmanager
    def footer(self, path: S3Path) -> Iterator[Path]:
        """A temporary file with the end of the object."""
        end, _, _ = self._end(path)
        with NamedTemporaryFile(prefix="octo-footer-", suffix=".parquet") as file:
            file.write(end)
            file.flush()
            yield Path(file.name)

    def part(self, path: S3Path) -> Part:
        """The object's footer and its ETag."""
        try:
            end, etag, size = self._end(path)
        except FileNotFoundError:
            raise missing(path) from None
        return parse_part(end, size, path, etag)

    def _end(self, path: S3Path) -> tuple[bytes, str, int]:
        """The end of a Parquet file with its whole footer, its ETag and its size."""
        end, etag, size = self.read_range(path, f"-{_FOOTER}")
        # A Parquet file ends with 8 bytes: the length of the metadata before them and a magic number. The magic
        # number at the beginning takes 4 more.
        needed = int.from_bytes(end[-8:-4], "little") + 12
        if len(end) < needed <= size:
            end, _, _ = self.read_range(path, f"-{needed}", etag)
        return end, etag, size

    def replace(
        self, made: Path, path: S3Path, may_replace: Callable[[], bool], *, before: Sequence[Part] = ()
    ) -> bool:
        """Upload on condition that nothing changed since `may_replace` was asked; ask again if something did.

        The data of parts that come before is copied in the bucket.
        """
        spans = [Span(part.path, part.start, part.stop, part.version) for part in before]
        spans.append(_whole(made))
        if before:
            # The magic number with which the object begins is copied with the first part.
            spans[0] = replace(spans[0], start=0)
            spans[-1] = replace(spans[-1], start=len(MAGIC))
        for attempt in range(_ATTEMPTS):
            there = self._head(path)
            if not may_replace():
                return False
            condition = {"IfMatch": there["ETag"]} if there else {"IfNoneMatch": "*"}
            if self._upload(spans, path, condition):
                return True
            _pause(attempt)
        raise OctoError(f"Other processes keep replacing {path}; run this again later.", code="object-contended")

    def put(self, made: Path, path: S3Path) -> None:
        """Upload it without a condition."""
        if not self._upload([_whole(made)], path, {}):
            raise OctoError(f"Other processes are writing {path}; run this again later.", code="object-contended")

    def discard(self, paths: Sequence[S3Path]) -> None:
        """Remove them, a thousand in a request."""
        for start in range(0, len(paths), 1000):
            keys = [{"Key": path.key} for path in paths[start : start + 1000]]
            with translate_s3_errors("remove", str(paths[start]), "s3:DeleteObject"):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
            if errors := answer.get("Errors"):
                raise OctoError(
                    f"Cannot remove s3://{self._bucket}/{errors[0]['Key']}: S3 refuses it ({errors[0]['Code']}). "
                    "Give the credentials in use s3:DeleteObject there.",
                    code="object-not-removable",
                )

    def remove(self, path: S3Path) -> None:
        """Remove an object, if it is there."""
        with translate_s3_errors("remove", str(path), "s3:DeleteObject"):
            self._client.delete_object(Bucket=self._bucket, Key=path.key)

    def publish_folder(self, made: Path, folder: S3Path, last: str) -> bool:
        """Upload all files, then the one called `last`, unless it is there."""
        if self._head(folder / last):
            return False
        files = sorted(file for file in made.iterdir() if file.name != last)
        for file in files:
            if "?" in str(folder / file.name):
                raise OctoError(
                    f"{folder / file.name} could not be read again: DuckDB takes what follows a question mark in a "
                    "URL for options. Rename the file at its source, or use a lake in a folder.",
                    code="object-name-unreadable",
                )
        for file in files:
            self._upload_once(file, folder / file.name)
        if not self._upload([_whole(made / last)], folder / last, {"IfNoneMatch": "*"}):
            return False
        there = self.sizes(folder)
        if any(there.get(file.name) != file.stat().st_size for file in files):
            self.remove(folder / last)
            return False
        return True

    def lease(self, name: str, patience: float | None = None) -> AbstractContextManager[bool]:
        """A lease that its process keeps renewing."""
        return s3_lease(self._client, self._bucket, (self.root / ".locks" / name).key, _LOST, patience)

    def hold(self, paths: Sequence[S3Path]) -> AbstractContextManager[None]:
        """Nothing: a bucket has no locks, and who replaces a file there names the version that it replaces."""
        return nullcontext()

    def check_conditions(self) -> None:
        """Write an object, try to replace it in the three ways in which files are uploaded, and to copy another version.

        Raises:
            OctoError: the store ignores a condition, or refuses what a condition allows.
        """
        path = self.root / ".staging" / f"check-{uuid.uuid4().hex}"
        target = {"Bucket": self._bucket, "Key": path.key}
        with translate_s3_errors("write", str(path), "s3:PutObject"):
            etag = self._client.put_object(**target, Body=b"first", IfNoneMatch="*")["ETag"]
        try:
            with translate_s3_errors("write", str(path), "s3:PutObject"):
                self._require_refusal(
                    "If-None-Match", lambda: self._client.put_object(**target, Body=b"2", IfNoneMatch="*")
                )
                # Well formed, and of no object.
                other = f'"{"0" * 32}"'
                self._require_refusal("If-Match", lambda: self._client.put_object(**target, Body=b"2", IfMatch=other))
                self._require_success("If-Match", lambda: self._client.put_object(**target, Body=b"2", IfMatch=etag))
                upload = {**target, "UploadId": self._client.create_multipart_upload(**target)["UploadId"]}
                try:
                    self._require_refusal(
                        "x-amz-copy-source-if-match",
                        lambda: self._client.upload_part_copy(
                            **upload,
                            PartNumber=1,
                            CopySource={"Bucket": path.bucket, "Key": path.key},
                            CopySourceIfMatch=other,
                        ),
                    )
                    part = self._client.upload_part(**upload, PartNumber=1, Body=b"2")
                    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
                    self._require_refusal(
                        "If-None-Match of an upload in parts",
                        lambda: self._client.complete_multipart_upload(
                            **upload, MultipartUpload=parts, IfNoneMatch="*"
                        ),
                    )
                finally:
                    with suppress(Exception):
                        self._client.abort_multipart_upload(**upload)
        finally:
            self.remove(path)

    def _require_refusal(self, condition: str, write: Callable[[], object]) -> None:
        from botocore.exceptions import ClientError

        try:
            write()
        except ClientError as error:
            if error_code(error) in _LOST:
                return
            raise
        raise OctoError(
            f"The store of {self.root} ignores {condition}, so two runs could publish over each other. Keep the lake in a "
            "store with conditional writes.",
            code="store-without-conditions",
        )

    def _require_success(self, condition: str, write: Callable[[], object]) -> None:
        from botocore.exceptions import ClientError

        try:
            write()
        except ClientError as error:
            if error_code(error) not in _LOST:
                raise
            # Ceph 16 compares the ETag with its quotes to one without.
            raise OctoError(
                f"The store of {self.root} refuses {condition} of the version that is there, so nothing could ever be "
                "replaced. Keep the lake in a store with conditional writes.",
                code="store-without-conditions",
            ) from error

    def remove_folder(self, folder: S3Path, first: str) -> None:
        """Remove the file called `first`, then the others."""
        self.remove(folder / first)
        self.discard([S3Path(self._bucket, entry["Key"], self) for entry in self._objects(folder)])

    def read_range(self, path: S3Path, byte_range: str, etag: str | None = None) -> tuple[bytes, str, int]:
        """A range of an object's bytes, cut at the object's end.

        Args:
            path: the object.
            byte_range: ``first-last`` or ``-length``, as in HTTP.
            etag: of the version to read; None for the current one.

        Returns:
            The bytes, the ETag of their version, and its size.

        Raises:
            FileNotFoundError: there is no such object.
            InputChangedError: another version took its place.
        """
        from botocore.exceptions import ClientError

        condition = {"IfMatch": etag} if etag else {}
        with translate_s3_errors("read", str(path), "s3:GetObject"):
            for attempt in range(_READ_ATTEMPTS):
                try:
                    answer = self._client.get_object(
                        Bucket=self._bucket, Key=path.key, Range=f"bytes={byte_range}", **condition
                    )
                    # For an empty object S3 ignores the range and sends the whole object.
                    size = answer.get("ContentRange", str(answer["ContentLength"])).rpartition("/")[2]
                    return answer["Body"].read(), answer["ETag"], int(size)
                except ClientError as error:
                    if error_code(error) in _ABSENT:
                        raise FileNotFoundError(str(path)) from error
                    if error_code(error) in ("InvalidRange", "416"):
                        return b"", etag or "", 0
                    if error_code(error) in _LOST:
                        raise InputChangedError(f"{path} was replaced while it was read. Run this again.") from error
                    raise
                except _broken_off() as error:
                    # The client retries what fails before the answer, but not a body that breaks off.
                    if attempt == _READ_ATTEMPTS - 1:
                        raise OctoError(
                            f"Cannot read {path}: the connection keeps breaking off.", code="s3-connection-broken"
                        ) from error
                    _pause(attempt)
        raise AssertionError("unreachable")

    @cached_property
    def _region(self) -> str:
        """The bucket's region, which DuckDB needs. Asking for it also reveals a wrong bucket first."""
        from botocore.exceptions import ClientError

        with translate_s3_errors("read", str(self.root), "s3:GetObject and s3:ListBucket"):
            try:
                answer = self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if error_code(error) == "404":
                    raise OctoError(
                        f"The bucket {self._bucket} of the lake {self.root} does not exist. Create it.",
                        code="bucket-missing",
                        place=str(self.root),
                        remedy=Remedy("set", setting="lake", to="another, if the bucket is wrong"),
                    ) from error
                raise
        return str(answer.get("BucketRegion") or self._client.meta.region_name)

    def _pages(self, folder: S3Path, **request: str) -> Iterator[Mapping[str, Any]]:
        with translate_s3_errors("list", str(folder), "s3:ListBucket"):
            yield from self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, **request)

    def _objects(self, folder: S3Path, prefix: str = "") -> Iterator[Mapping[str, Any]]:
        for page in self._pages(folder, Prefix=_prefix(folder) + prefix):
            yield from page.get("Contents", [])

    def _head(self, path: S3Path) -> Mapping[str, Any] | None:
        from botocore.exceptions import ClientError

        with translate_s3_errors("look at", str(path), "s3:GetObject and s3:ListBucket"):
            try:
                return cast(Mapping[str, Any], self._client.head_object(Bucket=self._bucket, Key=path.key))
            except ClientError as error:
                if error_code(error) in _ABSENT:
                    return None
                raise

    def _upload_once(self, made: Path, path: S3Path) -> None:
        """Upload a file unless it is there already: an earlier upload that was cut short may have left it."""
        with made.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        there = self._head(path)
        if there and there["ContentLength"] == made.stat().st_size and there["Metadata"].get(_SHA256) == sha256:
            return
        if not self._upload([_whole(made)], path, {}, {_SHA256: sha256}):
            raise OctoError(f"Other processes are writing {path}; run this again later.", code="object-contended")

    def _upload(
        self, spans: Sequence[Span], path: S3Path, condition: Mapping[str, str], notes: Mapping[str, str] | None = None
    ) -> bool:
        """Upload bytes that are one behind the other on a condition; False if that does not hold."""
        from botocore.exceptions import ClientError

        upload = uuid.uuid4().hex
        metadata = {**(notes or {}), _UPLOAD_ID: upload}
        # A single request has no copied bytes.
        is_small = len(spans) == 1 and spans[0].size <= _PART
        send = self._upload_whole if is_small else self._upload_blocks
        with translate_s3_errors("write", str(path), "s3:PutObject"):
            try:
                send(spans, path, condition, metadata)
            except ClientError as error:
                if error_code(error) not in {*_LOST, "NoSuchUpload"}:
                    raise
                # A request whose answer was lost is sent again and then meets the object it wrote itself.
                there = self._head(path)
                return there is not None and there["Metadata"].get(_UPLOAD_ID) == upload
        return True

    def _upload_whole(
        self, spans: Sequence[Span], path: S3Path, condition: Mapping[str, str], metadata: Mapping[str, str]
    ) -> None:
        (whole,) = spans
        with whole.path.open("rb") as stream:
            self._client.put_object(Bucket=self._bucket, Key=path.key, Body=stream, Metadata=metadata, **condition)

    def _upload_blocks(
        self, spans: Sequence[Span], path: S3Path, condition: Mapping[str, str], metadata: Mapping[str, str]
    ) -> None:
        upload = {"Bucket": self._bucket, "Key": path.key}
        upload["UploadId"] = self._client.create_multipart_upload(**upload, Metadata=metadata)["UploadId"]
        try:
            parts = self._send_blocks(spans, upload)
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            # Report why the upload failed, not that the clean-up failed too.
            with suppress(Exception):
                self._client.abort_multipart_upload(**upload)
            raise

    def _send_blocks(self, spans: Sequence[Span], upload: Mapping[str, str]) -> list[dict[str, Any]]:
        size = sum(span.size for span in spans)

        def send(number: int, block: Sequence[Span]) -> dict[str, Any]:
            target = {**upload, "PartNumber": number}
            if len(block) == 1 and isinstance(block[0].path, S3Path):
                return {"PartNumber": number, "ETag": self._copy(block[0], block[0].path, target)}
            body = b"".join(map(self._bytes, block))
            return {"PartNumber": number, "ETag": self._client.upload_part(**target, Body=body)["ETag"]}

        pool = ThreadPoolExecutor(_PARALLEL_PARTS)
        try:
            cut = blocks(spans, sent=max(_PART, -(-size // _MOST_PARTS)))
            return list(pool.map(send, range(1, len(cut) + 1), cut))
        finally:
            pool.shutdown(cancel_futures=True)

    def _copy(self, span: Span, path: S3Path, target: Mapping[str, Any]) -> str:
        """Copy bytes of an object into an upload; returns the ETag of the block."""
        from botocore.exceptions import ClientError

        try:
            answer = self._client.upload_part_copy(
                **target,
                CopySource={"Bucket": path.bucket, "Key": path.key},
                CopySourceRange=f"bytes={span.start}-{span.stop - 1}",
                CopySourceIfMatch=span.version,
            )
        except ClientError as error:
            # Not the conditions of the upload itself, which are met or not when it is completed.
            if error_code(error) in _ABSENT:
                raise missing(path) from error
            if error_code(error) in ("PreconditionFailed", "412"):
                raise replaced(path) from error
            raise
        return str(answer["CopyPartResult"]["ETag"])

    def _bytes(self, span: Span) -> bytes:
        if isinstance(span.path, Path):
            with span.path.open("rb") as stream:
                stream.seek(span.start)
                return stream.read(span.size)
        try:
            return self.read_range(span.path, f"{span.start}-{span.stop - 1}", str(span.version))[0]
        except FileNotFoundError:
            raise missing(span.path) from None


class _ObjectReader(io.RawIOBase):
    """Reads an object in growing ranges, so that a connection that breaks off costs one range only."""

    def __init__(self, store: S3Store, path: S3Path) -> None:
        self._store, self._path = store, path
        self._position, self._length = 0, _FIRST_READ
        ahead, self._etag, self._size = store.read_range(path, f"0-{_FIRST_READ - 1}")
        self._ahead = memoryview(ahead)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset != self._position:
            self._position, self._ahead, self._length = start + offset, memoryview(b""), _FIRST_READ
        return self._position

    def readinto(self, buffer: Any) -> int:
        if not self._ahead and self._position < self._size:
            self._length = min(2 * self._length, _LARGEST_READ)
            byte_range = f"{self._position}-{self._position + self._length - 1}"
            self._ahead = memoryview(self._store.read_range(self._path, byte_range, self._etag)[0])
        count = min(len(buffer), len(self._ahead))
        buffer[:count], self._ahead = self._ahead[:count], self._ahead[count:]
        self._position += count
        return count


def _whole(file: Path) -> Span:
    return Span(file, 0, file.stat().st_size)


def _prefix(folder: S3Path) -> str:
    return f"{folder.key}/" if folder.key else ""


def _pause(attempt: int) -> None:
    """Wait a little longer each time, with jitter, so that competing processes do not retry together."""
    time.sleep(random.uniform(0, min(0.05 * 2**attempt, 2)))  # noqa: S311 - not used for a secret


def _broken_off() -> tuple[type[Exception], ...]:
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    return IncompleteReadError, ReadTimeoutError, ResponseStreamingError
