"""Charges by hand: the file that people write, and the relation that dbt reads.

A file is CSV with a header and the columns month, account, description, amount, currency and seller, in any order; month
and seller may be left out. Within a month, the account, description, currency and seller tell two charges apart. What is
landed is written again from the charges, sorted, so that the same charges are the same file.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb

from octo_pipeline.lake.store import Location
from octo_pipeline.model.currency import is_currency
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import is_month
from octo_pipeline.model.sql import WHITE_SPACE
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import quoted
from octo_pipeline.vendors.data_files import path_literals
from octo_pipeline.vendors.landing import Delivery, damage, first_refusal, verify

RELATION = "manual_charges"

COLUMNS = ("month", "account", "description", "amount", "currency", "seller")
_OPTIONAL = ("month", "seller")
_AMOUNT = re.compile(r"-?[0-9]{1,28}(\.[0-9]{1,10})?", re.ASCII)
# How a spreadsheet shortens a long id. An id such as 1E5 is valid and must not match.
_SHORTENED_ID = re.compile(r"[0-9][.,][0-9]+E\+[0-9]+", re.ASCII)
_MOST_CHARACTERS = 1_000


@dataclass(frozen=True, order=True)
class Charge:
    """A fee, or a credit if its amount is negative."""

    account: str
    description: str
    currency: str
    seller: str
    amount: Decimal

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it apart from the other charges of the month."""
        return self.account, self.description, self.currency, self.seller


def read_charges(path: Path, month: str) -> list[Charge]:
    """The charges of a file that a person wrote.

    Args:
        path: the file.
        month: the month that all its rows must be of.

    Raises:
        OctoError: the file cannot be read, or a row is not valid; the message names its line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OctoError(
            f"{path} cannot be read ({error.strerror or error}).", code="file-unreadable", place=str(path)
        ) from error
    return parse_charges(content, path, month)


def parse_charges(content: bytes, path: Path, month: str) -> list[Charge]:
    """The charges of a file's content.

    Args:
        content: the content.
        path: what messages call the file.
        month: the month that all its rows must be of.

    Raises:
        OctoError: it is not text, or a row is not valid; the message names its line.
    """
    try:
        # As a file is read as text: the ends of lines are one sign.
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig").read()
    except UnicodeDecodeError as error:
        raise OctoError(
            f"{path} is not text in UTF-8. Save it as CSV in UTF-8.", code="file-unreadable", place=str(path)
        ) from error
    charges: dict[tuple[str, str, str, str], tuple[int, Charge]] = {}
    for line, row in _rows(text, path):
        charge = _charge(row, f"{path}, line {line}", month)
        first_line, _ = charges.setdefault(charge.key, (line, charge))
        if first_line != line:
            raise OctoError(
                f"{path}, lines {first_line} and {line} have the same account, description, currency and seller. Write "
                "them as one charge, or give them descriptions of their own.",
                code="charge-repeated",
                place=f"{path}, line {line}",
            )
    return sorted(charge for _, charge in charges.values())


def written(charges: Iterable[Charge], month: str) -> bytes:
    """The file that is landed for these charges."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        (month, charge.account, charge.description, f"{charge.amount:f}", charge.currency, charge.seller)
        for charge in sorted(charges)
    )
    return text.getvalue().encode()


def landed_charges(delivery: Delivery) -> list[Charge]:
    """The charges of a delivery.

    Raises:
        OctoError: its file is gone or was changed.
    """
    verify(delivery)
    (path,) = delivery.file_paths
    with path.open("rb") as stream:
        rows = csv.DictReader(io.StringIO(stream.read().decode()))
        return [
            Charge(row["account"], row["description"], row["currency"], row["seller"], Decimal(row["amount"]))
            for row in rows
        ]


def relations(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> dict[str, str]:
    """The relation that dbt reads; of no rows where nothing was imported.

    Raises:
        OctoError: a file is gone or has changed in size since it was landed.
    """
    paths: list[Location] = []
    for delivery in deliveries:
        if sentence := damage(delivery):
            raise OctoError(sentence, code="delivery-damaged", place=delivery.version)
        paths += delivery.file_paths
    return {RELATION: render("vendors/manual/charges", paths=path_literals(paths) if paths else "")}


def source_costs(relations: Mapping[str, str]) -> str:
    """SQL of what the files say was billed: vendor, billing_account_id, billing_currency, cost and the seller."""
    return render("vendors/manual/source_costs", charges=relations[RELATION])


def explain_failure(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> OctoError | None:
    """The first delivery whose file is not as it was landed."""
    return first_refusal(deliveries, verify)


def _rows(text: str, path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows by column with the line on which each begins, without blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    header: list[str] = []
    line = 0
    try:
        for fields in reader:
            first_line, line = line + 1, reader.line_num
            if not any(field.strip(WHITE_SPACE) for field in fields):
                continue
            if not header:
                header = _header(fields, path)
            elif len(fields) != len(header):
                raise OctoError(
                    f"{path}, line {first_line}: the row has {len(fields)} fields, the header has {len(header)}.",
                    code="line-malformed",
                    place=f"{path}, line {first_line}",
                )
            else:
                rows.append(
                    (first_line, dict(zip(header, (field.strip(WHITE_SPACE) for field in fields), strict=True)))
                )
    except csv.Error as error:
        raise OctoError(
            f"{path}, line {line + 1}: the row is not CSV ({error}).",
            code="line-malformed",
            place=f"{path}, line {line + 1}",
        ) from error
    if not header:
        raise OctoError(
            f"{path} has no header. Its first line must be {','.join(COLUMNS)}.", code="header-missing", place=str(path)
        )
    return rows


def _header(fields: Sequence[str], path: Path) -> list[str]:
    names = [field.strip(WHITE_SPACE).lower() for field in fields]
    missing = [name for name in COLUMNS if name not in names and name not in _OPTIONAL]
    unknown = [name for name in names if name not in COLUMNS]
    repeated = [name for name in COLUMNS if names.count(name) > 1]
    for problem, columns in (("lacks", missing), ("has the unknown columns", unknown), ("repeats", repeated)):
        if columns:
            separator = " Its fields must be separated by commas." if ";" in "".join(fields) else ""
            raise OctoError(
                f"{path} {problem} {', '.join(columns)}. A file of charges has the columns {', '.join(COLUMNS)}.{separator}",
                code="charges-columns-wrong",
                place=str(path),
            )
    return names


def _charge(row: Mapping[str, str], line: str, month: str) -> Charge:
    problem = _problem(row, month)
    if problem:
        raise OctoError(f"{line}: {problem}", code="charge-wrong", place=line)
    amount = Decimal(row["amount"])
    return Charge(row["account"], row["description"], row["currency"], row.get("seller", ""), amount)


def _problem(row: Mapping[str, str], month: str) -> str | None:
    """What is wrong with a row, as a sentence."""
    for name in ("account", "description", "amount", "currency"):
        if not row[name]:
            return f"{name} is empty."
    for name in ("account", "description", "seller"):
        if len(row.get(name, "")) > _MOST_CHARACTERS:
            return f"{name} is longer than {_MOST_CHARACTERS:,} characters."
    row_month = row.get("month", "")
    if row_month and not is_month(row_month):
        return f"month is {quoted(row_month)}, which is not a month such as 2024-03."
    if row_month and row_month != month:
        return f"month is {row_month}, but the import is of {month}. Import each month by itself."
    if _SHORTENED_ID.fullmatch(row["account"]):
        return (
            f"account is {quoted(row['account'])}, to which a spreadsheet shortened an id. Format the column as text."
        )
    if not _AMOUNT.fullmatch(row["amount"]):
        return (
            f"amount is {quoted(row['amount'])}, which is not an amount such as 1250.00: digits, a point and at most ten "
            "decimals."
        )
    if Decimal(row["amount"]) == 0:
        return "amount is 0. Leave the row out."
    if not is_currency(row["currency"]):
        return f"currency is {quoted(row['currency'])}, which is not a code such as USD."
    return None
