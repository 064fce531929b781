"""Blobs of Azure storage behind a SAS, and files of a folder: listed by name and read completely.

This module reads bytes from storage and checks that they are complete. What the files contain belongs elsewhere.

A blob is read in one stream. If the stream breaks, it resumes at the same byte, and if the SAS has expired, a new one
is requested once. At the end, the length and MD5 must match those that the storage announced.
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
from octo_pipeline.vendors.azure.azure_http import ATTEMPTS, Http, Response, bare_url, refusal
from octo_pipeline.vendors.downloads import inside

_CHUNK = 1 << 20
_UNAUTHORIZED = (401, 403)
# A page has 5,000 blobs. A longer list is taken for one that does not end.
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
        """What messages call it."""
        ...

    def entries(self) -> list[Entry]:
        """Its files at any depth, by name.

        Raises:
            OctoError: it cannot be listed.
        """
        ...


class FolderListing:
    """The files below a folder, or one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def root(self) -> Path:
        """The folder to which the files' names are relative."""
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
        sas: returns the SAS; called again, once per blob, if the SAS was refused.
        prefix: only blobs whose names begin with it.
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
            OctoError: the container cannot be reached or the SAS does not allow listing it.
        """
        entries: list[Entry] = []
        marker = ""
        for _ in range(_MOST_PAGES):
            try:
                page = self._page(marker)
                entries += [self._entry(blob) for blob in page.iter("Blob")]
            except (ElementTree.ParseError, ValueError, LookupError) as error:
                raise OctoError(
                    f"{self.place} returned a list of blobs that cannot be parsed ({type(error).__name__}). Check the "
                    "container's address.",
                    code="blob-list-malformed",
                ) from error
            marker = page.findtext("NextMarker") or ""
            if not marker:
                return sorted(entries, key=lambda entry: entry.name)
        raise OctoError(
            f"The list of the blobs of {self.place} does not end. Check the container's address.",
            code="blob-list-malformed",
        )

    def _page(self, marker: str) -> ElementTree.Element:
        parameters = {"restype": "container", "comp": "list", "prefix": self._prefix, "marker": marker}
        query = urlencode({name: value for name, value in parameters.items() if value})
        response = self._http.request("GET", f"{self._url}?{query}&{self._sas().lstrip('?')}")
        if response.status_code in _UNAUTHORIZED:
            raise OctoError(
                f"The SAS for {self.place} does not allow listing it, or has expired (HTTP {response.status_code}). "
                "Create one with the permissions read and list, and set it.",
                code="sas-refused",
            )
        if response.status_code != 200:
            raise OctoError(
                f"{self.place} cannot be listed (HTTP {response.status_code}). Check the container's address.",
                code="container-unlistable",
            )
        # The response is from the storage that the operator configured, so it is safe to parse.
        return ElementTree.fromstring(response.content)  # noqa: S314

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
    """A stream over a blob that returns all of its bytes or fails.

    Args:
        http: sends the requests.
        address: returns the blob's address with its SAS; called with True if the last SAS was refused.
    """
    return cast(BinaryIO, _BlobStream(http, address))


class _BlobStream(io.RawIOBase):
    def __init__(self, http: Http, address: Callable[[bool], str]) -> None:
        self._http, self._address = http, address
        self._url = address(False)
        self._response: Response | None = None
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
        if self._response is not None:
            self._response.close()
        super().close()

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        while True:
            if self._response is None:
                self._response = self._request()
            chunk = self._chunk(self._response, size)
            if chunk:
                self._position += len(chunk)
                self._hash.update(chunk)
                return chunk
            if self._response is not None:
                self._check_digest()
                return b""

    def _chunk(self, response: Response, size: int) -> bytes:
        """The next bytes; empty at the end, or, with the response dropped, if the connection broke."""
        import urllib3

        try:
            # As stored: requests would unpack a body with a Content-Encoding, but the MD5 is of the packed bytes.
            chunk: bytes = response.raw.read(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return self._break(type(error).__name__)
        if not chunk and self._size is not None and self._position < self._size:
            return self._break(f"{self._position} of {self._size} bytes")
        return chunk

    def _break(self, reason: str) -> bytes:
        self._breaks += 1
        if self._breaks >= ATTEMPTS:
            raise OctoError(
                f"{bare_url(self._url)} was cut off {ATTEMPTS} times ({reason}). Nothing was landed; try again later.",
                code="download-cut-off",
            )
        if self._response is not None:
            self._response.close()
        self._response = None
        self._http.pause(float(2**self._breaks))
        return b""

    def _request(self) -> Response:
        headers = {"x-ms-version": "2021-08-06"}
        if self._position:
            headers |= {"Range": f"bytes={self._position}-"}
            headers |= {"If-Match": self._etag} if self._etag else {}
        response = self._http.request("GET", self._url, headers=headers, stream=True)
        if response.status_code in _UNAUTHORIZED and not self._is_renewed:
            response.close()
            self._is_renewed = True
            self._url = self._address(True)
            return self._request()
        self._refuse(response)
        if self._position == 0:
            self._read_announcement(response)
        return response

    def _read_announcement(self, response: Response) -> None:
        """Remember the length, MD5 and ETag that the storage announces for the blob."""
        size, md5 = response.headers.get("Content-Length"), response.headers.get("Content-MD5")
        try:
            self._size = int(size) if size is not None else None
            self._md5 = b64decode(md5) if md5 else None
        except ValueError as error:
            raise OctoError(
                f"{bare_url(self._url)} was announced with an invalid length or checksum. Nothing was landed; run this again.",
                code="announcement-malformed",
            ) from error
        self._etag = response.headers.get("ETag")

    def _refuse(self, response: Response) -> None:
        expected = 206 if self._position else 200
        if response.status_code == expected:
            return
        url = bare_url(self._url)
        response.close()
        match response.status_code:
            case 401 | 403:
                raise OctoError(
                    f"The SAS for {url} was refused (HTTP {response.status_code}), and so was a new one: it has expired or "
                    "does not allow reading. Nothing was landed. Create a new SAS, or run this again.",
                    code="sas-refused",
                )
            case 404:
                raise OctoError(
                    f"{url} is gone (HTTP 404). Nothing was landed; run this again for a new export.",
                    code="blob-gone",
                )
            case 412 | 416 | 200:
                raise OctoError(
                    f"{url} changed while it was read. Nothing was landed; run this again.",
                    code="file-changed-while-read",
                )
            case _:
                raise OctoError(
                    f"{url} cannot be read ({refusal(response)}). Nothing was landed; run this again.",
                    code="file-unreadable",
                )

    def _check_digest(self) -> None:
        if self._md5 is not None and self._hash.digest() != self._md5:
            raise OctoError(
                f"{bare_url(self._url)} has a different checksum (MD5) than the storage announced. Nothing was landed; run "
                "this again.",
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
