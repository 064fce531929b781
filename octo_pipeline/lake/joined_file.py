"""Joins Parquet files byte for byte: the row groups of the parts one behind the other, and one footer over all of them.

Nothing is decoded, so a join costs what copying costs. The numbers in a footer that are places in the file (of pages,
dictionaries, bloom filters and indexes) are moved by where the part's bytes begin in the joined file. A footer is a struct
of Thrift's compact protocol; only the structs with places in them are taken apart, the rest is copied as it is.

Assumptions: the parts have the same columns, are not encrypted, and have all of their data in themselves. Anything else is
refused. The data of a part is not read, so damage in it shows when the joined file is read.

Whether parts are worth joining, and where they are, belongs in `lake`.
"""

import os
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from octo_pipeline.model.errors import InputChangedError, OctoError
from octo_pipeline.model.wording import reason

if TYPE_CHECKING:
    from octo_pipeline.lake.store import Location

METADATA_KEY = "octo"
"""The key of our own metadata in a footer."""

MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
_END = 8
"""A Parquet file ends with the length of its footer, in 4 bytes, and the magic number."""

_BLOCK = 1 << 20

# Types of Thrift's compact protocol.
_I16, _I32, _I64, _BINARY, _LIST, _STRUCT = 4, 5, 6, 8, 9, 12
_INTEGERS = (_I16, _I32, _I64)

# Fields of the structs in parquet.thrift, by their numbers.
_VERSION, _SCHEMA, _ROWS, _ROW_GROUPS, _KEY_VALUES, _CREATED_BY, _COLUMN_ORDERS, _ENCRYPTION = range(1, 9)
_GROUP_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 3, 5, 7
_CHUNK_FILE, _CHUNK_OFFSET, _CHUNK_METADATA, _OFFSET_INDEX, _COLUMN_INDEX = 1, 2, 3, 4, 6
_COMPRESSED_BYTES, _DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE, _BLOOM_FILTER = 7, 9, 10, 11, 14
_ELEMENT_NAME = 4
_CHUNK_PLACES = (_CHUNK_OFFSET, _OFFSET_INDEX, _COLUMN_INDEX)
_METADATA_PLACES = (_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE, _BLOOM_FILTER)

# Which fields are taken apart, by the numbers that lead to them.
_OPENED: Mapping[int, Any] = {_SCHEMA: {}, _ROW_GROUPS: {_GROUP_COLUMNS: {_CHUNK_METADATA: {}}}}

# An ordinal has 16 bits with a sign. It is optional, so files with more row groups have none.
_MOST_ORDINALS = 32_767

Struct = dict[int, tuple[int, Any]]
"""Number of a field -> its type and its value: an int, a struct, a list of structs, or the bytes of anything else."""


@dataclass(frozen=True)
class Part:
    """A Parquet file that is to be joined, as its footer describes it.

    Attributes:
        path: the file.
        rows: how many rows it has.
        row_groups: how many row groups it has.
        stop: where its footer begins; the bytes before are its data and the magic number.
        version: what differs if another file takes its place.
    """

    path: "Location"
    rows: int
    row_groups: int
    stop: int
    footer: Struct
    version: Hashable

    @property
    def start(self) -> int:
        """Where its data begins, after the magic number."""
        return len(MAGIC)


def join(parts: Sequence[Part], target: Path, metadata: str) -> None:
    """Write a file with the rows of the parts, in their order.

    Args:
        parts: local parts, at least one.
        target: the file to write.
        metadata: the text under `METADATA_KEY`; the parts' own metadata is dropped.

    Raises:
        InputChangedError: a part is gone or was replaced.
        OctoError: a part is cut off, or has other columns.
        OSError: the target cannot be written.
    """
    footer = joined_footer(parts, metadata)
    with target.open("wb") as file:
        file.write(MAGIC)
        for part in parts:
            try:
                with part.path.open("rb") as source:
                    if _version(source) != part.version:
                        raise replaced(part.path)
                    _copy(source, file, part.start, part.stop)
            except FileNotFoundError:
                raise missing(part.path) from None
            except EOFError:
                raise damaged(part.path, "it ends too early") from None
        file.write(footer)


def read_part(path: Path) -> Part:
    """Read the footer of a local file.

    Raises:
        InputChangedError: the file is gone.
        OctoError: it is damaged, or cannot be joined.
    """
    try:
        with path.open("rb") as file:
            version = _version(file)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _END, 0))
            end = file.read()
            length = footer_length(end, size, path)
            file.seek(size - length)
            end = file.read()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise OctoError(
            f"The part {path} cannot be read: {reason(error)}.", code="part-unreadable", place=str(path)
        ) from error
    return parse_part(end, size, path, version)


def footer_length(end: bytes, size: int, path: "Location") -> int:
    """How many of a file's last bytes are its footer, with what follows it.

    Args:
        end: at least the last 8 bytes.
        size: of the file.
        path: the file.

    Raises:
        OctoError: the file is not a complete Parquet file, or its footer is encrypted.
    """
    if end[-4:] == _ENCRYPTED:
        raise _encrypted(path)
    length = int.from_bytes(end[-8:-4], "little") + _END
    if end[-4:] != MAGIC or length + len(MAGIC) > size:
        raise damaged(path, "it does not end as a Parquet file")
    return length


def parse_part(end: bytes, size: int, path: "Location", version: Hashable) -> Part:
    """A part, from the end of its file.

    Args:
        end: the last bytes of the file, `footer_length` at least.
        size: of the file.
        path: the file.
        version: what differs if another file takes its place.

    Raises:
        OctoError: the footer is damaged, or the file cannot be joined.
    """
    length = footer_length(end, size, path)
    try:
        footer = parse(end[-length:-_END])
        groups = _structs(footer, _ROW_GROUPS)
        rows = sum(_value(group, _GROUP_ROWS) for group in groups)
        is_whole = _value(footer, _ROWS) == rows and bool(_structs(footer, _SCHEMA)) and _value(footer, _VERSION) > 0
        places = [position for group in groups for position in _places(group)]
    except (ValueError, KeyError, TypeError):
        raise damaged(path, "its footer makes no sense") from None
    if _ENCRYPTION in footer:
        raise _encrypted(path)
    stop = size - length
    if not is_whole or any(not len(MAGIC) <= position <= stop for position in places):
        raise damaged(path, "its footer is not that of its data")
    return Part(path, rows, len(groups), stop, footer, version)


def require_same_columns(parts: Sequence[Part]) -> None:
    """Refuse parts whose columns differ in a name, a type or their order.

    Raises:
        OctoError: it names the two files and the first column that differs.
    """
    first = parts[0]
    columns = _columns(first)
    for part in parts[1:]:
        others = _columns(part)
        if others == columns:
            continue
        # One of them may have more columns than the other.
        differing = [(a, b) for a, b in zip(columns, others, strict=False) if a != b]
        differing += [(column, column) for column in (*columns[len(others) :], *others[len(columns) :])]
        name = next((_name(other) or _name(column) for column, other in differing), "")
        raise OctoError(
            f"The part {part.path} cannot be joined with {first.path}: they differ in the column {name}. Remove both and "
            "run this again.",
            code="parts-differ",
            place=str(part.path),
        )


def joined_footer(parts: Sequence[Part], metadata: str) -> bytes:
    """The footer of the parts' data, one behind the other after one magic number, and the end of the file.

    Raises:
        OctoError: the parts have different columns.
    """
    if not parts:
        raise ValueError("there is no part to join")
    require_same_columns(parts)
    groups: list[Struct] = []
    moved = 0
    for part in parts:
        groups += [_moved(group, moved) for group in part.footer[_ROW_GROUPS][1]]
        moved += part.stop - part.start
    has_ordinals = len(groups) <= _MOST_ORDINALS
    for number, group in enumerate(groups):
        if group.pop(_GROUP_ORDINAL, None) is not None and has_ordinals:
            group[_GROUP_ORDINAL] = _I16, number
    first = parts[0].footer
    footer: Struct = {
        _VERSION: (_I32, max(_value(part.footer, _VERSION) for part in parts)),
        _SCHEMA: first[_SCHEMA],
        _ROWS: (_I64, sum(part.rows for part in parts)),
        _ROW_GROUPS: (_LIST, groups),
        _KEY_VALUES: (_LIST, [{1: (_BINARY, _text(METADATA_KEY)), 2: (_BINARY, _text(metadata))}]),
    }
    if _CREATED_BY in first:
        footer[_CREATED_BY] = first[_CREATED_BY]
    # They say how minima and maxima compare; without them readers do not use those.
    if all(part.footer.get(_COLUMN_ORDERS) == first.get(_COLUMN_ORDERS) for part in parts) and _COLUMN_ORDERS in first:
        footer[_COLUMN_ORDERS] = first[_COLUMN_ORDERS]
    written = serialise(footer)
    return written + len(written).to_bytes(4, "little") + MAGIC


def damaged(path: "Location", what: str) -> OctoError:
    """The error for a part that is not what its writer wrote."""
    return OctoError(
        f"The part {path} is damaged: {what}. Remove it and run this again.", code="part-damaged", place=str(path)
    )


def replaced(path: "Location") -> InputChangedError:
    """The error for a part that another file took the place of after its footer was read."""
    return InputChangedError(f"The part {path} was replaced while it was joined. Run this again.")


def missing(path: "Location") -> InputChangedError:
    """The error for a part that is gone."""
    return InputChangedError(f"The part {path} is not there any more. Run this again.")


def _version(file: BinaryIO) -> Hashable:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_mtime_ns, status.st_size


def _encrypted(path: "Location") -> OctoError:
    return OctoError(f"The part {path} is encrypted, so it cannot be joined.", code="part-encrypted", place=str(path))


def _value(struct: Struct, number: int) -> int:
    kind, value = struct[number]
    if kind not in _INTEGERS:
        raise ValueError("not a whole number")
    return int(value)


def _columns(part: Part) -> list[Struct]:
    """The elements of the schema without its root, whose name says only what wrote the file."""
    return _structs(part.footer, _SCHEMA)[1:]


def _name(element: Struct) -> str:
    """A column's name, without the length that it begins with."""
    if _ELEMENT_NAME not in element:
        return ""
    data = element[_ELEMENT_NAME][1]
    return bytes(data[_varint(data, 0)[1] :]).decode(errors="replace")


def _structs(struct: Struct, number: int) -> list[Struct]:
    value = struct[number][1]
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def _places(group: Struct) -> list[int]:
    """Every place in the file that a row group names, and where its columns end; 0 stands for none."""
    places = [_value(group, _GROUP_OFFSET)] if _GROUP_OFFSET in group else []
    for chunk in _structs(group, _GROUP_COLUMNS):
        if _CHUNK_FILE in chunk:
            raise ValueError("the data is in another file")
        metadata = chunk[_CHUNK_METADATA][1]
        places += [_value(chunk, number) for number in _CHUNK_PLACES if number in chunk]
        places += [_value(metadata, number) for number in _METADATA_PLACES if number in metadata]
        pages = [_value(metadata, number) for number in (_DATA_PAGE, _DICTIONARY_PAGE) if number in metadata]
        places.append(min(filter(None, pages)) + _value(metadata, _COMPRESSED_BYTES))
    return [position for position in places if position]


def _moved(group: Struct, by: int) -> Struct:
    """The row group, `by` bytes further behind."""
    chunks = [
        _shifted(chunk, _CHUNK_PLACES, by)
        | {_CHUNK_METADATA: (_STRUCT, _shifted(chunk[_CHUNK_METADATA][1], _METADATA_PLACES, by))}
        for chunk in group[_GROUP_COLUMNS][1]
    ]
    return _shifted(group, (_GROUP_OFFSET,), by) | {_GROUP_COLUMNS: (_LIST, chunks)}


def _shifted(struct: Struct, numbers: Sequence[int], by: int) -> Struct:
    shifted = struct.copy()
    for number in numbers:
        if number in struct and (value := struct[number][1]):
            shifted[number] = _I64, value + by
    return shifted


def _copy(source: BinaryIO, target: BinaryIO, start: int, stop: int) -> None:
    """Copy bytes from one file to the end of another, by the kernel where it can.

    Raises:
        EOFError: the source ends before `stop`.
    """
    target.flush()
    # Between file systems, and on some of them, the kernel refuses, and other systems have no such call.
    with suppress(OSError, AttributeError):
        while start < stop:
            copied = os.copy_file_range(source.fileno(), target.fileno(), stop - start, offset_src=start)
            if not copied:
                break
            start += copied
    target.seek(0, os.SEEK_END)
    source.seek(start)
    while start < stop:
        block = source.read(min(stop - start, _BLOCK))
        if not block:
            raise EOFError
        target.write(block)
        start += len(block)


def parse(data: bytes) -> Struct:
    """The footer as a struct.

    Raises:
        ValueError: it is not one.
    """
    try:
        footer, at = _read_struct(data, 0, _OPENED)
    except (IndexError, RecursionError):
        raise ValueError("the footer is cut off or nested too deeply") from None
    if at != len(data):
        raise ValueError("the footer has another length")
    return footer


def serialise(footer: Struct) -> bytes:
    """The bytes that `parse` reads."""
    written = bytearray()
    _write_struct(written, footer)
    return bytes(written)


def _read_struct(data: bytes, at: int, opened: Mapping[int, Any]) -> tuple[Struct, int]:
    struct: Struct = {}
    number = 0
    while head := data[at]:
        number, kind, at = _field(data, at, head, number)
        value: Any
        if kind in _INTEGERS:
            value, at = _varint(data, at)
            value = (value >> 1) ^ -(value & 1)
        elif number in opened and kind == _STRUCT:
            value, at = _read_struct(data, at, opened[number])
        elif number in opened and kind == _LIST:
            value, at = _read_structs(data, at, opened[number])
        else:
            stop = _after(data, at, kind)
            value, at = data[at:stop], stop
        struct[number] = kind, value
    return struct, at + 1


def _read_structs(data: bytes, at: int, opened: Mapping[int, Any]) -> tuple[list[Struct], int]:
    count, kind, at = _list_head(data, at)
    if kind != _STRUCT and count:
        raise ValueError("a list of something else than structs")
    structs = []
    for _ in range(count):
        struct, at = _read_struct(data, at, opened)
        structs.append(struct)
    return structs, at


def _field(data: bytes, at: int, head: int, number: int) -> tuple[int, int, int]:
    """The number and the type of the field that begins with `head`, and where its value begins."""
    if step := head >> 4:
        return number + step, head & 15, at + 1
    number, at = _varint(data, at + 1)
    return (number >> 1) ^ -(number & 1), head & 15, at


def _list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """How many elements of which type a list has, and where they begin."""
    head = data[at]
    if head >> 4 < 15:
        return head >> 4, head & 15, at + 1
    count, at = _varint(data, at + 1)
    return count, head & 15, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the lowest first."""
    value = shift = 0
    while (byte := data[at]) > 127:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def _after(data: bytes, at: int, kind: int) -> int:
    """Where a value of this type ends."""
    if kind in (1, 2):  # a truth value is in its field's type
        return at
    if kind == 3:
        return at + 1
    if kind in _INTEGERS:
        return _varint(data, at)[1]
    if kind == 7:
        return at + 8
    if kind == _BINARY:
        length, at = _varint(data, at)
        return at + length
    if kind in (_LIST, 10):
        count, element, at = _list_head(data, at)
        if element in (1, 2, 3):
            return at + count
        for _ in range(count):
            at = _after(data, at, element)
        return at
    if kind == _STRUCT:
        number = 0
        while head := data[at]:
            number, field, at = _field(data, at, head, number)
            at = _after(data, at, field)
        return at + 1
    raise ValueError(f"a value of type {kind}, which footers do not have")


def _write_struct(written: bytearray, struct: Struct) -> None:
    before = 0
    for number, (kind, value) in sorted(struct.items()):
        if 0 < number - before < 16:
            written.append(number - before << 4 | kind)
        else:
            written.append(kind)
            _write_varint(written, number << 1 if number >= 0 else (-number << 1) - 1)
        before = number
        if kind in _INTEGERS:
            _write_varint(written, value << 1 if value >= 0 else (-value << 1) - 1)
        elif isinstance(value, dict):
            _write_struct(written, value)
        elif isinstance(value, list):
            if len(value) < 15:
                written.append(len(value) << 4 | _STRUCT)
            else:
                written.append(15 << 4 | _STRUCT)
                _write_varint(written, len(value))
            for element in value:
                _write_struct(written, element)
        else:
            written += value
    written.append(0)


def _write_varint(written: bytearray, value: int) -> None:
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)


def _text(text: str) -> bytes:
    """A text as a value: its length in bytes and its bytes."""
    data = text.encode()
    written = bytearray()
    _write_varint(written, len(data))
    return bytes(written) + data
