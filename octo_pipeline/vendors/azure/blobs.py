"""Blobs of Azure storage behind a SAS, and files of a folder: found by name and read to the last byte.

Here belongs how bytes come from storage and that they are all of them. What the files are does not.

A blob is read in one stream. Where the stream breaks it goes on from there, and where the SAS has expired a fresh
one is asked for, once; the length and the MD5 that the storage announced must agree at the end.
"""

import hashlib
import io
import os
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import reason
from octo_pipeline.vendors.azure.azure_http import ATTEMPTS, Http, Response, place, refusal
from octo_pipeline.vendors.downloads import inside

_CHUNK = 1 << 20
_NOT_ALLOWED = (401, 403)
# Of 5,000 blobs each; a list that does not end after these never does.
_MOST_PAGES = 1_000


@dataclass(frozen=True)
class Entry:
    """A file of a listing.

    Attributes:
        name: its path below the listed folder or container, with slashes.
        size: in bytes.
        version: changes with the content: the eTag, or size and time of change on a disk.
        md5: in hexadecimal, if the storage knows it.
        open: reads it from its beginning.
    """

    name: str
    size: int
    version: str
    open: Callable[[], BinaryIO]
    md5: str | None = None

    def read(self) -> bytes:
        """All of it; for small files."""
        with self.open() as stream:
            return stream.read()


class Listing(Protocol):
    """A folder or container whose files can be listed."""

    @property
    def place(self) -> str:
        """What sentences call it."""
        ...

    def entries(self) -> list[Entry]:
        """Its files at any depth, by name.

        Raises:
            OctoError: it cannot be listed.
        """
        ...


def is_hidden(name: str) -> bool:
    """Whether a file is none of the vendor's: copies by macOS and archives leave such beside each file or in a folder.

    Args:
        name: its path below the listed folder or container.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


class FolderListing:
    """The files below a folder, or one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def root(self) -> Path:
        """The folder that the files' names are below."""
        return self._path.parent if self._path.is_file() else self._path

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._path)

    def entries(self) -> list[Entry]:
        """Its files by name.

        Raises:
            OctoError: there is no such folder, or it cannot be read.
        """
        if not self._path.exists():
            raise OctoError(
                f"{self._path} does not exist. Point to the folder of the Azure exports.", code="exports-missing"
            )
        if self._path.is_file():
            return [_file_entry(self._path, self.root)]
        paths = [Path(folder) / name for folder, _, names in os.walk(self._path, onerror=_refuse) for name in names]
        return [_file_entry(path, self._path) for path in sorted(paths)]


class ContainerListing:
    """The blobs of a container, or of a folder in it, behind a SAS.

    Args:
        http: sends the requests.
        url: of the container, without SAS.
        sas: gives the SAS; asked again, once a blob, when it was refused.
        prefix: only blobs whose names begin so.
    """

    def __init__(self, http: Http, url: str, sas: Callable[[], str], *, prefix: str = "") -> None:
        self._http, self._url, self._sas, self._prefix = http, url.rstrip("/"), sas, prefix

    @property
    def place(self) -> str:
        """The container's address."""
        return self._url + (f"/{self._prefix}" if self._prefix else "")

    def entries(self) -> list[Entry]:
        """Its blobs by name.

        Raises:
            OctoError: the container cannot be reached or the SAS does not allow to list it.
        """
        found: list[Entry] = []
        marker = ""
        for _ in range(_MOST_PAGES):
            try:
                page = self._page(marker)
                found += [self._entry(blob) for blob in page.iter("Blob")]
            except (ElementTree.ParseError, ValueError, LookupError) as error:
                raise OctoError(
                    f"{self.place} answers with a list of blobs that cannot be understood ({type(error).__name__}). Check "
                    "the container's address.",
                    code="blob-list-malformed",
                ) from error
            marker = page.findtext("NextMarker") or ""
            if not marker:
                return sorted(found, key=lambda entry: entry.name)
        raise OctoError(
            f"The list of the blobs of {self.place} does not end. Check the container's address.",
            code="blob-list-malformed",
        )

    def _page(self, marker: str) -> ElementTree.Element:
        asked = {"restype": "container", "comp": "list", "prefix": self._prefix, "marker": marker}
        query = urlencode({name: value for name, value in asked.items() if value})
        answer = self._http.request("GET", f"{self._url}?{query}&{self._sas().lstrip('?')}")
        if answer.status_code in _NOT_ALLOWED:
            raise OctoError(
                f"The SAS for {self.place} does not allow to list it, or has expired (HTTP {answer.status_code}). "
                "Make one with the permissions read and list, and set it again.",
                code="sas-refused",
            )
        if answer.status_code != 200:
            raise OctoError(
                f"{self.place} cannot be listed (HTTP {answer.status_code}). Check the container's address.",
                code="container-unlistable",
            )
        # Parsed is only what the storage answers that the operator named.
        return ElementTree.fromstring(answer.content)  # noqa: S314

    def _entry(self, blob: ElementTree.Element) -> Entry:
        name = blob.findtext("Name") or ""
        md5 = blob.findtext("Properties/Content-MD5")
        return Entry(
            name,
            int(blob.findtext("Properties/Content-Length") or 0),
            blob.findtext("Properties/Etag") or "",
            lambda: open_blob(self._http, lambda _: f"{self._url}/{quote(name)}?{self._sas().lstrip('?')}"),
            md5=b64decode(md5).hex() if md5 else None,
        )


def open_blob(http: Http, address: Callable[[bool], str]) -> BinaryIO:
    """A stream over a blob that has all of its bytes or fails.

    Args:
        http: sends the requests.
        address: the blob's address with its SAS; called with True when the last one was refused.
    """
    return cast(BinaryIO, _BlobStream(http, address))


class _BlobStream(io.RawIOBase):
    def __init__(self, http: Http, address: Callable[[bool], str]) -> None:
        self._http, self._address = http, address
        self._url = address(False)
        self._answer: Response | None = None
        self._is_renewed = False
        self._breaks = 0
        self._position = 0
        self._size: int | None = None
        self._md5: bytes | None = None
        self._etag: str | None = None
        self._hash = hashlib.md5(usedforsecurity=False)

    def __enter__(self) -> "_BlobStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
        super().close()

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        while True:
            if self._answer is None:
                self._answer = self._request()
            chunk = self._chunk(self._answer, size)
            if chunk:
                self._position += len(chunk)
                self._hash.update(chunk)
                return chunk
            if self._answer is not None:
                self._check_whole()
                return b""

    def _chunk(self, answer: Response, size: int) -> bytes:
        """The next bytes; none at the end, and none with the answer given up where the connection broke."""
        import urllib3

        try:
            # As stored: requests would unpack what has a Content-Encoding, and the MD5 is of the packed bytes.
            chunk: bytes = answer.raw.read(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return self._break(type(error).__name__)
        if not chunk and self._size is not None and self._position < self._size:
            return self._break(f"{self._position} of {self._size} bytes")
        return chunk

    def _break(self, reason: str) -> bytes:
        self._breaks += 1
        if self._breaks >= ATTEMPTS:
            raise OctoError(
                f"{place(self._url)} was cut off {ATTEMPTS} times ({reason}). Nothing was landed; try again later.",
                code="download-cut-off",
            )
        if self._answer is not None:
            self._answer.close()
        self._answer = None
        self._http.pause(float(2**self._breaks))
        return b""

    def _request(self) -> Response:
        headers = {"x-ms-version": "2021-08-06"}
        if self._position:
            headers |= {"Range": f"bytes={self._position}-"}
            headers |= {"If-Match": self._etag} if self._etag else {}
        answer = self._http.request("GET", self._url, headers=headers, stream=True)
        if answer.status_code in _NOT_ALLOWED and not self._is_renewed:
            answer.close()
            self._is_renewed = True
            self._url = self._address(True)
            return self._request()
        self._refuse(answer)
        if self._position == 0:
            self._hear(answer)
        return answer

    def _hear(self, answer: Response) -> None:
        """Take what the storage announces about the blob."""
        size, md5 = answer.headers.get("Content-Length"), answer.headers.get("Content-MD5")
        try:
            self._size = int(size) if size is not None else None
            self._md5 = b64decode(md5) if md5 else None
        except ValueError as error:
            raise OctoError(
                f"{place(self._url)} was announced with a length or checksum that is none. Nothing was landed; run this "
                "again.",
                code="announcement-malformed",
            ) from error
        self._etag = answer.headers.get("ETag")

    def _refuse(self, answer: Response) -> None:
        expected = 206 if self._position else 200
        if answer.status_code == expected:
            return
        where = place(self._url)
        answer.close()
        match answer.status_code:
            case 401 | 403:
                raise OctoError(
                    f"The SAS for {where} was refused (HTTP {answer.status_code}), and a fresh one too: it has expired "
                    "or does not allow to read. Nothing was landed; make a new one, or run this again.",
                    code="sas-refused",
                )
            case 404:
                raise OctoError(
                    f"{where} is gone (HTTP 404). Nothing was landed; run this again for a new export.",
                    code="blob-gone",
                )
            case 412 | 416 | 200:
                raise OctoError(
                    f"{where} changed while it was read. Nothing was landed; run this again.",
                    code="file-changed-while-read",
                )
            case _:
                raise OctoError(
                    f"{where} cannot be read ({refusal(answer)}). Nothing was landed; run this again.",
                    code="file-unreadable",
                )

    def _check_whole(self) -> None:
        if self._md5 is not None and self._hash.digest() != self._md5:
            raise OctoError(
                f"{place(self._url)} arrived with another checksum (MD5) than the storage announced. Nothing was "
                "landed; run this again.",
                code="file-changed-while-read",
            )


def _file_entry(path: Path, root: Path) -> Entry:
    try:
        state = inside(path, root, str(path)).stat()
    except OSError as error:
        raise OctoError(f"{path} cannot be read ({reason(error)}).", code="file-unreadable") from error
    version = f"{state.st_size}-{state.st_mtime_ns}"
    return Entry(path.relative_to(root).as_posix(), state.st_size, version, lambda: cast(Any, path.open("rb")))


def _refuse(error: OSError) -> None:
    raise OctoError(f"{error.filename} cannot be read ({reason(error)}).", code="file-unreadable") from error
