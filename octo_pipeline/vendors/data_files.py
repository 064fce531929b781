"""One data file of any vendor: its format, its columns, and whether it is whole.

This module holds what is true of a file without knowing what its columns mean: unpacking, checksums, the shape of
CSV rows, Parquet footers. Which columns matter and what their values must be belongs in the vendor's folder.

DuckDB alone cannot check a file (tried with 1.5.5). It reads a truncated ``.csv.gz`` as far as it goes, without an
error, and ignores its checksum. It accepts a CSV row with one field too many if that field is empty, as it often is
in a row that an unquoted comma has shifted. So Python's csv module reads each CSV file once (about 100 MB of CSV a
second) before it is landed.

DuckDB's strict mode is the only one that reads a file correctly in parallel, and it refuses a file with mixed line
ends. Tools that put a header before a vendor's file make such files, so `unify_line_ends` rewrites them.
"""

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import literal
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.downloads import safe_name

# Limits of packed files. Reports pack 10:1 to 40:1, one file per archive; deflate reaches 1032:1.
MAX_RATIO = 200
MAX_UNPACKED = 64 << 30
ALWAYS_ALLOWED = 64 << 20
MAX_ENTRIES = 100
# A whole line is held in memory. A row with every tag that a cloud allows is less than a tenth of this.
MAX_LINE = 16 << 20

_CHUNK = 1 << 20
_BEGINNING = 1 << 16
_LEAST_COMMAS = 5
# What spreadsheets write instead of commas.
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MAGIC = {b"PAR1": ".parquet", b"\x1f\x8b": ".csv.gz", b"PK\x03\x04": ".csv.zip"}
_ENDINGS = (".parquet", ".csv", ".csv.gz", ".csv.zip")
_UNREAD_FORMS = frozenset(
    {
        ".xlsx",
        ".xls",
        ".ods",
        ".orc",
        ".avro",
        ".feather",
        ".arrow",
        ".bz2",
        ".xz",
        ".zst",
        ".7z",
        ".rar",
        ".tar",
        ".tgz",
    }
)
# What DuckDB says of a line of JSON with a value that cannot be read.
_JSON_LINE = re.compile(r'^Invalid Input Error: JSON transform error in file ".*", in line (\d+): (.*?)\.?$')
_MUST_BE_QUOTED = re.compile(r'[",\r\n]')
_DATA_NAME = re.compile(r"(.+?)(\.snappy)?\.(parquet|csv(\.gz|\.zip)?|zip)", re.IGNORECASE | re.DOTALL)


def data_format(name: str) -> str | None:
    """``parquet`` or ``csv`` by the file's name, None if it is not a data file."""
    if not _DATA_NAME.fullmatch(name):
        return None
    return "parquet" if name.lower().endswith(".parquet") else "csv"


def bare_name(name: str) -> str:
    """The name of a data file without the endings of its format and packing."""
    match = _DATA_NAME.fullmatch(name)
    return match[1] if match else name


def is_unread_form(name: str) -> bool:
    """Whether a file's name says that it holds data in a format that is not supported."""
    return Path(name).suffix.lower() in _UNREAD_FORMS


def data_name(path: Path) -> str | None:
    """The name that a data file should have by its first bytes, None if it is not a data file.

    Downloads lose their ending, and browsers unpack a file without renaming it.
    """
    if path.stat().st_size == 0:
        return path.name if data_format(path.name) else None
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    ending = next((ending for magic, ending in _MAGIC.items() if beginning.startswith(magic)), None)
    if ending is None:
        if data_format(path.name) == "parquet":
            return path.name  # a damaged file, which its reader reports
        if data_format(path.name) is None and not _looks_like_csv(beginning):
            return None
        ending = ".csv"
    elif ending == ".csv.zip" and data_format(path.name) is None and path.suffix:
        return None  # spreadsheets and programs are archives too
    is_as_named = data_format(path.name) and packed_as(path.name) == ending
    return path.name if is_as_named else f"{bare_name(path.name)}{ending}"


def packed_as(name: str) -> str:
    """The ending that says how a data file is packed: ``.parquet``, ``.csv``, ``.csv.gz`` or ``.csv.zip``."""
    lower = name.lower()
    return next((ending for ending in _ENDINGS if lower.endswith(ending)), ".csv.zip" if lower.endswith(".zip") else "")


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with a number added to each repeated one."""
    unique: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate.lower() in {other.lower() for other in unique}:
            number += 1
            candidate = f"{bare_name(name)}-{number}{packed_as(name)}"
        unique.append(candidate)
    return unique


@contextmanager
def as_named() -> Iterator[Callable[[Path], Path]]:
    """A function that returns a path of a file whose name says its format, for inspection before the file is fetched."""
    with TemporaryDirectory() as folder:

        def named(path: Path) -> Path:
            name = data_name(path)
            if name in (None, path.name):
                return path
            link = Path(folder) / f"{len(list(Path(folder).iterdir()))}-{name}"
            link.symlink_to(path.resolve())
            return link

        yield named


def _looks_like_csv(beginning: bytes) -> bool:
    try:
        line = beginning.decode("utf-8-sig", "strict" if len(beginning) < _BEGINNING else "ignore").partition("\n")[0]
    except UnicodeDecodeError:
        return False
    # A report has at least a dozen columns; a sentence seldom has so many commas before its first full stop.
    return line.count(",") >= _LEAST_COMMAS and ". " not in line


def packing(path: Location) -> str:
    """The ``compression`` of a CSV file for DuckDB, which by itself takes a ``?`` for the end of the name."""
    return "gzip" if path.suffix.lower() == ".gz" else "none"


def line_of_row(path: Location, number: int) -> int:
    """The line of a CSV file on which a row begins; the first line is 1.

    Args:
        path: a ``.csv`` or ``.csv.gz`` file whose rows are well-formed.
        number: the row's number from 0, without header and blank lines.
    """
    with _open_csv(path) as stream:
        reader = csv.reader(stream)
        rows = (row for row in reader if row)
        for _ in range(number + 2):
            row = next(rows)
        return reader.line_num - sum(field.count("\n") for field in row)


def csv_header(path: Location, origin: str) -> list[str]:
    """The column names of a CSV file.

    Raises:
        OctoError: it cannot be read as CSV, or is empty.
    """
    with translate_read_errors(origin), _open_csv(path) as stream:
        header = next((row for row in csv.reader(stream, strict=True) if row), [])
    _check_header(header, origin)
    return header


def first_csv_row(path: Location, origin: str) -> dict[str, str]:
    """The first row by column name, empty if there is none; the file may still be zipped.

    Raises:
        OctoError: the beginning of the file cannot be read as CSV.
    """
    with translate_read_errors(origin), _open_csv(path) as stream:
        # The file is not checked yet, so no more is read than the longest line allowed.
        rows = (row for row in csv.reader(iter(partial(stream.readline, MAX_LINE), "")) if row)
        return dict(zip(next(rows, []), next(rows, []), strict=False))


def count_csv_rows(path: Location, origin: str) -> int:
    """Read a ``.csv`` or ``.csv.gz`` file to its end and count its rows.

    Raises:
        OctoError: it is damaged or cut off, a row has another number of fields than the header or a broken quote, or
            `check_text` refuses the file.
    """
    check_text(path, origin)
    rows, width, line = -1, 0, 0
    with _open_csv(path) as stream:
        reader = csv.reader(stream, strict=True)
        try:
            for row in reader:
                if not width:
                    _check_header(row, origin)
                    width = len(row)
                if len(row) != width and row:
                    raise OctoError(
                        f"{origin}, line {line + 1}: the row has {len(row)} fields, the header has {width}. "
                        "Fetch the file again.",
                        code="line-malformed",
                    )
                rows += bool(row)
                line = reader.line_num
        except csv.Error as error:
            raise OctoError(
                f"{origin}, line {line + 1}: the row is not CSV: a quote in it is broken ({error}). "
                "Fetch the file again.",
                code="line-malformed",
            ) from error
        except UnicodeDecodeError as error:
            if error.object.startswith(_UTF16_MARKS):
                raise _text_in_utf16(origin) from error
            raise OctoError(
                f"{origin}, line {_line_that_is_not_utf8(path)}: the text is not UTF-8. Take the file as it was exported, or "
                "save it in UTF-8.",
                code="line-malformed",
            ) from error
    if rows < 0:
        _check_header([], origin)
    return rows


def _check_header(header: Sequence[str], origin: str) -> None:
    """Refuse a header that is missing, or that spreadsheets have written in their own way."""
    if not header:
        raise OctoError(
            f"{origin} has no header line, so its columns are unknown. Fetch it again.",
            code="header-missing",
            place=origin,
        )
    text = ",".join(header)
    if "\0" in text:
        raise _text_in_utf16(origin)
    for separator, name in _OTHER_SEPARATORS.items():
        if text.count(separator) >= len(header):
            raise OctoError(
                f"{origin} has its columns separated by {name}, as spreadsheets save it. Take the file as it was exported, or "
                "separate them by commas.",
                code="separator-wrong",
                place=origin,
            )


def _text_in_utf16(origin: str) -> OctoError:
    return OctoError(
        f"{origin} is text in UTF-16, as spreadsheets save it. Take the file as it was exported, or save it as CSV in UTF-8.",
        code="encoding-wrong",
        place=origin,
    )


def has_mixed_line_ends(path: Location, origin: str) -> bool:
    """Whether the lines of a ``.csv`` or ``.csv.gz`` file end in more than one of LF, CRLF and CR, ignoring quotes.

    Raises:
        OctoError: the file is damaged or cut off.
    """
    line_feeds = returns = pairs = 0
    previous = b""
    with translate_read_errors(origin), _open_bytes(path) as stream:
        while chunk := stream.read(_CHUNK):
            line_feeds += chunk.count(b"\n")
            returns += chunk.count(b"\r")
            pairs += chunk.count(b"\r\n") + (previous == b"\r" and chunk.startswith(b"\n"))
            previous = chunk[-1:]
    return sum(count > 0 for count in (pairs, line_feeds - pairs, returns - pairs)) > 1


def unify_line_ends(path: Path, origin: str, target: Path | None = None) -> bool:
    """Rewrite a CSV file with LF at the end of each row if it has mixed line ends.

    The values do not change, nor do line breaks within them. Rows keep their line numbers if no value has a line break.

    Args:
        path: a ``.csv`` or ``.csv.gz`` file.
        origin: what to call it in messages.
        target: where to write the file, packed in the same way; None replaces the file.

    Returns:
        Whether it was rewritten.

    Raises:
        OctoError: the file is damaged, or is not CSV.
    """
    if not has_mixed_line_ends(path, origin):
        return False
    count_csv_rows(path, origin)
    is_packed = packing(path) == "gzip"
    written = path.with_name(f"{path.name}.unified") if target is None else target
    with (
        _open_csv(path) as rows,
        written.open("xb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) if is_packed else nullcontext(file) as stream,
        io.TextIOWrapper(cast(IO[bytes], stream), "utf-8", newline="") as text,
    ):
        text.writelines(f"{','.join(map(_quoted, row))}\n" for row in csv.reader(rows, strict=True))
    if target is None:
        written.replace(path)
    return True


def count_parquet_rows(con: duckdb.DuckDBPyConnection, path: Location, origin: str) -> int:
    """The number of rows in a Parquet file by its footer.

    Raises:
        OctoError: it is not a complete Parquet file.
    """
    with translate_read_errors(origin):
        query = render("vendors/parquet_row_count", paths=path_literals([path]))
        return int(con.execute(query).fetchall()[0][0])


def row_group_of(con: duckdb.DuckDBPyConnection, path: Location, row: int) -> int:
    """The number of the row group, from 0, that holds the row of a Parquet file, counted from 0."""
    groups = con.execute(render("vendors/parquet_row_groups", paths=path_literals([path]))).fetchall()
    for number, (rows,) in enumerate(groups):
        if row < rows:
            return number
        row -= rows
    return len(groups)


def unzip(path: Path, origin: str, *, may_repeat: bool = False) -> list[Path]:
    """Unpack the CSV files of an archive beside it as ``.csv.gz``, which DuckDB reads, and remove it.

    Args:
        path: the archive.
        origin: what to call it in messages.
        may_repeat: whether a file with the archive's name may exist; the two are compared later.

    Raises:
        OctoError: the archive is damaged, holds anything but CSV files, or unpacks to more than its size allows.
    """
    stem = bare_name(path.name)
    with translate_read_errors(origin), zipfile.ZipFile(path) as archive:
        entries = _csv_entries(archive, origin)
        limit = min(MAX_UNPACKED, max(MAX_RATIO * path.stat().st_size, ALWAYS_ALLOWED))
        unpacked: list[Path] = []
        for number, entry in enumerate(entries, 1):
            target = path.with_name(f"{stem}.csv.gz" if len(entries) == 1 else f"{stem}-{number:03d}.csv.gz")
            if target.exists() and may_repeat:
                target = path.with_name(f"{stem}-{len(unpacked) + 1:03d}-of-{path.name}.csv.gz")
            if target.exists():
                raise OctoError(
                    f"{origin} holds the same data as {target.name}; the report names both.", code="file-counted-twice"
                )
            limit -= _unzip_entry(archive, entry, target, limit, origin)
            unpacked.append(target)
    path.unlink()
    return unpacked


def path_literals(paths: Sequence[Location]) -> str:
    """The paths as a SQL list that names exactly these files; DuckDB would take the paths for patterns."""
    return f"[{', '.join(literal(_without_patterns(str(path))) for path in paths)}]"


def read_parquet(paths: Sequence[Location], options: str = "") -> str:
    """SQL of the unchanged rows of landed Parquet files; options begin with a comma."""
    # Hive partitioning would take the folder month=… of the landing for a column.
    return f"read_parquet({path_literals(paths)}, hive_partitioning = false, binary_as_string = true{options})"


@contextmanager
def translate_read_errors(origin: str) -> Iterator[None]:
    """Turn what libraries raise for a damaged file into an error that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError) as error:
        raise OctoError(f"{origin} is damaged or cut off ({error}). Fetch it again.", code="file-damaged") from error
    except UnicodeDecodeError as error:
        if error.object.startswith(_UTF16_MARKS):
            raise _text_in_utf16(origin) from error
        raise OctoError(
            f"{origin} is not text in UTF-8 ({error.reason} at byte {error.start}). Take the file as it was exported, or save "
            "it as CSV in UTF-8.",
            code="encoding-wrong",
            place=origin,
        ) from error
    except csv.Error as error:
        raise OctoError(f"{origin} is not CSV ({error}). Fetch it again.", code="file-damaged", place=origin) from error
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        if match := _JSON_LINE.search(reason):
            line = f"{origin}, line {match[1]}"
            raise OctoError(
                f"{line} cannot be read: {match[2]}. Correct it or fetch the file again.",
                code="value-wrong",
                place=line,
            ) from error
        raise OctoError(
            f"{origin} cannot be read: it is damaged or not what its name says ({reason}). Fetch it again.",
            code="file-damaged",
        ) from error


def check_text(path: Location, origin: str, *, is_packed: bool | None = None) -> None:
    """Read a plain or gzipped text file to the end, where gzip has its checksum, in bounded memory.

    Args:
        path: the file.
        origin: what to call it in messages.
        is_packed: whether it is gzipped; None decides by its name.

    Raises:
        OctoError: it is damaged or cut off, unpacks to more than its size allows, or has a line that is too long.
    """
    if is_packed is None:
        is_packed = packing(path) == "gzip"
    size = line = 0
    with (
        translate_read_errors(origin),
        path.open("rb") as file,
        gzip.open(file) if is_packed else nullcontext(file) as stream,
    ):
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            line = line + len(chunk) if b"\n" not in chunk else len(chunk) - chunk.rindex(b"\n")
            if is_packed and size > min(MAX_UNPACKED, max(MAX_RATIO * file.tell(), ALWAYS_ALLOWED)):
                raise _out_of_proportion(origin)
            if line > MAX_LINE:
                raise OctoError(
                    f"{origin} has a line of more than {MAX_LINE >> 20} MiB, which no export has.", code="line-too-long"
                )


def _out_of_proportion(origin: str) -> OctoError:
    return OctoError(
        f"{origin} unpacks to more than {MAX_RATIO} times its size or to more than {MAX_UNPACKED >> 30} GiB, like a file "
        "that is made to fill a disk.",
        code="file-unpacks-too-large",
    )


def _line_that_is_not_utf8(path: Location) -> int:
    with _open_bytes(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _quoted(value: str) -> str:
    # Python's writer does not quote a lone CR, and DuckDB ends the row there.
    return '"' + value.replace('"', '""') + '"' if _MUST_BE_QUOTED.search(value) else value


@contextmanager
def _open_csv(path: Location) -> Iterator[io.TextIOWrapper]:
    with _open_bytes(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        yield text


@contextmanager
def _open_bytes(path: Location) -> Iterator[IO[bytes]]:
    match path.suffix.lower():
        case ".gz":
            with path.open("rb") as packed, gzip.open(packed) as unpacked:
                yield cast(IO[bytes], unpacked)
        case ".zip":
            with (
                path.open("rb") as packed,
                zipfile.ZipFile(packed) as archive,
                archive.open(_csv_entries(archive, path.name)[0]) as stream,
            ):
                yield stream
        case _:
            with path.open("rb") as stream:
                yield stream


def _csv_entries(archive: zipfile.ZipFile, origin: str) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    if not 0 < len(entries) <= MAX_ENTRIES:
        raise OctoError(
            f"{origin} holds {len(entries)} files; the archive of a report holds 1 to {MAX_ENTRIES}.",
            code="archive-wrong",
        )
    for entry in entries:
        if entry.flag_bits & 1:
            raise OctoError(f"{origin} is encrypted, which is not supported. Unpack it yourself.", code="archive-wrong")
        if not safe_name(entry.filename, f"file in {origin}").lower().endswith(".csv"):
            raise OctoError(
                f"{origin} holds {entry.filename}; the archive of a report holds CSV files only.", code="archive-wrong"
            )
    return entries


def _unzip_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, limit: int, origin: str) -> int:
    size = 0
    with (
        archive.open(entry) as source,
        target.open("xb") as packed,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=packed, mtime=0) as stream,
    ):
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise _out_of_proportion(origin)
            stream.write(chunk)
    return size


def _without_patterns(path: str) -> str:
    return "".join(f"[{character}]" if character in "[*?" else character for character in path)
