"""A source of FOCUS files: found, looked through to their end, and landed as one delivery per month.

A delivery is the source's, by its name: its files may have several providers and accounts. The newest counts, so a
refresh of an open period replaces it, and a correction that is appended becomes a part of it.
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

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.months import parse_month
from octo_pipeline.model.templates import render
from octo_pipeline.vendors.data_files import data_format, unify_line_ends, unzip
from octo_pipeline.vendors.downloads import DeliveredFile, fetch, file_place
from octo_pipeline.vendors.focus.charge_rows import (
    FocusFile,
    charges,
    check_values,
    comparable_rows,
    count_rows,
    months_of,
    open_file,
)
from octo_pipeline.vendors.focus.charges import RELATION, source_costs
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
        vendor: what line items call whoever is behind the rows; None leaves it to the provider column.
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
        shown_vendor: what line items call whoever is behind the rows; None leaves it to the provider column.
    """

    listing: Listing
    account: str
    shown_vendor: str | None

    vendor = _VENDOR

    @property
    def name(self) -> str:
        """What sentences and sensors call it."""
        return f"focus {self.account} at {self.listing.place}"

    def available(self, month: str) -> list[Available]:
        """The current version of the month; files whose path does not say their month are looked into once.

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
        last = next((one for one in newest_deliveries(root, month, _VENDOR) if one.account == self.account), None)
        if not files:
            if last is not None:
                raise self._became_empty(last)
            return []
        place = {"vendor": _VENDOR, "account": self.account, "month": month, "version": self._version(files, month)}
        known = find_delivery(root, **place)
        if known is not None:
            return [Landed(known, is_new=False)]
        with staging(root) as folder, duckdb.connect() as con:
            staged = self._fetch(con, files, folder, month)
            kept = self._without_copies(con, staged, month)
            delivery = Delivery(
                **place,
                format="+".join(sorted({data_format(one.file.path.name) or "" for one in kept})),
                report=_REPORT,
                files=tuple(one.delivered for one in kept),
                fetched_at=fetched_at,
                source=self.listing.place,
                path=delivery_path(root, **place),
                details=self._details(con, kept, month),
            )
            return [publish(root, folder, delivery)]

    def _files(self, month: str) -> list[MonthFile]:
        place = self.listing.place
        return files_of_month(self.listing.files(), place, month, lambda listed: _months(listed, place))

    def _version(self, files: Sequence[MonthFile], month: str) -> str:
        facts = [f"{one.listed.name} {one.listed.version} {one.days}" for one in files]
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
        """The files in the staging folder, each looked through to its end."""
        place = self.listing.place
        named = [
            replace(one.listed.file, name=f"{number:04d}-{one.listed.file.name}") for number, one in enumerate(files)
        ]
        fetched = fetch(named, folder, place)
        staged = []
        for one, file in zip(files, fetched, strict=True):
            where = file_place(one.listed.name, place)
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
                staged.append(_Staged(one, opened, delivered, rows))
        return staged

    def _without_copies(
        self, con: duckdb.DuckDBPyConnection, staged: Sequence["_Staged"], month: str
    ) -> list["_Staged"]:
        """The files without copies and refreshes, of which the newest counts; the others are removed."""
        newest_first = sorted(staged, key=lambda one: (one.found.listed.modified, one.found.listed.name), reverse=True)
        loose = [one for one in newest_first if one.rows and not one.found.is_listed_once]
        relations = comparable_rows([one.file for one in loose], month, [_texts(one.found.days) for one in loose])
        rows = [FileRows(one.found.listed.name, relation) for one, relation in zip(loose, relations, strict=True)]
        counted = [loose[index] for index in files_that_count(con, rows, self.listing.place)]
        kept = [one for one in staged if one in counted or one.found.is_listed_once]
        for one in staged:
            if one not in kept and isinstance(one.file.path, Path):
                one.file.path.unlink()
        return kept

    def _details(self, con: duckdb.DuckDBPyConnection, kept: Sequence["_Staged"], month: str) -> dict[str, Any]:
        contents: dict[str, dict[str, Any]] = {}
        for one in kept:
            content: dict[str, Any] = {"rows": one.rows}
            if one.found.days:
                content["days"] = _texts(one.found.days)
            contents[one.file.path.name] = content
            if one.rows:
                self._refuse_unknown_provider(con, one, month)
        return {"contents": contents, "vendor": self.shown_vendor}

    def _refuse_unknown_provider(self, con: duckdb.DuckDBPyConnection, staged: "_Staged", month: str) -> None:
        rows = charges([staged.file], month, {"vendor": self.shown_vendor, "days": _texts(staged.found.days)})
        billed = con.execute(render("vendors/bills", source_costs=source_costs({RELATION: rows}))).fetchall()
        if any(vendor is None for vendor, *_ in billed):
            raise OctoError(
                f"{staged.file.place} has rows of {month} that name no provider. Set vendor in the source's document to "
                "what they are to be shown as.",
                code="provider-missing",
                place=staged.file.place,
            )


@dataclass(frozen=True)
class _Staged:
    """A file in the staging folder."""

    found: MonthFile
    file: FocusFile
    delivered: DeliveredFile
    rows: int


def _texts(days: Sequence[tuple[Any, Any]]) -> list[list[str]]:
    return [[str(first), str(last)] for first, last in days]


def _unpacked(path: Path, place: str) -> list[Path]:
    return unzip(path, place) if path.suffix.lower() == ".zip" else [path]


def _months(listed: ListedFile, place: str) -> tuple[str, ...]:
    """Of which months a file has rows; a file is looked into once per version and process."""
    return _months_of_version(_Known(listed, place, listed.name, listed.version))


class _Known:
    """A file of a version, which decides what is known of it."""

    def __init__(self, listed: ListedFile, *key: str) -> None:
        self.listed, self.place, self._key = listed, key[0], key

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self._key == other._key


@cache
def _months_of_version(known: _Known) -> tuple[str, ...]:
    place = file_place(known.listed.name, known.place)
    months: set[str] = set()
    with _at_hand(known.listed, known.place) as paths, duckdb.connect() as con:
        for path in paths:
            file = open_file(con, path, place)
            if is_cost_export([column.name for column in file.columns], place):
                months |= set(months_of(con, file))
    return tuple(sorted(months))


@contextmanager
def _at_hand(listed: ListedFile, place: str) -> Iterator[list[Path]]:
    """The file as DuckDB reads it, in a folder that is removed at the end."""
    with TemporaryDirectory() as folder:
        where = file_place(listed.name, place)
        if listed.path is not None and listed.path.suffix.lower() != ".zip":
            copy = Path(folder) / listed.path.name
            is_text = data_format(listed.path.name) == "csv"
            yield [copy if is_text and unify_line_ends(listed.path, where, copy) else listed.path]
            return
        (fetched,) = fetch([listed.file], Path(folder), place)
        paths = _unpacked(Path(folder) / fetched.name, where)
        for path in paths:
            if data_format(path.name) == "csv":
                unify_line_ends(path, where)
        yield paths
