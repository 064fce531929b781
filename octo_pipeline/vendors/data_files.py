"""One data file of any vendor: its format, its columns, and whether it is whole.

This module holds what is true of a file without knowing what its columns mean: unpacking, checksums, the shape of
CSV rows, Parquet footers. Which columns matter and what their values must be belongs in the vendor's folder.

DuckDB alone is not enough to judge a file (tried with 1.5.5): it reads a ``.csv.gz`` that was cut off as far
as it goes and without an error, ignores its checksum, and takes a CSV row with one field too many if the
surplus field is empty, which is how a row looks that an unquoted comma has shifted. So each CSV file is read
once by Python's csv module (about 100 MB of CSV a second) before it is landed.

Its strict mode, the only one that reads a file in parallel and right, refuses a file whose lines end in different
ways. Tools that put a header before a vendor's file make such ones, so `unify_line_ends` rewrites them.
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
from octo_pipeline.vendors.downloads import safe_name

# Bounds of what is packed. Reports pack 10:1 to 40:1 and come one file to an archive; deflate can do 1032:1.
MAX_RATIO = 200
MAX_UNPACKED = 64 << 30
ALWAYS_ALLOWED = 64 << 20
MAX_ENTRIES = 100
# A line is held in memory whole; a row with every tag a cloud allows has less than a tenth of this.
MAX_LINE = 16 << 20

_CHUNK = 1 << 20
_BEGINNING = 1 << 16
_LEAST_COMMAS = 5
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
_MUST_BE_QUOTED = re.compile(r'[",\r\n]')
_DATA_NAME = re.compile(r"(.+?)(\.snappy)?\.(parquet|csv(\.gz|\.zip)?|zip)", re.IGNORECASE | re.DOTALL)


def data_format(name: str) -> str | None:
    """``parquet`` or ``csv`` by the file's name, None if it is no data file."""
    if not _DATA_NAME.fullmatch(name):
        return None
    return "parquet" if name.lower().endswith(".parquet") else "csv"


def bare_name(name: str) -> str:
    """The name of a data file without what says how it is packed."""
    match = _DATA_NAME.fullmatch(name)
    return match[1] if match else name


def is_unread_form(name: str) -> bool:
    """Whether a file's name says that it holds data in a form that is not read."""
    return Path(name).suffix.lower() in _UNREAD_FORMS


def data_name(path: Path) -> str | None:
    """The name that a data file should have by its first bytes, None if it is no data file.

    Downloads lose their ending, and browsers unpack a file whose name still says that it is packed.
    """
    if path.stat().st_size == 0:
        return path.name if data_format(path.name) else None
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    ending = next((ending for magic, ending in _MAGIC.items() if beginning.startswith(magic)), None)
    if ending is None:
        if data_format(path.name) == "parquet":
            return path.name  # damaged, which whoever reads it says
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
    """The names, of which those that come again have a number."""
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
    """A function from a file to a path of it whose name says what it is, for who looks into it before it is fetched."""
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
    # A report has a dozen columns at least; a sentence seldom has as many commas before its first full stop.
    return line.count(",") >= _LEAST_COMMAS and ". " not in line


def packing(path: Location) -> str:
    """How a CSV file is packed, as DuckDB wants to be told: by itself it takes a ``?`` for the end of the name."""
    return "gzip" if path.suffix.lower() == ".gz" else "none"


def line_of_row(path: Location, number: int) -> int:
    """The line of a CSV file on which a row begins; the first line is 1.

    Args:
        path: a ``.csv`` or ``.csv.gz`` file whose rows are whole.
        number: of the row from 0, without header and blank lines.
    """
    with _open_csv(path) as stream:
        reader = csv.reader(stream)
        rows = (row for row in reader if row)
        for _ in range(number + 2):
            row = next(rows)
        return reader.line_num - sum(field.count("\n") for field in row)


def csv_header(path: Location, place: str) -> list[str]:
    """The column names of a CSV file.

    Raises:
        OctoError: it cannot be read as CSV.
    """
    with translate_read_errors(place), _open_csv(path) as stream:
        return next((row for row in csv.reader(stream, strict=True) if row), [])


def first_csv_row(path: Location, place: str) -> dict[str, str]:
    """The first row by column name, empty if there is none; the file may still be zipped.

    Raises:
        OctoError: the beginning of the file cannot be read as CSV.
    """
    with translate_read_errors(place), _open_csv(path) as stream:
        # Read only so far as a line can be long: nothing has looked through the file yet.
        rows = (row for row in csv.reader(iter(partial(stream.readline, MAX_LINE), "")) if row)
        return dict(zip(next(rows, []), next(rows, []), strict=False))


def count_csv_rows(path: Location, place: str) -> int:
    """Read a ``.csv`` or ``.csv.gz`` file to its end and count its rows.

    Raises:
        OctoError: it is damaged or cut off, or a row has not as many fields as the header, or a broken quote, or
            it is one that `check_text` refuses.
    """
    check_text(path, place)
    rows, width, line = -1, 0, 0
    with _open_csv(path) as stream:
        reader = csv.reader(stream, strict=True)
        try:
            for row in reader:
                width = width or len(row)
                if len(row) != width and row:
                    raise OctoError(
                        f"{place}, line {line + 1}: the row has {len(row)} fields, the header has {width}. "
                        "Fetch the file again.",
                        code="line-malformed",
                    )
                rows += bool(row)
                line = reader.line_num
        except csv.Error as error:
            raise OctoError(
                f"{place}, line {line + 1}: the row is not CSV, a quote in it is broken ({error}). "
                "Fetch the file again.",
                code="line-malformed",
            ) from error
        except UnicodeDecodeError as error:
            raise OctoError(
                f"{place}, line {_line_that_is_not_utf8(path)}: the text is not UTF-8. Fetch the file again.",
                code="line-malformed",
            ) from error
    if rows < 0:
        raise OctoError(
            f"{place} has no header line, so its columns are unknown. Fetch it again.", code="header-missing"
        )
    return rows


def has_mixed_line_ends(path: Location, place: str) -> bool:
    """Whether the lines of a ``.csv`` or ``.csv.gz`` file end in more than one of LF, CRLF and CR; quotes are not looked at.

    Raises:
        OctoError: the file is damaged or cut off.
    """
    line_feeds = returns = pairs = 0
    previous = b""
    with translate_read_errors(place), _open_bytes(path) as stream:
        while chunk := stream.read(_CHUNK):
            line_feeds += chunk.count(b"\n")
            returns += chunk.count(b"\r")
            pairs += chunk.count(b"\r\n") + (previous == b"\r" and chunk.startswith(b"\n"))
            previous = chunk[-1:]
    return sum(count > 0 for count in (pairs, line_feeds - pairs, returns - pairs)) > 1


def unify_line_ends(path: Path, place: str, target: Path | None = None) -> bool:
    """Rewrite a CSV file with LF at the end of each row if its lines end in more than one way.

    The values stay as they are, line breaks within them included; every row keeps its line where values have none.

    Args:
        path: a ``.csv`` or ``.csv.gz`` file.
        place: what to call it in sentences.
        target: where the rewritten file goes, of the same packing; None replaces the file.

    Returns:
        Whether it was rewritten.

    Raises:
        OctoError: the file is damaged, or is not CSV.
    """
    if not has_mixed_line_ends(path, place):
        return False
    count_csv_rows(path, place)
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


def count_parquet_rows(con: duckdb.DuckDBPyConnection, path: Location, place: str) -> int:
    """The number of rows in a Parquet file by its footer.

    Raises:
        OctoError: it is not a whole Parquet file.
    """
    with translate_read_errors(place):
        query = f"SELECT num_rows FROM parquet_file_metadata({path_literals([path])})"
        return int(con.execute(query).fetchall()[0][0])


def row_group_of(con: duckdb.DuckDBPyConnection, path: Location, row: int) -> int:
    """The number of the row group, from 0, that holds the row of a Parquet file, counted from 0."""
    groups = con.execute(
        "SELECT row_group_num_rows FROM (SELECT DISTINCT row_group_id, row_group_num_rows "
        f"FROM parquet_metadata({path_literals([path])})) ORDER BY row_group_id"
    ).fetchall()
    for number, (rows,) in enumerate(groups):
        if row < rows:
            return number
        row -= rows
    return len(groups)


def unzip(path: Path, place: str, *, may_repeat: bool = False) -> list[Path]:
    """Unpack the CSV files of an archive beside it as ``.csv.gz``, which DuckDB reads, and remove it.

    Args:
        path: the archive.
        place: what to call it in sentences.
        may_repeat: a file of the archive's name may be there, and is compared later.

    Raises:
        OctoError: the archive is damaged, holds anything but CSV files, or would grow out of all proportion.
    """
    stem = bare_name(path.name)
    with translate_read_errors(place), zipfile.ZipFile(path) as archive:
        entries = _csv_entries(archive, place)
        limit = min(MAX_UNPACKED, max(MAX_RATIO * path.stat().st_size, ALWAYS_ALLOWED))
        unpacked: list[Path] = []
        for number, entry in enumerate(entries, 1):
            target = path.with_name(f"{stem}.csv.gz" if len(entries) == 1 else f"{stem}-{number:03d}.csv.gz")
            if target.exists() and may_repeat:
                target = path.with_name(f"{stem}-{len(unpacked) + 1:03d}-of-{path.name}.csv.gz")
            if target.exists():
                raise OctoError(
                    f"{place} holds the same data as {target.name}; the report names both.", code="file-counted-twice"
                )
            limit -= _unzip_entry(archive, entry, target, limit, place)
            unpacked.append(target)
    path.unlink()
    return unpacked


def path_literals(paths: Sequence[Location]) -> str:
    """The paths as a SQL list whose members mean these files, though DuckDB takes paths for patterns."""
    return f"[{', '.join(literal(_without_patterns(str(path))) for path in paths)}]"


def read_parquet(paths: Sequence[Location], options: str = "") -> str:
    """SQL of the rows of landed Parquet files as they are; options begin with a comma."""
    # Hive partitioning would take the folder month=… of the landing for a column.
    return f"read_parquet({path_literals(paths)}, hive_partitioning = false, binary_as_string = true{options})"


@contextmanager
def translate_read_errors(place: str) -> Iterator[None]:
    """Turn what libraries raise at a damaged file into a sentence that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError) as error:
        raise OctoError(f"{place} is damaged or cut off ({error}). Fetch it again.", code="file-damaged") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise OctoError(f"{place} is not CSV in UTF-8 ({error}). Fetch it again.", code="file-damaged") from error
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise OctoError(
            f"{place} cannot be read, it is damaged or not what its name says ({reason}). Fetch it again.",
            code="file-damaged",
        ) from error


def check_text(path: Location, place: str, *, is_packed: bool | None = None) -> None:
    """Read a plain or gzipped text file to the end, where gzip has its checksum, without holding a line of it.

    Args:
        path: the file.
        place: what to call it in sentences.
        is_packed: whether it is gzipped; None if its name says so.

    Raises:
        OctoError: it is damaged or cut off, unpacks out of all proportion, or has a line that does not fit memory.
    """
    if is_packed is None:
        is_packed = packing(path) == "gzip"
    size = line = 0
    with (
        translate_read_errors(place),
        path.open("rb") as file,
        gzip.open(file) if is_packed else nullcontext(file) as stream,
    ):
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            line = line + len(chunk) if b"\n" not in chunk else len(chunk) - chunk.rindex(b"\n")
            if is_packed and size > min(MAX_UNPACKED, max(MAX_RATIO * file.tell(), ALWAYS_ALLOWED)):
                raise _out_of_proportion(place)
            if line > MAX_LINE:
                raise OctoError(
                    f"{place} has a line of more than {MAX_LINE >> 20} MiB, which no export has.", code="line-too-long"
                )


def _out_of_proportion(place: str) -> OctoError:
    return OctoError(
        f"{place} unpacks to more than {MAX_RATIO} times its size or to more than {MAX_UNPACKED >> 30} GiB, as files do "
        "that are made to fill a disk.",
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
    # Python's writer leaves a lone CR without quotes, where DuckDB ends the row.
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


def _csv_entries(archive: zipfile.ZipFile, place: str) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    if not 0 < len(entries) <= MAX_ENTRIES:
        raise OctoError(
            f"{place} holds {len(entries)} files; a report's archive holds 1 to {MAX_ENTRIES}.", code="archive-wrong"
        )
    for entry in entries:
        if entry.flag_bits & 1:
            raise OctoError(
                f"{place} is encrypted; vendors do not deliver that. Unpack it yourself.", code="archive-wrong"
            )
        if not safe_name(entry.filename, f"file in {place}").lower().endswith(".csv"):
            raise OctoError(
                f"{place} holds {entry.filename}; a report's archive holds CSV files only.", code="archive-wrong"
            )
    return entries


def _unzip_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, limit: int, place: str) -> int:
    size = 0
    with (
        archive.open(entry) as source,
        target.open("xb") as packed,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=packed, mtime=0) as stream,
    ):
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise _out_of_proportion(place)
            stream.write(chunk)
    return size


def _without_patterns(path: str) -> str:
    return "".join(f"[{character}]" if character in "[*?" else character for character in path)
