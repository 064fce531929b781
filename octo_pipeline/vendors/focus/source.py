"""A source of FOCUS files: finds them, reads them to their end, and lands them as one delivery per month.

A delivery belongs to the source, by its name, because its files may cover several providers and accounts. The newest
counts, so a refresh of an open period replaces it, and a correction that is appended becomes part of it.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import duckdb
from pydantic import Field, field_validator

from octo_pipeline.lake.instances import shared_connection
from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import parse_month
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.content import with_content
from octo_pipeline.vendors.data_files import data_format, unify_line_ends, unzip
from octo_pipeline.vendors.downloads import DeliveredFile, fetch, file_place
from octo_pipeline.vendors.file_rows import count_rows
from octo_pipeline.vendors.focus.charge_rows import (
    FocusFile,
    charges,
    check_values,
    comparable_rows,
    months_of,
    open_file,
)
from octo_pipeline.vendors.focus.charges import RELATION, relations, source_costs
from octo_pipeline.vendors.focus.exports import MonthFile, files_of_month, is_cost_export
from octo_pipeline.vendors.landing import (
    Delivery,
    Landed,
    delivery_path,
    describe,
    find_delivery,
    newest_deliveries,
    publish,
    staging,
)
from octo_pipeline.vendors.listing import ListedFile, Listing, Place
from octo_pipeline.vendors.shared_rows import FileRows, files_that_count
from octo_pipeline.vendors.source import Available

_VENDOR = "focus"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_REPORT = "FOCUS"


class FocusDocument(Place):
    """The configuration of one place of FOCUS files.

    Attributes:
        vendor: the vendor of its line items; None takes it from the provider column.
        name: what the source is called; None takes it from the place.
    """

    vendor: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    kind: Literal["focus"]
    name: str | None = Field(default=None, pattern=_NAME)

    @field_validator("vendor")
    @classmethod
    def _vendor_is_not_a_form(cls, vendor: str | None) -> str | None:
        if vendor in ("focus", "manual"):
            raise ValueError("vendor cannot be focus or manual")
        return vendor

    @property
    def place(self) -> Place:
        """Where the files are."""
        return self

    @property
    def source_name(self) -> str:
        """The name that is given, or else one that only this place has."""
        if self.name:
            return self.name
        bucket, prefix = self.bucket_and_prefix
        whole = str(self.folder.absolute()) if self.folder else f"{bucket or self.container}/{prefix or self.prefix}"
        last = re.sub(r"[^A-Za-z0-9-]+", "-", whole.rstrip("/").rsplit("/", 1)[-1]).strip("-")
        return f"{last[:60] or 'focus'}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class FocusSource:
    """The FOCUS files of one place.

    Attributes:
        listing: the files.
        account: the source's name, under which it is landed.
        shown_vendor: the vendor of its line items; None takes it from the provider column.
    """

    listing: Listing
    account: str
    shown_vendor: str | None

    vendor = _VENDOR

    @property
    def name(self) -> str:
        """What messages and sensors call it."""
        return f"focus {self.account} at {self.listing.place}"

    def available(self, month: str) -> list[Available]:
        """The current version of the month; files whose path does not name their month are opened once.

        Raises:
            OctoError: the place cannot be listed, or an export in it is not whole.
        """
        files = self._files(parse_month(month))
        return [Available(_VENDOR, self.account, month, _REPORT, self._version(files, month))] if files else []

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land the month.

        Raises:
            OctoError: a file is not whole or not right, files that share rows differ, or the month has no rows any
                more. Nothing is landed then.
        """
        files = self._files(parse_month(month))
        last = next((old for old in newest_deliveries(root, month, _VENDOR) if old.account == self.account), None)
        if not files:
            if last is not None:
                raise self._became_empty(last)
            return []
        key = {"vendor": _VENDOR, "account": self.account, "month": month, "version": self._version(files, month)}
        known = find_delivery(root, **key)
        if known is not None:
            return [Landed(known, is_new=False)]
        with staging(root) as folder, shared_connection({}) as con:
            staged = self._fetch(con, files, folder, month)
            kept = self._without_copies(con, staged, month)
            delivery = Delivery(
                **key,
                format="+".join(sorted({data_format(staged_file.file.path.name) or "" for staged_file in kept})),
                report=_REPORT,
                files=tuple(staged_file.delivered for staged_file in kept),
                fetched_at=fetched_at,
                source=self.listing.place,
                path=delivery_path(root, **key),
                details=self._details(con, kept, month),
            )
            return [publish(root, folder, with_content(root, delivery, folder, relations))]

    def _files(self, month: str) -> list[MonthFile]:
        origin = self.listing.place
        return files_of_month(self.listing.files(), origin, month, lambda listed: _months(listed, origin))

    def _version(self, files: Sequence[MonthFile], month: str) -> str:
        facts = [f"{month_file.listed.name} {month_file.listed.version} {month_file.days}" for month_file in files]
        return hashlib.sha256("\n".join([month, self.shown_vendor or "", *sorted(facts)]).encode()).hexdigest()[:32]

    def _became_empty(self, last: Delivery) -> OctoError:
        return OctoError(
            f"{self.listing.place} has no rows of {last.month} any more, though some were landed on "
            f"{last.fetched_at:%Y-%m-%d}. That delivery ({last.version}) stays. If the month is really empty, remove the "
            "delivery and land the month again.",
            code="month-became-empty",
            place=last.version,
            remedy=Remedy("deliveries remove", last.version),
        )

    def _fetch(
        self, con: duckdb.DuckDBPyConnection, files: Sequence[MonthFile], folder: Path, month: str
    ) -> list["_Staged"]:
        """The files in the staging folder, each read to its end."""
        origin = self.listing.place
        named = [
            replace(month_file.listed.file, name=f"{number:04d}-{month_file.listed.file.name}")
            for number, month_file in enumerate(files)
        ]
        fetched = fetch(named, folder, origin)
        staged = []
        for month_file, file in zip(files, fetched, strict=True):
            where = file_place(month_file.listed.name, origin)
            for path in _unpacked(folder / file.name, where):
                rewritten = data_format(path.name) == "csv" and unify_line_ends(path, where)
                rows = count_rows(con, path, where)
                opened = open_file(con, path, where)
                read = check_values(con, opened)
                if read != rows:
                    raise OctoError(
                        f"{where}: {read} rows could be read of {rows}. Fetch it again; nothing was landed.",
                        code="rows-unreadable",
                        place=where,
                    )
                delivered = describe(path) if rewritten or path.name != file.name else file
                staged.append(_Staged(month_file, opened, delivered, rows))
        return staged

    def _without_copies(
        self, con: duckdb.DuckDBPyConnection, staged: Sequence["_Staged"], month: str
    ) -> list["_Staged"]:
        """The files without copies and refreshes, of which the newest counts; the others are removed."""
        newest_first = sorted(
            staged,
            key=lambda staged_file: (staged_file.month_file.listed.modified, staged_file.month_file.listed.name),
            reverse=True,
        )
        loose = [
            staged_file
            for staged_file in newest_first
            if staged_file.rows and not staged_file.month_file.is_listed_once
        ]
        relations = comparable_rows(
            [staged_file.file for staged_file in loose],
            month,
            [_texts(staged_file.month_file.days) for staged_file in loose],
        )
        rows = [
            FileRows(staged_file.month_file.listed.name, relation)
            for staged_file, relation in zip(loose, relations, strict=True)
        ]
        counted = [loose[index] for index in files_that_count(con, rows, self.listing.place)]
        kept = [
            staged_file for staged_file in staged if staged_file in counted or staged_file.month_file.is_listed_once
        ]
        for staged_file in staged:
            if staged_file not in kept and isinstance(staged_file.file.path, Path):
                staged_file.file.path.unlink()
        return kept

    def _details(self, con: duckdb.DuckDBPyConnection, kept: Sequence["_Staged"], month: str) -> dict[str, Any]:
        contents: dict[str, dict[str, Any]] = {}
        for staged_file in kept:
            content: dict[str, Any] = {"rows": staged_file.rows}
            if staged_file.month_file.days:
                content["days"] = _texts(staged_file.month_file.days)
            contents[staged_file.file.path.name] = content
            if staged_file.rows:
                self._refuse_unknown_provider(con, staged_file, month)
        return {"contents": contents, "vendor": self.shown_vendor}

    def _refuse_unknown_provider(self, con: duckdb.DuckDBPyConnection, staged: "_Staged", month: str) -> None:
        rows = charges([staged.file], month, {"vendor": self.shown_vendor, "days": _texts(staged.month_file.days)})
        billed = con.execute(render("vendors/bills", source_costs=source_costs({RELATION: rows}))).fetchall()
        if any(vendor is None for vendor, *_ in billed):
            raise OctoError(
                f"{staged.file.origin} has rows of {month} that name no provider. Set vendor in the source's document to "
                "the name that they should have.",
                code="provider-missing",
                place=staged.file.origin,
            )


@dataclass(frozen=True)
class _Staged:
    """A file in the staging folder."""

    month_file: MonthFile
    file: FocusFile
    delivered: DeliveredFile
    rows: int


def _texts(days: Sequence[tuple[Any, Any]]) -> list[list[str]]:
    return [[str(first), str(last)] for first, last in days]


def _unpacked(path: Path, origin: str) -> list[Path]:
    return unzip(path, origin) if path.suffix.lower() == ".zip" else [path]


def _months(listed: ListedFile, origin: str) -> tuple[str, ...]:
    """The months that a file has rows of; a file is opened once per version and process."""
    return _months_of_version(_Known(listed, origin, listed.name, listed.version))


class _Known:
    """A file, compared by its name and version."""

    def __init__(self, listed: ListedFile, *key: str) -> None:
        self.listed, self.origin, self._key = listed, key[0], key

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self._key == other._key


@cache
def _months_of_version(known: _Known) -> tuple[str, ...]:
    origin = file_place(known.listed.name, known.origin)
    months: set[str] = set()
    with _at_hand(known.listed, known.origin) as paths, shared_connection({}) as con:
        for path in paths:
            file = open_file(con, path, origin)
            if is_cost_export([column.name for column in file.columns], origin):
                months |= set(months_of(con, file))
    return tuple(sorted(months))


@contextmanager
def _at_hand(listed: ListedFile, origin: str) -> Iterator[list[Path]]:
    """The file as DuckDB reads it, in a folder that is removed at the end."""
    with TemporaryDirectory() as folder:
        where = file_place(listed.name, origin)
        if listed.path is not None and listed.path.suffix.lower() != ".zip":
            copy = Path(folder) / listed.path.name
            is_text = data_format(listed.path.name) == "csv"
            yield [copy if is_text and unify_line_ends(listed.path, where, copy) else listed.path]
            return
        (fetched,) = fetch([listed.file], Path(folder), origin)
        paths = _unpacked(Path(folder) / fetched.name, where)
        for path in paths:
            if data_format(path.name) == "csv":
                unify_line_ends(path, where)
        yield paths
