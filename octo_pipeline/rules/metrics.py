"""Quantities from outside that targets are weighed by, such as headcount: ``metrics/<id>.csv`` (allocation.md §15).

This module reads the files of the configuration. The metrics of the lake, which any pipeline can deliver, belong in
`octo_pipeline.tables.metrics`.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cached_property
from pathlib import Path
from typing import Literal

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.months import is_month, month_spelling
from octo_pipeline.model.wording import quoted_json, reason
from octo_pipeline.rules.documents import DocumentError, Problem, canonical_json, is_id

COLUMNS = ("month", "account", "group", "quantity")

_PLACES = Decimal("1e-10")
_CONTEXT = Context(prec=80, rounding=ROUND_HALF_UP)
_QUANTITY = re.compile(r"\d{1,28}(\.\d{1,40})?", re.ASCII)


@dataclass(frozen=True)
class Quantity:
    """What one account or cost group has of a metric in a month."""

    month: str
    target_type: Literal["account", "group"]
    target_id: str
    quantity: Decimal


@dataclass(frozen=True)
class Metric:
    """A metric of the configuration.

    Attributes:
        quantities: its rows, by month and target.
    """

    id: str
    quantities: tuple[Quantity, ...]

    @cached_property
    def by_month(self) -> dict[str, list[Quantity]]:
        """The rows of each month that has any."""
        months: dict[str, list[Quantity]] = {}
        for quantity in self.quantities:
            months.setdefault(quantity.month, []).append(quantity)
        return months

    def digest(self, month: str) -> str:
        """A digest of the rows of a month."""
        rows = [[q.target_type, q.target_id, str(q.quantity)] for q in self.by_month.get(month, [])]
        return hashlib.sha256(canonical_json(rows).encode()).hexdigest()[:32]


def load_metrics(folder: Path) -> tuple[dict[str, Metric], tuple[Problem, ...]]:
    """Read the metrics of a folder; a bad file is left out and does not stop the others. Without the folder there are none.

    Returns:
        The valid metrics by id, and all problems of all files.

    Raises:
        OctoError: the folder cannot be read.
    """
    metrics: dict[str, Metric] = {}
    problems: list[Problem] = []
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith("."))
    except FileNotFoundError:
        return {}, ()
    except OSError as error:
        raise OctoError(
            f"The folder {folder} cannot be read ({reason(error)}).",
            code="configuration-folder-unreadable",
            place=str(folder),
        ) from error
    for path in paths:
        file = f"{folder.name}/{path.name}".encode("utf-8", "backslashreplace").decode()
        try:
            metrics[path.stem] = parse_metric(_read_bytes(path, file), path.stem, file=file)
        except DocumentError as error:
            problems += error.problems
    return metrics, tuple(problems)


def parse_metric(content: bytes, metric_id: str, *, file: str) -> Metric:
    """Read the rows of a metric.

    Args:
        content: a CSV with the columns month, quantity, and account or group or both, of which each row fills one.
        metric_id: its id.
        file: its name, for messages.

    Raises:
        DocumentError: with every wrong line.
    """
    if not is_id(metric_id):
        raise DocumentError([Problem(file, "", f"{quoted_json(metric_id)} is not a valid id for a metric; rename it")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError([Problem(file, "", f"is not UTF-8 text ({error.reason}); save it as UTF-8")]) from error
    quantities: dict[tuple[str, str, str], tuple[int, Quantity]] = {}
    problems = []
    columns: list[str] = []
    for number, cells in _lines(text):
        try:
            if not columns:
                columns = _header(cells)
                continue
            quantity = _quantity(dict(zip(columns, cells, strict=False)), len(cells) - len(columns))
            key = (quantity.month, quantity.target_type, quantity.target_id)
            earlier, _ = quantities.setdefault(key, (number, quantity))
            if earlier != number:
                raise OctoError(
                    f"{quantity.target_type} {quantity.target_id} has a quantity for {quantity.month} in line {earlier} "
                    "already; keep one",
                    code="quantity-repeated",
                )
        except OctoError as error:
            problems.append(Problem(file, f"line {number}", str(error)))
            if not columns:
                break
    if problems:
        raise DocumentError(problems)
    return Metric(metric_id, tuple(quantities[key][1] for key in sorted(quantities)))


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank, each with its number and its trimmed cells."""
    for number, line in enumerate(text.splitlines() or [""], start=1):
        cells = [cell.strip() for cell in next(csv.reader([line]), [])]
        if any(cells) or number == 1:
            yield number, cells


def _header(cells: list[str]) -> list[str]:
    is_complete = {"month", "quantity"} <= set(cells) and {"account", "group"} & set(cells)
    if not is_complete or not set(cells) <= set(COLUMNS) or len(set(cells)) != len(cells):
        raise OctoError(
            f"must be a header with month, quantity, and account or group or both, not {quoted_json(','.join(cells))}",
            code="metric-header-wrong",
        )
    return cells


def _quantity(cells: Mapping[str, str], surplus: int) -> Quantity:
    if surplus:
        raise OctoError(
            f"has {'more' if surplus > 0 else 'fewer'} values than the header has columns", code="metric-malformed"
        )
    month, account, group = cells["month"], cells.get("account", ""), cells.get("group", "")
    if not is_month(month):
        raise OctoError(f"{quoted_json(month)} is not a month; {month_spelling(month)}", code="metric-malformed")
    if bool(account) == bool(group):
        raise OctoError("must have either an account or a group", code="metric-malformed")
    if not _QUANTITY.fullmatch(cells["quantity"]):
        raise OctoError(
            f"{quoted_json(cells['quantity'])} is not a quantity; write a number that is not negative, for example 12.5",
            code="metric-malformed",
        )
    quantity = Decimal(cells["quantity"]).quantize(_PLACES, context=_CONTEXT)
    return Quantity(month, "account" if account else "group", account or group, quantity)


def _read_bytes(path: Path, file: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DocumentError([Problem(file, "", f"cannot be read ({reason(error)})")]) from error
